package grid

import (
	"sync/atomic"

	"milliard/internal/ledger"
)

// marks says how far a lane is without its lock: a live read looks at it to see whether what it holds is still true.
type marks struct{ folded, committed atomic.Uint64 }

// Mark says how far the i-th lane is; false behind the last one. It never waits.
func (g *Grid) Mark(i int) (ledger.Mark, bool) {
	if i < 0 || i >= len(g.lanes) {
		return ledger.Mark{}, false
	}
	l := g.lanes[i]
	return ledger.Mark{Lane: l.cfg.Lane, Folded: l.marks.folded.Load(), Committed: l.marks.committed.Load()}, true
}

// Halted lists the lanes that have stopped for good.
func (g *Grid) Halted() []int {
	var out []int
	for _, l := range g.lanes {
		l.mu.Lock()
		if l.halted != nil {
			out = append(out, l.cfg.Lane)
		}
		l.mu.Unlock()
	}
	return out
}
