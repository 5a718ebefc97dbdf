package report

import (
	"cmp"
	"math"
	"math/bits"
	"slices"
	"strconv"
	"strings"
)

// sort orders lines by the query's columns. Nulls come last in either direction.
func (m *merger) sort(lines []*line) {
	if !m.sortPlaces(lines) {
		m.sortCompared(lines)
	}
}

// sortCompared sorts by comparing every column in order.
func (m *merger) sortCompared(lines []*line) {
	width := len(m.q.order)
	type keyed struct {
		l    *line
		vals []sortKey
	}
	all := make([]keyed, len(lines))
	vals := make([]sortKey, width*len(lines))
	for i, l := range lines {
		all[i] = keyed{l, vals[i*width : (i+1)*width]}
		for j, o := range m.q.order {
			all[i].vals[j] = m.sortKey(&m.q.columns[o.column], l)
		}
	}
	slices.SortFunc(all, func(a, b keyed) int {
		for j := range m.q.order {
			if c := a.vals[j].compare(&b.vals[j], m.q.order[j].desc); c != 0 {
				return c
			}
		}
		return 0
	})
	for i := range all {
		lines[i] = all[i].l
	}
}

// places says where every line stands in the order of one column, from 0, in so many bits.
type places struct {
	at    []uint64
	width int
}

// sortPlaces sorts by the lines' places, the last column first, as many columns at once as fit into a word. It returns
// false when a number does not fit.
func (m *merger) sortPlaces(lines []*line) bool {
	var order []places
	var told [dimCount]bool // ids of the dimension are told apart already
	for _, o := range m.q.order {
		c := &m.q.columns[o.column]
		var p places
		switch {
		case c.grain || c.metric != notMetric && c.metric != mCurrency:
			var ok bool
			if p, ok = m.numberPlaces(c, lines, o.desc); !ok {
				return false
			}
		case c.metric == notMetric && told[c.dim]:
			continue
		default:
			var each bool
			p, each = m.textPlaces(c, lines, o.desc)
			if c.metric == notMetric {
				told[c.dim] = each
			}
		}
		if p.width > 0 {
			order = append(order, p)
		}
	}
	all, spare := make([]placed, len(lines)), make([]placed, len(lines))
	for i := range all {
		all[i].line = uint32(i)
	}
	used := 0
	for i := len(order) - 1; i >= 0; i-- {
		p := &order[i]
		if used+p.width > 64 {
			all, spare = sortPlaced(all, spare, used)
			for j := range all {
				all[j].key = 0
			}
			used = 0
		}
		for j := range all {
			all[j].key |= p.at[all[j].line] << used
		}
		used += p.width
	}
	all, _ = sortPlaced(all, spare, used)
	sorted := make([]*line, len(lines))
	for i := range all {
		sorted[i] = lines[all[i].line]
	}
	copy(lines, sorted)
	return true
}

type placed struct {
	key  uint64
	line uint32
}

// sortPlaced sorts by the lowest bits of the keys and leaves what is equal in its order. It returns its arguments, the
// sorted one first.
func sortPlaced(all, spare []placed, width int) (sorted, rest []placed) {
	const digit = 11
	for shift := 0; shift < width; shift += digit {
		var ends [1 << digit]uint32
		for i := range all {
			ends[all[i].key>>shift&(1<<digit-1)]++
		}
		at := uint32(0)
		for i, n := range ends {
			ends[i] = at
			at += n
		}
		for i := range all {
			d := all[i].key >> shift & (1<<digit - 1)
			spare[ends[d]] = all[i]
			ends[d]++
		}
		all, spare = spare, all
	}
	return all, spare
}

