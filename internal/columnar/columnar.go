// Package columnar holds the two column encodings that every Milliard batch is made of: unsigned integers in
// frame-of-reference bytes, and strings behind a dictionary or plain. It knows nothing of events. It is pure: no
// goroutines, no I/O, and decoding never trusts a length before it has checked it against the bytes that are there.
//
// Bytes are drawn in docs/format/columnar.md. All fixed-width integers are little-endian.
package columnar

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
)

// ErrCorrupt is wrapped by every decoding error.
var ErrCorrupt = errors.New("corrupt column")

// MaxRows is the most rows that a column may claim; it bounds what a hostile length can make the decoder allocate.
const MaxRows = 1 << 20

// AppendUints appends the column values v to dst as base (uvarint), width (one byte: 0, 1, 2, 4 or 8) and
// len(v) little-endian differences of that width. A constant column costs no byte per row.
func AppendUints(dst []byte, v []uint64) []byte {
	if len(v) == 0 {
		return append(dst, 0, 0)
	}
	lo, hi := bounds(v)
	dst = binary.AppendUvarint(dst, lo)
	width := 8
	switch span := hi - lo; {
	case span == 0:
		return append(dst, 0)
	case span < 1<<8:
		width = 1
	case span < 1<<16:
		width = 2
	case span < 1<<32:
		width = 4
	}
	dst = append(dst, byte(width))
	start := len(dst)
	dst = slices.Grow(dst, width*len(v))[:start+width*len(v)]
	body := dst[start:]
	switch width {
	case 1:
		for i, x := range v {
			body[i] = byte(x - lo)
		}
	case 2:
		for i, x := range v {
			binary.LittleEndian.PutUint16(body[2*i:], uint16(x-lo))
		}
	case 4:
		for i, x := range v {
			binary.LittleEndian.PutUint32(body[4*i:], uint32(x-lo))
		}
	default:
		for i, x := range v {
			binary.LittleEndian.PutUint64(body[8*i:], x-lo)
		}
	}
	return dst
}

// WidthBelow returns how many bytes a row of a column takes whose values span at most span.
func WidthBelow(span uint64) int {
	switch {
	case span == 0:
		return 0
	case span < 1<<8:
		return 1
	case span < 1<<16:
		return 2
	case span < 1<<32:
		return 4
	}
	return 8
}

// bounds returns the smallest and the largest value. Most columns are constant, so it looks for the first difference
// before it compares; two pairs of accumulators keep the comparisons from waiting for each other.
func bounds(v []uint64) (lo, hi uint64) {
	first := v[0]
	i := 1
	for i < len(v) && v[i] == first {
		i++
	}
	lo, hi = first, first
	lo2, hi2 := first, first
	for ; i+1 < len(v); i += 2 {
		lo, hi = min(lo, v[i]), max(hi, v[i])
		lo2, hi2 = min(lo2, v[i+1]), max(hi2, v[i+1])
	}
	if i < len(v) {
		lo, hi = min(lo, v[i]), max(hi, v[i])
	}
	return min(lo, lo2), max(hi, hi2)
}

// Uints decodes a column of n rows from src into v (reused when it has room) and returns the values, whether the
// column is constant, and the rest of src.
func Uints(v []uint64, src []byte, n int) (values []uint64, constant bool, rest []byte, err error) {
	if n < 0 || n > MaxRows {
		return nil, false, nil, fmt.Errorf("%w: %d rows", ErrCorrupt, n)
	}
	base, used := binary.Uvarint(src)
	if used <= 0 || len(src) <= used {
		return nil, false, nil, fmt.Errorf("%w: integer base", ErrCorrupt)
	}
	width := int(src[used])
	src = src[used+1:]
	if width > 8 || len(src) < width*n {
		return nil, false, nil, fmt.Errorf("%w: %d rows of width %d in %d bytes", ErrCorrupt, n, width, len(src))
	}
	if cap(v) < n {
		v = make([]uint64, n)
	}
	v = v[:n]
	body := src[:width*n]
	switch width {
	case 0:
		for i := range v {
			v[i] = base
		}
	case 1:
		for i := range v {
			v[i] = base + uint64(body[i])
		}
	case 2:
		for i := range v {
			v[i] = base + uint64(binary.LittleEndian.Uint16(body[2*i:]))
		}
	case 4:
		for i := range v {
			v[i] = base + uint64(binary.LittleEndian.Uint32(body[4*i:]))
		}
	case 8:
		for i := range v {
			v[i] = base + binary.LittleEndian.Uint64(body[8*i:])
		}
	default:
		return nil, false, nil, fmt.Errorf("%w: integer width %d", ErrCorrupt, width)
	}
	return v, width == 0, src[width*n:], nil
}

