package dedup

import (
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"milliard/internal/event"
)

func restored(t *testing.T, g *MintedImage) *Minted {
	t.Helper()
	var slabs [][]uint64
	for _, s := range g.Slabs {
		slabs = append(slabs, slices.Clone(s.Words))
	}
	m := NewMinted()
	if err := m.Restore(g.Next, slices.Clone(g.Free), g.Pages(), slabs); err != nil {
		t.Fatal(err)
	}
	return m
}

// use is one id of one type.
type use struct {
	t  event.Type
	id event.MintedID
}

// TestMintedIsASetOfUses draws ids, dense and far apart, of built-in and custom types that share ids, and compares with a
// map. Now and then it takes an image, goes on, and goes back to what the image holds.
func TestMintedIsASetOfUses(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	m, used := NewMinted(), map[use]bool{}
	var image *MintedImage
	var then map[use]bool
	now := int64(1_000_000)
	for n := range 200_000 {
		now += rnd.Int64N(10)
		u := use{event.Type(rnd.IntN(3) + 1), event.NewMintedID(now, uint16(rnd.IntN(4)), uint32(rnd.IntN(3)), rnd.Uint64N(6000))}
		switch rnd.IntN(10) {
		case 0, 1, 2:
			u.t = event.FirstCustomType + event.Type(rnd.IntN(5))
		case 3:
			u.id = event.NewMintedID(now, 1023, 1<<24-1, rnd.Uint64N(1<<40))
		}
		key := use{u.t, event.NewMintedID(0, u.id.Slot(), u.id.Minter(), u.id.Counter())}
		if m.Seen(u.t, u.id) != used[key] {
			t.Fatalf("use %d: %+v", n, u)
		}
		if rnd.IntN(3) > 0 {
			m.Claim(u.t, u.id)
			used[key] = true
		}
		switch rnd.IntN(20_000) {
		case 0:
			image, then = m.Image(), maps.Clone(used)
		case 1:
			if image != nil {
				m, used = restored(t, image), maps.Clone(then)
				image = nil
			}
		}
	}
	for key := range used {
		if !m.Seen(key.t, key.id) {
			t.Fatalf("%+v is forgotten", key)
		}
	}
}

// TestAnImageOfMintedIdsStandsStill: what is claimed after it was taken does not show in it, and a slab that did not
// change keeps its version.
func TestAnImageOfMintedIdsStandsStill(t *testing.T) {
	m := NewMinted()
	at := func(n int) event.MintedID { return event.NewMintedID(5, 1, 1, uint64(n)*pageBits) } // a page each
	for n := range 3 * slabPages {
		m.Claim(event.Click, at(n))
	}
	before := m.Image()
	copied := restored(t, before)
	m.Claim(event.Click, event.NewMintedID(5, 1, 1, 7))
	m.Claim(event.Click, at(slabPages))
	after := m.Image()
	for i, changed := range []bool{true, false, false} {
		if (before.Slabs[i].Version != after.Slabs[i].Version) != changed {
			t.Errorf("slab %d: versions %d and %d", i, before.Slabs[i].Version, after.Slabs[i].Version)
		}
		if !slices.Equal(before.Slabs[i].Words, copied.slabs[i].words) {
			t.Errorf("slab %d has changed in the image", i)
		}
	}
	m.Expire(6)
	m.Claim(event.Click, at(0))
	if m.Len() != 1 || m.Seen(event.Click, at(1)) || len(before.Pages()) != 3*slabPages {
		t.Errorf("%d pages", m.Len())
	}
}

func TestADamagedImageOfMintedIdsIsRefused(t *testing.T) {
	m := NewMinted()
	for n := range uint64(3) {
		m.Claim(event.Click, event.NewMintedID(5, 1, 1, n*pageBits))
	}
	g := m.Image()
	slabs := [][]uint64{g.Slabs[0].Words}
	pages := g.Pages()
	if err := m.Restore(3, nil, pages, slabs); err != nil {
		t.Fatal(err)
	}
	twice := append(slices.Clone(pages), pages[0])
	beyond := slices.Clone(pages)
	beyond[0].Index = 5
	for name, err := range map[string]error{
		"a page twice": m.Restore(3, nil, twice, slabs), "beyond the slabs": m.Restore(3, nil, beyond, slabs),
		"a free page that is used": m.Restore(3, []uint32{2}, pages, slabs), "free beyond": m.Restore(3, []uint32{5}, nil, slabs),
		"no slab": m.Restore(3, nil, pages, nil), "a short slab": m.Restore(3, nil, pages, [][]uint64{slabs[0][1:]}),
	} {
		if err == nil {
			t.Error(name)
		}
	}
}
