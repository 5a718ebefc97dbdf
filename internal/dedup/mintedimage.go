package dedup

import (
	"cmp"
	"fmt"
	"math/bits"
	"slices"
)

// MintedImage is the set of minted ids at one moment, ready to be stored while the set moves on: taking it copies the
// directory and shares the pages.
type MintedImage struct {
	Next  uint32   // pages that were ever used
	Free  []uint32 // those that are used no more, in the order in which they will be used again from the end
	Slabs []SharedSlab
	dir   []mintedPage
}

// SharedSlab is the memory of up to 1,024 pages. Slabs of one number and version have the same content, so each is
// stored once.
type SharedSlab struct {
	Version uint64
	Words   []uint64 // of pages that were ever used
}

// MintedPage is one page as an image stores it.
type MintedPage struct {
	Key   PageKey
	Last  int64  // newest mint time in the page, unix ms
	Index uint32 // where it stands in the slabs, plus 2; 1 for a page that is full
}

// Image returns the set as it is. The owner calls it; what it returns may be read by anybody.
func (m *Minted) Image() *MintedImage {
	out := &MintedImage{Next: m.next, Free: slices.Clone(m.free), dir: slices.Clone(m.dir), Slabs: make([]SharedSlab, len(m.slabs))}
	for i := range m.slabs {
		m.slabs[i].shared = true
		used := min(int(m.next)-i*slabPages, slabPages)
		out.Slabs[i] = SharedSlab{Version: m.slabs[i].version, Words: m.slabs[i].words[:used*pageWords]}
	}
	return out
}

// Pages lists the pages, in an order that depends on nothing but what they hold and where they stand.
func (g *MintedImage) Pages() []MintedPage {
	var full, out []MintedPage
	at := make([]MintedPage, g.Next)
	for i := range g.dir {
		e := &g.dir[i]
		switch p := (MintedPage{Key: e.unpack(), Last: e.last, Index: e.index}); e.index {
		case 0:
		case fullMinted:
			full = append(full, p)
		default:
			at[e.index-firstPage] = p
		}
	}
	slices.SortFunc(full, func(x, y MintedPage) int {
		return cmp.Or(cmp.Compare(x.Key.pack(), y.Key.pack()), cmp.Compare(x.Key.Page, y.Key.Page))
	})
	out = full
	for _, p := range at {
		if p.Index != 0 {
			out = append(out, p)
		}
	}
	return out
}

// Restore replaces the state with an image's. The slabs' versions are numbered anew, by their order.
func (m *Minted) Restore(next uint32, free []uint32, pages []MintedPage, slabs [][]uint64) error {
	*m = *NewMinted()
	if len(slabs) != int(next+slabPages-1)/slabPages {
		return fmt.Errorf("%d slabs for %d pages", len(slabs), next)
	}
	for i, words := range slabs {
		if len(words) != min(int(next)-i*slabPages, slabPages)*pageWords {
			return fmt.Errorf("slab %d has %d words", i, len(words))
		}
		m.version++
		m.slabs = append(m.slabs, slab{words: make([]uint64, slabPages*pageWords), version: m.version, shared: true})
		copy(m.slabs[i].words, words)
	}
	m.next, m.free = next, free
	taken := make([]bool, next)
	for _, index := range free {
		if index < firstPage || index >= next+firstPage || taken[index-firstPage] {
			return fmt.Errorf("free page %d", index)
		}
		taken[index-firstPage] = true
	}
	for _, p := range pages {
		if p.Index != fullMinted && (p.Index < firstPage || p.Index >= next+firstPage || taken[p.Index-firstPage]) {
			return fmt.Errorf("page %d", p.Index)
		}
		if err := m.restorePage(&p, taken); err != nil {
			return err
		}
	}
	return nil
}

func (m *Minted) restorePage(p *MintedPage, taken []bool) error {
	if 8*(m.used+1) > 5*len(m.dir) {
		m.lay(2 * len(m.dir))
	}
	e := m.find(p.Key.pack(), p.Key.Page)
	if e.index != 0 || p.Key.FirstUses && p.Index == fullMinted {
		return fmt.Errorf("page %+v", p.Key)
	}
	*e = mintedPage{key: p.Key.pack(), page: p.Key.Page, index: p.Index, last: p.Last, count: pageBits}
	m.used++
	if p.Index != fullMinted {
		taken[p.Index-firstPage] = true
		e.count = 0
		for _, w := range m.words(p.Index) {
			e.count += uint32(bits.OnesCount64(w))
		}
	}
	return nil
}

// Version returns the version of slab number n.
func (m *Minted) Version(n int) uint64 { return m.slabs[n].version }
