package main

import "testing"

func TestPercentFor(t *testing.T) {
	for live, want := range map[uint64]int{0: 100, 4 << 20: 100, heapRoom: 100, 2 * heapRoom: 50, 4 * heapRoom: 25, 1 << 40: 10} {
		if got := percentFor(live); got != want {
			t.Errorf("%d bytes in use: %d per cent, want %d", live, got, want)
		}
	}
}
