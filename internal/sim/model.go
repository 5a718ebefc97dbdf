package sim

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"milliard/internal/event"
	"milliard/internal/journal"
	"milliard/internal/ledger"
)

// model is what one lane's log means, worked out by the slowest means there are: maps whose keys are text, from the rules
// as DESIGN and the vocabulary state them. It shares the decoding of a batch with the program and nothing else.
type model struct {
	lane   int
	window int64 // ms
	minted int64 // ms that an id of ours is remembered for
	wait   int64 // ms that an event may wait between a door and the journal without becoming older than that

	log  []*logged // by sequence - 1
	next uint64    // the first sequence that is not folded

	logTime  int64
	links    map[journal.Incarnation]link
	batches  map[journal.Hash]bool // folded
	foreign  map[string]int64      // log time of the claim
	forever  map[string]bool       // minted ids, rows of imports, orders
	numbers  map[int]place         // where the attempts stand
	outlived map[int]int64         // spooled attempts whose ids were forgotten, with the clock by which they were
	valid    map[string]int        // how often an identity was counted
}

type link struct {
	counter uint64
	hash    journal.Hash
}

// logged is a message as it was stored, whatever may have become of it since.
type logged struct {
	stamp    int64 // ms
	data     []byte
	hash     journal.Hash
	folded   bool
	repeat   bool
	logTime  int64
	head     journal.Header
	rows     []row
	verdicts []byte
	tallies  []journal.Tally
}

// row is one event and what it adds.
type row struct {
	key      ledger.Key
	value    ledger.Value
	quarter  int32
	received int64
	id       string
	e        event.Event
}

func newModel(lane int, window, tokenLife time.Duration) *model {
	wait := window + 2*time.Hour
	m := &model{lane: lane, window: window.Milliseconds(), minted: (tokenLife + wait).Milliseconds(), wait: wait.Milliseconds()}
	m.forget()
	return m
}

func (m *model) forget() {
	m.next, m.logTime = 1, 0
	m.links, m.foreign, m.forever = map[journal.Incarnation]link{}, map[string]int64{}, map[string]bool{}
	m.numbers, m.valid, m.outlived = map[int]place{}, map[string]int{}, map[int]int64{}
	m.batches = map[journal.Hash]bool{}
}

func (m *model) last() uint64 { return uint64(len(m.log)) }

func (m *model) at(seq uint64) *logged {
	if seq == 0 || seq > m.last() {
		return nil
	}
	return m.log[seq-1]
}

// cutTo is what a journal that lost its end means: the rest as if it had never been.
func (m *model) cutTo(last uint64) {
	m.log = m.log[:last]
	again := min(m.next-1, last)
	m.forget()
	for seq := uint64(1); seq <= again; seq++ {
		if text := m.fold(seq, m.log[seq-1].verdicts); text != "" {
			panic("the model cannot fold again what it has folded: " + text)
		}
	}
}

// fold folds message seq, the next one. Where the rules leave it open whether an id is still remembered (the window
// forgets by generations) it goes by seen, the verdicts of the owner that came first. It returns what is wrong.
func (m *model) fold(seq uint64, seen []byte) string {
	l := m.at(seq)
	if l == nil || seq != m.next {
		return fmt.Sprintf("sequence %d was folded after %d of %d", seq, m.next-1, m.last())
	}
	h, body, err := journal.Open(l.data)
	if err != nil {
		return fmt.Sprintf("sequence %d: %v", seq, err)
	}
	l.head = h
	was := m.links[h.Incarnation]
	switch {
	case h.Counter == was.counter+1 && h.Prev == was.hash:
		m.links[h.Incarnation] = link{h.Counter, l.hash}
		m.batches[l.hash] = true
	case h.Counter <= was.counter && m.batches[l.hash]:
		l.repeat = true
	default:
		return fmt.Sprintf("sequence %d: batch %d of an incarnation follows its batch %d, or does not link to it", seq, h.Counter, was.counter)
	}
	control := h.Kind == journal.KindTick || h.Kind == journal.KindClosed
	if l.stamp > m.logTime && (m.logTime == 0 || control || l.stamp-m.logTime <= 10*60_000) {
		m.logTime = l.stamp
	}
	l.logTime, l.folded = m.logTime, true
	l.rows, l.verdicts, l.tallies = nil, nil, nil
	m.next++
	if l.repeat {
		return ""
	}
	switch h.Kind {
	case journal.KindEvents:
		return m.events(seq, l, body, seen)
	case journal.KindTallies:
		if err := json.Unmarshal(body, &l.tallies); err != nil {
			return err.Error()
		}
	default:
	}
	return ""
}

