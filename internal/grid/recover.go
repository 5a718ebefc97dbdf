package grid

import (
	"context"
	"fmt"

	"milliard/internal/journal"
)

// recover brings the lane to the ledger's position and returns a reader that stands behind it: newest image at or below
// the ledger's position L, then (C, L] folded without counting, then counting is switched on.
func (l *Lane) recover(ctx context.Context) (journal.Reader, error) {
	epoch, at, err := l.cfg.Ledger.Acquire(ctx, l.cfg.Lane)
	if err != nil {
		return nil, fmt.Errorf("%w: acquire ledger: %w", ErrHalt, err)
	}
	stream, err := l.cfg.Stream.State(ctx)
	if err != nil {
		return nil, fmt.Errorf("%w: journal state: %w", ErrHalt, err)
	}
	if err := l.compare(ctx, stream, at.Seq, at.Hash); err != nil {
		return nil, err
	}
	st, err := l.images.load(l.cfg.Options, at.Seq)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrHalt, err)
	}
	if st == nil {
		st = NewState(l.cfg.Options)
	}
	from := st.pos.Seq
	if err := l.foldArchive(ctx, st, stream.First, at.Seq); err != nil {
		return nil, err
	}
	reader, err := l.cfg.Stream.Read(ctx, st.pos.Seq+1)
	if err != nil {
		return nil, fmt.Errorf("%w: read journal: %w", ErrHalt, err)
	}
	for st.pos.Seq < at.Seq {
		m, err := reader.Next(ctx)
		if err == nil {
			err = st.Fold(&m)
		}
		if err != nil {
			reader.Close()
			return nil, fmt.Errorf("%w: catch up to the ledger: %w", ErrHalt, err)
		}
	}
	if st.pos.Hash != at.Hash {
		reader.Close()
		return nil, fmt.Errorf("%w: batch %d is not the one that the ledger counted", ErrHalt, at.Seq)
	}
	sealed, err := l.cfg.Archive.Last(l.cfg.Lane)
	if err != nil {
		reader.Close()
		return nil, fmt.Errorf("%w: %w", ErrHalt, err)
	}
	st.dropSealed(sealed)
	st.pos.Flush = at.Flush
	images, err := l.images.positions()
	if err != nil {
		reader.Close()
		return nil, fmt.Errorf("%w: %w", ErrHalt, err)
	}
	st.Count()
	l.mu.Lock()
	l.st, l.epoch, l.committed, l.caughtUp, l.sealed, l.last = st, epoch, at, true, sealed, stream.Last
	l.imageSeq = images
	l.mu.Unlock()
	l.board.post(at.Seq, nil)
	l.cfg.Log.Info("lane recovered", "lane", l.cfg.Lane, "image", from, "ledger", at.Seq, "journal", stream.Last)
	return reader, nil
}

// compare is the start-up check: the journal must reach the ledger's position and hold the very batch that was counted
// there.
func (l *Lane) compare(ctx context.Context, stream journal.State, seq uint64, hash journal.Hash) error {
	if stream.Lost > 0 || stream.Deleted > 0 {
		// What was lost behind the ledger's position was acknowledged and is missed by nobody else: the engine gives its
		// sequences to new messages, and the chain of a new incarnation starts at 1.
		return fmt.Errorf("%w: the journal itself reports %d messages lost and %d missing inside", ErrHalt, stream.Lost, stream.Deleted)
	}
	if seq == 0 {
		return nil
	}
	if stream.Last < seq {
		return fmt.Errorf("%w: the journal ends at %d, the ledger has counted to %d", ErrHalt, stream.Last, seq)
	}
	if seq < stream.First {
		return nil // trimmed under an older ledger: the archive holds it, and its hash is checked while folding
	}
	m, err := l.cfg.Stream.Get(ctx, seq)
	if err != nil {
		return fmt.Errorf("%w: batch %d, where the ledger stands: %w", ErrHalt, seq, err)
	}
	if journal.HashOf(m.Data) != hash {
		return fmt.Errorf("%w: batch %d is not the one that the ledger counted", ErrHalt, seq)
	}
	return nil
}

// foldArchive folds from sealed segments what the journal no longer holds.
func (l *Lane) foldArchive(ctx context.Context, st *State, first, upTo uint64) error {
	if st.pos.Seq+1 >= first {
		return nil
	}
	segments, err := l.cfg.Archive.Segments(l.cfg.Lane)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrHalt, err)
	}
	for _, s := range segments {
		if s.Last <= st.pos.Seq || st.pos.Seq+1 >= first {
			continue
		}
		batches, err := l.cfg.Archive.Read(s, true)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrHalt, err)
		}
		for i := range batches {
			b := &batches[i]
			if b.Seq <= st.pos.Seq || b.Seq > upTo {
				continue
			}
			if err := st.Fold(&journal.Message{Seq: b.Seq, Stamp: b.Stamp, Data: b.Message}); err != nil {
				return err
			}
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	if st.pos.Seq+1 < first && st.pos.Seq < upTo {
		return fmt.Errorf("%w: batches %d to %d stand neither in the journal nor in the archive", ErrHalt, st.pos.Seq+1, first-1)
	}
	return nil
}

// dropSealed forgets the verdicts of batches that stand in a sealed segment.
func (s *State) dropSealed(sealed uint64) {
	i := 0
	for i < len(s.unsealed) && s.unsealed[i].Seq <= sealed {
		i++
	}
	if i > 0 {
		s.unsealed = append([]SealedBatch(nil), s.unsealed[i:]...)
	}
	for len(s.cut.Ends) > 0 && s.cut.Ends[0] <= sealed {
		s.cut.Ends = s.cut.Ends[1:]
	}
}
