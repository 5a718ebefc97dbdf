package report

import (
	"cmp"
	"fmt"
	"math/big"
	"math/bits"
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

// amount is a number in millionths; big is set when it may not fit into the words, and null when there is none.
type amount struct {
	wide
	big  *big.Int
	null bool
}

func amountOf(x *big.Int) amount { return amount{big: x, null: x == nil} }

// number returns a metric in millionths, rounded half to even where it needs rounding; null when it divides by zero.
func (l *line) number(m metric) amount {
	switch m {
	case mImpressions:
		return amount{wide: l.impressions}
	case mClicks:
		return amount{wide: l.clicks}
	case mConversions:
		return amount{wide: l.conversions}
	case mEvents:
		if l.events.hi == 0 {
			high, low := bits.Mul64(l.events.lo, uint64(event.One))
			return amount{wide: wide{int64(high), low}}
		}
		return amountOf(new(big.Int).Mul(l.events.big(), big.NewInt(int64(event.One)))).words()
	case mN:
		return amount{wide: l.n}
	case mAmount:
		return amount{wide: l.amount}
	case mCTR:
		return wideRatio(l.clicks, l.impressions)
	case mCR:
		return wideRatio(l.conversions, l.clicks)
	case mEPC:
		return moneyRatio(&l.revenue, moneyScale, l.clicks)
	case mECPM:
		return moneyRatio(&l.revenue, moneyScale-3, l.impressions)
	case mRevenue:
		return l.revenue.rounded()
	case mPayout:
		return l.payout.rounded()
	case mProfit:
		profit := l.revenue.minus(&l.payout)
		return profit.rounded()
	case notMetric, mCurrency:
	}
	return amount{null: true}
}

// words puts a number into words if it fits.
func (a amount) words() amount {
	if !a.null && a.big != nil {
		if w, err := wideOfBig(a.big); err == nil {
			return amount{wide: w}
		}
	}
	return a
}

// rounded writes money in millionths.
func (m *money15) rounded() amount {
	const perMicro = 1_000_000_000
	if a, ok := m.over(perMicro); ok {
		return a
	}
	return amountOf(divHalfEven(m.whole(), big.NewInt(perMicro))).words()
}

// moneyRatio divides money in units of 10⁻ˢᶜᵃˡᵉ by a number of millionths.
func moneyRatio(x *money15, scale int, by wide) amount {
	if by == (wide{}) {
		return amount{null: true}
	}
	den := by.lo
	if scale == moneyScale {
		high, low := bits.Mul64(den, 1_000)
		if den = low; high > 0 {
			den = 0
		}
	}
	if by.hi == 0 && den > 0 {
		if a, ok := x.over(den); ok {
			return a
		}
	}
	return amountOf(ratio(x.whole(), scale, by.big())).words()
}

// wideRatio divides two numbers of millionths and rounds half to even.
func wideRatio(a, by wide) amount {
	x, y := uint64(a.lo), uint64(by.lo)
	switch {
	case by == wide{}:
		return amount{null: true}
	case a == wide{}:
		return amount{}
	case a.hi == 0 && by.hi == 0 && x>>63 == 0 && y>>62 == 0:
		high, low := bits.Mul64(x, uint64(event.One))
		if high >= y {
			break
		}
		q, r := bits.Div64(high, low, y)
		if 2*r > y || 2*r == y && q&1 == 1 {
			q++
		}
		return amount{wide: wide{0, q}}
	}
	return amountOf(ratio(a.big(), microsScale, by.big())).words()
}

// appendTo appends the number with at least so many decimals.
func (a *amount) appendTo(b []byte, least int) []byte {
	if a.big != nil {
		return append(b, decimal(a.big, least)...)
	}
	return a.appendDecimal(b, least)
}

func (a *amount) compare(o *amount) int {
	if a.big == nil && o.big == nil {
		return cmp.Or(cmp.Compare(a.hi, o.hi), cmp.Compare(a.lo, o.lo))
	}
	return a.whole().Cmp(o.whole())
}

func (a *amount) whole() *big.Int {
	if a.big != nil {
		return a.big
	}
	return a.wide.big()
}

// row writes a line's values. Its numbers are parts of one text.
func (m *merger) row(out []Value, columns []column, l *line) {
	buf := m.buf[:0]
	m.ends = m.ends[:0]
	for i := range columns {
		c := &columns[i]
		switch {
		case c.metric == notMetric || c.metric == mCurrency:
			out[i] = m.text(c, l)
		default:
			x := l.number(c.metric)
			switch {
			case x.null:
			case c.money:
				out[i].Kind = money
				buf = x.appendTo(buf, 2)
			default:
				out[i].Kind = number
				buf = x.appendTo(buf, 0)
			}
		}
		m.ends = append(m.ends, len(buf))
	}
	numbers, from := string(buf), 0
	for i, end := range m.ends {
		if end > from {
			out[i].Text = numbers[from:end]
		}
		from = end
	}
	m.buf = buf
}

// text writes what is no number.
func (m *merger) text(c *column, l *line) Value {
	switch {
	case c.metric == mCurrency:
		return text(m.textOf(l.key.currency))
	case c.grain:
		return text(m.label(l.key.time, int64(l.key.offset)))
	case c.dim == Sub1:
		return text(shownSub(m.textOf(l.key.value)))
	case c.dim.rollup() != 0:
		if l.key.value == 0 {
			return text(None)
		}
		return text(m.textOf(l.key.value))
	}
	e := m.entity(c.dim, l.key.ids[c.dim])
	if c.display {
		return text(e.name)
	}
	return text(e.key)
}

// label names a bucket of time, each once: lines share them.
func (m *merger) label(n, offset int64) string {
	s, ok := m.labels[[2]int64{n, offset}]
	if !ok {
		s = label(m.q.grain, n, offset)
		m.labels[[2]int64{n, offset}] = s
	}
	return s
}

// entity is what an id is called, also as JSON strings; json is empty until it is asked for.
type entity struct {
	key, name         string
	keyJSON, nameJSON []byte
}

// entity returns the key and the name of an id, each looked up once.
func (m *merger) entity(d Dim, id uint32) *entity {
	e := m.named[d].at(id)
	if e.key == "" {
		e.key, e.name = m.lookUp(d, int64(id))
	}
	return e
}

// byID holds a value for each of some ids. Most ids are small, because they are given out in order.
type byID[T any] struct {
	values []T
	dense  []uint32 // by id: the value's place plus one
	sparse map[uint32]uint32
}

const denseIDs = 1 << 17

// at returns the value of an id, to be read or written before the next call.
func (b *byID[T]) at(id uint32) *T {
	if id < denseIDs {
		if int(id) >= len(b.dense) {
			b.dense = append(b.dense, make([]uint32, 1<<bits.Len32(id|0xff)-len(b.dense))...)
		}
		if b.dense[id] == 0 {
			b.dense[id] = b.add()
		}
		return &b.values[b.dense[id]-1]
	}
	n, ok := b.sparse[id]
	if !ok {
		if b.sparse == nil {
			b.sparse = map[uint32]uint32{}
		}
		n = b.add()
		b.sparse[id] = n
	}
	return &b.values[n-1]
}

func (b *byID[T]) add() uint32 {
	var none T
	b.values = append(b.values, none)
	return uint32(len(b.values))
}

// lookUp finds an id in the catalog. One that the catalog does not have is named as such.
func (m *merger) lookUp(d Dim, id int64) (key, name string) {
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
