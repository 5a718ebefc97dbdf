// Package mem is a ledger in memory, for tests and simulations of what stands above a ledger. It keeps the fence and the
// flushed generations, and knows no SQL: Query, Snapshot and AdHoc return errors.ErrUnsupported. It starts no goroutine
// and must not be used by a server, because it keeps nothing on disk.
package mem

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"milliard/internal/catalog"
	"milliard/internal/ledger"
	"milliard/internal/planted"
)

// Store outlives the ledgers that are opened on it, as a file would.
type Store struct {
	mu      sync.Mutex
	lanes   map[int]*lane
	control uint64
	records []catalog.Record
	flushed []*ledger.Generation
	onFlush func(g *ledger.Generation) Outcome
	safe    Saved // what a power cut leaves
}

// Saved is what a store was at one instant: a copy of its file.
type Saved struct {
	lanes   map[int]lane
	flushed []*ledger.Generation
}

type lane struct {
	epoch uint64
	at    ledger.Position
}

// Outcome is what a test wants a flush to come to.
type Outcome struct {
	Write bool  // whether it is written
	Err   error // what the caller is told
}

// NewStore returns an empty store.
func NewStore() *Store { return &Store{lanes: map[int]*lane{}} }

// OnFlush lets a test decide about every flush that has passed the fence; nil writes all of them. decide must not call the
// store.
func (s *Store) OnFlush(decide func(g *ledger.Generation) Outcome) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.onFlush = decide
}

// PowerCut takes the store back to the last Durable, as a file whose pages were never synced would be. Every ledger that
// is open on it must have gone before.
func (s *Store) PowerCut() {
	s.mu.Lock()
	back := s.safe
	s.mu.Unlock()
	s.Restore(back)
}

// Save makes a backup.
func (s *Store) Save() Saved {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.saveLocked()
}

func (s *Store) saveLocked() Saved {
	now := Saved{lanes: map[int]lane{}, flushed: slices.Clone(s.flushed)}
	for number, a := range s.lanes {
		now.lanes[number] = *a
	}
	return now
}

// Restore puts an older backup in place. Every ledger that is open on the store must have gone before.
func (s *Store) Restore(back Saved) {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.lanes)
	for number, at := range back.lanes {
		s.lanes[number] = &at
	}
	s.flushed, s.safe = slices.Clone(back.flushed), back
}

// Safe returns the positions that a power cut would leave.
func (s *Store) Safe() map[int]ledger.Position {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := map[int]ledger.Position{}
	for number, a := range s.safe.lanes {
		out[number] = a.at
	}
	return out
}

// Flushed returns the generations that were written, in order.
func (s *Store) Flushed() []*ledger.Generation {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]*ledger.Generation(nil), s.flushed...)
}

// Records returns the control records that were projected, in order.
func (s *Store) Records() []catalog.Record {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]catalog.Record(nil), s.records...)
}

// Ledger is one opening of a store.
type Ledger struct {
	store  *Store
	mu     sync.Mutex
	closed bool
}

var _ ledger.Ledger = (*Ledger)(nil)

// Open opens the store. Several ledgers may be open at once: that is how two owners meet.
func (s *Store) Open() *Ledger { return &Ledger{store: s} }

// use locks the store for one call; the caller unlocks it.
func (l *Ledger) use(ctx context.Context) (*Store, error) {
	l.mu.Lock()
	closed := l.closed
	l.mu.Unlock()
	if closed {
		return nil, fmt.Errorf("%w: closed", ledger.ErrUnavailable)
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("%w: %w", ledger.ErrUnavailable, err)
	}
	l.store.mu.Lock()
	return l.store, nil
}

// Acquire makes the caller the lane's owner.
func (l *Ledger) Acquire(ctx context.Context, number int) (uint64, ledger.Position, error) {
	s, err := l.use(ctx)
	if err != nil {
		return 0, ledger.Position{}, err
	}
	defer s.mu.Unlock()
	a := s.lanes[number]
	if a == nil {
		a = &lane{}
		s.lanes[number] = a
	}
	a.epoch++
	return a.epoch, a.at, nil
}

