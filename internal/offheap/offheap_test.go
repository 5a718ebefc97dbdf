package offheap

import (
	"testing"
	"unsafe"
)

func TestMemoryIsZeroedAlignedAndApart(t *testing.T) {
	a := New()
	var all [][]byte
	for i, size := range []int{64, 4096, 300 << 10, 64, 5 << 20, 16 << 10, 3 << 20} {
		b := a.Alloc(size)
		if len(b) != size || uintptr(unsafe.Pointer(&b[0]))%64 != 0 {
			t.Fatalf("%d bytes of %d at %p", len(b), size, &b[0])
		}
		for _, at := range []int{0, size / 2, size - 1} {
			if b[at] != 0 {
				t.Fatal("not zeroed")
			}
			b[at] = byte(i + 1)
		}
		all = append(all, b)
	}
	taken := int64(0)
	for i, b := range all {
		taken += int64(len(b))
		if b[0] != byte(i+1) || b[len(b)/2] != byte(i+1) || b[len(b)-1] != byte(i+1) {
			t.Fatal("two share memory")
		}
	}
	if a.Taken() != taken {
		t.Fatalf("%d bytes taken, want %d", a.Taken(), taken)
	}
}

// TestPrefetchBearsEveryAddress asks for mapped memory, for nothing, and for addresses that nobody has.
func TestPrefetchBearsEveryAddress(t *testing.T) {
	b := New().Alloc(64)
	Prefetch(nil)
	Prefetch([]uintptr{uintptr(unsafe.Pointer(&b[0])), 0, 1, ^uintptr(0), 1 << 46})
	for _, v := range b {
		if v != 0 {
			t.Fatal("memory was written")
		}
	}
}
