package grid

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"milliard/internal/archive"
	"milliard/internal/journal"
	"milliard/internal/journal/mem"
	"milliard/internal/ledger"
)

// steps starts the bench's lane without goroutines, and recovers it.
func (b *bench) steps() (*Steps, error) {
	b.t.Helper()
	arch, err := archive.Open(filepath.Join(b.dir, "archive"))
	if err != nil {
		b.t.Fatal(err)
	}
	s, err := NewSteps(LaneConfig{
		Options: testOptions(), Stream: b.stream, Ledger: b.book, Archive: arch, ImageDir: filepath.Join(b.dir, "images"),
		ImageInterval: time.Millisecond, ImageEvents: 1, Log: slog.New(slog.DiscardHandler),
		Metrics: NewMetrics(prometheus.NewRegistry()),
	})
	if err != nil {
		b.t.Fatal(err)
	}
	return s, s.Recover(b.t.Context())
}

// count folds n messages, flushes them and writes the image.
func (b *bench) count(s *Steps, n int) {
	b.t.Helper()
	for range n {
		if ok, err := s.Fold(b.t.Context()); !ok || err != nil {
			b.t.Fatal(ok, err)
		}
	}
	s.Swap()
	if ok, err := s.Flush(b.t.Context()); !ok || err != nil {
		b.t.Fatal(ok, err)
	}
	if ok, err := s.Save(); !ok || err != nil {
		b.t.Fatal(ok, err)
	}
}

// TestALedgerThatWentBackDoesNotStopSealing: after a power cut the ledger may be older than the archive. Its lane folds
// again what is sealed, and the journal may be trimmed to there.
func TestALedgerThatWentBackDoesNotStopSealing(t *testing.T) {
	b := newBench(t)
	for i := range 40 {
		b.append(foreign(fmt.Sprint(i)))
	}
	s, err := b.steps()
	if err != nil {
		t.Fatal(err)
	}
	b.count(s, 20)
	if err := s.Seal(t.Context()); err != nil || s.Status().Sealed != 16 {
		t.Fatal(err, s.Status().Sealed)
	}
	b.book.at, b.book.sums = ledger.Position{}, newBook().sums
	if s, err = b.steps(); err != nil {
		t.Fatal(err)
	}
	b.count(s, 10)
	b.count(s, 10)
	if err := s.Trim(t.Context()); err != nil {
		t.Fatal(err)
	}
	if st, err := b.stream.State(t.Context()); err != nil || st.First != 10 {
		t.Fatal(st, err)
	}
	b.count(s, 20)
	if err := s.Seal(t.Context()); err != nil || s.Status().Sealed != 40 {
		t.Fatal(err, s.Status().Sealed)
	}
	if b.book.total() != 40 {
		t.Fatalf("%d events counted", b.book.total())
	}
}

// leaves is a journal that cuts between files only, and has this to say of its size.
type leaves struct {
	journal.Stream
	bytes uint64
}

func (s *leaves) Trim(context.Context, uint64) error { return nil }

func (s *leaves) State(ctx context.Context) (journal.State, error) {
	st, err := s.Stream.State(ctx)
	st.Bytes = s.bytes
	return st, err
}

// TestWhatTheJournalLeavesIsNotAskedForAgain: finding out how far the ledger is durable takes a checkpoint.
func TestWhatTheJournalLeavesIsNotAskedForAgain(t *testing.T) {
	b := newBench(t)
	whole := &leaves{Stream: b.stream, bytes: 100}
	b.stream = whole
	for i := range 40 {
		b.append(foreign(fmt.Sprint(i)))
	}
	s, err := b.steps()
	if err != nil {
		t.Fatal(err)
	}
	b.count(s, 10)
	b.count(s, 10)
	if err := s.Seal(t.Context()); err != nil {
		t.Fatal(err)
	}
	trims := func(bytes uint64, want int) {
		t.Helper()
		before := b.book.durable
		whole.bytes = bytes
		for range 3 {
			if err := s.Trim(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if got := b.book.durable - before; got != want {
			t.Errorf("with %d bytes the ledger was asked %d times, want %d", bytes, got, want)
		}
	}
	trims(100, 1)
	trims(150, 0)
	trims(151, 1) // it may need the room
	b.count(s, 10)
	trims(151, 1) // the second-newest image is another one
}

// TestASupersededOwnerMaySealAndTrim: an owner that is not fenced yet goes on keeping the lane; the next one must not
// insist on sealing the same batches.
func TestASupersededOwnerMaySealAndTrim(t *testing.T) {
	b := newBench(t)
	for i := range 30 {
		b.append(foreign(fmt.Sprint(i)))
	}
	stale, err := b.steps()
	if err != nil {
		t.Fatal(err)
	}
	b.count(stale, 10)
	b.count(stale, 10)
	s, err := b.steps()
	if err != nil {
		t.Fatal(err)
	}
	if err := stale.Seal(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := stale.Trim(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.count(s, 10)
	if err := s.Seal(t.Context()); err != nil || s.Status().Sealed != 24 {
		t.Fatal(err, s.Status().Sealed)
	}
}

// TestAJournalThatHasLostMessagesHalts: what was lost behind the ledger's position leaves no other trace.
func TestAJournalThatHasLostMessagesHalts(t *testing.T) {
	for name, damage := range map[string]func(*mem.Stream){
		"end": func(s *mem.Stream) { s.Regress(7) }, "inside": func(s *mem.Stream) { s.Delete(7) },
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			for i := range 9 {
				b.append(foreign(fmt.Sprint(i)))
			}
			s, err := b.steps()
			if err != nil {
				t.Fatal(err)
			}
			b.count(s, 5)
			damage(b.stream.(*mem.Stream))
			if _, err := b.steps(); !errors.Is(err, ErrHalt) {
				t.Fatal(err)
			}
		})
	}
}
