package dedup

import (
	"math/rand/v2"
	"testing"
	"time"
)

// TestWindowKeepsEveryHashWhileItGrows compares with a map through many sizes of the tables, and asks for as many hashes
// that were never claimed, some of them one bit away from one that was.
func TestWindowKeepsEveryHashWhileItGrows(t *testing.T) {
	const ids = 400_000
	w := NewWindow(time.Hour, 1<<20)
	rnd := rand.New(rand.NewPCG(1, 2))
	claimed := make(map[uint64]bool, ids)
	hashes := make([]uint64, 0, ids)
	for n := range ids {
		h := rnd.Uint64()
		if n%3 == 0 && n > 0 {
			h = hashes[rnd.IntN(n)] ^ 1<<rnd.IntN(64)
		}
		if w.Seen(h) != claimed[h] {
			t.Fatalf("id %d: %x", n, h)
		}
		if !claimed[h] {
			w.Claim(h, 1)
		}
		claimed[h], hashes = true, append(hashes, h)
		if n%1000 == 0 {
			w.Touch(hashes[max(0, n-1000):])
			w.TouchNext(hashes[max(0, n-1000):])
		}
	}
	for _, h := range hashes {
		if !w.Seen(h) {
			t.Fatalf("%x is forgotten", h)
		}
	}
	// The last extent of each part is half empty, which counts less in a larger window.
	if s := w.Stats(); s.Hashes != len(claimed) || float64(w.tab.bytes()) > 15*float64(s.Hashes) {
		t.Fatalf("%d hashes, %d claimed, %d bytes of tables", s.Hashes, len(claimed), w.tab.bytes())
	}
}

// TestWindowBearsHashesThatMeet claims hashes that all want the same bucket, the last one of a part among them, so that
// the chain goes round the end.
func TestWindowBearsHashesThatMeet(t *testing.T) {
	for _, low := range []uint64{0, 5, 1<<39 - 1} {
		w := NewWindow(time.Hour, 1<<20)
		const ids = 2000
		for n := range uint64(ids) {
			h := n<<39 | low
			if w.Seen(h) {
				t.Fatalf("%x seen before it was claimed", h)
			}
			w.Claim(h, 1)
		}
		for n := range uint64(ids) {
			if !w.Seen(n<<39|low) || w.Seen((n+ids)<<39|low) || w.Seen(n<<39|(low^1<<20)) {
				t.Fatalf("id %d behind %x", n, low)
			}
		}
	}
}

// TestWindowForgetsExactly runs many windows with ids that come back at every age, in a steady stream that ends
// generations by number, by age and both, and compares with a model of generations that are maps.
func TestWindowForgetsExactly(t *testing.T) {
	for _, perStep := range []int{1, 20, 400} {
		const span, limit = 3200, 3200
		w := NewWindow(span*time.Millisecond, limit)
		m := model{span: span, limit: limit, gens: []modelGen{{}}}
		rnd := rand.New(rand.NewPCG(7, uint64(perStep)))
		next := uint64(0)
		for now := int64(1); now < 60*span; now += 1 + rnd.Int64N(60) {
			if rnd.IntN(500) == 0 {
				now += span * rnd.Int64N(3) / 2
			}
			w.Advance(now)
			m.advance(now)
			for range perStep {
				next++
				h := next * 0x9e3779b97f4a7c15
				if next > 10 && rnd.IntN(3) == 0 {
					h = (next - rnd.Uint64N(min(next, 2*limit))) * 0x9e3779b97f4a7c15
				}
				if got, want := w.Seen(h), m.seen(h); got != want {
					t.Fatalf("%d a step, at %d: seen %v, the model says %v", perStep, now, got, want)
				}
				if !w.Seen(h) {
					w.Claim(h, now)
					m.claim(h, now)
				}
			}
			w.mustRemember(t, int(next)%parts)
		}
		if w.Stats().Hashes != m.total() || w.live().Number < 200 {
			t.Fatalf("%d hashes, the model has %d; %d generations", w.Stats().Hashes, m.total(), w.live().Number)
		}
	}
}

// mustRemember compares what a part takes for the number of its entries that are remembered with their number.
func (w *Window) mustRemember(t *testing.T, part int) {
	t.Helper()
	p := w.tab.parts[part]
	said := p.remembered(w.age)
	n := 0
	for i := range p.buckets {
		for _, e := range p.bucket(i) {
			if w.age.has(e) {
				n++
			}
		}
	}
	if said != n {
		t.Fatalf("part %d: %d entries are remembered, it says %d", part, n, said)
	}
}

// model is the window in maps.
type model struct {
	span, limit int64
	gens        []modelGen
}

type modelGen struct {
	start, end int64
	ids        map[uint64]bool
}

func (m *model) total() (n int) {
	for _, g := range m.gens {
		n += len(g.ids)
	}
	return n
}

func (m *model) seen(h uint64) bool {
	for _, g := range m.gens {
		if g.ids[h] {
			return true
		}
	}
	return false
}

func (m *model) claim(h uint64, now int64) {
	g := &m.gens[len(m.gens)-1]
	if g.ids == nil {
		g.ids, g.start = map[uint64]bool{}, now
	}
	g.ids[h] = true
}

func (m *model) advance(now int64) {
	g := &m.gens[len(m.gens)-1]
	if len(g.ids) > 0 && (now-g.start >= m.span/32 || int64(len(g.ids)) >= m.limit/32) {
		g.end = min(now, g.start+m.span/32)
		m.gens = append(m.gens, modelGen{})
	}
	for len(m.gens) > 1 && (now-m.gens[0].end > m.span || int64(m.total()) > m.limit) {
		m.gens = m.gens[1:]
	}
}
