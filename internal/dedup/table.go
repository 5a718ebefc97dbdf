package dedup

import (
	"slices"
	"unsafe"

	"milliard/internal/offheap"
)

// The window's hashes stand in 128 parts, each an open-addressing table of buckets of one cache line. An entry is the
// 57 bits of the hash that its part does not tell, and the number of its generation in 7 bits: the whole hash is kept,
// and compared.
const (
	partBits = 7
	parts    = 1 << partBits
	genBits  = 7
	genMask  = 1<<genBits - 1
	genCodes = genMask // 1 to 127; 0 marks a place whose entry has been swept

	bucketEntries = 8
	extentBuckets = 256
)

// A part is laid out anew when 86 of 100 places are taken, so that its live entries take 64.
const (
	fillPercent = 86
	laidPercent = 64
)

// swept is what a place holds whose entry is forgotten: it matches nothing and goes when its part is laid out anew.
const swept = 1 << genBits

// bucket fills from its first place.
type bucket [bucketEntries]uint64

type extent [extentBuckets]bucket

// part is one table. Its buckets are ordered by hash, so that laying it out anew reads and writes in order.
type part struct {
	extents []*extent
	buckets uint32
	used    int // places taken, forgotten entries included
	limit   int
	since   uint32 // the oldest generation remembered when it was laid out last
}

// locate splits a hash into its part and the rest.
func locate(hash uint64) (number int, rest uint64) { return int(hash & (parts - 1)), hash >> partBits }

// home is the bucket where a hash is looked for first. It takes bits that differ between the hashes of one lane: the
// topmost are the slot.
func (p *part) home(rest uint64) uint32 { return uint32((rest & 0xffffffff) * uint64(p.buckets) >> 32) }

// bucket computes the address itself: the compiler would read the first byte of the extent, to see that it is not nil, and
// wait for memory that nobody needs.
func (p *part) bucket(i uint32) *bucket {
	return (*bucket)(unsafe.Add(unsafe.Pointer(p.extents[i/extentBuckets]), i%extentBuckets*uint32(unsafe.Sizeof(bucket{}))))
}

// after is where a hash is looked for when bucket i is full: next to its home it would crowd together with those of the
// neighbours, so it goes elsewhere, then to the other bucket of the two lines that memory gives together, and so on. In
// the end it goes along the buckets, which meets all of them.
func (p *part) after(i uint32, rest uint64, step int) uint32 {
	switch {
	case step >= scatteredSteps:
		i++
	case step&1 == 0:
		return uint32((rest * (0x9e3779b97f4a7c15 + uint64(step)<<40) >> 32) * uint64(p.buckets) >> 32)
	default:
		i ^= 1
	}
	if i >= p.buckets {
		return 0
	}
	return i
}

// scatteredSteps is how many times a look-up goes elsewhere before it goes along the buckets.
const scatteredSteps = 16

// line is the address where a look-up begins.
func (p *part) line(rest uint64) uintptr {
	if p.buckets == 0 {
		return 0
	}
	return uintptr(unsafe.Pointer(p.bucket(p.home(rest))))
}

// linesAfter adds the addresses where a look-up goes on if it does not end where it begins.
func (p *part) linesAfter(to []uintptr, rest uint64) []uintptr {
	if p.buckets == 0 || !p.bucket(p.home(rest)).full() {
		return to
	}
	i := p.after(0, rest, 0)
	return append(to, uintptr(unsafe.Pointer(p.bucket(i))), uintptr(unsafe.Pointer(p.bucket(p.after(i, rest, 1)))))
}

// find says whether the hash is there and remembered. If it is not, room is the bucket where it belongs, nil if there is
// none.
func (p *part) find(rest uint64, live liveRange) (room *bucket, seen bool) {
	if p.buckets == 0 {
		return nil, false
	}
	want := rest << genBits
	for i, step := p.home(rest), 0; ; step++ {
		b := p.bucket(i)
		if b.nearest(want) <= genMask && b.holds(want, live) {
			return nil, true
		}
		if !b.full() { // an entry only goes elsewhere when its own bucket is full
			return b, false
		}
		i = p.after(i, rest, step)
	}
}

// place puts an entry where find will look for it.
func (p *part) place(entry uint64) {
	rest := entry >> genBits
	for i, step := p.home(rest), 0; ; step++ {
		if b := p.bucket(i); !b.full() {
			b.put(entry)
			p.used++
			return
		}
		i = p.after(i, rest, step)
	}
}

func (b *bucket) full() bool { return b[bucketEntries-1] != 0 }

// nearest returns the least difference between an entry and want. Which entry it is cannot be foretold, so all of them
// are looked at without a branch.
func (b *bucket) nearest(want uint64) uint64 {
	return min(min(min(b[0]^want, b[1]^want), min(b[2]^want, b[3]^want)), min(min(b[4]^want, b[5]^want), min(b[6]^want, b[7]^want)))
}

// holds says whether one of the entries is want and remembered.
func (b *bucket) holds(want uint64, live liveRange) bool {
	for _, w := range b {
		if w^want <= genMask && live.has(w) {
			return true
		}
	}
	return false
}

// put adds an entry to a bucket that is not full.
func (b *bucket) put(entry uint64) {
	at := 0
	if b[3] != 0 {
		at = 4
	}
	if b[at+1] != 0 {
		at += 2
	}
	if b[at] != 0 {
		at++
	}
	b[at] = entry
}

