package sim

import (
	"errors"
	"fmt"
	"slices"
	"strconv"

	"milliard/internal/event"
	"milliard/internal/journal"
	"milliard/internal/route"
	"milliard/internal/spool"
)

// clients are everybody outside: they send events, wait, give up, and send again with the same ids.
type clients struct {
	w        *world
	items    []*item
	due      []*item // want an answer still
	attempts []*attempt
	rows     [2]uint64 // next row of each import
}

// item is one event as its sender knows it. All its attempts carry the same ids.
type item struct {
	number  int
	e       event.Event
	token   int64 // when the signed id in it expires; 0 without one
	once    bool  // nobody but the door knows its id: it cannot come again
	last    *attempt
	retryAt int64
	done    bool // it needs no answer any more
	tries   int
	open    bool // a door has it
}

// fate is what a client knows of an attempt.
type fate uint8

const (
	waits    fate = iota
	answered      // 2xx
	unknown       // no answer, or 503: nobody may assume anything
	refused       // answered that nothing was stored
)

// attempt is one request of one event. Its number stands in the event and can be found in the log.
type attempt struct {
	number  int
	of      *item
	p       *process
	ticket  journal.Ticket
	sent    int64
	fate    fate
	at      place // of durable ones
	flags   event.Flags
	catalog uint64

	click   bool // sent to the door for clicks
	e       *event.Event
	held    *journal.Held
	spooled *spool.Ticket
}

// place is where an event stands in the journal.
type place struct {
	lane int
	seq  uint64
	row  uint32
}

func (a *attempt) lane(w *world) int {
	return route.Lane(w.router.Slot(&a.of.e), w.plan.lanes)
}

// act is one step of the clients: new events, a retry, or the repetition of something that was answered.
func (c *clients) act(p *process) {
	w := c.w
	switch n := w.rnd.IntN(100); {
	case n < 55:
		var batch []*item
		for range 1 + w.rnd.IntN(w.plan.burst) {
			batch = append(batch, c.draw(p))
		}
		if it := batch[0]; len(batch) == 1 && it.clickable() && w.chance(w.plan.clicks) {
			c.click(p, it)
		} else {
			c.send(p, batch)
		}
	case n < 85:
		c.retry(p)
	case n < 93 && len(c.items) > 0:
		if it := c.items[w.rnd.IntN(len(c.items))]; !it.open && !it.once { // a repetition, whatever was answered
			c.send(p, []*item{it})
		}
	default:
		c.tally(p)
	}
	c.timeOut()
}

// retry sends one event again that has no answer.
func (c *clients) retry(p *process) bool {
	c.due = slices.DeleteFunc(c.due, func(it *item) bool { return it.done })
	for _, it := range c.due {
		if !it.open && !it.done && it.retryAt <= c.w.now {
			if it.clickable() && c.w.chance(c.w.plan.clicks) {
				c.click(p, it)
			} else {
				c.send(p, []*item{it})
			}
			return true
		}
	}
	return false
}

// clickable says whether the door for clicks would take it.
func (it *item) clickable() bool { return it.e.Type == event.Click && it.e.Space != event.Imported }

// timeOut lets clients give up waiting; the door answers 503. The event may still become durable.
func (c *clients) timeOut() {
	for _, it := range c.due {
		if a := it.last; it.open && !a.click && a.fate == waits && c.w.now-a.sent > 30_000 {
			a.fate = unknown
			c.w.sum.Unknown++
			c.again(it)
		}
	}
}

func (c *clients) again(it *item) {
	it.open, it.done = false, it.once
	it.retryAt = c.w.now + c.w.rnd.Int64N(5_000)
}

