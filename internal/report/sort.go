package report

import (
	"cmp"
	"math/big"
	"math/bits"
	"slices"
	"strings"
)

// sort orders lines by the query's columns. Nulls come last in either direction.
func (m *merger) sort(lines []*line) {
	if m.sortPacked(lines) {
		return
	}
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

// sortPacked sorts by one word per line, in which every column has its place. It returns false when a column is no
// dimension, or when the places of all do not fit.
func (m *merger) sortPacked(lines []*line) bool {
	type keyed struct {
		key uint64
		l   *line
	}
	all := make([]keyed, len(lines))
	for i, l := range lines {
		all[i].l = l
	}
	used := 0
	var told [dimCount]bool // ids of the dimension are told apart already
	for _, o := range m.q.order {
		c := &m.q.columns[o.column]
		ofDim := c.metric == notMetric && !c.grain
		switch {
		case c.metric != notMetric && c.metric != mCurrency:
			return false
		case ofDim && told[c.dim]:
			continue
		}
		places, count := m.places(c, lines, o.desc)
		if ofDim {
			told[c.dim] = count == len(places)
		}
		width := bits.Len(uint(count - 1))
		if used += width; used > 64 {
			return false
		}
		if width == 0 {
			continue
		}
		for i := range all {
			all[i].key = all[i].key<<width | places[m.placeOf(c, all[i].l)]
		}
	}
	slices.SortFunc(all, func(a, b keyed) int { return cmp.Compare(a.key, b.key) })
	for i := range all {
		lines[i] = all[i].l
	}
	return true
}

// placeOf is a number for what a line shows in a column.
func (m *merger) placeOf(c *column, l *line) uint64 {
	switch {
	case c.metric == mCurrency:
		return uint64(m.number(l.key.currency))
	case c.grain:
		return uint64(l.key.time)<<16 | uint64(l.key.offset+2*dayMinutes)
	case c.dim.rollup() != 0:
		return uint64(m.number(l.key.value))
	}
	return uint64(l.key.ids[c.dim])
}

// places orders what the lines show in a column by the sort keys, and says how many there are. Equal keys share a place.
func (m *merger) places(c *column, lines []*line, desc bool) (places map[uint64]uint64, count int) {
	places = map[uint64]uint64{}
	type keyed struct {
		of  uint64
		key sortKey
	}
	var all []keyed
	for _, l := range lines {
		p := m.placeOf(c, l)
		if _, known := places[p]; !known {
			places[p] = 0
			all = append(all, keyed{p, m.sortKey(c, l)})
		}
	}
	slices.SortFunc(all, func(a, b keyed) int { return a.key.compare(&b.key, desc) })
	for i := range all {
		if i > 0 && all[i].key.compare(&all[i-1].key, desc) != 0 {
			count++
		}
		places[all[i].of] = uint64(count)
	}
	return places, count + 1
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
	case c.metric != notMetric && c.metric != mCurrency:
		x := l.number(c.metric)
		if x.null {
			return sortKey{}
		}
		return sortKey{kind: aNumber, num: x}
	case c.grain && m.q.grain.withinDay():
		return sortKey{kind: aNumber, num: amount{wide: wideOf(l.key.time*m.q.grain.minutes() - l.key.offset)}}
	case c.grain:
		return sortKey{kind: aNumber, num: amount{wide: wideOf(l.key.time)}}
	}
	return textKey(m.text(c, l).Text)
}

// textKey orders keys that are numbers as numbers.
func textKey(s string) sortKey {
	if s == "" {
		return sortKey{}
	}
	if n, ok := new(big.Int).SetString(s, 10); ok && len(s) < 20 && s[0] != '+' {
		return sortKey{aNumber, amountOf(n).words(), s}
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
