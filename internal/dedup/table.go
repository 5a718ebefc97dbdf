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

// A part is laid out anew when it is nine tenths full, with room for its live entries to be seven tenths: it then has
// an eighth to a tenth of a line for each, and a look-up reads little more than one line.
const (
	fillNumerator, fillDenominator = 9, 10
	laidNumerator, laidDenominator = 72, 100
)

// swept is what a place holds whose entry is forgotten: it matches nothing and is taken by the next claim.
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

// touch reads the line where a look-up begins. Many of these wait for memory together.
func (p *part) touch(rest uint64) uint64 {
	if p.buckets == 0 {
		return 0
	}
	return p.bucket(p.home(rest))[0]
}

// find says whether the hash is there and remembered.
func (p *part) find(rest uint64, live liveRange) bool {
	if p.buckets == 0 {
		return false
	}
	for i := p.home(rest); ; {
		b := p.bucket(i)
		for _, w := range b {
			if w>>genBits == rest && live.has(w) {
				return true
			}
		}
		if b[bucketEntries-1] == 0 { // an entry only goes on to the next bucket when its own is full
			return false
		}
		if i++; i == p.buckets {
			i = 0
		}
	}
}

// insert takes the first bucket that has an empty place or a forgotten entry.
func (p *part) insert(rest, gen uint64, live liveRange, t *tables) {
	if p.used >= p.limit {
		p.layOut(live, t)
	}
	p.place(rest<<genBits|gen, live)
}

func (p *part) place(entry uint64, live liveRange) {
	for i := p.home(entry >> genBits); ; {
		b := p.bucket(i)
		full := b[bucketEntries-1] != 0
		for j, w := range b {
			if w == 0 || full && !live.has(w) {
				if w == 0 {
					p.used++
				}
				b[j] = entry
				return
			}
		}
		if i++; i == p.buckets {
			i = 0
		}
	}
}

// layOut drops what is forgotten and makes room for a quarter more than what is left.
func (p *part) layOut(live liveRange, t *tables) {
	keep := t.scratch[:0]
	for i := range p.buckets {
		b := p.bucket(i)
		for _, w := range b {
			if w != 0 && live.has(w) {
				keep = append(keep, w)
			}
		}
		*b = bucket{}
	}
	t.scratch = keep
	want := uint32(len(keep)*laidDenominator/(bucketEntries*laidNumerator)) + 1
	p.resize(max(p.buckets, want), t)
	p.used = 0
	for _, w := range keep {
		p.place(w, live)
	}
}

// resize gives the part n buckets, which is not less than it has.
func (p *part) resize(n uint32, t *tables) {
	for uint32(len(p.extents))*extentBuckets < n {
		p.extents = append(p.extents, t.extent())
	}
	p.buckets = n
	p.limit = int(n) * bucketEntries * fillNumerator / fillDenominator
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

func (t *tables) insert(hash, gen uint64, live liveRange) {
	number, rest := locate(hash)
	p := &t.parts[number]
	if p.buckets == 0 {
		p.resize(firstBuckets(number), t)
	}
	p.insert(rest, gen, live, t)
}

func (t *tables) bytes() int64 {
	return int64(t.extents)*int64(unsafe.Sizeof(extent{})) + int64(8*cap(t.scratch))
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
