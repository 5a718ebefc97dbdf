package grid

import (
	"context"
	"errors"
	"fmt"
	"time"

	"milliard/internal/archive"
	"milliard/internal/crash"
	"milliard/internal/journal"
	"milliard/internal/planted"
)

// keep writes images, seals segments and trims the journal. It never holds up the fold.
func (l *Lane) keep(ctx context.Context) {
	tick := time.NewTicker(l.cfg.TrimInterval)
	defer tick.Stop()
	for {
		var err error
		select {
		case snap := <-l.saves:
			err = l.saveImage(snap)
		case <-l.seals:
			err = l.seal(ctx)
		case <-tick.C:
			l.relieve(time.Now())
			if err = l.watch(ctx); errors.Is(err, ErrHalt) {
				l.halt(err)
				return
			}
			if err == nil {
				err = l.seal(ctx)
			}
			if err == nil {
				err = l.trim(ctx)
			}
			if err == nil {
				l.keptAgain()
			}
		case <-ctx.Done():
			return
		}
		l.mu.Lock()
		halted := l.halted
		l.mu.Unlock()
		if halted != nil {
			return
		}
		if err != nil && ctx.Err() == nil {
			l.cfg.Metrics.KeepErrors.WithLabelValues(l.label()).Inc()
			if n, say := l.keeping.Failed(time.Now()); say {
				l.cfg.Log.Error("keeping images and archive failed, nothing is trimmed", "lane", l.cfg.Lane, "attempts", n, "err", err)
			}
		}
	}
}

// keptAgain says that images, segments and trims work, if they did not.
func (l *Lane) keptAgain() {
	if n, lasted, over := l.keeping.Worked(time.Now()); over {
		l.cfg.Log.Info("images and archive are kept again", "lane", l.cfg.Lane, "failed", n, "after", lasted)
	}
}

// stalledAfter is for how long the ledger may work on a generation before the lane holds no more meanwhile than it must.
const stalledAfter = 10 * time.Second

// relieve lets go of the bytes of batches while the ledger is stalled, and until it is quicker: the journal has them.
func (l *Lane) relieve(now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	took := l.flushTook
	if l.frozen != nil {
		took = max(took, now.Sub(l.openedAt))
	}
	l.st.unsealed.keepBytes(took < stalledAfter)
}

func (l *Lane) saveImage(snap *Snapshot) error {
	if err := l.images.save(snap); err != nil {
		return fmt.Errorf("save image: %w", err)
	}
	seqs, err := l.images.positions()
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.imageSeq = seqs
	for i := range snap.gens {
		l.st.window.Forget(snap.gens[i].Number, snap.gens[i].Complete())
	}
	return nil
}

// nextSegment returns the next complete segment whose batches are all committed.
func (l *Lane) nextSegment() []archive.Batch {
	l.mu.Lock()
	defer l.mu.Unlock()
	// A ledger that went back has its lane fold again what is sealed already, and the journal may have let go of it.
	l.st.dropSealed(l.sealed)
	if !l.st.counting || len(l.st.cut.Ends) == 0 || l.st.cut.Ends[0] > l.committed.Seq {
		return nil
	}
	return l.st.unsealed.segment(l.st.cut.Ends[0])
}

// seal writes every complete segment, as the owner has read it back from the journal: what is sealed is what is stored.
func (l *Lane) seal(ctx context.Context) error {
	for {
		batches := l.nextSegment()
		if len(batches) == 0 {
			return nil
		}
		began := time.Now()
		err := l.readBack(ctx, batches)
		if errors.Is(err, journal.ErrGap) && l.sealedByAnother(batches[len(batches)-1].Seq) {
			continue
		}
		if err != nil {
			return fmt.Errorf("seal: %w", err)
		}
		s, err := l.cfg.Archive.Seal(l.cfg.Lane, batches)
		if err != nil {
			return fmt.Errorf("seal: %w", err)
		}
		l.mu.Lock()
		l.sealed = s.Last
		l.st.dropSealed(s.Last)
		l.mu.Unlock()
		events := 0
		for _, b := range batches {
			events += len(b.Verdicts)
		}
		l.cfg.Seal.Observe(time.Since(began), events)
		l.cfg.Log.Debug("segment sealed", "lane", l.cfg.Lane, "first", s.First, "last", s.Last)
	}
}