// Flush keeps g, if the fence lets it through.
func (l *Ledger) Flush(ctx context.Context, g *ledger.Generation) error {
	if g.To.Seq <= g.From.Seq || g.To.Flush != g.From.Flush+1 {
		return fmt.Errorf("flush lane %d: generation does not advance by one flush", g.Lane)
	}
	s, err := l.use(ctx)
	if err != nil {
		return err
	}
	defer s.mu.Unlock()
	a := s.lanes[g.Lane]
	switch {
	case planted.Is(planted.NoFence):
	case a == nil || a.epoch != g.Epoch:
		return fmt.Errorf("flush lane %d: %w: another epoch", g.Lane, ledger.ErrFenced)
	case a.at == g.To:
		return nil // this very generation, in an earlier attempt
	case a.at.Stream != "" && a.at.Stream != g.To.Stream:
		return fmt.Errorf("flush lane %d: %w: %w", g.Lane, ledger.ErrFenced, ledger.ErrForeignJournal)
	case a.at.Seq != g.From.Seq || a.at.Flush != g.From.Flush:
		return fmt.Errorf("flush lane %d: %w: ledger is at seq %d, flush starts at %d", g.Lane, ledger.ErrFenced, a.at.Seq, g.From.Seq)
	}
	outcome := Outcome{Write: true}
	if s.onFlush != nil {
		outcome = s.onFlush(g)
	}
	if outcome.Write {
		a.at = g.To
		s.flushed = append(s.flushed, g)
	}
	return outcome.Err
}

// Positions returns how far each lane has been counted.
func (l *Ledger) Positions(ctx context.Context) (map[int]ledger.Position, error) {
	s, err := l.use(ctx)
	if err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	out := map[int]ledger.Position{}
	for number, a := range maps.All(s.lanes) {
		out[number] = a.at
	}
	return out, nil
}

// Project keeps the records above the control position.
func (l *Ledger) Project(ctx context.Context, records []catalog.Record, through uint64) error {
	s, err := l.use(ctx)
	if err != nil {
		return err
	}
	defer s.mu.Unlock()
	if through <= s.control {
		return nil
	}
	if len(records) > 0 && records[0].Seq > s.control+1 {
		return fmt.Errorf("%w: the ledger is at %d, the projection begins at %d", ledger.ErrHole, s.control, records[0].Seq)
	}
	for i := range records {
		if seq := records[i].Seq; seq > s.control && seq <= through {
			s.records = append(s.records, records[i])
		}
	}
	s.control = through
	return nil
}

// ControlPosition returns the last control record that was projected.
func (l *Ledger) ControlPosition(ctx context.Context) (uint64, error) {
	s, err := l.use(ctx)
	if err != nil {
		return 0, err
	}
	defer s.mu.Unlock()
	return s.control, nil
}

// Compact has nothing to do.
func (l *Ledger) Compact(ctx context.Context) error { return ctx.Err() }

// Durable remembers what a PowerCut would leave, and returns the positions.
func (l *Ledger) Durable(ctx context.Context) (map[int]ledger.Position, error) {
	s, err := l.use(ctx)
	if err != nil {
		return nil, err
	}
	s.safe = s.saveLocked()
	s.mu.Unlock()
	return l.Positions(ctx)
}

// Query is not supported.
func (l *Ledger) Query(context.Context, string, ...any) (*sql.Rows, error) {
	return nil, fmt.Errorf("query: %w", errors.ErrUnsupported)
}

// Snapshot is not supported.
func (l *Ledger) Snapshot(context.Context, func(ledger.Querier) error) error {
	return fmt.Errorf("snapshot: %w", errors.ErrUnsupported)
}

// AdHoc is not supported.
func (l *Ledger) AdHoc(context.Context, string, ledger.AdHocLimit) (*ledger.Table, error) {
	return nil, fmt.Errorf("sql: %w", errors.ErrUnsupported)
}

// Close ends this opening; the store stays.
func (l *Ledger) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	return nil
}
