package dedup

import (
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

type bucket [bucketEntries]uint64

type extent [extentBuckets]bucket

// part is one table. Its buckets are ordered by hash, so that laying it out anew reads and writes in order.
type part struct {
	extents []*extent
	buckets uint32
	used    int // places taken, forgotten entries included
	limit   int
}

// locate splits a hash into its part and the rest.
func locate(hash uint64) (number int, rest uint64) { return int(hash & (parts - 1)), hash >> partBits }

// home is the bucket where a hash is looked for first. It takes bits that differ between the hashes of one lane: the
// topmost are the slot.
func (p *part) home(rest uint64) uint32 { return uint32((rest & 0xffffffff) * uint64(p.buckets) >> 32) }

func (p *part) bucket(i uint32) *bucket { return &p.extents[i/extentBuckets][i%extentBuckets] }

// after is where a hash is looked for when bucket i is full: next to its home it would crowd together with those of the
// neighbours, so it goes elsewhere first, and from there on along the buckets.
func (p *part) after(i uint32, rest uint64, step int) uint32 {
	if step == 0 {
		return uint32((rest * 0x9e3779b97f4a7c15 >> 32) * uint64(p.buckets) >> 32)
	}
	if i++; i == p.buckets {
		return 0
	}
	return i
}

// touch reads the line where a look-up begins. Many of these wait for memory together.
func (p *part) touch(rest uint64) uint64 {
	if p.buckets == 0 {
		return 0
	}
	return p.bucket(p.home(rest))[bucketEntries-1]
}

// touchNext reads the line where a look-up goes on.
func (p *part) touchNext(rest uint64) uint64 {
	if p.touch(rest) == 0 {
		return 0
	}
	return p.bucket(p.after(0, rest, 0))[0]
}

// find says whether the hash is there and remembered. If it is not, vacant is the place where it belongs.
func (p *part) find(rest uint64, live liveRange) (vacant *uint64, seen bool) {
	if p.buckets == 0 {
		return nil, false
	}
	want := rest << genBits
	for i, step := p.home(rest), 0; ; step++ {
		b := p.bucket(i)
		for j := range b {
			w := b[j]
			if w^want <= genMask && live.has(w) {
				return nil, true
			}
			if w == 0 { // an entry only goes elsewhere when its own bucket is full
				return &b[j], false
			}
		}
		i = p.after(i, rest, step)
	}
}

// place puts an entry where find will look for it.
func (p *part) place(entry uint64) {
	rest := entry >> genBits
	for i, step := p.home(rest), 0; ; step++ {
		b := p.bucket(i)
		if b[bucketEntries-1] == 0 {
			p.used++
			b[b.taken()] = entry
			return
		}
		i = p.after(i, rest, step)
	}
}

// taken returns how many places of a bucket are taken: they fill from the first.
func (b *bucket) taken() int {
	for j, w := range b {
		if w == 0 {
			return j
		}
	}
	return bucketEntries
}

// layOut drops what is forgotten and makes room for a quarter more than what is left.
func (p *part) layOut(live liveRange, t *tables) {
	keep, strays := t.scratch[:0], t.strays[:0]
	for i := range p.buckets {
		b := p.bucket(i)
		for _, w := range b {
			if w == 0 {
				break
			}
			switch {
			case !live.has(w):
			case p.home(w>>genBits) == i:
				keep = append(keep, w)
			default:
				strays = append(strays, w)
			}
		}
		*b = bucket{}
	}
	t.scratch, t.strays = keep, strays
	want := uint32((len(keep)+len(strays))*100/(bucketEntries*laidPercent)) + 1
	p.resize(max(p.buckets, want), t)
	p.used = 0
	t.filled = append(t.filled[:0], make([]uint8, p.buckets)...)
	for _, w := range keep { // nearly in the order of their homes
		i := p.home(w >> genBits)
		at := t.filled[i]
		if at == bucketEntries {
			strays = append(strays, w)
			continue
		}
		p.bucket(i)[at] = w
		t.filled[i]++
	}
	p.used = len(keep) - (len(strays) - len(t.strays))
	for _, w := range strays {
		p.place(w)
	}
	t.strays = strays
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
	scratch []uint64 // what a part holds while it is laid out anew
	strays  []uint64 // and which of it did not stand, or does not fit, in its home
	filled  []uint8  // how many places of its buckets are taken meanwhile

	vacant    *uint64 // where vacantFor belongs, which was looked up last; nil: not known
	vacantFor uint64
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
	t.vacantFor = hash
	t.vacant, seen = t.parts[number].find(rest, live)
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
	case t.vacant != nil && t.vacantFor == hash && *t.vacant == 0:
		*t.vacant = rest<<genBits | gen
		p.used++
		return
	}
	p.place(rest<<genBits | gen)
	t.vacant = nil // it may have been laid out anew
}

func (t *tables) bytes() int64 {
	return int64(t.extents)*int64(unsafe.Sizeof(extent{})) + int64(8*cap(t.scratch)+8*cap(t.strays))
}

// liveRange tells which generations are remembered, by the codes that entries carry: the newest and so many before it.
type liveRange struct{ newest, span uint64 }

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