// sealedByAnother looks whether an owner before this one, which did not know yet that it was superseded, has sealed up to
// seq: it may have trimmed the journal then. Segments are cut by the log alone, so it is the same segment.
func (l *Lane) sealedByAnother(seq uint64) bool {
	last, err := l.cfg.Archive.Last(l.cfg.Lane)
	if err != nil || last < seq {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sealed = last
	l.st.dropSealed(last)
	return true
}

// readBack reads the messages of those batches that the owner does not hold from the journal.
func (l *Lane) readBack(ctx context.Context, batches []archive.Batch) error {
	for i := 0; i < len(batches); {
		if batches[i].Message != nil {
			i++
			continue
		}
		end := i
		for end < len(batches) && batches[end].Message == nil {
			end++
		}
		if err := l.readStretch(ctx, batches[i:end]); err != nil {
			return err
		}
		i = end
	}
	return nil
}

func (l *Lane) readStretch(ctx context.Context, batches []archive.Batch) error {
	reader, err := l.cfg.Stream.Read(ctx, batches[0].Seq)
	if err != nil {
		return err
	}
	defer reader.Close()
	for i := range batches {
		b := &batches[i]
		m, err := reader.Next(ctx)
		if err != nil {
			return err
		}
		if m.Seq != b.Seq {
			return fmt.Errorf("sequence %d where %d was folded", m.Seq, b.Seq)
		}
		b.Message, b.Stamp = m.Data, m.Stamp
	}
	return nil
}

// trim deletes journal messages strictly below the least of: what the ledger holds durably, what is sealed, and the
// second-newest image.
func (l *Lane) trim(ctx context.Context) error {
	l.mu.Lock()
	sealed, images, failing := l.sealed, l.imageSeq, l.flushErr != nil
	l.mu.Unlock()
	if sealed == 0 || len(images) < imagesKept || failing {
		return nil //nolint:nilerr // the flusher tells of its failure; here it only means: not now
	}
	below := min(sealed, images[1])
	state, err := l.cfg.Stream.State(ctx)
	if err != nil {
		return fmt.Errorf("trim: %w", err)
	}
	if below <= state.First || l.trimmed.left(below, state.Bytes) {
		return nil
	}
	durable, err := l.cfg.Ledger.Durable(ctx)
	if err != nil {
		return fmt.Errorf("trim: %w", err)
	}
	if below = min(below, durable[l.cfg.Lane].Seq); below <= state.First {
		return nil
	}
	if planted.Is(planted.TrimEarly) {
		below = l.Status().Folded.Seq
	}
	crash.Point(crash.TrimBefore)
	l.mu.Lock()
	l.first = max(l.first, below) // before it is done: an answer may be lost
	l.mu.Unlock()
	if err := l.cfg.Stream.Trim(ctx, below); err != nil {
		return fmt.Errorf("trim: %w", err)
	}
	crash.Point(crash.TrimAfter)
	l.trimmed = trimMark{below: below}
	l.cfg.Metrics.Trimmed.WithLabelValues(l.label()).Set(float64(below))
	return nil
}

// trimMark is the last trim that worked. The journal may have left a part of it for later: asking for the same again would
// only cost a checkpoint of the ledger every time. The keeper's alone.
type trimMark struct{ below, bytes uint64 }

// left says whether a trim below a sequence has nothing new to ask for. One that was left is asked for again when the journal
// has grown by half since: then it may need the room.
func (m *trimMark) left(below, bytes uint64) bool {
	if below > m.below {
		return false
	}
	if m.bytes == 0 {
		m.bytes = max(bytes, 1)
	}
	return bytes < m.bytes+m.bytes/2+1
}