func (m *model) events(seq uint64, l *logged, body []byte, seen []byte) string {
	received := l.head.Received
	if received < m.logTime-60_000 && !l.head.Spooled {
		received = m.logTime - 60_000
	}
	received = min(received, m.logTime)
	for {
		main, personal, rest, ok, err := journal.NextBlock(body)
		if err != nil {
			return err.Error()
		}
		if !ok {
			break
		}
		var b event.Block
		if err := b.Decode(main, personal); err != nil {
			return err.Error()
		}
		for i := range b.N {
			var r row
			b.Row(i, &r.e)
			r.received = received
			n := len(l.rows)
			hint := event.Class(0)
			if n < len(seen) {
				hint = event.Class(seen[n])
			}
			class := m.judge(&r, l, hint)
			m.add(&r, class)
			l.rows, l.verdicts = append(l.rows, r), append(l.verdicts, byte(class))
			if text := m.number(&r, place{m.lane, seq, uint32(n)}); text != "" {
				return text
			}
		}
		body = rest
	}
	if len(l.rows) != int(l.head.Events) {
		return fmt.Sprintf("sequence %d has %d events and says %d", seq, len(l.rows), l.head.Events)
	}
	return ""
}

// attemptOf is the number of the attempt that an event belongs to.
func attemptOf(e *event.Event) (int, error) {
	return strconv.Atoi(strings.TrimPrefix(string(e.Referrer), "r"))
}

// number notes where an attempt stands.
func (m *model) number(r *row, at place) string {
	n, err := attemptOf(&r.e)
	if err != nil {
		return fmt.Sprintf("sequence %d holds an event that nobody sent", at.seq)
	}
	if was, twice := m.numbers[n]; twice {
		return fmt.Sprintf("attempt %d stands at %d/%d and at %d/%d", n, was.seq, was.row, at.seq, at.row)
	}
	m.numbers[n] = at
	return ""
}

// identities returns what the event is known by: for ever, and for the length of the window. A conversion with an order,
// or with nothing but its click and goal, is known by that alone.
func identities(e *event.Event) (order, forever, window string) {
	if e.Type == event.Conversion {
		if len(e.Order) > 0 {
			order = fmt.Sprintf("order %d/%d/%d/%s", e.Tenant, e.Advertiser, e.Goal, e.Order)
		} else if e.Space == event.Foreign && strings.HasPrefix(string(e.Foreign), "click/") && e.Click != (event.MintedID{}) {
			order = fmt.Sprintf("click %d/%s", e.Tenant, e.Foreign)
		}
	}
	if order != "" {
		return order, "", ""
	}
	switch e.Space {
	case event.Minted: // slot, minter and counter make it one, whatever time stands in it
		forever = fmt.Sprintf("minted %d/%d/%d/%d", e.Type, e.ID.Slot(), e.ID.Minter(), e.ID.Counter())
	case event.Imported:
		if len(e.Foreign) > 0 {
			forever = fmt.Sprintf("import %d/%d/%d:%s/%s", e.Tenant, e.Type, len(e.Source), e.Source, e.Foreign)
			break
		}
		forever = fmt.Sprintf("row %x/%d", e.Import, e.ID.Lo)
	default:
		window = fmt.Sprintf("foreign %d/%d/%d:%s/%s", e.Tenant, e.Type, len(e.Source), e.Source, e.Foreign)
	}
	return order, forever, window
}