// send hands events to a door of p.
func (c *clients) send(p *process, items []*item) {
	w := c.w
	events := make([]event.Event, len(items))
	tries := make([]*attempt, len(items))
	for i, it := range items {
		a := &attempt{number: len(c.attempts), of: it, p: p, sent: w.now, catalog: w.catalog}
		c.attempts = append(c.attempts, a)
		e := it.e
		e.Referrer = strconv.AppendInt([]byte("r"), int64(a.number), 10)
		w.resolve(&e, it)
		a.flags = e.Flags
		events[i], tries[i] = e, a
		it.open, it.last = true, a
		it.tries++
	}
	w.sum.Events += len(items)
	tickets, err := p.lanes.AddAll(nil, events, w.catalog)
	w.did("%s: door takes %d events, first %d: %v", p.home, len(items), tries[0].number, err)
	for i, a := range tries {
		if err != nil {
			if !errors.Is(err, journal.ErrOverloaded) && !errors.Is(err, journal.ErrStopped) {
				w.broken("BALANCE", "a door cannot add: %v", err)
			}
			c.refused(a, err)
			continue
		}
		a.ticket = tickets[i]
		p.waiting = append(p.waiting, a)
	}
	if err == nil {
		p.poll()
	}
}

// resolve is what a door finds out: prices by the catalog in force, whether the token is too old, the time.
func (w *world) resolve(e *event.Event, it *item) {
	now := w.wall().UnixMilli()
	if e.Flags&event.FlagTimeGiven == 0 && e.Space != event.Imported {
		e.Time = now
	}
	if it.token != 0 && now > it.token {
		e.Flags |= event.FlagExpired
	}
	e.Revenue, e.Payout = event.PriceID(2*w.catalog+1), event.PriceID(2*w.catalog+2)
}

func (c *clients) acked(a *attempt) {
	lane, seq, row := a.ticket.Position()
	a.at = place{lane, seq, row}
	if a.fate == waits {
		c.w.sum.Acked++
	}
	// A client that had given up before does not see the answer, but durable is durable.
	a.fate = answered
	a.of.done, a.of.open = true, false
}

func (c *clients) lost(a *attempt) {
	if a.fate == waits {
		a.fate = unknown
		c.w.sum.Unknown++
		c.again(a.of)
	}
}

func (c *clients) refused(a *attempt, err error) {
	if errors.Is(err, journal.ErrStopped) { // said at the door, before anything was taken
		err = journal.ErrOverloaded
	}
	if !errors.Is(err, journal.ErrOverloaded) && !errors.Is(err, journal.ErrFull) {
		c.w.broken("BALANCE", "event %d refused: %v", a.number, err)
	}
	if a.fate == waits {
		c.again(a.of)
	}
	a.fate = refused
	c.w.sum.Refused++
}

// tally counts something that a door refused.
func (c *clients) tally(p *process) {
	n := 1 + c.w.rnd.Int64N(5)
	err := p.lanes.AddTallies([]journal.Tally{{
		Minute: c.w.wall().UnixMilli() / 60_000, Tenant: event.TenantID(1 + c.w.rnd.IntN(2)), Door: "pixel", Reason: p.tally.reason, N: n,
	}})
	if err == nil {
		p.tally.n += n
	}
	if err != nil && !errors.Is(err, journal.ErrStopped) {
		c.w.broken("BALANCE", "tally: %v", err)
	}
}

// draw makes a new event. Ids come from small sets, so that they meet again.
func (c *clients) draw(p *process) *item {
	w := c.w
	it := &item{number: len(c.items)}
	c.items = append(c.items, it)
	c.due = append(c.due, it)
	e := &it.e
	*e = event.Event{
		Type:   [...]event.Type{event.Impression, event.Impression, event.Click, event.Conversion, event.FirstCustomType}[w.rnd.IntN(5)],
		Tenant: event.TenantID(1 + w.rnd.IntN(2)), Campaign: event.CampaignID(1 + w.rnd.IntN(3)), Advertiser: 7,
		Affiliate: event.AffiliateID(w.rnd.IntN(3)), Banner: event.BannerID(w.rnd.IntN(2)), N: event.One,
		Country: event.ParseCountry([...]string{"DE", "FR", ""}[w.rnd.IntN(3)]), Device: event.Device(w.rnd.IntN(4)),
		Subs: []byte([...]string{"", "", "sub1=a", "sub1=b&sub2=c"}[w.rnd.IntN(4)]),
	}
	switch w.rnd.IntN(5) {
	case 0, 1:
		c.mint(p, it)
	case 2, 3:
		e.Space, e.Foreign = event.Foreign, fmt.Appendf(nil, "f%d", w.rnd.IntN(w.plan.foreignIDs))
		if w.chance(0.2) {
			e.Source = []byte("shop")
		}
	default:
		n := w.rnd.IntN(len(c.rows))
		e.Space, e.Import = event.Imported, event.ImportID{byte(n + 1)}
		e.ID.Lo = c.rows[n] // a row is one event; that it comes again is up to act
		c.rows[n]++
		if w.chance(0.3) { // the log's own id, which may stand in several files
			e.Foreign = fmt.Appendf(nil, "l%d", w.rnd.IntN(w.plan.foreignIDs))
		}
		e.Time, e.Flags = w.now-w.rnd.Int64N(1<<33), event.FlagTimeGiven
	}
	c.colour(e, it)
	return it
}

