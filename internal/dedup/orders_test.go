package dedup

import (
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"
)

// TestOrdersAreAsASet claims random hashes, with neighbours that share a part and a slot, in the table and in a map.
func TestOrdersAreAsASet(t *testing.T) {
	rnd := rand.New(rand.NewPCG(7, 8))
	o, want := NewOrders(), map[uint64]bool{}
	for i := range 200_000 {
		h := rnd.Uint64()
		switch i % 4 {
		case 0:
			h &= 0xff<<56 | 0xff // few parts and slots
		case 1:
			h = uint64(i / 1000) // zero too, and many times
		}
		if o.Seen(h) != want[h] {
			t.Fatalf("%x is seen: %t", h, !want[h])
		}
		if !want[h] {
			o.Claim(h)
			want[h] = true
		}
	}
	again := NewOrders()
	again.Restore(slices.Clone(o.List()))
	for h := range want {
		if !o.Seen(h) || !again.Seen(h) {
			t.Fatalf("%x is forgotten", h)
		}
	}
	if len(o.List()) != len(want) {
		t.Fatalf("%d orders in the list, want %d", len(o.List()), len(want))
	}
}

func BenchmarkOrders(b *testing.B) {
	const orders = 1_000_000
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	o := NewOrders()
	rnd := rand.New(rand.NewPCG(7, 8))
	for range orders {
		o.Claim(rnd.Uint64())
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	for b.Loop() {
		o.Seen(rnd.Uint64())
	}
	b.ReportMetric(float64(after.HeapInuse-before.HeapInuse)/orders, "B/order")
}