// clockOf is the clock by which an id is too old to be known. What was spooled was accepted when it was young.
func (m *model) clockOf(l *logged) int64 {
	if l.head.Spooled {
		return min(l.stamp, m.logTime)
	}
	return l.stamp
}

// judge is the verdict by the rules.
func (m *model) judge(r *row, l *logged, hint event.Class) event.Class {
	e := &r.e
	const most = 9_007_199_254_740_992
	if e.N > most || e.N < -most || e.Amount > most || e.Amount < -most || e.Time < 0 || e.Time >= 95_617_584_000_000 {
		return event.Undecided
	}
	order, forever, window := identities(e)
	used := m.forever[order] || m.forever[forever]
	if at, ok := m.foreign[window]; ok && window != "" && !used {
		switch age := m.logTime - at; {
		case age <= m.window:
			used = true
		case age <= m.window+m.window/32: // may be forgotten or not
			used = hint == event.Duplicate
		}
	}
	// Memory goes by log time. When the clock has gone back, an id may be forgotten that is not yet too old by the stamp.
	forgotten := e.Space == event.Minted && m.logTime-int64(e.ID.Hi>>16) > m.minted && hint == event.Expired
	class := event.Valid
	given := e.Flags&event.FlagTimeGiven != 0 && e.Space != event.Imported
	switch {
	case e.Space == event.Minted && m.clockOf(l)-int64(e.ID.Hi>>16) > m.minted: // has waited for longer than ids are remembered
		class = event.Expired
		if l.head.Spooled && e.Flags&event.FlagExpired == 0 {
			if n, err := attemptOf(e); err == nil {
				m.outlived[n] = m.clockOf(l)
			}
		}
	case forgotten:
		class = event.Expired
	case used:
		class = event.Duplicate
	case e.Flags&event.FlagExpired != 0:
		class = event.Expired
	case e.Flags&event.FlagUnknownCampaign != 0:
		class = event.UnknownCampaign
	case e.Flags&event.FlagUnknownBanner != 0:
		class = event.UnknownBanner
	case e.Flags&event.FlagUnknownAffiliate != 0:
		class = event.UnknownAffiliate
	case given && e.Time > m.logTime+10*60_000:
		class = event.Future
	case given && e.Time < m.logTime-m.window:
		class = event.Late
	}
	if class == event.Valid {
		for _, id := range []string{order, forever} {
			if id != "" {
				m.forever[id] = true
				m.valid[id]++
			}
		}
		if window != "" {
			m.foreign[window] = m.logTime
		}
	}
	return class
}

// add works out what the event adds to which counter.
func (m *model) add(r *row, class event.Class) {
	e := &r.e
	r.value = ledger.Value{N: e.N, Amount: e.Amount, Events: 1}
	when := e.Time
	if class == event.Undecided {
		r.value.N, r.value.Amount, when = 0, 0, r.received
	}
	bucket := r.received / 60_000
	if e.Space == event.Imported {
		bucket = when / 60_000
	}
	r.key = ledger.Key{
		Bucket: int32(bucket), Tenant: e.Tenant, Type: e.Type, Goal: e.Goal, Class: class, Campaign: e.Campaign, Banner: e.Banner,
		Affiliate: e.Affiliate, Revenue: e.Revenue, Payout: e.Payout,
	}
	minute := when / 60_000
	r.quarter = int32(minute - minute%15)
	switch e.Space {
	case event.Minted:
		b := e.ID.Bytes()
		x := hex.EncodeToString(b[:])
		r.id = x[:8] + "-" + x[8:12] + "-" + x[12:16] + "-" + x[16:20] + "-" + x[20:]
	case event.Imported:
		if r.id = string(e.Foreign); r.id == "" {
			r.id = fmt.Sprintf("%x/%d", e.Import, e.ID.Lo)
		}
	default:
		r.id = string(e.Foreign)
	}
}

