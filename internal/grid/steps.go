package grid

import (
	"context"
	"crypto/sha256"
	"time"

	"milliard/internal/journal"
	"milliard/internal/ledger"
)

// Steps drives a lane without its goroutines: whoever calls decides what happens next, so that a simulation can try every
// order and break off between any two steps. Each step is the code that the goroutines run. One caller at a time; a Steps
// that is simply dropped is a process that was killed.
type Steps struct {
	l      *Lane
	reader journal.Reader
	snap   *Snapshot // waits until its position is committed
	due    *Snapshot // is committed and waits to be written
}

// NewSteps returns the steps of a lane that has not recovered.
func NewSteps(cfg LaneConfig) (*Steps, error) {
	l, err := NewLane(cfg)
	if err != nil {
		return nil, err
	}
	return &Steps{l: l}, nil
}

// Recover is the lane's start. An error halts the lane.
func (s *Steps) Recover(ctx context.Context) error {
	reader, err := s.l.recover(ctx)
	if err != nil {
		return s.halted(err)
	}
	s.reader = reader
	return nil
}

func (s *Steps) halted(err error) error {
	s.l.halt(err)
	return err
}

// Fold folds the next message, if there is one and room for it, and says whether it did. An error halts the lane.
func (s *Steps) Fold(ctx context.Context) (bool, error) {
	s.l.mu.Lock()
	crowded := s.l.crowdedLocked()
	s.l.mu.Unlock()
	if crowded {
		return false, nil
	}
	m, ok, err := s.l.next(ctx, s.reader, false)
	if err != nil {
		return false, s.halted(err)
	}
	if !ok {
		return false, nil
	}
	if err := s.l.foldOne(&m, time.Time{}); err != nil {
		return false, s.halted(err)
	}
	return true, nil
}

// Swap closes the open generation, if there is none on its way yet.
func (s *Steps) Swap() {
	if s.l.closing == nil && s.l.frozen == nil {
		s.snap = s.l.swap()
	}
}

// Flush freezes the closed generation and tries once to write it. It says whether there was one. An error that wraps
// ErrHalt halts the lane; after any other the same generation is tried again.
func (s *Steps) Flush(ctx context.Context) (bool, error) {
	g := s.l.spell()
	if g == nil {
		return false, nil
	}
	if err := s.l.write(ctx, g); err != nil {
		return true, err
	}
	if s.snap != nil && s.due == nil {
		s.due = s.snap
	}
	s.snap = nil
	return true, nil
}

// Halt halts the lane for an error that a step has returned.
func (s *Steps) Halt(err error) { s.l.halt(err) }

// Save writes the image that is due, and says whether one was.
func (s *Steps) Save() (bool, error) {
	snap := s.due
	if snap == nil {
		return false, nil
	}
	s.due = nil
	return true, s.l.saveImage(snap)
}

// Watch asks the engine whether the journal is still whole. An error that wraps ErrHalt halts the lane.
func (s *Steps) Watch(ctx context.Context) error { return s.l.watch(ctx) }

// Seal seals every complete segment.
func (s *Steps) Seal(ctx context.Context) error { return s.l.seal(ctx) }

// Trim trims the journal.
func (s *Steps) Trim(ctx context.Context) error { return s.l.trim(ctx) }

// LastImage writes the image of an orderly end.
func (s *Steps) LastImage() error { return s.l.lastImage() }

// Status returns how the lane is doing.
func (s *Steps) Status() LaneStatus { return s.l.Status() }

// Pending returns the generations above the committed position.
func (s *Steps) Pending() []*ledger.Generation { return s.l.Pending() }

// Verdicts returns the verdicts of the batch that was folded last, and its position.
func (s *Steps) Verdicts() (ledger.Position, FoldedInfo) {
	s.l.mu.Lock()
	defer s.l.mu.Unlock()
	return s.l.st.pos, s.l.st.foldedInfo
}

// Digest is a hash of everything that the lane's verdicts depend on. It is a function of the log up to the position:
// what depends on when flushes and seals happened is left out.
func (s *Steps) Digest() [sha256.Size]byte {
	s.l.mu.Lock()
	defer s.l.mu.Unlock()
	return s.l.st.digest()
}

func (s *State) digest() [sha256.Size]byte {
	snap := s.Snapshot()
	snap.pos.Flush, snap.unsealed, snap.cut.Ends = 0, nil, nil
	// Lists that stand in files of their own are gone from memory; their generations' numbers and counts stay.
	slabs := make([]string, len(snap.minted.Slabs))
	for i, slab := range snap.minted.Slabs {
		slabs[i], _ = partName("minted", uint64(i), len(slab.Words), slab.Words)
	}
	return sha256.Sum256(snap.encode(func(uint32, int) string { return "" }, nil, slabs))
}
