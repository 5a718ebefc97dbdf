package report

import (
	"fmt"
	"math/big"
	"slices"

	"milliard/internal/catalog"
	"milliard/internal/event"
)

// sums are the exact numbers of a line: counts and amounts in millionths, money in 10⁻¹⁵, nil when nothing was earned.
type sums struct {
	impressions, clicks, conversions, n, amount, events wide
	revenue, payout                                     *big.Int
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
	s.revenue = plusMoney(s.revenue, o.revenue)
	s.payout = plusMoney(s.payout, o.payout)
}

// plusMoney adds b to a, which it may change; either may be nil.
func plusMoney(a, b *big.Int) *big.Int {
	switch {
	case b == nil:
		return a
	case a == nil:
		return new(big.Int).Set(b)
	}
	return a.Add(a, b)
}

// lineKey is what makes two cells one line. The currency is always part of it: money of two currencies is never added.
type lineKey struct {
	ids      [dimCount]int64
	value    string
	time     int64
	offset   int64
	currency string
}

// packedKey is a lineKey as a map takes it quickly: ids in halves of words, texts as numbers.
type packedKey [6]uint64

// pack returns the key in whole words. Two keys of one report are equal if and only if their words are.
func (m *merger) pack(k *lineKey) packedKey {
	var p packedKey
	for i, id := range k.ids {
		p[i/2] |= uint64(uint32(id)) << (i % 2 * 32)
	}
	if k.value != "" { // the place of its dimension is free, no id is kept there
		p[4] |= uint64(m.number(k.value)) << 32
	}
	p[5] = uint64(k.time)<<28 | uint64(k.offset+2*dayMinutes)<<12 | uint64(m.number(k.currency))
	return p
}

// number interns a text.
func (m *merger) number(s string) uint32 {
	n, ok := m.texts[s]
	if !ok {
		n = uint32(len(m.texts) + 1)
		m.texts[s] = n
	}
	return n
}

// line is one row of the answer before it is rounded and named.
type line struct {
	key lineKey
	sums
}

// merger folds cells into lines.
type merger struct {
	q       *Query
	names   *catalog.View
	several bool // campaigns differ in currency, so cells carry their campaign
	lines   map[packedKey]*line
	free    []line // room for the next ones
	texts   map[string]uint32
	labels  map[[2]int64]string
	buf     []byte // of row
	ends    []int
	named   [dimCount]map[int64]entity
	missing map[event.PriceID]bool
	prices  map[event.PriceID]*catalog.Price
}

// merge folds the cells into lines and writes the answer.
func (q *Query) merge(names *catalog.View, cells []cell) *Result {
	m := &merger{
		q: q, names: names, several: severalCurrencies(names),
		lines: make(map[packedKey]*line, len(cells)), texts: map[string]uint32{}, labels: map[[2]int64]string{}, missing: map[event.PriceID]bool{}, prices: map[event.PriceID]*catalog.Price{},
	}
	for i := range cells {
		m.cell(&cells[i])
	}
	return m.result()
}

func (m *merger) line(k *lineKey) *line {
	p := m.pack(k)
	l := m.lines[p]
	if l == nil {
		if len(m.free) == 0 {
			m.free = make([]line, 256)
		}
		l, m.free = &m.free[0], m.free[1:]
		l.key = *k
		m.lines[p] = l
	}
	return l
}

// cell adds one cell to its line. A price in another currency than the campaign's earns on a line of its own.
func (m *merger) cell(c *cell) {
	k := lineKey{value: c.value, time: c.time, offset: c.offset}
	for _, d := range m.q.dims {
		k.ids[d] = c.ids[d]
		if d == Advertiser {
			if x, ok := m.names.CampaignByID(event.CampaignID(c.ids[Campaign])); ok {
				k.ids[d] = int64(x.Advertiser)
			}
		}
	}
	k.currency = m.names.Info().Currency
	if m.several {
		k.currency = campaignCurrency(m.names, event.CampaignID(c.ids[Campaign]))
	}
	m.line(&k).count(c)
	if event.Class(c.ids[Class]) != event.Valid {
		return
	}
	if earned, currency := m.earned(c, c.revenue, k.currency); earned != nil {
		to := k
		to.currency = currency
		l := m.line(&to)
		l.revenue = plusMoney(l.revenue, earned)
	}
	if earned, currency := m.earned(c, c.payout, k.currency); earned != nil {
		to := k
		to.currency = currency
		l := m.line(&to)
		l.payout = plusMoney(l.payout, earned)
	}
}