func (r *row) sub1() string {
	_, rest, ok := strings.Cut("&"+string(r.e.Subs), "&sub1=")
	if !ok {
		return ""
	}
	v, _, _ := strings.Cut(rest, "&")
	return v
}

// sums are counters by key; what they should be less what they are.
type sums struct {
	cells, occurred map[ledger.Key]ledger.Value
	rollups         map[rollup]ledger.Value
	tallies         map[journal.Tally]int64
}

type rollup struct {
	dim   ledger.Dimension
	value string
	key   ledger.Key
}

func plus[K comparable](m map[K]ledger.Value, k K, v ledger.Value, sign int64) {
	s := m[k]
	s.N += event.Micros(sign) * v.N
	s.Amount += event.Micros(sign) * v.Amount
	s.Events += sign * v.Events
	if s == (ledger.Value{}) {
		delete(m, k)
		return
	}
	m[k] = s
}

func (s *sums) add(l *logged) {
	for i := range l.rows {
		r := &l.rows[i]
		plus(s.cells, r.key, r.value, 1)
		k := r.key
		k.Bucket = r.quarter
		plus(s.occurred, k, r.value, 1)
		k.Bucket = r.key.Bucket - r.key.Bucket%15
		plus(s.rollups, rollup{ledger.DimCountry, r.e.Country.String(), k}, r.value, 1)
		plus(s.rollups, rollup{ledger.DimDevice, r.e.Device.String(), k}, r.value, 1)
		plus(s.rollups, rollup{ledger.DimSub1, r.sub1(), k}, r.value, 1)
	}
	for _, t := range l.tallies {
		n := t.N
		t.N = 0
		s.tallies[t] += n
	}
}

// differs compares a generation with the messages it must hold, cell by cell and row by row. One that is only read, not
// flushed, may have its minute cells alone.
func (m *model) differs(g *ledger.Generation, flushed bool) string {
	if g.From.Seq >= g.To.Seq || g.To.Seq >= m.next {
		return fmt.Sprintf("generation (%d, %d] of a log folded to %d", g.From.Seq, g.To.Seq, m.next-1)
	}
	if end := m.at(g.To.Seq); end.hash != g.To.Hash || end.logTime != g.To.LogTime {
		return fmt.Sprintf("position %d: hash or log time is not the log's", g.To.Seq)
	}
	s := sums{
		map[ledger.Key]ledger.Value{}, map[ledger.Key]ledger.Value{}, map[rollup]ledger.Value{}, map[journal.Tally]int64{},
	}
	clicks, sales := listed(&g.Clicks), listed(&g.Sales)
	for seq := g.From.Seq + 1; seq <= g.To.Seq; seq++ {
		l := m.at(seq)
		s.add(l)
		for n := range l.rows {
			var text string
			if !flushed {
				break
			}
			if clicks, sales, text = l.rows[n].kept(seq, uint32(n), clicks, sales); text != "" {
				return text
			}
		}
	}
	if flushed && len(clicks)+len(sales) > 0 {
		return fmt.Sprintf("%d clicks and %d sales too many", len(clicks), len(sales))
	}
	for i := range g.Cells {
		plus(s.cells, g.Cells[i].Key, g.Cells[i].Value, -1)
	}
	s.derived(g)
	for _, t := range g.Tallies {
		n := t.N
		t.N = 0
		if s.tallies[t] -= n; s.tallies[t] == 0 {
			delete(s.tallies, t)
		}
	}
	if len(s.cells) > 0 || flushed && len(s.occurred)+len(s.rollups)+len(s.tallies) > 0 {
		return fmt.Sprintf("(%d, %d]: should less is: cells %v, occurred %v, rollups %v, tallies %v",
			g.From.Seq, g.To.Seq, s.cells, s.occurred, s.rollups, s.tallies)
	}
	return ""
}

