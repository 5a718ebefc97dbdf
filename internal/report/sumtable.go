package report

import (
	"fmt"
	"math"
	"math/big"
	"math/bits"
	"strconv"

	"milliard/internal/event"
)

// wide is a signed sum of 128 bits: no number of int64 overflows it.
type wide struct {
	hi int64
	lo uint64
}

func (w *wide) add(v wide) {
	lo, carry := bits.Add64(w.lo, v.lo, 0)
	w.lo, w.hi = lo, w.hi+v.hi+int64(carry)
}

func wideOf(v int64) wide { return wide{v >> 63, uint64(v)} }

func wideOfBig(x *big.Int) (wide, error) {
	if x.IsInt64() {
		return wideOf(x.Int64()), nil
	}
	if x.BitLen() > 126 {
		return wide{}, fmt.Errorf("a sum of %d bits", x.BitLen())
	}
	high := new(big.Int).Rsh(x, 64) // rounds down, as two's complement does
	low := new(big.Int).Sub(x, new(big.Int).Lsh(high, 64))
	return wide{high.Int64(), low.Uint64()}, nil
}

func (w wide) big() *big.Int {
	x := new(big.Int).Lsh(big.NewInt(w.hi), 64)
	return x.Add(x, new(big.Int).SetUint64(w.lo))
}

// appendMicros appends a sum of millionths as a plain decimal.
func (w wide) appendMicros(b []byte) []byte { return w.appendDecimal(b, 0) }

// appendDecimal appends millionths as a plain decimal with at least so many decimals and no further trailing zeros.
func (w wide) appendDecimal(b []byte, least int) []byte {
	v := int64(w.lo)
	if w.hi != v>>63 || v == math.MinInt64 {
		return append(b, decimal(w.big(), least)...)
	}
	if v < 0 {
		b, v = append(b, '-'), -v
	}
	b = strconv.AppendInt(b, v/int64(event.One), 10)
	rest := v % int64(event.One)
	if rest == 0 && least == 0 {
		return b
	}
	b = append(b, '.')
	for digit, place := 0, int64(event.One)/10; place > 0 && (rest > 0 || digit < least); digit, place = digit+1, place/10 {
		b = append(b, byte('0'+rest/place))
		rest %= place
	}
	return b
}

// sumKey is a counter's key within its shape: what the shape does not fix is 0. The top bit of the second word says that
// the place is taken.
type sumKey [2]uint64

const taken = 1 << 63

func (s *shape) key(ids *counterIDs) sumKey {
	var k [counterDimCount]uint64
	for i, fixed := range s.fixed {
		if fixed {
			k[i] = uint64(ids[i])
		}
	}
	return sumKey{k[2]<<32 | k[4], taken | k[3]<<24 | k[0]<<8 | k[1]}
}

// sum is one counter.
type sum struct {
	n      wide // millionths
	events int64
}

func (s *sum) add(o *sum) {
	s.n.add(o.n)
	s.events += o.events
}

type sumRow struct {
	key sumKey
	sum
}

// sumTable sums by key, in one array without pointers. The zero value is an empty table.
type sumTable struct {
	rows  []sumRow // a power of two, at most half full
	count int
}

func (k *sumKey) hash() uint64 {
	hi, lo := bits.Mul64(k[0]^0x9e3779b97f4a7c15, k[1]^0xe7037ed1a0b428db)
	return hi ^ lo
}

// find returns the sum of a key; nil when nothing was counted.
func (t *sumTable) find(k *sumKey) *sum {
	if t == nil || t.count == 0 {
		return nil
	}
	mask := uint64(len(t.rows) - 1)
	for i := k.hash() & mask; ; i = (i + 1) & mask {
		row := &t.rows[i]
		if row.key == *k {
			return &row.sum
		}
		if row.key[1] == 0 {
			return nil
		}
	}
}

func (t *sumTable) add(k *sumKey, v *sum) {
	if 2*(t.count+1) > len(t.rows) {
		t.grow()
	}
	row := t.place(k)
	if row.key[1] == 0 {
		row.key = *k
		t.count++
	}
	row.add(v)
}

func (t *sumTable) place(k *sumKey) *sumRow {
	mask := uint64(len(t.rows) - 1)
	i := k.hash() & mask
	for t.rows[i].key[1] != 0 && t.rows[i].key != *k {
		i = (i + 1) & mask
	}
	return &t.rows[i]
}

func (t *sumTable) grow() {
	old := t.rows
	t.rows = make([]sumRow, max(64, 2*len(old)))
	for i := range old {
		if old[i].key[1] != 0 {
			*t.place(&old[i].key) = old[i]
		}
	}
}

func (t *sumTable) clone() *sumTable {
	return &sumTable{append([]sumRow(nil), t.rows...), t.count}
}