// layOut drops what is forgotten and makes room for a half more than what is left. Buckets are ordered by hash and a
// part never gets smaller, so no entry moves down: from the last bucket to the first each is emptied, and its entries go
// where there is nothing any more that has still to move.
func (p *part) layOut(live liveRange, t *tables) {
	was := p.buckets
	want := uint32(p.remembered(live)*100/(bucketEntries*laidPercent)) + 1
	p.resize(max(was, want), t)
	t.filled = append(t.filled[:0], make([]uint8, p.buckets)...)
	t.strays = slices.Grow(t.strays[:0], int(was)*bucketEntries)[:int(was)*bucketEntries]
	filled, strays, stray := t.filled, t.strays, 0
	oldSize, size := uint64(was), uint64(p.buckets)
	p.used = 0
	for i := was; i > 0; {
		i--
		from := p.bucket(i)
		entries := *from
		*from = bucket{}
		for _, w := range entries {
			if !live.has(w) {
				continue
			}
			place := w >> genBits & 0xffffffff
			home := place * size >> 32
			at := filled[home]
			to, n := &p.bucket(uint32(home))[at%bucketEntries], uint8(1)
			if place*oldSize>>32 != uint64(i) || at == bucketEntries { // of another bucket, or it has become too many
				to, n = &strays[stray], 0
			}
			*to = w
			filled[home] = at + n
			stray += int(1 - n)
			p.used += int(n)
		}
	}
	p.placeAll(strays[:stray])
}

// placeAll places entries that want buckets anywhere: the memory for the next ones is on its way meanwhile.
func (p *part) placeAll(entries []uint64) {
	var lines [touchedTogether]uintptr
	for len(entries) > 0 {
		n := min(len(entries), len(lines))
		for i, w := range entries[:n] {
			lines[i] = p.line(w >> genBits)
		}
		offheap.Prefetch(lines[:n])
		for _, w := range entries[:n] {
			p.place(w)
		}
		entries = entries[n:]
	}
}

// remembered counts the entries that are not forgotten: as long as the window forgets nothing, all of them.
func (p *part) remembered(live liveRange) (n int) {
	if p.since == live.oldest {
		return p.used
	}
	p.since = live.oldest
	for i := range p.buckets {
		for _, w := range p.bucket(i) {
			if live.has(w) {
				n++
			}
		}
	}
	return n
}

// resize gives the part n buckets, which is not less than it has.
func (p *part) resize(n uint32, t *tables) {
	for uint32(len(p.extents))*extentBuckets < n {
		p.extents = append(p.extents, t.extent())
	}
	p.buckets = n
	p.limit = int(n) * bucketEntries * fillPercent / 100
}

// sweep marks what is forgotten, so that its generation's number may be used again.
func (p *part) sweep(live liveRange) {
	for i := range p.buckets {
		b := p.bucket(i)
		for j, w := range b {
			if w != 0 && !live.has(w) {
				b[j] = swept
			}
		}
	}
}

// tables is every part and the memory they stand in.
type tables struct {
	parts   [parts]part
	arena   *offheap.Arena
	extents int
	strays  []uint64 // what does not stand, or no longer fits, in its home while a part is laid out anew
	filled  []uint8  // how many places of its buckets are taken meanwhile

	room    *bucket // where roomFor belongs, which was looked up last; nil: not known
	roomFor uint64
}

func newTables() tables { return tables{arena: offheap.New()} }

func (t *tables) extent() *extent {
	t.extents++
	b := t.arena.Alloc(int(unsafe.Sizeof(extent{})))
	return (*extent)(unsafe.Pointer(unsafe.SliceData(b)))
}

// firstBuckets is the size that a part begins with. The parts begin with different sizes, so that later on not all of
// them want to be laid out anew at once.
func firstBuckets(number int) uint32 { return uint32(64 + number*16/parts) }

// find is part.find, and remembers where the hash belongs until it is claimed.
func (t *tables) find(hash uint64, live liveRange) (seen bool) {
	number, rest := locate(hash)
	t.roomFor = hash
	t.room, seen = t.parts[number].find(rest, live)
	return seen
}

func (t *tables) insert(hash, gen uint64, live liveRange) {
	number, rest := locate(hash)
	p := &t.parts[number]
	switch {
	case p.buckets == 0:
		p.resize(firstBuckets(number), t)
	case p.used >= p.limit:
		p.layOut(live, t)
	case t.room != nil && t.roomFor == hash && !t.room.full():
		t.room.put(rest<<genBits | gen)
		p.used++
		return
	}
	p.place(rest<<genBits | gen)
	t.room = nil // it may have been laid out anew
}

func (t *tables) bytes() int64 {
	return int64(t.extents)*int64(unsafe.Sizeof(extent{})) + int64(8*cap(t.strays))
}

// liveRange tells which generations are remembered, by the codes that entries carry: the newest and so many before it.
// oldest is the number of the first of them.
type liveRange struct {
	newest, span uint64
	oldest       uint32
}

// has says whether an entry's generation is remembered. Code 0, of an empty or swept place, never is.
func (r liveRange) has(entry uint64) bool {
	code := entry & genMask
	age := r.newest - code
	if code > r.newest {
		age += genCodes
	}
	return code != 0 && age <= r.span
}

// code is the number by which entries name a generation.
func code(number uint32) uint64 { return uint64(number%genCodes) + 1 }