// Strings is one decoded string column: Dict holds the distinct values, Index one dictionary position per row. A
// plain column has one dictionary entry per row. Entries alias the decoded bytes and live as long as they do.
type Strings struct {
	Dict  [][]byte
	Index []uint64
}

// Row returns the value of row i; an absent column yields nil.
func (s *Strings) Row(i int) []byte {
	if len(s.Index) == 0 {
		return nil
	}
	return s.Dict[s.Index[i]]
}

// Reset empties s and keeps its memory.
func (s *Strings) Reset() { s.Dict, s.Index = s.Dict[:0], s.Index[:0] }

// AppendStrings appends a dictionary column: count of entries, the length of each, their bytes, then the index column.
func AppendStrings(dst []byte, s *Strings) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(s.Dict)))
	for _, e := range s.Dict {
		dst = binary.AppendUvarint(dst, uint64(len(e)))
	}
	for _, e := range s.Dict {
		dst = append(dst, e...)
	}
	if len(s.Dict) <= 1 {
		return dst // no entry: absent; one entry: every row has it
	}
	if plain(s.Index) && len(s.Dict) == len(s.Index) {
		return append(dst, 1)
	}
	dst = append(dst, 0)
	return AppendUints(dst, s.Index)
}

func plain(index []uint64) bool {
	for i, x := range index {
		if x != uint64(i) {
			return false
		}
	}
	return true
}

// DecodeStrings decodes a column of n rows from src into s and returns the rest of src. The entries alias src.
func DecodeStrings(s *Strings, src []byte, n int) (rest []byte, err error) {
	s.Reset()
	if n < 0 || n > MaxRows {
		return nil, fmt.Errorf("%w: %d rows", ErrCorrupt, n)
	}
	count, used := binary.Uvarint(src)
	if used <= 0 || count > uint64(MaxRows) || count > uint64(len(src)) {
		return nil, fmt.Errorf("%w: dictionary size", ErrCorrupt)
	}
	src = src[used:]
	if src, err = s.decodeDict(src, int(count)); err != nil {
		return nil, err
	}
	if count == 0 {
		return src, nil
	}
	if cap(s.Index) < n {
		s.Index = make([]uint64, n)
	}
	s.Index = s.Index[:n]
	if count == 1 {
		clear(s.Index)
		return src, nil
	}
	if len(src) == 0 {
		return nil, fmt.Errorf("%w: index form", ErrCorrupt)
	}
	form := src[0]
	src = src[1:]
	switch form {
	case 1:
		if count != uint64(n) {
			return nil, fmt.Errorf("%w: plain column of %d entries for %d rows", ErrCorrupt, count, n)
		}
		for i := range s.Index {
			s.Index[i] = uint64(i)
		}
		return src, nil
	case 0:
		s.Index, _, src, err = Uints(s.Index, src, n)
		if err != nil {
			return nil, err
		}
		for _, x := range s.Index {
			if x >= count {
				return nil, fmt.Errorf("%w: dictionary index %d of %d", ErrCorrupt, x, count)
			}
		}
		return src, nil
	}
	return nil, fmt.Errorf("%w: index form %d", ErrCorrupt, form)
}

// decodeDict reads the lengths of count entries, and the entries.
func (s *Strings) decodeDict(src []byte, count int) (rest []byte, err error) {
	if count > len(src) {
		return nil, fmt.Errorf("%w: %d dictionary entries in %d bytes", ErrCorrupt, count, len(src))
	}
	short, total := byte(0), 0
	for _, l := range src[:count] { // nearly always every length is one byte
		short |= l
		total += int(l)
	}
	s.Dict = slices.Grow(s.Dict[:0], count)[:count]
	if short < 1<<7 {
		lengths, rest := src[:count], src[count:]
		if total > len(rest) {
			s.Dict = s.Dict[:0]
			return nil, fmt.Errorf("%w: dictionary of %d bytes in %d", ErrCorrupt, total, len(rest))
		}
		for i, l := range lengths {
			s.Dict[i] = rest[:l:l]
			rest = rest[l:]
		}
		return rest, nil
	}
	s.Dict = s.Dict[:0]
	lengths, all := src, uint64(0)
	for range count {
		l, used := binary.Uvarint(src)
		if used <= 0 || l > uint64(len(src)) {
			return nil, fmt.Errorf("%w: dictionary entry length", ErrCorrupt)
		}
		all += l
		src = src[used:]
	}
	if all > uint64(len(src)) {
		return nil, fmt.Errorf("%w: dictionary of %d bytes in %d", ErrCorrupt, all, len(src))
	}
	for range count {
		l, used := binary.Uvarint(lengths)
		lengths = lengths[used:]
		s.Dict = append(s.Dict, src[:l:l])
		src = src[l:]
	}
	return src, nil
}
