// Package offheap hands out large zeroed memory that the garbage collector neither scans nor counts, on huge pages where
// the system has them: tables that are probed at random. What is stored in it must hold no pointers.
//
// An Arena belongs to one goroutine at a time. Its memory goes back to the system when the arena is no longer
// reachable, so whoever uses memory of an arena must keep the arena alive meanwhile (runtime.KeepAlive).
package offheap

import "runtime"

const (
	hugePage  = 2 << 20
	firstSlab = 256 << 10 // small arenas are common in tests
	largeSlab = 64 << 20  // addresses; only what is touched takes memory
)

// Arena allocates from slabs and frees them all together.
type Arena struct {
	rest  []byte // of the newest slab
	next  int    // size of the next slab
	slabs *slabs
	taken int64
}

// slabs lists what an arena's end gives back.
type slabs struct{ mapped [][]byte }

// New returns an empty arena.
func New() *Arena {
	a := &Arena{next: firstSlab, slabs: &slabs{}}
	runtime.AddCleanup(a, func(s *slabs) {
		for _, m := range s.mapped {
			unmap(m)
		}
	}, a.slabs)
	return a
}

// Alloc returns size zeroed bytes, aligned to 64. size is a multiple of 64.
func (a *Arena) Alloc(size int) []byte {
	if size > len(a.rest) {
		a.grow(size)
	}
	out := a.rest[:size:size]
	a.rest = a.rest[size:]
	a.taken += int64(size)
	return out
}

// Taken returns how many bytes were handed out.
func (a *Arena) Taken() int64 { return a.taken }

func (a *Arena) grow(size int) {
	want := max(a.next, size)
	a.next = min(2*a.next, largeSlab)
	if m := reserve(want); m != nil {
		a.slabs.mapped = append(a.slabs.mapped, m)
		a.rest = usable(m, want)
		return
	}
	a.rest = make([]byte, want) // the Go heap does as well, at the collector's cost
}