// derived takes off what a reader derives from the generation: the cells by the events' own time, and the rollups with
// the rest that no row is written for.
func (s *sums) derived(g *ledger.Generation) {
	dims := []ledger.Dimension{ledger.DimCountry, ledger.DimDevice, ledger.DimSub1}
	for i := range g.Cells {
		k, v := g.Cells[i].Key, g.Cells[i].Value
		k.Bucket -= k.Bucket % 15
		plus(s.occurred, k, v, -1)
		for _, dim := range dims {
			plus(s.rollups, rollup{dim, dim.Rest(), k}, v, -1)
		}
	}
	for i := range g.Moved {
		plus(s.occurred, g.Moved[i].Key, g.Moved[i].Value, -1)
	}
	for i := range g.Rollups {
		c := &g.Rollups[i]
		plus(s.rollups, rollup{c.Dim, c.DimValue, c.Key}, c.Value, -1)
		plus(s.rollups, rollup{c.Dim, c.Dim.Rest(), c.Key}, c.Value, 1)
	}
}

// listed returns rows as one list.
func listed[T any](rows *ledger.Rows[T]) (out []T) {
	for row := range rows.All() {
		out = append(out, *row)
	}
	return out
}

// kept takes the event's row off the front of the clicks or sales.
func (r *row) kept(seq uint64, n uint32, clicks []ledger.ClickRow, sales []ledger.SaleRow) ([]ledger.ClickRow, []ledger.SaleRow, string) {
	e := &r.e
	switch e.Type {
	case event.Click:
		want := ledger.ClickRow{
			Seq: seq, Row: n, ClickID: e.Click, EventID: r.id, Time: e.Time, Received: r.received, Tenant: e.Tenant, Campaign: e.Campaign,
			Banner: e.Banner, Affiliate: e.Affiliate, Class: r.key.Class, Country: e.Country, Device: e.Device, Subs: string(e.Subs),
		}
		if r.key.Class == event.Undecided {
			want.Time = r.received
		}
		if len(clicks) == 0 || clicks[0] != want {
			return nil, nil, fmt.Sprintf("click %+v: %+v", want, clicks[:min(1, len(clicks))])
		}
		return clicks[1:], sales, ""
	case event.Conversion:
		want := ledger.SaleRow{
			Seq: seq, Row: n, EventID: r.id, Order: string(e.Order), ClickID: e.Click, ClickTime: e.ClickTime, Time: e.Time,
			Received: r.received, Tenant: e.Tenant, Advertiser: e.Advertiser, Campaign: e.Campaign, Banner: e.Banner,
			Affiliate: e.Affiliate, Goal: e.Goal, Class: r.key.Class, Revenue: e.Revenue, Payout: e.Payout, N: r.value.N,
			Amount: r.value.Amount, Subs: string(e.Subs),
		}
		if r.key.Class == event.Undecided {
			want.Time = r.received
		}
		if len(sales) == 0 || sales[0] != want {
			return nil, nil, fmt.Sprintf("sale %+v: %+v", want, sales[:min(1, len(sales))])
		}
		return clicks, sales[1:], ""
	default:
		return clicks, sales, ""
	}
}

// same compares what an owner decided with what is known of the message.
func (l *logged) same(pos ledger.Position, dropped bool, verdicts []byte) string {
	switch {
	case pos.Hash != l.hash:
		return "another message than was stored"
	case dropped != l.repeat:
		return fmt.Sprintf("repeat: %v, should be %v", dropped, l.repeat)
	case pos.LogTime != l.logTime:
		return fmt.Sprintf("log time %d, should be %d", pos.LogTime, l.logTime)
	case !bytes.Equal(verdicts, l.verdicts):
		text := fmt.Sprintf("verdicts %v, should be %v", verdicts, l.verdicts)
		for i := range min(len(verdicts), len(l.rows)) {
			if verdicts[i] != l.verdicts[i] {
				order, forever, window := identities(&l.rows[i].e)
				return fmt.Sprintf("%s; row %d is %q %q %q, flags %b, time %d", text, i, order, forever, window, l.rows[i].e.Flags, l.rows[i].e.Time)
			}
		}
		return text
	}
	return ""
}