func (m *merger) earned(c *cell, id event.PriceID, currency string) (*big.Int, string) {
	if id == 0 {
		return nil, ""
	}
	p := m.prices[id]
	if p == nil {
		var ok bool
		if p, ok = m.names.PriceByID(id); !ok {
			m.missing[id] = true
			return nil, ""
		}
		m.prices[id] = p
	}
	return earns(p, event.Type(c.ids[EventType]), c.n.big(), c.amount.big()), priceCurrency(p, currency)
}

// result sorts, cuts, rounds and names the lines. Totals are of every line, also of those that are cut off, and are
// rounded from the unrounded sums.
func (m *merger) result() *Result {
	q := m.q
	res := &Result{
		From: minuteTime(q.from, q.zone), To: minuteTime(q.to, q.zone), Zone: q.zone.String(), Time: "received",
		RowCount: len(m.lines), Rows: []Row{}, CurrencyTotals: []Row{}, Warnings: q.notes,
	}
	if q.occurred {
		res.Time = "occurred"
	}
	lines := make([]*line, 0, len(m.lines))
	byCurrency := map[string]*sums{}
	all := &sums{}
	for _, l := range m.lines {
		lines = append(lines, l)
		all.add(&l.sums)
		if byCurrency[l.key.currency] == nil {
			byCurrency[l.key.currency] = &sums{}
		}
		byCurrency[l.key.currency].add(&l.sums)
	}
	m.sort(lines)
	if len(lines) > q.limit {
		lines, res.Truncated = lines[:q.limit], true
	}
	cols := make([]string, len(q.columns))
	for i, c := range q.columns {
		cols[i] = c.name
	}
	res.Columns = cols
	res.Rows = make([]Row, len(lines))
	values := make([]Value, len(lines)*len(cols))
	for i, l := range lines {
		res.Rows[i] = Row{cols: cols, Values: values[:len(cols):len(cols)]}
		m.row(res.Rows[i].Values, q.columns, l)
		values = values[len(cols):]
	}
	m.totals(res, all, byCurrency)
	for id := range m.missing {
		res.Warnings = append(res.Warnings, fmt.Sprintf("price %d is not in the catalog; what it earned is missing", id))
	}
	slices.Sort(res.Warnings)
	return res
}

// totals writes the totals: one row per currency, and one over all whose money is null when there are several.
func (m *merger) totals(res *Result, all *sums, byCurrency map[string]*sums) {
	row := func(s *sums, currency string) Row {
		l := &line{key: lineKey{currency: currency}, sums: *s}
		columns := metricColumns()
		r := Row{Values: make([]Value, len(columns))}
		m.row(r.Values, columns, l)
		for i, c := range columns {
			if currency == "" && c.money {
				r.Values[i] = Value{}
			}
			r.cols = append(r.cols, c.name)
		}
		return r
	}
	currencies := make([]string, 0, len(byCurrency))
	for c := range byCurrency {
		currencies = append(currencies, c)
	}
	slices.Sort(currencies)
	for _, c := range currencies {
		res.CurrencyTotals = append(res.CurrencyTotals, row(byCurrency[c], c))
	}
	switch len(currencies) {
	case 0:
		res.Totals = row(all, m.names.Info().Currency)
	case 1:
		res.Totals = res.CurrencyTotals[0]
	default:
		res.Totals = row(all, "")
	}
}
