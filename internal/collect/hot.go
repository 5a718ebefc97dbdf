package collect

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/valyala/fasthttp"

	"milliard/internal/catalog"
	"milliard/internal/collect/loop"
	"milliard/internal/control"
	"milliard/internal/event"
	"milliard/internal/journal"
)

// hot answers the requests that come by the hundred thousand, for one event loop: signed pixels, and single events in
// JSON. What arrives in one round of the loop goes to the lanes together, and one call of the journal per batch answers
// all of its requests, so that no goroutine waits for a request. Everything else is handed over to fasthttp.
//
// It belongs to its loop's goroutine, except settled, which the lanes' goroutines add to.
type hot struct {
	d       *Doors
	l       *loop.Loop
	w       *work
	r       hotRequest
	args    fasthttp.Args
	view    *control.View // of this round
	taken   []hotTaken    // in this round
	forged  int           // of them
	text    []byte        // the bodies of their answers
	began   time.Time     // when the first of them was taken
	round   []*flight     // what became of them
	flights []*flight     // wait for the journal
	spare   []*flight
	pages   hotPages
	lines   [1][]byte

	secret []byte // of the last API key, and what it grants
	grants origin
	of     *control.View

	mu      sync.Mutex
	settled []*flight
}

// hotTaken is a request that waits for the end of the round.
type hotTaken struct {
	conn     *loop.Conn
	event    int32 // in w.events; -1: a forgery, which gets the same answer
	kind     hotKind
	noImage  bool
	tenant   event.TenantID
	from, to int32 // its answer's body in text
}

// flight is the requests of one round whose events are in one batch.
type flight struct {
	ticket  journal.Ticket
	waiters []hotTaken
	text    []byte
	began   time.Time
	busy    time.Duration
	until   time.Time
	given   bool // answered before it was settled
	tell    func()
}

func newHot(d *Doors, l *loop.Loop) *hot {
	h := &hot{d: d, l: l, w: newWork()}
	h.pages.make(d)
	return h
}

// Take takes a request if it is a hot one. One that makes it panic is handed over like what it does not understand:
// guarded deals with those.
func (h *hot) Take(c *loop.Conn, data []byte) (n int) {
	events, arena, text, taken, forged := len(h.w.events), len(h.w.arena), len(h.text), len(h.taken), h.forged
	whole := false
	defer func() {
		if whole {
			return
		}
		if p := recover(); p != nil {
			h.d.logPanic(p)
			h.w.events, h.w.arena, h.text, h.taken, h.forged = h.w.events[:events], h.w.arena[:arena], h.text[:text], h.taken[:taken], forged
			n = 0
		}
	}()
	n = h.take(c, data)
	whole = true
	return n
}

func (h *hot) take(c *loop.Conn, data []byte) int {
	n := h.r.parse(data, h.d)
	if n == 0 {
		return 0
	}
	if h.view == nil {
		h.view, h.began = h.d.cfg.Catalog(), time.Now()
	}
	if h.r.kind == hotPixel {
		if !h.pixel(c) {
			return 0
		}
	} else if !h.event(c) {
		return 0
	}
	return n
}

// pixel takes a signed pixel, as Doors.pixel does. It returns false for a request that it has not begun with.
func (h *hot) pixel(c *loop.Conn) bool {
	d, r := h.d, &h.r
	addr := c.Peer()
	if len(d.cfg.Trusted) > 0 && d.trusted(addr) {
		lines := h.lines[:0]
		if len(r.forwarded) > 0 {
			lines = append(lines, r.forwarded)
		}
		addr = d.forwarded(addr, lines)
	}
	if d.ips != nil && !d.ips.take(h.w.addrText(limited(addr)), 1, d.now()) {
		return false // nothing was taken from its bucket, and fasthttp's door will say so
	}
	token, only := tagQuery(r.query)
	t := hotTaken{conn: c, event: -1, kind: hotPixel}
	if !only {
		h.args.ParseBytes(r.query)
		token = h.args.Peek("tk")
		t.noImage = string(h.args.Peek("img")) == "0"
	}
	if e := h.w.next(); len(token) > 0 {
		if o, ok := d.tagOf(token, h.w, h.view, event.Impression, e); ok {
			if !only {
				h.w.subsOf(&h.args, e)
			}
			a := asker{addr: addr, ua: r.ua, referer: r.referer, gpc: r.gpc}
			if d.fromProxy(c.Peer()) {
				a.country = r.country
			}
			d.personOf(&a, h.w, e)
			price(o.view, e)
			t.event, t.tenant = int32(len(h.w.events)-1), o.tenant
		}
	}
	if t.event < 0 {
		h.w.events = h.w.events[:len(h.w.events)-1]
		h.forged++
	}
	h.taken = append(h.taken, t)
	return true
}

