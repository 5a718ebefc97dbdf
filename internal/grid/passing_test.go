package grid

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"

	"milliard/internal/durable"
	"milliard/internal/journal"
	"milliard/internal/ledger"
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

// turns answers what one question after the other gets; nil, and everything behind the last of them, is let through.
type turns struct {
	left []error
}

func (s *turns) next() (err error) {
	if len(s.left) > 0 {
		err, s.left = s.left[0], s.left[1:]
	}
	return err
}

// late is a journal that does not answer some questions. Only the lane that recovers asks it.
type late struct {
	journal.Stream
	state, get turns
}

func (s *late) State(ctx context.Context) (journal.State, error) {
	if err := s.state.next(); err != nil {
		return journal.State{}, err
	}
	return s.Stream.State(ctx)
}

func (s *late) Get(ctx context.Context, seq uint64) (journal.Message, error) {
	if err := s.get.next(); err != nil {
		return journal.Message{}, err
	}
	return s.Stream.Get(ctx, seq)
}

// lateFiles are files some of whose directories cannot be listed.
type lateFiles struct {
	durable.Disk
	list turns
}

func (f *lateFiles) List(dir, suffix string) ([]string, error) {
	if err := f.list.next(); err != nil {
		return nil, err
	}
	return f.Disk.List(dir, suffix)
}

// TestALaneBeginsOnceItCan: on a busy machine a state took longer than it is waited for, and the lane halted.
func TestALaneBeginsOnceItCan(t *testing.T) {
	slow := fmt.Errorf("state of lane-0: %w", context.DeadlineExceeded)
	short := &fs.PathError{Op: "open", Path: "images", Err: syscall.EMFILE}
	unread := fmt.Errorf("message 2: %w: %w", journal.ErrUnavailable, short)
	for name, c := range map[string]struct {
		state, get, list []error
		attempts         uint64
	}{
		"the journal's state takes too long":           {state: []error{slow, slow, slow}, attempts: 4},
		"where the ledger stands cannot be read":       {get: []error{unread, slow}, attempts: 3},
		"where the image was taken cannot be read":     {get: []error{nil, unread, nil, slow}, attempts: 3},
		"mark and images cannot be listed":             {list: []error{short, nil, short, nil, nil, short}, attempts: 4},
		"one after the other, for as long as it lasts": {state: []error{slow, nil, slow}, get: []error{unread}, list: []error{nil, short}, attempts: 5},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t)
				b.start()
				b.append(foreign("x"))
				b.append(foreign("y"))
				b.flushed()
				b.stop()

				log := new(lines)
				b.log = slog.New(slog.NewTextHandler(log, nil))
				epoch := b.book.epoch
				b.stream = &late{Stream: b.stream, state: turns{c.state}, get: turns{c.get}}
				b.files = &lateFiles{list: turns{c.list}}
				b.start()
				defer b.crash()
				b.until("the lane has recovered", func() bool { return b.lane.Status().CaughtUp || b.lane.Status().Halted != nil })
				if st := b.lane.Status(); st.Halted != nil || st.FlushErr != nil {
					t.Fatalf("halted: %v, not flushed: %v", st.Halted, st.FlushErr)
				}
				if n := b.book.epoch - epoch; n != c.attempts {
					t.Errorf("recovered in %d attempts, want %d", n, c.attempts)
				}
				if said := log.with("cannot recover yet"); said != 1 {
					t.Errorf("said %d times", said)
				}
				if log.with("of another log") > 0 || log.with("image=2") != 1 {
					t.Error("it did not go on from its image")
				}
			})
		})
	}
}

func TestALaneThatEndsDoesNotGoOnTrying(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		s := &late{Stream: b.stream}
		for range 1000 {
			s.state.left = append(s.state.left, context.DeadlineExceeded)
		}
		b.stream = s
		b.start()
		b.until("it has failed", func() bool { return b.lane.Status().FlushErr != nil })
		b.crash()
		if err := b.lane.Status().Halted; err != nil {
			t.Error(err)
		}
	})
}

func TestOnlyWhatPassesIsTriedAgain(t *testing.T) {
	for _, c := range []struct {
		err     error
		passing bool
	}{
		{fmt.Errorf("state: %w", context.DeadlineExceeded), true},
		{fmt.Errorf("message 7: %w: %w", journal.ErrUnavailable, syscall.EIO), true},
		{fmt.Errorf("acquire: %w: %w", ledger.ErrUnavailable, errors.New("locked")), true},
		{fmt.Errorf("list segments: %w", syscall.ENFILE), true},
		{fmt.Errorf("%w: message 7: %w", journal.ErrGap, context.DeadlineExceeded), false},
		{fmt.Errorf("%w: %w", journal.ErrStopped, syscall.EIO), false},
		{ledger.ErrFenced, false},
		{fmt.Errorf("%w: %w", ErrHalt, syscall.EMFILE), false},
		{context.Canceled, false},
		{journal.ErrConflict, false},
		{errors.New("digest"), false},
	} {
		if got := passing(c.err); got != c.passing || errors.Is(halting(c.err), ErrHalt) == c.passing {
			t.Errorf("%v: passing %v, %v", c.err, got, halting(c.err))
		}
	}
}
