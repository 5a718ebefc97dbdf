package grid

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"

	"milliard/internal/journal"
)

// scarce is a journal of which nothing can be read for a number of times.
type scarce struct {
	journal.Stream
	reads atomic.Int64 // that will fail
}

func (s *scarce) fail() error {
	if s.reads.Add(-1) >= 0 {
		return fmt.Errorf("%w: message 1: %w", journal.ErrUnavailable, syscall.EMFILE)
	}
	return nil
}

func (s *scarce) Read(ctx context.Context, from uint64) (journal.Reader, error) {
	r, err := s.Stream.Read(ctx, from)
	return scarceReader{r, s}, err
}

type scarceReader struct {
	journal.Reader
	s *scarce
}

func (r scarceReader) TryNext() (journal.Message, bool, error) {
	if err := r.s.fail(); err != nil {
		return journal.Message{}, false, err
	}
	return r.Reader.TryNext()
}

// TestABatchThatCannotBeReadNowIsReadLater: it was taken for a gap, and the lane halted until a repair.
func TestABatchThatCannotBeReadNowIsReadLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		log := new(lines)
		b.log = slog.New(slog.NewTextHandler(log, nil))
		b.append(foreign("x"))
		s := &scarce{Stream: b.stream}
		s.reads.Store(5)
		b.stream = s
		b.start()
		defer b.crash()
		b.until("it says that it cannot read", func() bool { return b.lane.Status().ReadErr != nil || b.lane.Status().Halted != nil })
		if err := b.lane.Status().Halted; err != nil {
			t.Fatal(err)
		}
		b.append(foreign("y"))
		b.flushed()
		if st := b.lane.Status(); st.ReadErr != nil || st.Folded.Seq != 2 {
			t.Errorf("at %d, %v", st.Folded.Seq, st.ReadErr)
		}
		b.stop()
		if n, over := log.with("cannot read"), log.with("reads again"); n != 1 || over != 1 {
			t.Errorf("%d lines that it cannot, %d that it can", n, over)
		}
	})
}