// event takes a single event in JSON, as Doors.events does. It returns false for whatever would be refused: why is said
// in one place.
func (h *hot) event(c *loop.Conn) bool {
	d, r, w := h.d, &h.r, h.w
	if d.ips != nil || formatOf(r.media) != formatJSON {
		return false
	}
	body := bytes.TrimLeft(r.body, " \t\r\n")
	if len(body) == 0 || body[0] != '{' || !h.granted() {
		return false
	}
	o := h.grants
	o.now = d.now().UnixMilli()
	w.item.reset()
	w.scan.buf, w.scan.pos, w.scan.outer = r.body, 0, "body" // what other requests have unescaped stays where it is
	if p := w.scan.object(&w.item, nil, shapeEvent, 1); p != nil || w.scan.end() != nil {
		return false
	}
	at := len(w.arena)
	e := w.next()
	if d.resolve(w, &o, &w.item, e) != nil || !d.keys.take([]byte(o.actor), 1, d.now()) {
		w.events, w.arena = w.events[:len(w.events)-1], w.arena[:at]
		return false
	}
	t := hotTaken{conn: c, event: int32(len(w.events) - 1), kind: hotEvents, tenant: o.tenant, from: int32(len(h.text))}
	h.text = appendCounts(h.text, 1, 0)
	if !r.errorsOnly {
		h.text = append(appendAccepted(h.text, 0, e), '}')
	}
	h.text = append(h.text, endOfItems...)
	t.to = int32(len(h.text))
	h.taken = append(h.taken, t)
	return true
}

// granted says whether the request has an API key that may bring events, and remembers what it grants: one sender's
// requests follow each other.
func (h *hot) granted() bool {
	secret := bearer(h.r.auth)
	if secret == nil {
		secret = h.r.apiKey
	}
	if len(secret) == 0 {
		return false
	}
	if h.of == h.view && bytes.Equal(h.secret, secret) {
		return true
	}
	hash := sha256.Sum256(secret)
	view, key := keyOf(h.view, hash)
	if key == nil || !key.Can(catalog.RightIngest) {
		return false
	}
	h.grants = h.d.originOf(h.view, view)
	h.grants.actor, h.grants.keyHash, h.grants.right = "api:"+key.Key, hash, catalog.RightIngest
	h.secret, h.of = append(h.secret[:0], secret...), h.view
	return true
}

// Flush hands the events of the round to the lanes.
func (h *hot) Flush() {
	if len(h.taken) == 0 {
		h.view = nil
		return
	}
	d, w := h.d, h.w
	if h.forged > 0 {
		d.refuse(0, doorPixel, reasonForged, h.forged)
	}
	var errs []error
	if len(w.events) > 0 {
		var err error
		if w.tickets, err = d.cfg.Lanes.AddAll(w.tickets[:0], w.events, h.view.Version()); err != nil {
			errs = h.addEach()
		}
	}
	now := time.Now()
	busy := now.Sub(h.began)
	h.pages.refresh(now)
	taken := h.taken
	for i := range taken {
		switch t := &taken[i]; {
		case t.event < 0:
			h.l.Answer(t.conn, h.page(t), h.l.Stopping())
		case errs != nil && errs[t.event] != nil:
			h.unavailable(t, errs[t.event])
		default:
			f := h.flightOf(w.tickets[t.event])
			from := len(f.text)
			f.text = append(f.text, h.text[t.from:t.to]...)
			f.waiters = append(f.waiters, *t)
			last := &f.waiters[len(f.waiters)-1]
			last.from, last.to = int32(from), int32(len(f.text))
		}
	}
	if h.forged > 0 {
		d.cfg.Stage.ObserveMany(busy, busy*time.Duration(h.forged)/time.Duration(len(taken)), h.forged)
	}
	for _, f := range h.round {
		f.began, f.until = h.began, now.Add(d.cfg.MaxWait)
		f.busy = busy * time.Duration(len(f.waiters)) / time.Duration(len(taken))
		f.ticket.Tell(f.tell)
	}
	h.flights = append(h.flights, h.round...)
	h.round, h.taken, h.forged, h.text, h.view = h.round[:0], h.taken[:0], 0, h.text[:0], nil
	w.release()
}