// mint gives the event an id of ours, in a few slots; half of them come in a signed tag, which expires.
func (c *clients) mint(p *process, it *item) {
	w, e := c.w, &it.e
	if len(c.items) > 1 && w.chance(0.15) { // the click of an impression's tag
		if other := c.items[w.rnd.IntN(len(c.items)-1)]; other.e.Space == event.Minted && other.token != 0 && !other.e.Sale() {
			e.Space, e.ID, e.Type, it.token = event.Minted, other.e.ID, event.Click, other.token
			e.Tenant, e.Campaign = other.e.Tenant, other.e.Campaign
			return
		}
	}
	slot := w.rnd.IntN(mintSlots)
	p.minted[slot]++
	now := w.wall().UnixMilli()
	e.Space = event.Minted
	e.ID = event.NewMintedID(now, uint16(slot*event.Slots/mintSlots), p.minter, p.minted[slot])
	if w.chance(0.7) {
		it.token = now + w.plan.tokenLife.Milliseconds()
	}
	it.once = it.token == 0
}

// colour gives the event what its type has, and sometimes something odd.
func (c *clients) colour(e *event.Event, it *item) {
	w := c.w
	switch e.Type {
	case event.Click:
		e.Click = e.ID
		if e.Space != event.Minted {
			e.Click = event.NewMintedID(w.now, 1, 9, uint64(it.number))
		}
	case event.Conversion:
		it.token, it.once = 0, e.Space == event.Minted
		e.Goal, e.Amount = event.GoalID(w.rnd.IntN(2)), event.Micros(w.rnd.Int64N(9_000_000)-1_000_000)
		e.Click = event.NewMintedID(w.now, uint16(w.rnd.IntN(event.Slots)), 9, uint64(it.number))
		if w.chance(0.7) {
			e.Order = fmt.Appendf(nil, "o%d", w.rnd.IntN(w.plan.orders))
		} else if e.Space == event.Foreign {
			n := w.rnd.IntN(w.plan.orders)
			e.Click = event.NewMintedID(1_700_000_000_000, uint16(n*100), 9, uint64(n))
			e.Foreign = fmt.Appendf(nil, "click/%d/%d", n, e.Goal)
			e.Source = nil
		}
	default:
	}
	if w.chance(0.1) {
		e.N = event.Micros(w.rnd.Int64N(5_000_000))
	}
	if w.chance(0.01) {
		e.N = 1 << 60
	}
	if w.chance(0.06) {
		e.Flags |= [...]event.Flags{event.FlagUnknownCampaign, event.FlagUnknownBanner, event.FlagUnknownAffiliate}[w.rnd.IntN(3)]
	}
	if e.Space != event.Imported && w.chance(0.1) {
		e.Flags |= event.FlagTimeGiven
		e.Time = w.now + w.rnd.Int64N(2*w.plan.window.Milliseconds()) - 7*w.plan.window.Milliseconds()/4
		switch w.rnd.IntN(4) {
		case 0: // about where late begins
			e.Time = w.now - w.plan.window.Milliseconds() + w.rnd.Int64N(2000) - 1000
		case 1: // about where future begins
			e.Time = w.now + 600_000 + w.rnd.Int64N(2000) - 1000
		}
	}
}
