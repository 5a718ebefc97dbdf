package report

import (
	"cmp"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"time"

	"milliard/internal/catalog"
	"milliard/internal/event"
)

// metric is a number of a line.
type metric uint8

const (
	notMetric metric = iota
	mImpressions
	mClicks
	mConversions
	mEvents
	mN
	mAmount
	mCTR
	mCR
	mEPC
	mECPM
	mRevenue
	mPayout
	mProfit
	mCurrency
)

// column is one column of an answer: a metric, the grain, or a dimension's key or display name.
type column struct {
	name    string
	metric  metric
	money   bool // depends on the currency
	grain   bool
	dim     Dim
	display bool // the dimension's name instead of its key
}

func metricColumns() []column {
	return []column{
		{name: "impressions", metric: mImpressions},
		{name: "clicks", metric: mClicks},
		{name: "conversions", metric: mConversions},
		{name: "events", metric: mEvents},
		{name: "n", metric: mN},
		{name: "amount", metric: mAmount, money: true},
		{name: "CTR", metric: mCTR},
		{name: "CR", metric: mCR},
		{name: "EPC", metric: mEPC, money: true},
		{name: "eCPM", metric: mECPM, money: true},
		{name: "revenue", metric: mRevenue, money: true},
		{name: "payout", metric: mPayout, money: true},
		{name: "profit", metric: mProfit, money: true},
		{name: "currency", metric: mCurrency, money: true},
	}
}

func (q *Query) makeColumns() []column {
	var out []column
	grain := column{name: q.grain.String(), grain: true}
	for i, d := range q.dims {
		if q.grain != NoGrain && q.grainAt == i {
			out = append(out, grain)
		}
		out = append(out, column{name: d.String(), dim: d})
		if d.named() {
			out = append(out, column{name: d.String() + "_name", dim: d, display: true})
		}
	}
	if q.grain != NoGrain && q.grainAt == len(q.dims) {
		out = append(out, grain)
	}
	return append(out, metricColumns()...)
}

func (q *Query) parseOrder(words []string) error {
	for _, word := range words {
		if word == "" {
			continue
		}
		name, desc := strings.CutPrefix(word, "-")
		i := slices.IndexFunc(q.columns, func(c column) bool { return strings.EqualFold(c.name, name) })
		if i < 0 {
			return bad("order", "%q is no column of this report", clip(name))
		}
		q.order = append(q.order, order{i, desc})
	}
	// What is left equal is ordered by the dimensions, so that the same question always has the same answer.
	for i, c := range q.columns {
		if c.metric == notMetric || c.metric == mCurrency {
			q.order = append(q.order, order{i, false})
		}
	}
	return nil
}

func minuteTime(m int64, zone *time.Location) time.Time { return time.Unix(m*60, 0).In(zone) }

// number returns a metric in millionths, rounded half to even where it needs rounding; nil when it divides by zero.
func (l *line) number(m metric) *big.Int {
	switch m {
	case mImpressions:
		return &l.impressions
	case mClicks:
		return &l.clicks
	case mConversions:
		return &l.conversions
	case mEvents:
		return new(big.Int).Mul(&l.events, big.NewInt(int64(event.One)))
	case mN:
		return &l.n
	case mAmount:
		return &l.amount
	case mCTR:
		return ratio(&l.clicks, microsScale, &l.impressions)
	case mCR:
		return ratio(&l.conversions, microsScale, &l.clicks)
	case mEPC:
		return ratio(&l.revenue, moneyScale, &l.clicks)
	case mECPM:
		return ratio(&l.revenue, moneyScale-3, &l.impressions)
	case mRevenue:
		return divHalfEven(&l.revenue, pow10(moneyScale-microsScale))
	case mPayout:
		return divHalfEven(&l.payout, pow10(moneyScale-microsScale))
	case mProfit:
		return divHalfEven(new(big.Int).Sub(&l.revenue, &l.payout), pow10(moneyScale-microsScale))
	case notMetric, mCurrency:
	}
	return nil
}

// value writes one cell of the answer.
func (m *merger) value(c column, l *line) Value {
	switch {
	case c.metric == mCurrency:
		return text(l.key.currency)
	case c.metric != notMetric:
		x := l.number(c.metric)
		switch {
		case x == nil:
			return Value{}
		case c.money:
			return Value{money, decimal(x, 2)}
		}
		return Value{number, decimal(x, 0)}
	case c.grain:
		return text(label(m.q.grain, l.key.time, l.key.offset))
	case c.dim == Sub1:
		return text(shownSub(l.key.value))
	case c.dim.rollup() != 0:
		if l.key.value == "" {
			return text(None)
		}
		return text(l.key.value)
	}
	key, name := m.entity(c.dim, l.key.ids[c.dim])
	if c.display {
		return text(name)
	}
	return text(key)
}