// addEach adds the events one by one, when they were not taken together: each gets its own answer.
func (h *hot) addEach() []error {
	w := h.w
	errs := make([]error, len(w.events))
	w.tickets = w.tickets[:0]
	for i := range w.events {
		t, err := h.d.cfg.Lanes.Add(&w.events[i], h.view.Version())
		w.tickets, errs[i] = append(w.tickets, t), err
	}
	return errs
}

// flightOf returns the flight of the round that a ticket belongs to.
func (h *hot) flightOf(t journal.Ticket) *flight {
	for _, f := range slices.Backward(h.round) {
		if f.ticket.With(t) {
			return f
		}
	}
	var f *flight
	if n := len(h.spare); n > 0 {
		f, h.spare = h.spare[n-1], h.spare[:n-1]
	} else {
		f = &flight{}
		f.tell = func() {
			h.mu.Lock()
			h.settled = append(h.settled, f)
			h.mu.Unlock()
			h.l.Wake()
		}
	}
	f.ticket = t
	h.round = append(h.round, f)
	return f
}

// Woken answers the requests whose batches are settled.
func (h *hot) Woken() {
	h.mu.Lock()
	settled := h.settled
	h.settled = nil
	h.mu.Unlock()
	if len(settled) == 0 {
		return
	}
	h.pages.refresh(time.Now())
	for _, f := range settled {
		if !f.given {
			h.give(f, f.ticket.Err())
		}
		if i := slices.Index(h.flights, f); i >= 0 {
			h.flights = slices.Delete(h.flights, i, i+1)
		}
		clear(f.waiters)
		f.ticket, f.waiters, f.text, f.given = journal.Ticket{}, f.waiters[:0], f.text[:0], false
		if len(h.spare) < maxSpareFlights {
			h.spare = append(h.spare, f)
		}
	}
}

// maxSpareFlights is how many flights' memory is kept.
const maxSpareFlights = 16

// Tick answers those who have waited too long. What became of their events is not known.
func (h *hot) Tick(now time.Time) {
	for _, f := range h.flights {
		if !f.given && now.After(f.until) {
			f.given = true
			h.give(f, fmt.Errorf("%w: %s", journal.ErrUnknown, h.d.cfg.MaxWait))
		}
	}
}

// give answers the requests of a flight.
func (h *hot) give(f *flight, err error) {
	d := h.d
	from := time.Now()
	last := h.l.Stopping()
	pixels, events := 0, 0
	if err == nil { // counted before the first of them can be seen
		for i := range f.waiters {
			if f.waiters[i].kind == hotPixel {
				pixels++
			} else {
				events++
			}
		}
		if pixels > 0 {
			d.metrics.byDoor[doorPixel].Add(float64(pixels))
		}
		if events > 0 {
			d.metrics.byDoor[doorEvents].Add(float64(events))
		}
	}
	for i := range f.waiters {
		t := &f.waiters[i]
		switch {
		case err != nil:
			h.unavailable(t, err)
		case t.kind == hotPixel:
			h.l.Answer(t.conn, h.page(t), last)
		default:
			h.l.Answer(t.conn, h.pages.events(f.text[t.from:t.to], last), last)
		}
	}
	now := time.Now()
	d.cfg.Stage.ObserveMany(now.Sub(f.began), f.busy+now.Sub(from), len(f.waiters))
}

func (h *hot) page(t *hotTaken) []byte { return h.pages.pixel(t.noImage, h.l.Stopping()) }

// unavailable answers a request whose event was not stored, or perhaps not.
func (h *hot) unavailable(t *hotTaken, err error) {
	door := doorPixel
	if t.kind == hotEvents {
		door = doorEvents
	}
	last := h.l.Stopping()
	h.l.Answer(t.conn, render("/", last, func(ctx *fasthttp.RequestCtx) { h.d.unavailable(ctx, t.tenant, door, err, 1) }), last)
}
