package event

import (
	"bytes"
	"encoding/binary"
	"hash/maphash"

	"milliard/internal/columnar"
)

// texts is one string column of a block under construction, packed as it goes into the block: nothing in it points to
// anything, and encoding it is copying it. Entries are found by their bytes in a hash table with open addressing, whose
// slots hold entry numbers plus one; its seed is new in every process and shows nowhere.
type texts struct {
	sizes   []byte // uvarint lengths of the entries
	bytes   []byte // the entries, one after the other
	ends    []uint32
	entries int
	empty   int // number plus one of the empty entry; 0: none yet

	ragged bool     // the rows are not simply the entries in their order
	index  []uint64 // entry of each row, if ragged

	slots []uint32
	used  int
	seed  maphash.Seed
	probe int // where the last find ended
}

const dictSlots = 256

func (t *texts) reset() {
	if t.used > 0 {
		clear(t.slots)
	}
	t.sizes, t.bytes, t.ends, t.index = t.sizes[:0], t.bytes[:0], t.ends[:0], t.index[:0]
	t.entries, t.empty, t.used, t.ragged = 0, 0, 0, false
}

func (t *texts) entry(i int) []byte {
	from := uint32(0)
	if i > 0 {
		from = t.ends[i-1]
	}
	return t.bytes[from:t.ends[i]:t.ends[i]]
}

// put gives row, the column's next, the entry at place.
func (t *texts) put(row, place int) {
	if !t.ragged {
		if place == row {
			return
		}
		t.ragged = true
		for i := range row {
			t.index = append(t.index, uint64(i))
		}
	}
	t.index = append(t.index, uint64(place))
}

// place returns the entry of row; the column has one for it.
func (t *texts) place(row int) int {
	if t.ragged {
		return int(t.index[row])
	}
	return row
}

// find returns the number of the entry that equals v.
func (t *texts) find(v []byte) (int, bool) {
	if t.slots == nil {
		t.seed = maphash.MakeSeed()
		t.slots = make([]uint32, dictSlots)
	}
	mask := len(t.slots) - 1
	for i := int(maphash.Bytes(t.seed, v)) & mask; ; i = (i + 1) & mask {
		at := t.slots[i]
		if at == 0 {
			t.probe = i
			return 0, false
		}
		if bytes.Equal(t.entry(int(at-1)), v) {
			return int(at - 1), true
		}
	}
}

// remember notes the last entry, which find has just missed.
func (t *texts) remember() {
	t.slots[t.probe] = uint32(t.entries)
	t.used++
	if 2*t.used <= len(t.slots) {
		return
	}
	old := t.slots
	t.slots = make([]uint32, 2*len(old))
	mask := len(t.slots) - 1
	for _, at := range old {
		if at == 0 {
			continue
		}
		i := int(maphash.Bytes(t.seed, t.entry(int(at-1)))) & mask
		for t.slots[i] != 0 {
			i = (i + 1) & mask
		}
		t.slots[i] = at
	}
}

// append appends the encoded column of a block to dst.
func (t *texts) append(dst []byte) []byte {
	dst = binary.AppendUvarint(dst, uint64(t.entries))
	dst = append(append(dst, t.sizes...), t.bytes...)
	switch {
	case t.entries <= 1: // no entry: absent; one entry: every row has it
		return dst
	case !t.ragged:
		return append(dst, 1)
	}
	return columnar.AppendUints(append(dst, 0), t.index)
}

// read writes the column into s, which aliases it.
func (t *texts) read(s *columnar.Strings, rows int) {
	s.Reset()
	if t.entries == 0 {
		return
	}
	sizes, rest := t.sizes, t.bytes
	for range t.entries {
		n, used := binary.Uvarint(sizes)
		sizes = sizes[used:]
		s.Dict = append(s.Dict, rest[:n:n])
		rest = rest[n:]
	}
	for i := range rows {
		s.Index = append(s.Index, uint64(t.place(i)))
	}
}

// appendString puts v of the next row into column s. A column stays absent until its first non-empty value.
func (b *Builder) appendString(s Str, v []byte) {
	if len(v) == 0 && b.text[s].entries == 0 {
		return
	}
	b.appendPresent(s, v, b.n)
}

// appendPresent puts v of a row into column s and returns the entry that it has there.
func (b *Builder) appendPresent(s Str, v []byte, row int) int {
	t := &b.text[s]
	if t.entries == 0 && row > 0 { // earlier rows were empty
		b.addEntry(s, nil)
		t.empty = 1
		for i := range row {
			t.put(i, 0)
		}
	}
	at := t.entries
	switch {
	case len(v) == 0:
		if t.empty == 0 {
			b.addEntry(s, nil)
			t.empty = t.entries
		}
		at = t.empty - 1
	case plainStr(s):
		b.addEntry(s, v)
	default:
		if row > 0 { // runs are common
			if last := t.place(row - 1); bytes.Equal(t.entry(last), v) {
				at = last
				break
			}
		}
		var found bool
		if at, found = t.find(v); !found {
			at = t.entries
			b.addEntry(s, v)
			t.remember()
		}
	}
	t.put(row, at)
	return at
}

// addEntry puts v at the end of a dictionary and keeps account of what that costs.
func (b *Builder) addEntry(s Str, v []byte) {
	t := &b.text[s]
	t.bytes = append(t.bytes, v...)
	if !plainStr(s) {
		t.ends = append(t.ends, uint32(len(t.bytes)))
	}
	t.entries++
	b.strBytes += len(v) + 1
	if len(v) < 1<<7 {
		t.sizes = append(t.sizes, byte(len(v)))
	} else {
		t.sizes = binary.AppendUvarint(t.sizes, uint64(len(v)))
		b.strBytes += 2
	}
	b.width += indexWidth(t.entries) - indexWidth(t.entries-1)
}

// indexWidth is how many bytes a row of the index takes when there are so many entries.
func indexWidth(entries int) int {
	switch {
	case entries < 2:
		return 0
	case entries <= 1<<8:
		return 1
	case entries <= 1<<16:
		return 2
	}
	return 4
}
