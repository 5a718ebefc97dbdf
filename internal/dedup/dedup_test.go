package dedup

import (
	"math/rand/v2"
	"testing"
	"time"

	"pgregory.net/rapid"

	"milliard/internal/event"
)

// TestWindowRemembersAndForgets compares the window with a map that notes when each hash was claimed.
func TestWindowRemembersAndForgets(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		span := time.Duration(rapid.IntRange(32, 500).Draw(rt, "span")) * time.Second
		limit := rapid.IntRange(64, 4000).Draw(rt, "limit")
		w := NewWindow(span, limit)
		rnd := rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "seed"), 1))
		claimed := make(map[uint64]int64)
		var order []uint64
		now := int64(1)
		for range rapid.IntRange(1, 3000).Draw(rt, "steps") {
			now += rnd.Int64N(2 * span.Milliseconds() / 1000)
			w.Advance(now)
			hash := uint64(rnd.IntN(4*limit)+1) * 0x9e3779b97f4a7c15
			at, known := claimed[hash]
			seen := w.Seen(hash)
			if known && !seen && now-at <= span.Milliseconds() && w.Stats().EarlyForgets == 0 {
				rt.Fatalf("forgotten after %d ms of %d", now-at, span.Milliseconds())
			}
			if !known && seen {
				rt.Fatal("seen, but never claimed")
			}
			// Two generations of slack: one for its length, one for its turn.
			if known && seen && now-at > span.Milliseconds()*35/32 && w.gens[0].Start > at {
				rt.Fatalf("remembered after %d ms of %d", now-at, span.Milliseconds())
			}
			if !seen {
				w.Claim(hash, now)
				claimed[hash] = now
				order = append(order, hash)
			}
		}
		// What is within the number limit is never forgotten for its number.
		recent := min(len(order), limit*(generationsPerWindow-2)/generationsPerWindow)
		for _, h := range order[len(order)-recent:] {
			if now-claimed[h] <= span.Milliseconds() && !w.Seen(h) {
				rt.Fatal("one of the last claims is forgotten")
			}
		}
		if s := w.Stats(); s.Hashes > limit+limit/generationsPerWindow+1 {
			rt.Fatalf("%d hashes, limit %d", s.Hashes, limit)
		}
		again := NewWindow(span, limit)
		gens := make([]Generation, len(w.gens))
		copy(gens, w.gens)
		if err := again.Restore(gens); err != nil {
			rt.Fatal(err)
		}
		for h := range claimed {
			if again.Seen(h) != w.Seen(h) {
				rt.Fatal("another memory after Restore")
			}
		}
	})
}

// TestWindowMemoryIsFlat runs through many windows: the tables must not grow with what has been forgotten.
// TestASilenceDoesNotLengthenTheWindow: what was claimed before nothing happened for hours is forgotten in time.
func TestASilenceDoesNotLengthenTheWindow(t *testing.T) {
	const span = time.Hour
	w := NewWindow(span, 1000)
	w.Advance(1)
	w.Claim(7, 1)
	for _, at := range []time.Duration{40 * time.Minute, 60 * time.Minute} {
		if w.Advance(at.Milliseconds()); !w.Seen(7) {
			t.Fatalf("forgotten after %v of %v", at, span)
		}
	}
	if w.Advance((62 * time.Minute).Milliseconds()); w.Seen(7) {
		t.Fatal("remembered after a window and a thirty-second")
	}
}

func TestWindowMemoryIsFlat(t *testing.T) {
	w := NewWindow(time.Hour, 1<<20)
	rnd := rand.New(rand.NewPCG(1, 1))
	var after3 int64
	for n := range 9 * 36 { // nine windows in steps of 100 s
		w.Advance(int64(n) * 100_000)
		for range 500 {
			w.Claim(rnd.Uint64(), int64(n)*100_000)
		}
		if n == 3*36 {
			after3 = w.Stats().Bytes
		}
	}
	if got := w.Stats().Bytes; got > after3*5/4 {
		t.Fatalf("%d bytes after three windows, %d after nine", after3, got)
	}
}

func TestBitmapsRememberEachIdOnce(t *testing.T) {
	m := NewMinted()
	ids := make([]event.MintedID, 0, 20_000)
	for n := range uint64(20_000) {
		ids = append(ids, event.NewMintedID(1000+int64(n), uint16(n%3), 7, n/3))
	}
	rand.New(rand.NewPCG(3, 4)).Shuffle(len(ids), func(i, j int) { ids[i], ids[j] = ids[j], ids[i] })
	for i, id := range ids {
		if m.Seen(event.Click, id) {
			t.Fatalf("id %d seen before it was claimed", i)
		}
		m.Claim(event.Click, id)
		m.Claim(event.Click, id)
		if !m.Seen(event.Click, id) || m.Seen(event.Impression, id) {
			t.Fatalf("id %d: the claim is wrong", i)
		}
	}
	full := 0
	image := m.Image()
	for _, p := range image.Pages() {
		if p.Index == fullMinted {
			full++
		}
	}
	if full != 3 { // 6,667 counters per slot: one full page each
		t.Fatalf("%d full pages, want 3", full)
	}
	again := restored(t, image)
	for _, id := range ids {
		if !again.Seen(event.Click, id) {
			t.Fatal("lost in Restore")
		}
	}
	m.Expire(1000 + 30_000)
	if m.Len() != 0 || m.Seen(event.Click, ids[0]) {
		t.Fatal("not expired")
	}
	m.Claim(event.Click, ids[0])
	if m.Seen(event.Click, ids[1]) && ids[1] != ids[0] {
		t.Fatal("a freed page kept its bits")
	}
}

func TestImportsKeepRowsApart(t *testing.T) {
	m := NewImports()
	a, b := event.ImportID{1}, event.ImportID{2}
	for _, row := range []uint64{0, 1, 4095, 4096, 1 << 40} {
		m.Claim(a, row)
		if !m.Seen(a, row) || m.Seen(b, row) || m.Seen(a, row+2) {
			t.Fatalf("row %d", row)
		}
	}
}

func TestOrdersAreKeptForEver(t *testing.T) {
	o := NewOrders()
	o.Claim(0)
	o.Claim(9)
	list := o.List()
	o.Claim(10)
	if len(list) != 2 || !o.Seen(0) || !o.Seen(10) || o.Seen(11) {
		t.Fatal("orders")
	}
	again := NewOrders()
	again.Restore(list)
	if !again.Seen(9) || again.Seen(10) {
		t.Fatal("restore")
	}
}

func BenchmarkWindow(b *testing.B) {
	w := NewWindow(26*time.Hour, 64<<20)
	rnd := rand.New(rand.NewPCG(1, 1))
	for b.Loop() {
		h := rnd.Uint64()
		if !w.Seen(h) {
			w.Claim(h, 1)
		}
	}
}