// numberPlaces takes the numbers of a column as places. It returns false when one does not fit into a word.
func (m *merger) numberPlaces(c *column, lines []*line, desc bool) (places, bool) {
	p := places{at: make([]uint64, len(lines))}
	least, most := int64(math.MaxInt64), int64(math.MinInt64)
	values := make([]int64, len(lines))
	nulls := false
	for i, l := range lines {
		v := m.timeOf(c, l)
		if !c.grain {
			x := l.number(c.metric)
			if nulls = nulls || x.null; x.null {
				continue
			}
			if v = int64(x.lo); x.big != nil || x.hi != v>>63 {
				return p, false
			}
		}
		values[i], least, most = v, min(least, v), max(most, v)
	}
	if least > most {
		return p, true // no line, or all are null
	}
	span := uint64(most) - uint64(least)
	if span == math.MaxUint64 {
		return p, false
	}
	p.width = bits.Len64(span)
	if nulls {
		p.width = bits.Len64(span + 1)
	}
	for i, v := range values {
		switch {
		case nulls && !c.grain && lines[i].number(c.metric).null:
			p.at[i] = span + 1
		case desc:
			p.at[i] = uint64(most) - uint64(v)
		default:
			p.at[i] = uint64(v) - uint64(least)
		}
	}
	return p, true
}

// timeOf is the bucket of a line as a number that grows with time.
func (m *merger) timeOf(c *column, l *line) int64 {
	switch {
	case !c.grain:
		return 0
	case m.q.grain.withinDay():
		return l.key.time*m.q.grain.minutes() - int64(l.key.offset)
	}
	return l.key.time
}

// textPlaces orders what the lines show in a column, and says whether no two things are the same.
func (m *merger) textPlaces(c *column, lines []*line, desc bool) (p places, each bool) {
	type keyed struct {
		of  uint32
		key sortKey
	}
	var all []keyed
	var ranks byID[uint64]
	p.at = make([]uint64, len(lines))
	for i, l := range lines { // for now the order in which they were met
		of := placeOf(c, l)
		n := ranks.at(of)
		if *n == 0 {
			all = append(all, keyed{uint32(len(all)), m.sortKey(c, l)})
			*n = uint64(len(all))
		}
		p.at[i] = *n - 1
	}
	slices.SortFunc(all, func(a, b keyed) int { return a.key.compare(&b.key, desc) })
	rank := make([]uint64, len(all))
	last := uint64(0)
	for i := range all {
		if i > 0 && all[i].key.compare(&all[i-1].key, desc) != 0 {
			last++
		}
		rank[all[i].of] = last
	}
	for i := range p.at {
		p.at[i] = rank[p.at[i]]
	}
	p.width = bits.Len64(last)
	return p, int(last)+1 >= len(all)
}

// placeOf is a number for what a line shows in a column.
func placeOf(c *column, l *line) uint32 {
	switch {
	case c.metric == mCurrency:
		return l.key.currency
	case c.dim.rollup() != 0:
		return l.key.value
	}
	return l.key.ids[c.dim]
}

// sortKey is a number, perhaps with a text, or a text, or null.
type sortKey struct {
	kind uint8 // nothing, aNumber, aText
	num  amount
	text string
}

const (
	nothing uint8 = iota
	aNumber
	aText
)

// sortKey returns the key of one column.
func (m *merger) sortKey(c *column, l *line) sortKey {
	switch {
	case c.grain:
		return sortKey{kind: aNumber, num: amount{wide: wideOf(m.timeOf(c, l))}}
	case c.metric != notMetric && c.metric != mCurrency:
		x := l.number(c.metric)
		if x.null {
			return sortKey{}
		}
		return sortKey{kind: aNumber, num: x}
	}
	return textKey(m.text(c, l).Text)
}

// textKey orders keys that are numbers as numbers.
func textKey(s string) sortKey {
	if s == "" {
		return sortKey{}
	}
	if c := s[0]; c == '-' || c >= '0' && c <= '9' {
		if n, err := strconv.ParseInt(s, 10, 64); err == nil {
			return sortKey{aNumber, amount{wide: wideOf(n)}, s}
		}
	}
	return sortKey{kind: aText, text: s}
}

func (a *sortKey) compare(b *sortKey, desc bool) int {
	if a.kind == nothing || b.kind == nothing {
		return cmp.Compare(btoi(a.kind == nothing), btoi(b.kind == nothing))
	}
	c := cmp.Compare(a.kind, b.kind) // numbers before words
	switch {
	case c != 0:
	case a.kind == aNumber:
		if c = a.num.compare(&b.num); c == 0 {
			c = strings.Compare(a.text, b.text)
		}
	default:
		c = strings.Compare(a.text, b.text)
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
