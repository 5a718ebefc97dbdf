package report

import (
	"sync"

	"milliard/internal/ledger"
)

// Feed takes the generations that the ledger has taken, from the lanes' flushers, until the resident sums have added
// them. It notes nothing while nobody asks for counters.
type Feed struct {
	mu     sync.Mutex
	on     bool
	gens   []*ledger.Generation
	cells  int
	missed bool // more came than is kept: what was built before is of no use
}

// What a feed keeps at most. A reader empties it; when nobody reads for so long the resident sums are given up.
const (
	maxFed      = 32
	maxFedCells = 1_000_000
)

// NewFeed returns an empty feed.
func NewFeed() *Feed { return &Feed{} }

// Committed takes note of a generation. It does not wait.
func (f *Feed) Committed(g *ledger.Generation) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.on {
		return
	}
	if len(f.gens) >= maxFed || f.cells+len(g.Cells) > maxFedCells {
		f.on, f.missed, f.gens, f.cells = false, true, nil, 0
		return
	}
	f.gens = append(f.gens, &ledger.Generation{Lane: g.Lane, From: g.From, To: g.To, Cells: g.Cells})
	f.cells += len(g.Cells)
}

// start begins to take notes, or goes on; false when something is missing since the last note that was taken.
func (f *Feed) start() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	whole := !f.missed
	f.on, f.missed = true, false
	return whole
}

// take returns what has come since the last time; false when something is missing.
func (f *Feed) take() ([]*ledger.Generation, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	gens, missed := f.gens, f.missed
	f.gens, f.cells, f.missed = nil, 0, false
	return gens, !missed
}
