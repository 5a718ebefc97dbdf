package report

import (
	"fmt"
	"math/bits"
	"slices"
	"strings"

	"milliard/internal/catalog"
	"milliard/internal/event"
)

// sums are the exact numbers of a line: counts and amounts in millionths, money in 10⁻¹⁵.
type sums struct {
	impressions, clicks, conversions, n, amount, events wide
	revenue, payout                                     money15
}

// count adds a cell's counts.
func (s *sums) count(c *cell) {
	switch event.Type(c.ids[EventType]) {
	case event.Impression:
		s.impressions.add(c.n)
	case event.Click:
		s.clicks.add(c.n)
	case event.Conversion:
		s.conversions.add(c.n)
	}
	s.n.add(c.n)
	s.amount.add(c.amount)
	s.events.add(c.events)
}

// add adds another line's sums.
func (s *sums) add(o *sums) {
	s.impressions.add(o.impressions)
	s.clicks.add(o.clicks)
	s.conversions.add(o.conversions)
	s.n.add(o.n)
	s.amount.add(o.amount)
	s.events.add(o.events)
	s.revenue.add(&o.revenue)
	s.payout.add(&o.payout)
}

// lineKey is what makes two cells one line; texts stand as numbers of the merger. The currency is always part of it: money
// of two currencies is never added.
type lineKey struct {
	ids      [dimCount]uint32
	value    uint32
	currency uint32
	time     int64
	offset   int32
}

func (k *lineKey) hash() uint64 {
	h := uint64(k.time)<<12 ^ uint64(uint32(k.offset))
	mix := func(a, b uint32) {
		hi, lo := bits.Mul64(h^(uint64(a)<<32|uint64(b)), 0x9e3779b97f4a7c15)
		h = hi ^ lo
	}
	for i := 0; i < len(k.ids); i += 2 {
		mix(k.ids[i], k.ids[i+1])
	}
	mix(k.value, k.currency)
	return h
}

// line is one row of the answer before it is rounded and named.
type line struct {
	key lineKey
	sums
}

// merger folds cells into lines, and then names them.
type merger struct {
	q       *Query
	names   *catalog.View
	several bool // campaigns differ in currency, so cells carry their campaign
	home    uint32
	lines   []line
	index   []uint32 // by hash: a line's place plus one; a power of two, at most half full
	texts   []string
	numbers map[string]uint32 // of texts, from 1
	labels  map[[2]int64]string
	buf     []byte // of row
	ends    []int
	named   [dimCount]byID[entity]
	missing map[event.PriceID]bool
	prices  map[event.PriceID]*catalog.Price
}

// merge folds the cells into lines and writes the answer.
func (q *Query) merge(names *catalog.View, cs *cells) *Result {
	m := &merger{
		q: q, names: names, several: severalCurrencies(names), lines: make([]line, 0, cs.count),
		numbers: map[string]uint32{}, labels: map[[2]int64]string{}, missing: map[event.PriceID]bool{}, prices: map[event.PriceID]*catalog.Price{},
	}
	m.home = m.number(names.Info().Currency)
	m.index = make([]uint32, max(16, 2<<bits.Len(uint(cs.count))))
	var c cell
	for i := range cs.count {
		cs.read(i, &c)
		m.cell(&c)
	}
	return m.result()
}

// number interns a text.
func (m *merger) number(s string) uint32 {
	n, ok := m.numbers[s]
	if !ok {
		m.texts = append(m.texts, s)
		n = uint32(len(m.texts))
		m.numbers[s] = n
	}
	return n
}

// textOf is the text of a number; 0 is none.
func (m *merger) textOf(n uint32) string {
	if n == 0 {
		return ""
	}
	return m.texts[n-1]
}

// line returns the line of a key, until the next call.
func (m *merger) line(k *lineKey) *line {
	if 2*(len(m.lines)+1) > len(m.index) {
		m.rehash()
	}
	i := m.place(k)
	if m.index[i] == 0 {
		m.lines = append(m.lines, line{key: *k})
		m.index[i] = uint32(len(m.lines))
	}
	return &m.lines[m.index[i]-1]
}

func (m *merger) place(k *lineKey) uint64 {
	mask := uint64(len(m.index) - 1)
	i := k.hash() & mask
	for m.index[i] != 0 && m.lines[m.index[i]-1].key != *k {
		i = (i + 1) & mask
	}
	return i
}

