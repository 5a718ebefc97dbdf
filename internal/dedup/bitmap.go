package dedup

import (
	"cmp"
	"slices"

	"milliard/internal/event"
)

// pageBits is how many ids one bitmap page remembers; a full page is kept as a mark without bits.
const pageBits = 4096

// pageWords is a page in words.
const pageWords = pageBits / 64

// ImportPageKey names a page of 4,096 rows of an import.
type ImportPageKey struct {
	Import event.ImportID
	Page   uint64
}

// Page is one page as an image stores it. Bits is nil for a full page.
type Page[K comparable] struct {
	Key  K
	Last int64 // newest mint time in the page, unix ms; 0 for imports, which are kept for ever
	Bits []uint64
}

type pageRef struct {
	index uint32 // into the slab; fullPage when every bit is set
	count uint16
	last  int64
}

const fullPage = ^uint32(0)

// bitmap is a sparse set of dense numbers. Pages live in one slab without pointers.
type bitmap[K comparable] struct {
	pages map[K]pageRef
	slab  [][pageWords]uint64
	free  []uint32
}

func newBitmap[K comparable]() bitmap[K] { return bitmap[K]{pages: make(map[K]pageRef)} }

func (b *bitmap[K]) seen(k K, bit uint64) bool {
	ref, ok := b.pages[k]
	if !ok {
		return false
	}
	return ref.index == fullPage || b.slab[ref.index][bit/64]>>(bit%64)&1 != 0
}

func (b *bitmap[K]) claim(k K, bit uint64, at int64) {
	ref, ok := b.pages[k]
	if ref.index == fullPage && ok {
		return
	}
	if !ok {
		ref.index = b.alloc()
	}
	word := &b.slab[ref.index][bit/64]
	if *word>>(bit%64)&1 == 0 {
		*word |= 1 << (bit % 64)
		ref.count++
	}
	ref.last = max(ref.last, at)
	if ref.count == pageBits {
		b.free = append(b.free, ref.index)
		ref.index = fullPage
	}
	b.pages[k] = ref
}

func (b *bitmap[K]) alloc() uint32 {
	if n := len(b.free); n > 0 {
		i := b.free[n-1]
		b.free = b.free[:n-1]
		b.slab[i] = [pageWords]uint64{}
		return i
	}
	b.slab = append(b.slab, [pageWords]uint64{})
	return uint32(len(b.slab) - 1)
}

// snapshot copies every page, ordered by less, so that equal states give equal images.
func (b *bitmap[K]) snapshot(compare func(a, b K) int) []Page[K] {
	out := make([]Page[K], 0, len(b.pages))
	for k, ref := range b.pages {
		p := Page[K]{Key: k, Last: ref.last}
		if ref.index != fullPage {
			p.Bits = slices.Clone(b.slab[ref.index][:])
		}
		out = append(out, p)
	}
	slices.SortFunc(out, func(x, y Page[K]) int { return compare(x.Key, y.Key) })
	return out
}

func (b *bitmap[K]) restore(pages []Page[K]) {
	*b = newBitmap[K]()
	for _, p := range pages {
		ref := pageRef{last: p.Last, index: fullPage, count: pageBits}
		if p.Bits != nil {
			ref.index = b.alloc()
			ref.count = uint16(copyBits(&b.slab[ref.index], p.Bits))
		}
		b.pages[p.Key] = ref
	}
}

func copyBits(dst *[pageWords]uint64, src []uint64) (set int) {
	copy(dst[:], src)
	for _, w := range dst {
		for ; w != 0; w &= w - 1 {
			set++
		}
	}
	return set
}

// Imports remembers the rows of imports, for ever.
type Imports struct{ bits bitmap[ImportPageKey] }

// NewImports returns an empty set.
func NewImports() *Imports { return &Imports{newBitmap[ImportPageKey]()} }

// Seen says whether the row was claimed.
func (m *Imports) Seen(id event.ImportID, row uint64) bool {
	return m.bits.seen(ImportPageKey{id, row / pageBits}, row%pageBits)
}

// Claim remembers the row.
func (m *Imports) Claim(id event.ImportID, row uint64) {
	m.bits.claim(ImportPageKey{id, row / pageBits}, row%pageBits, 0)
}

// Pages copies the state for an image.
func (m *Imports) Pages() []Page[ImportPageKey] {
	return m.bits.snapshot(func(a, b ImportPageKey) int {
		return cmp.Or(slices.Compare(a.Import[:], b.Import[:]), cmp.Compare(a.Page, b.Page))
	})
}

// Restore replaces the state with an image's.
func (m *Imports) Restore(pages []Page[ImportPageKey]) { m.bits.restore(pages) }

// Len returns the number of pages.
func (m *Imports) Len() int { return len(m.bits.pages) }
