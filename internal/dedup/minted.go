package dedup

import (
	"math/bits"
	"slices"

	"milliard/internal/event"
)

// PageKey names a page of ids that one minter made in one slot. A page of bits covers 4,096 counters and belongs to one
// event type. A page of first uses covers 256 counters and belongs to all custom types: it says of each id by which of
// them it was used first. So a thousand custom types take two bytes an id and not a page each; an id that is used by a
// second one stands in that type's page of bits too.
type PageKey struct {
	FirstUses bool
	Type      event.Type // 0 for a page of first uses
	Slot      uint16
	Minter    uint32
	Page      uint32
}

// firstUses is how many ids a page of first uses covers: a type of two bytes each.
const firstUses = 8 * pageWords / 2

// mintedPage is an entry of the directory.
type mintedPage struct {
	key   uint64 // type, whether it holds first uses, slot, minter
	last  int64  // newest mint time in the page
	page  uint32
	index uint32 // in the slabs, plus 2; fullMinted when every bit is set; 0: no entry
	count uint32 // bits that are set
}

const (
	fullMinted   = 1
	firstPage    = 2 // index of the first page in the slabs
	firstUsesBit = 1 << 47
)

func (k PageKey) pack() (key uint64) {
	key = uint64(k.Type)<<48 | uint64(k.Slot)<<24 | uint64(k.Minter)
	if k.FirstUses {
		key |= firstUsesBit
	}
	return key
}

func (p *mintedPage) unpack() PageKey {
	return PageKey{
		FirstUses: p.key&firstUsesBit != 0, Type: event.Type(p.key >> 48), Slot: uint16(p.key>>24) & (event.Slots - 1),
		Minter: uint32(p.key) & (1<<24 - 1), Page: p.page,
	}
}

// slabPages is how many pages stand in one piece of memory.
const slabPages = 1024

// slab is the memory of some pages. Once an image shares it, it is never written again: the owner goes on with a copy.
type slab struct {
	words   []uint64
	version uint64 // of its content, when it is shared
	shared  bool
}

// Minted remembers ids that our own doors minted for the life of their token: one bit per id for each built-in type, two
// bytes for custom types.
type Minted struct {
	dir     []mintedPage // open addressing by hash, a power of two
	used    int
	slabs   []slab
	version uint64   // of the slab that was made last
	next    uint32   // page of the slabs that was never used
	free    []uint32 // entries' numbers of pages that are used no more
}

// NewMinted returns an empty set.
func NewMinted() *Minted { return &Minted{dir: make([]mintedPage, 64)} }

// place says where an id is remembered for a type: page and number in it. A custom type's id is looked for among the
// first uses.
func place(t event.Type, id event.MintedID) (key uint64, page uint32, n uint32) {
	c := id.Counter()
	key = uint64(id.Slot())<<24 | uint64(id.Minter())
	if t >= event.FirstCustomType {
		return key | firstUsesBit, uint32(c / firstUses), uint32(c % firstUses)
	}
	return key | uint64(t)<<48, uint32(c / pageBits), uint32(c % pageBits)
}

// second is where the use of an id by a custom type is remembered that was not its first.
func second(t event.Type, id event.MintedID) (key uint64, page uint32, n uint32) {
	c := id.Counter()
	return uint64(t)<<48 | uint64(id.Slot())<<24 | uint64(id.Minter()), uint32(c / pageBits), uint32(c % pageBits)
}

func dirHash(key uint64, page uint32) uint64 {
	hi, lo := bits.Mul64(key^0x9e3779b97f4a7c15, uint64(page)^0xe7037ed1a0b428db)
	return hi ^ lo
}

// find returns the directory's entry of a page, or the empty one where it belongs.
func (m *Minted) find(key uint64, page uint32) *mintedPage {
	mask := uint64(len(m.dir) - 1)
	for i := dirHash(key, page) & mask; ; i = (i + 1) & mask {
		if e := &m.dir[i]; e.index == 0 || e.key == key && e.page == page {
			return e
		}
	}
}

// words returns a page to be read.
func (m *Minted) words(index uint32) *[pageWords]uint64 {
	index -= firstPage
	at := index % slabPages * pageWords
	return (*[pageWords]uint64)(m.slabs[index/slabPages].words[at : at+pageWords])
}

// writable returns a page to be written.
func (m *Minted) writable(index uint32) *[pageWords]uint64 {
	if s := &m.slabs[(index-firstPage)/slabPages]; s.shared {
		m.version++
		*s = slab{words: slices.Clone(s.words), version: m.version}
	}
	return m.words(index)
}