func (m *merger) rehash() {
	m.index = make([]uint32, 2*len(m.index))
	for i := range m.lines {
		m.index[m.place(&m.lines[i].key)] = uint32(i + 1)
	}
}

// cell adds one cell to its line. A price in another currency than the campaign's earns on a line of its own.
func (m *merger) cell(c *cell) {
	k := lineKey{time: c.time, offset: c.offset, currency: m.home}
	if c.value != "" {
		k.value = m.number(c.value)
	}
	for _, d := range m.q.dims {
		k.ids[d] = c.ids[d]
		if d == Advertiser {
			if x, ok := m.names.CampaignByID(event.CampaignID(c.ids[Campaign])); ok {
				k.ids[d] = uint32(x.Advertiser)
			}
		}
	}
	if m.several {
		k.currency = m.number(campaignCurrency(m.names, event.CampaignID(c.ids[Campaign])))
	}
	m.line(&k).count(c)
	if event.Class(c.ids[Class]) != event.Valid {
		return
	}
	if earned, currency, ok := m.earned(c, c.revenue, k.currency); ok {
		to := k
		to.currency = currency
		m.line(&to).revenue.add(&earned)
	}
	if earned, currency, ok := m.earned(c, c.payout, k.currency); ok {
		to := k
		to.currency = currency
		m.line(&to).payout.add(&earned)
	}
}

func (m *merger) earned(c *cell, id event.PriceID, currency uint32) (money15, uint32, bool) {
	if id == 0 {
		return money15{}, 0, false
	}
	p := m.prices[id]
	if p == nil {
		var ok bool
		if p, ok = m.names.PriceByID(id); !ok {
			m.missing[id] = true
			return money15{}, 0, false
		}
		m.prices[id] = p
	}
	earned, ok := earns(p, event.Type(c.ids[EventType]), c.n, c.amount)
	if p.Currency != "" {
		currency = m.number(p.Currency)
	}
	return earned, currency, ok
}

// result sorts, cuts, rounds and names the lines. Totals are of every line, also of those that are cut off, and are
// rounded from the unrounded sums.
func (m *merger) result() *Result {
	q := m.q
	res := &Result{
		From: minuteTime(q.from, q.zone), To: minuteTime(q.to, q.zone), Zone: q.zone.String(), Time: "received",
		RowCount: len(m.lines), CurrencyTotals: []Row{}, Warnings: q.notes,
	}
	if q.occurred {
		res.Time = "occurred"
	}
	lines := make([]*line, len(m.lines))
	byCurrency := make([]*sums, len(m.texts)+1)
	for i := range m.lines {
		l := &m.lines[i]
		lines[i] = l
		if byCurrency[l.key.currency] == nil {
			byCurrency[l.key.currency] = &sums{}
		}
		byCurrency[l.key.currency].add(&l.sums)
	}
	m.sort(lines)
	if len(lines) > q.limit {
		lines, res.Truncated = lines[:q.limit], true
	}
	for _, c := range q.columns {
		res.Columns = append(res.Columns, c.name)
	}
	res.m, res.lines = m, lines
	m.totals(res, byCurrency)
	for id := range m.missing {
		res.Warnings = append(res.Warnings, fmt.Sprintf("price %d is not in the catalog; what it earned is missing", id))
	}
	slices.Sort(res.Warnings)
	return res
}

// totals writes the totals: one row per currency, and one over all whose money is null when there are several.
func (m *merger) totals(res *Result, byCurrency []*sums) {
	row := func(s *sums, currency uint32) Row {
		l := &line{key: lineKey{currency: currency}, sums: *s}
		columns := metricColumns()
		r := Row{Values: make([]Value, len(columns))}
		m.row(r.Values, columns, l)
		for i, c := range columns {
			if currency == 0 && c.money {
				r.Values[i] = Value{}
			}
			r.cols = append(r.cols, c.name)
		}
		return r
	}
	all := &sums{}
	var currencies []uint32
	for c, s := range byCurrency {
		if s != nil {
			all.add(s)
			currencies = append(currencies, uint32(c))
		}
	}
	slices.SortFunc(currencies, func(a, b uint32) int { return strings.Compare(m.textOf(a), m.textOf(b)) })
	for _, c := range currencies {
		res.CurrencyTotals = append(res.CurrencyTotals, row(byCurrency[c], c))
	}
	switch len(currencies) {
	case 0:
		res.Totals = row(all, m.home)
	case 1:
		res.Totals = res.CurrencyTotals[0]
	default:
		res.Totals = row(all, 0)
	}
}
