package grid

import (
	"context"
	"errors"
	"fmt"

	"milliard/internal/journal"
	"milliard/internal/ledger"
	"milliard/internal/planted"
)

// recover brings the lane to the ledger's position and returns a source that stands behind it: newest image at or below
// the ledger's position L, then (C, L] folded without counting, then counting is switched on. What stands behind L is
// counted wherever it is: a ledger that was restored from a backup catches up from the archive. What cannot be had right
// now is no reason to halt: the error is passing, and all of it is tried again.
func (l *Lane) recover(ctx context.Context) (*source, error) {
	epoch, at, err := l.cfg.Ledger.Acquire(ctx, l.cfg.Lane)
	if err != nil {
		return nil, fmt.Errorf("acquire ledger: %w", halting(err))
	}
	stream, err := l.cfg.Stream.State(ctx)
	if err != nil {
		return nil, fmt.Errorf("journal state: %w", halting(err))
	}
	sealed, err := l.cfg.Archive.Last(l.cfg.Lane)
	if err != nil {
		return nil, halting(err)
	}
	if err := l.compare(ctx, stream, &at, sealed); err != nil {
		return nil, err
	}
	st, err := l.loadChecked(ctx, l.images, at.Seq)
	if err != nil {
		return nil, halting(err)
	}
	from := st.pos.Seq
	if planted.Is(planted.WindowReplay) {
		empty := NewState(l.cfg.Options)
		st.window, st.minted, st.orders = empty.window, empty.minted, empty.orders
	}
	if planted.Is(planted.ImageAhead) && st.pos.Seq > at.Seq {
		st.pos = at
	}
	st.dropSealed(sealed)
	src := newSource(ctx, &l.cfg, st.pos.Seq+1, stream.First)
	if err := foldTo(ctx, st, src, at.Seq); err != nil {
		return nil, errors.Join(fmt.Errorf("catch up to the ledger: %w", halting(err)), src.Close())
	}
	if st.pos.Seq != at.Seq || st.pos.Hash != at.Hash {
		return nil, errors.Join(fmt.Errorf("%w: batch %d is not the one that the ledger counted", ErrHalt, at.Seq), src.Close())
	}
	images, err := l.images.positions()
	if err != nil {
		return nil, errors.Join(halting(err), src.Close())
	}
	for len(images) > 0 && images[0] > at.Seq { // of a ledger that was replaced by this one
		images = images[1:]
	}
	st.pos.Flush, st.pos.Stream = at.Flush, stream.ID
	st.Count()
	l.mu.Lock()
	l.st, l.epoch, l.committed, l.caughtUp, l.sealed, l.last = st, epoch, at, true, sealed, stream.Last
	l.marks.folded.Store(at.Seq)
	l.marks.committed.Store(at.Seq)
	l.imageSeq, l.first = images, stream.First
	l.mu.Unlock()
	l.src = src
	l.board.post(at.Seq, nil)
	l.cfg.Log.Info("lane recovered", "lane", l.cfg.Lane, "image", from, "ledger", at.Seq, "sealed", sealed, "journal", stream.Last)
	return src, nil
}

// compare is the start-up check: the journal must be the one that the ledger counts, reach the ledger's position and hold
// the very batch that was counted there, and together with the archive it must have no hole.
func (l *Lane) compare(ctx context.Context, stream journal.State, at *ledger.Position, sealed uint64) error {
	if at.Stream != "" && at.Stream != stream.ID {
		return fmt.Errorf("%w: the ledger counts journal stream %s, this one is %s", ErrHalt, at.Stream, stream.ID)
	}
	if planted.Is(planted.SkipOnGap) {
		return nil
	}
	if err := l.marked(); err != nil {
		return err
	}
	if missing := journal.Missing(l.cfg.Gaps, stream.First, stream.Last); stream.Deleted > missing || stream.Lost > missing {
		return l.lost("%d messages are missing inside the journal, %d are reported lost", stream.Deleted, stream.Lost)
	}
	if stream.Last < stream.HighWater {
		return l.lost("the journal ends at %d, it was acknowledged to %d", stream.Last, stream.HighWater)
	}
	if stream.Last < at.Seq {
		return l.lost("the journal ends at %d, the ledger has counted to %d", stream.Last, at.Seq)
	}
	if stream.Last < sealed {
		return l.lost("the journal ends at %d, the archive is sealed to %d", stream.Last, sealed)
	}
	if next := journal.Behind(l.cfg.Gaps, sealed+1); stream.Last > 0 && stream.First > next {
		return fmt.Errorf("%w: batches %d to %d stand neither in the journal nor in the archive", ErrHalt, next, stream.First-1)
	}
	if at.Seq == 0 || at.Seq < stream.First {
		return nil // the archive holds it, and its hash is checked while folding
	}
	m, err := l.cfg.Stream.Get(ctx, at.Seq)
	if err != nil {
		return fmt.Errorf("batch %d, where the ledger stands: %w", at.Seq, halting(err))
	}
	if journal.HashOf(m.Data) != at.Hash {
		return fmt.Errorf("%w: batch %d is not the one that the ledger counted", ErrHalt, at.Seq)
	}
	return nil
}

// foldTo folds from src up to sequence until. The verdicts must be those that were recorded.
func foldTo(ctx context.Context, st *State, src *source, until uint64) error {
	for until = journal.Before(src.gaps, until); st.pos.Seq < until; {
		m, err := src.Next(ctx)
		if err == nil {
			err = src.fold(st, &m)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// dropSealed forgets the verdicts of batches that stand in a sealed segment, now and when they are folded again.
func (s *State) dropSealed(sealed uint64) {
	s.sealed = max(s.sealed, sealed)
	s.unsealed.drop(sealed)
	for len(s.cut.Ends) > 0 && s.cut.Ends[0] <= sealed {
		s.cut.Ends = s.cut.Ends[1:]
	}
}

// watch is what the keeper does now and then: it asks the engine whether the journal is still whole. What is wrong halts
// the lane, before more is counted on top of it.
func (l *Lane) watch(ctx context.Context) error {
	l.mu.Lock()
	last, first, id := l.last, l.first, l.st.pos.Stream
	l.mu.Unlock()
	stream, err := l.cfg.Stream.State(ctx) // after last was read: it goes on growing
	if err != nil {
		return fmt.Errorf("watch: %w", err)
	}
	l.mu.Lock()
	l.last = max(l.last, stream.Last)
	l.mu.Unlock()
	missing := journal.Missing(l.cfg.Gaps, stream.First, stream.Last)
	switch {
	case stream.ID != id:
		return fmt.Errorf("%w: the journal stream was %s and is %s", ErrHalt, id, stream.ID)
	case (stream.Deleted > missing || stream.Lost > missing) && !planted.Is(planted.SkipOnGap):
		return l.lost("%d messages are missing inside the journal, %d are reported lost", stream.Deleted, stream.Lost)
	case stream.Last < last:
		return l.lost("the journal ended at %d and now ends at %d", last, stream.Last)
	case stream.First > first && stream.Last >= stream.First:
		return l.lost("the journal begins at %d and was trimmed below %d only", stream.First, first)
	}
	return nil
}