// typeAt returns the type that used id n of a page of first uses first; 0 when none did.
func typeAt(w *[pageWords]uint64, n uint32) event.Type { return event.Type(w[n/4] >> (n % 4 * 16)) }

func (m *Minted) bit(key uint64, page, n uint32) bool {
	e := m.find(key, page)
	switch e.index {
	case 0:
		return false
	case fullMinted:
		return true
	}
	return m.words(e.index)[n/64]>>(n%64)&1 != 0
}

// Touch brings the memory that looking the ids up will read nearer, as Window.Touch does.
func (m *Minted) Touch(types, hi, lo []uint64) (sum uint64) {
	mask := uint64(len(m.dir) - 1)
	for i := range types {
		key, page, n := place(event.Type(types[i]), event.MintedID{Hi: hi[i], Lo: lo[i]})
		e := &m.dir[dirHash(key, page)&mask]
		if e.index <= fullMinted {
			continue
		}
		if key&firstUsesBit != 0 {
			n *= 16
		}
		sum += m.words(e.index)[n/64%pageWords]
	}
	return sum
}

// Seen says whether the id was claimed for this type of event.
func (m *Minted) Seen(t event.Type, id event.MintedID) (seen bool) {
	key, page, n := place(t, id)
	if t < event.FirstCustomType {
		seen = m.bit(key, page, n)
	} else if e := m.find(key, page); e.index != 0 {
		first := typeAt(m.words(e.index), n)
		seen = first == t
		if !seen && first != 0 {
			seen = m.bit(second(t, id))
		}
	}
	return seen
}

// Claim remembers the id.
func (m *Minted) Claim(t event.Type, id event.MintedID) {
	key, page, n := place(t, id)
	if t < event.FirstCustomType {
		m.set(key, page, n, id.UnixMilli())
	} else {
		e := m.take(key, page, id.UnixMilli())
		switch typeAt(m.words(e.index), n) {
		case 0:
			m.writable(e.index)[n/4] |= uint64(t) << (n % 4 * 16)
			e.count++
		case t:
		default:
			key, page, n = second(t, id)
			m.set(key, page, n, id.UnixMilli())
		}
	}
}

// take returns the entry of a page, which it makes if there is none.
func (m *Minted) take(key uint64, page uint32, at int64) *mintedPage {
	e := m.find(key, page)
	if e.index == 0 {
		if 8*(m.used+1) > 5*len(m.dir) {
			m.lay(2 * len(m.dir))
			e = m.find(key, page)
		}
		*e = mintedPage{key: key, page: page, index: m.alloc(), last: at}
		m.used++
	}
	e.last = max(e.last, at)
	return e
}

func (m *Minted) set(key uint64, page, n uint32, at int64) {
	e := m.take(key, page, at)
	if e.index == fullMinted {
		return
	}
	if m.words(e.index)[n/64]>>(n%64)&1 == 0 {
		m.writable(e.index)[n/64] |= 1 << (n % 64)
		e.count++
	}
	if e.count == pageBits {
		m.free = append(m.free, e.index)
		e.index = fullMinted
	}
}

// lay lays the directory out anew in size places.
func (m *Minted) lay(size int) {
	old := m.dir
	m.dir = make([]mintedPage, size)
	for i := range old {
		if e := &old[i]; e.index != 0 {
			*m.find(e.key, e.page) = *e
		}
	}
}

// alloc returns an empty page.
func (m *Minted) alloc() uint32 {
	if n := len(m.free); n > 0 {
		index := m.free[n-1]
		m.free = m.free[:n-1]
		*m.writable(index) = [pageWords]uint64{}
		return index
	}
	if int(m.next) == slabPages*len(m.slabs) {
		m.version++
		m.slabs = append(m.slabs, slab{words: make([]uint64, slabPages*pageWords), version: m.version})
	}
	m.next++
	return m.next - 1 + firstPage
}

// Expire forgets pages whose newest id was minted before limit (unix ms): no door accepts such a token any more.
func (m *Minted) Expire(limit int64) {
	before, free := m.used, len(m.free)
	for i := range m.dir {
		e := &m.dir[i]
		if e.index == 0 || e.last >= limit {
			continue
		}
		if e.index != fullMinted {
			m.free = append(m.free, e.index)
		}
		e.index = 0 // the chain that it cuts is mended below
		m.used--
	}
	// The directory's order depends on its past. What is used next must not: an image has to restore it.
	slices.Sort(m.free[free:])
	if m.used < before {
		m.lay(len(m.dir))
	}
}

// Len returns the number of pages.
func (m *Minted) Len() int { return m.used }
