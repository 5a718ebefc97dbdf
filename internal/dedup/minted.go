package dedup

import (
	"cmp"
	"math/bits"
	"runtime"
	"slices"
	"unsafe"

	"milliard/internal/event"
	"milliard/internal/offheap"
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

// slab is the memory of 1,024 pages.
type slab [1024][pageWords]uint64

// Minted remembers ids that our own doors minted for the life of their token: one bit per id for each built-in type, two
// bytes for custom types. The pages lie outside the Go heap and go when it is no longer reachable.
type Minted struct {
	dir   []mintedPage // open addressing by hash, a power of two
	used  int
	slabs []*slab
	arena *offheap.Arena
	next  uint32   // page of the slabs that was never used
	free  []uint32 // pages that are used no more
}

// NewMinted returns an empty set.
func NewMinted() *Minted {
	return &Minted{dir: make([]mintedPage, 64), arena: offheap.New()}
}

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

func (m *Minted) words(index uint32) *[pageWords]uint64 {
	index -= 2
	return &m.slabs[index/1024][index%1024]
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
	runtime.KeepAlive(m)
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
	runtime.KeepAlive(m)
	return seen
}

// Claim remembers the id.
func (m *Minted) Claim(t event.Type, id event.MintedID) {
	key, page, n := place(t, id)
	if t < event.FirstCustomType {
		m.set(key, page, n, id.UnixMilli())
	} else {
		e := m.take(key, page, id.UnixMilli())
		w := m.words(e.index)
		switch typeAt(w, n) {
		case 0:
			w[n/4] |= uint64(t) << (n % 4 * 16)
			e.count++
		case t:
		default:
			key, page, n = second(t, id)
			m.set(key, page, n, id.UnixMilli())
		}
	}
	runtime.KeepAlive(m)
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
	if word := &m.words(e.index)[n/64]; *word>>(n%64)&1 == 0 {
		*word |= 1 << (n % 64)
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
		*m.words(index) = [pageWords]uint64{}
		return index
	}
	if int(m.next) == 1024*len(m.slabs) {
		m.slabs = append(m.slabs, (*slab)(unsafe.Pointer(unsafe.SliceData(m.arena.Alloc(int(unsafe.Sizeof(slab{})))))))
	}
	m.next++
	return m.next - 1 + 2
}

// Expire forgets pages whose newest id was minted before limit (unix ms): no door accepts such a token any more.
func (m *Minted) Expire(limit int64) {
	before := m.used
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
	if m.used < before {
		m.lay(len(m.dir))
	}
}

// Pages copies the state for an image, ordered by key.
func (m *Minted) Pages() []Page[PageKey] {
	out := make([]Page[PageKey], 0, m.used)
	for i := range m.dir {
		e := &m.dir[i]
		if e.index == 0 {
			continue
		}
		p := Page[PageKey]{Key: e.unpack(), Last: e.last}
		if e.index != fullMinted {
			p.Bits = slices.Clone(m.words(e.index)[:])
		}
		out = append(out, p)
	}
	slices.SortFunc(out, func(x, y Page[PageKey]) int {
		return cmp.Or(cmp.Compare(x.Key.pack(), y.Key.pack()), cmp.Compare(x.Key.Page, y.Key.Page))
	})
	runtime.KeepAlive(m)
	return out
}

// Restore replaces the state with an image's.
func (m *Minted) Restore(pages []Page[PageKey]) {
	*m = *NewMinted()
	for _, p := range pages {
		e := m.take(p.Key.pack(), p.Key.Page, p.Last)
		if p.Bits == nil {
			m.free = append(m.free, e.index)
			e.index, e.count = fullMinted, pageBits
			continue
		}
		e.count = uint32(copyBits(m.words(e.index), p.Bits))
	}
	runtime.KeepAlive(m)
}

// Len returns the number of pages.
func (m *Minted) Len() int { return m.used }
