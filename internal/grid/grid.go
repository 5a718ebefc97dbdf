// Package grid folds lanes into counters: it owns the duplicate memory, gives every event its verdict, counts it, hands
// what has grown to the ledger, takes images, seals the archive and trims the journal.
//
// State is the pure core: a function of image and log. Lane puts goroutines around it: owner (fold), flusher (ledger),
// keeper (image, archive, trim). Nothing here speaks HTTP or SQL.
package grid

import (
	"context"
	"errors"
	"fmt"
	"time"

	"milliard/internal/dedup"
	"milliard/internal/event"
	"milliard/internal/ledger"
)

// Grid is all lanes of this process.
type Grid struct{ lanes []*Lane }

// New returns a grid of lanes that have not started.
func New(configs []LaneConfig) (*Grid, error) {
	g := &Grid{}
	for _, c := range configs {
		l, err := NewLane(c)
		if err != nil {
			return nil, fmt.Errorf("lane %d: %w", c.Lane, err)
		}
		g.lanes = append(g.lanes, l)
	}
	return g, nil
}

// Start starts every lane's recovery and returns.
func (g *Grid) Start(ctx context.Context) error {
	for _, l := range g.lanes {
		if err := l.Start(ctx); err != nil {
			return err
		}
	}
	return nil
}

// Stop flushes what stands in the journal and ends every lane.
func (g *Grid) Stop(ctx context.Context) error {
	var errs []error
	for _, l := range g.lanes {
		errs = append(errs, l.Stop(ctx))
	}
	return errors.Join(errs...)
}

// Wait returns the verdict of one event, by the position of its batch and its row in it.
func (g *Grid) Wait(ctx context.Context, lane int, seq uint64, row uint32) (event.Class, error) {
	if lane < 0 || lane >= len(g.lanes) {
		return 0, fmt.Errorf("no lane %d", lane)
	}
	return g.lanes[lane].board.wait(ctx, seq, row)
}

// Pending returns the generations above the committed positions, oldest first within a lane.
func (g *Grid) Pending() []*ledger.Generation {
	var out []*ledger.Generation
	for _, l := range g.lanes {
		out = append(out, l.Pending()...)
	}
	return out
}

// Flushed waits until every lane is committed up to what its journal holds now.
func (g *Grid) Flushed(ctx context.Context) error {
	for _, l := range g.lanes {
		state, err := l.cfg.Stream.State(ctx)
		if err != nil {
			return fmt.Errorf("flush: %w", err)
		}
		if err := l.Flushed(ctx, state.Last); err != nil {
			return err
		}
	}
	return nil
}

// Halt halts a lane for a reason that somebody else has found. What it has folded is still flushed.
func (g *Grid) Halt(lane int, err error) {
	if lane >= 0 && lane < len(g.lanes) {
		g.lanes[lane].halt(fmt.Errorf("%w: %w", ErrHalt, err))
	}
}

// LaneStatus is how a lane is doing.
type LaneStatus struct {
	Lane      int
	Folded    ledger.Position
	Committed ledger.Position
	CaughtUp  bool
	Halted    error
	FlushErr  error
	ReadErr   error     // why the next batch cannot be read now
	FlushedAt time.Time // zero before the first flush of this process
	FoldedAt  time.Time
	Sealed    uint64
	Images    []uint64
	Events    int64 // folded since the start
	OpenRows  int
	Window    dedup.Stats
	Orders    int
	Pages     int // bitmap pages of minted ids and imports
	Clamped   uint64
}

// Status returns the state of every lane.
func (g *Grid) Status() []LaneStatus {
	out := make([]LaneStatus, 0, len(g.lanes))
	for _, l := range g.lanes {
		out = append(out, l.Status())
	}
	return out
}

// Status returns how the lane is doing.
func (l *Lane) Status() LaneStatus {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := LaneStatus{
		Lane: l.cfg.Lane, Folded: l.st.pos, Committed: l.committed, CaughtUp: l.caughtUp, Halted: l.halted,
		FlushErr: l.flushErr, ReadErr: l.readErr, FlushedAt: l.flushedAt, FoldedAt: l.foldedAt, Sealed: l.sealed, Images: l.imageSeq,
		Events: l.events, Window: l.st.window.Stats(), Orders: len(l.st.orders.List()),
		Pages: l.st.minted.Len() + l.st.imports.Len(), Clamped: l.st.clamped,
	}
	if l.st.counting {
		s.OpenRows = l.st.open.rows()
	}
	return s
}
