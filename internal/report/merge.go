package report

import (
	"fmt"
	"math/big"
	"slices"

	"milliard/internal/catalog"
	"milliard/internal/event"
)

// sums are the exact numbers of a line: counts and amounts in millionths, money in 10⁻¹⁵.
type sums struct {
	impressions, clicks, conversions, n, amount, events big.Int
	revenue, payout                                     big.Int
}

// count adds a cell's counts.
func (s *sums) count(c *cell) {
	switch event.Type(c.ids[EventType]) {
	case event.Impression:
		s.impressions.Add(&s.impressions, c.n)
	case event.Click:
		s.clicks.Add(&s.clicks, c.n)
	case event.Conversion:
		s.conversions.Add(&s.conversions, c.n)
	}
	s.n.Add(&s.n, c.n)
	s.amount.Add(&s.amount, c.amount)
	s.events.Add(&s.events, c.events)
}

// add adds another line's sums.
func (s *sums) add(o *sums) {
	for _, p := range [][2]*big.Int{
		{&s.impressions, &o.impressions},
		{&s.clicks, &o.clicks},
		{&s.conversions, &o.conversions},
		{&s.n, &o.n},
		{&s.amount, &o.amount},
		{&s.events, &o.events},
		{&s.revenue, &o.revenue},
		{&s.payout, &o.payout},
	} {
		p[0].Add(p[0], p[1])
	}
}

// lineKey is what makes two cells one line. The currency is always part of it: money of two currencies is never added.
type lineKey struct {
	ids      [dimCount]int64
	value    string
	time     int64
	offset   int64
	currency string
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
	lines   map[lineKey]*line
	missing map[event.PriceID]bool
	prices  map[event.PriceID]*catalog.Price
}

// merge folds the cells into lines and writes the answer.
func (q *Query) merge(names *catalog.View, cells []cell) *Result {
	m := &merger{
		q: q, names: names, several: severalCurrencies(names),
		lines: map[lineKey]*line{}, missing: map[event.PriceID]bool{}, prices: map[event.PriceID]*catalog.Price{},
	}
	for i := range cells {
		m.cell(&cells[i])
	}
	return m.result()
}

func (m *merger) line(k lineKey) *line {
	l := m.lines[k]
	if l == nil {
		l = &line{key: k}
		m.lines[k] = l
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
	m.line(k).count(c)
	if event.Class(c.ids[Class]) != event.Valid {
		return
	}
	if earned, currency := m.earned(c, c.revenue, k.currency); earned != nil {
		to := k
		to.currency = currency
		l := m.line(to)
		l.revenue.Add(&l.revenue, earned)
	}
	if earned, currency := m.earned(c, c.payout, k.currency); earned != nil {
		to := k
		to.currency = currency
		l := m.line(to)
		l.payout.Add(&l.payout, earned)
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
	return earns(p, event.Type(c.ids[EventType]), c.n, c.amount), priceCurrency(p, currency)
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
	for _, l := range lines {
		row := Row{cols: cols, Values: make([]Value, len(cols))}
		for i, c := range q.columns {
			row.Values[i] = m.value(c, l)
		}
		res.Rows = append(res.Rows, row)
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
		var r Row
		for _, c := range metricColumns() {
			v := m.value(c, l)
			if currency == "" && c.money {
				v = Value{}
			}
			r.cols, r.Values = append(r.cols, c.name), append(r.Values, v)
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
