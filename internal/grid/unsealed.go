package grid

import (
	"context"
	"errors"
	"fmt"

	"milliard/internal/durable"
	"milliard/internal/journal"
)

// Unsealed returns what was decided about a lane's batches that stand in no segment yet, in order; ok is false while the
// lane recovers. Whoever knows a committed position and asks afterwards finds every batch up to it here or sealed.
func (g *Grid) Unsealed(lane int) (batches []SealedBatch, ok bool) {
	if lane < 0 || lane >= len(g.lanes) {
		return nil, false
	}
	l := g.lanes[lane]
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.st.unsealed.view(), l.caughtUp
}

// Replay works verdicts out again for a lane that nobody owns: from the newest readable image at or below limit, through
// archive and journal, up to seq until. It writes nothing. each gets every batch that it knows the verdicts of and that
// was not sealed, in order; where the log has a gap, those before it, and then journal.ErrGap is returned. It returns the
// state that it reached.
func Replay(ctx context.Context, cfg *LaneConfig, limit, until uint64, each func(SealedBatch) error) (*State, error) {
	l := &Lane{cfg: *cfg}
	if l.cfg.Files == nil {
		l.cfg.Files = durable.Disk{}
	}
	images, err := openImages(l.cfg.Files, cfg.ImageDir, cfg.Log)
	if err != nil {
		return nil, err
	}
	st, err := l.loadChecked(ctx, images, limit)
	if err != nil {
		return nil, err
	}
	stream, err := cfg.Stream.State(ctx)
	if err != nil {
		return nil, fmt.Errorf("journal state: %w", err)
	}
	sealed, err := cfg.Archive.Last(cfg.Lane)
	if err != nil {
		return nil, err
	}
	st.dropSealed(sealed)
	src := newSource(ctx, &l.cfg, st.pos.Seq+1, stream.First)
	folded := errors.Join(foldTo(ctx, st, src, until), src.Close())
	if folded != nil && !errors.Is(folded, journal.ErrGap) {
		return nil, folded
	}
	for _, b := range st.unsealed.batches {
		if err := each(b); err != nil {
			return nil, err
		}
	}
	if folded != nil {
		return nil, folded
	}
	return st, nil
}

// loadChecked returns the state of the newest image at or below limit that was taken of this very log, or an empty one.
func (l *Lane) loadChecked(ctx context.Context, images *imageStore, limit uint64) (*State, error) {
	for {
		st, parts, err := images.load(l.cfg.Options, limit)
		if err != nil {
			return nil, err
		}
		if st == nil {
			return NewState(l.cfg.Options), nil
		}
		hash, err := l.hashAt(ctx, st.pos.Seq)
		if err == nil && hash == st.pos.Hash {
			images.adopt(st, parts)
			return st, nil
		}
		if passing(err) {
			return nil, err
		}
		l.cfg.Log.Error("image is of another log, trying an older one", "lane", l.cfg.Lane, "seq", st.pos.Seq, "err", err)
		limit = st.pos.Seq - 1
	}
}

// hashAt returns the hash of the batch at seq, from the journal or else from the archive.
func (l *Lane) hashAt(ctx context.Context, seq uint64) (hash journal.Hash, err error) {
	m, err := l.cfg.Stream.Get(ctx, seq)
	if err == nil {
		return journal.HashOf(m.Data), nil
	}
	if !errors.Is(err, journal.ErrGap) {
		return hash, fmt.Errorf("read journal: %w", err)
	}
	segments, err := l.cfg.Archive.Segments(l.cfg.Lane)
	if err != nil {
		return hash, err
	}
	for _, s := range segments {
		if seq < s.First || seq > s.Last {
			continue
		}
		batches, err := l.cfg.Archive.Read(s, false)
		if err != nil {
			return hash, err
		}
		return batches[seq-s.First].Hash, nil
	}
	return hash, fmt.Errorf("batch %d stands neither in the journal nor in the archive", seq)
}