// entity returns the key and the name of an id. An id that the catalog does not have is named as such.
func (m *merger) entity(d Dim, id int64) (key, name string) {
	if id == 0 {
		return None, None
	}
	switch d {
	case Advertiser:
		if x, ok := m.names.AdvertiserByID(event.AdvertiserID(id)); ok {
			return x.Key, cmp.Or(x.Name, x.Key)
		}
	case Campaign:
		if x, ok := m.names.CampaignByID(event.CampaignID(id)); ok {
			return x.Key, cmp.Or(x.Name, x.Key)
		}
	case Banner:
		if x, ok := m.names.BannerByID(event.BannerID(id)); ok {
			return m.bannerKey(x), cmp.Or(x.Name, x.Key)
		}
	case Affiliate:
		if x, ok := m.names.AffiliateByID(event.AffiliateID(id)); ok {
			return x.Key, cmp.Or(x.Name, x.Key)
		}
	case Goal:
		if x, ok := m.names.GoalByID(event.GoalID(id)); ok {
			return x.Key, cmp.Or(x.Name, x.Key)
		}
	case EventType:
		if x, ok := m.names.EventTypeByID(event.Type(id)); ok {
			return x.Key, cmp.Or(x.Name, x.Key)
		}
	case Class:
		return event.Class(id).String(), ""
	case Country, Device, Sub1, dimCount:
	}
	key = fmt.Sprintf("(unknown %d)", id)
	return key, key
}

// bannerKey is unambiguous also where the campaign is not a column: banner keys are unique within a campaign only.
func (m *merger) bannerKey(b *catalog.Banner) string {
	if m.q.has(Campaign) {
		return b.Key
	}
	if c, ok := m.names.CampaignByID(b.Campaign); ok {
		return c.Key + "/" + b.Key
	}
	return b.Key
}

// sort orders lines by the query's columns. Nulls come last in either direction.
func (m *merger) sort(lines []*line) {
	type keyed struct {
		l    *line
		vals []sortKey
	}
	all := make([]keyed, len(lines))
	for i, l := range lines {
		all[i] = keyed{l, make([]sortKey, len(m.q.order))}
		for j, o := range m.q.order {
			all[i].vals[j] = m.sortKey(m.q.columns[o.column], l)
		}
	}
	slices.SortFunc(all, func(a, b keyed) int {
		for j, o := range m.q.order {
			if c := a.vals[j].compare(b.vals[j], o.desc); c != 0 {
				return c
			}
		}
		return 0
	})
	for i := range all {
		lines[i] = all[i].l
	}
}

// sortKey is a number, or a text when num is nil; neither is null.
type sortKey struct {
	num  *big.Int
	text string
}

func (m *merger) sortKey(c column, l *line) sortKey {
	switch {
	case c.metric != notMetric && c.metric != mCurrency:
		return sortKey{num: l.number(c.metric)}
	case c.grain && m.q.grain.withinDay():
		return sortKey{num: big.NewInt(l.key.time*m.q.grain.minutes() - l.key.offset)}
	case c.grain:
		return sortKey{num: big.NewInt(l.key.time)}
	}
	s := m.value(c, l).Text
	if n, ok := new(big.Int).SetString(s, 10); ok && len(s) < 20 && s[0] != '+' {
		return sortKey{num: n, text: s} // numeric keys in numeric order
	}
	return sortKey{text: s}
}

func (a sortKey) null() bool { return a.num == nil && a.text == "" }

func (a sortKey) compare(b sortKey, desc bool) int {
	if a.null() || b.null() {
		return cmp.Compare(btoi(a.null()), btoi(b.null()))
	}
	c := 0
	switch {
	case a.num != nil && b.num != nil:
		c = cmp.Or(a.num.Cmp(b.num), strings.Compare(a.text, b.text))
	case a.num == nil && b.num == nil:
		c = strings.Compare(a.text, b.text)
	default:
		c = cmp.Compare(btoi(a.num == nil), btoi(b.num == nil)) // numbers before words
	}
	if desc {
		return -c
	}
	return c
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}
