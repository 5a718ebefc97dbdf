package grid

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"milliard/internal/archive"
	"milliard/internal/event"
	"milliard/internal/journal"
	"milliard/internal/journal/mem"
	"milliard/internal/ledger"
)

func (b *bench) mem() *mem.Stream { return b.stream.(*mem.Stream) }

// grow appends batches until the journal has been trimmed, and returns how many events it sent.
func (b *bench) grow(from int) (n int) {
	b.t.Helper()
	n = from
	b.until("the journal is trimmed", func() bool {
		b.append(foreign(fmt.Sprint(n)), foreign(fmt.Sprint(n/2)))
		n++
		s, err := b.stream.State(b.t.Context())
		return err == nil && s.First > 30
	})
	b.flushed()
	return n
}

func (b *bench) halts(says string) {
	b.t.Helper()
	b.start()
	b.halted(says)
}

func (b *bench) halted(says string) {
	b.t.Helper()
	b.until("the lane halts", func() bool { return b.lane.Status().Halted != nil })
	if err := b.lane.Status().Halted; !errors.Is(err, ErrHalt) || !strings.Contains(err.Error(), says) {
		b.t.Fatalf("halted for %v, want %q", err, says)
	}
	b.crash()
}

// TestAnOlderLedgerCatchesUpFromTheArchive restores a ledger whose position the journal no longer holds.
func TestAnOlderLedgerCatchesUpFromTheArchive(t *testing.T) {
	for name, back := range map[string]func(*book){
		"empty": func(*book) {},
		"old":   nil,
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			b.start()
			b.append(foreign("x"))
			b.append(foreign("x"), foreign("y"))
			b.flushed()
			old := newBook()
			if back == nil {
				old.at, old.sums = b.book.at, maps.Clone(b.book.sums)
			}
			b.grow(0)
			b.stop()
			want := b.book.sums
			b.book = old
			b.start()
			b.flushed()
			b.append(foreign("0")) // a duplicate of what was sent long ago
			b.flushed()
			b.stop()
			last := b.book.at.Seq
			for k, v := range b.book.sums {
				if k.Class == event.Duplicate && want[k] != v {
					v.Events, v.N = v.Events-1, v.N-event.One // the one just sent
				}
				if want[k] != v && v.Events > 0 {
					t.Errorf("%+v: %+v, want %+v", k, v, want[k])
				}
				delete(want, k)
			}
			if len(want) > 0 || last == 0 {
				t.Errorf("missing: %v", want)
			}
		})
	}
}

func TestStartRefusesALogThatIsNotTheLedgers(t *testing.T) {
	for name, c := range map[string]struct {
		damage func(b *bench)
		says   string
	}{
		"another stream":       {func(b *bench) { b.book.at.Stream = "other" }, "counts journal stream other"},
		"a hole":               {func(b *bench) { b.mem().Delete(b.w.seq - 1) }, "missing inside"},
		"a tail that is gone":  {func(b *bench) { b.mem().Regress(b.w.seq - 1) }, "reported lost"},
		"another batch":        {func(b *bench) { b.book.at.Hash[0] ^= 1 }, "is not the one that the ledger counted"},
		"a ledger ahead":       {func(b *bench) { b.book.at.Seq += 3 }, "the ledger has counted to"},
		"an archive that ends": {func(b *bench) { b.removeSegments(1) }, "neither in the journal nor in the archive"},
		"an archive without the beginning": {func(b *bench) {
			b.removeSegments(0)
			b.book = newBook()
		}, "neither in the journal nor in the archive"},
		"other recorded verdicts": {func(b *bench) {
			b.forge()
			b.book = newBook()
		}, "verdicts differ"},
		"other recorded verdicts, once a file of the spool was repaired": {func(b *bench) {
			b.forge()
			b.book = newBook()
			b.gaps = []journal.Gap{{First: 1}} // no batch is lost: it only says where counters jump
		}, "verdicts differ"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			b.start()
			b.grow(0)
			b.stop()
			c.damage(b)
			b.halts(c.says)
		})
	}
}

// removeSegments removes the oldest segment, or every one but the oldest.
func (b *bench) removeSegments(keep int) {
	b.t.Helper()
	names, err := filepath.Glob(filepath.Join(b.dir, "archive", "*", "*.main.zst"))
	if err != nil || len(names) < 2 {
		b.t.Fatalf("segments %v, %v", names, err)
	}
	gone := names[:1]
	if keep > 0 {
		gone = names[keep:]
	}
	for _, n := range gone {
		if err := os.Remove(n); err != nil {
			b.t.Fatal(err)
		}
	}
}

// forge writes the oldest segment again with another verdict.
func (b *bench) forge() {
	b.t.Helper()
	a := b.lane.cfg.Archive
	segments, err := a.Segments(0)
	if err != nil {
		b.t.Fatal(err)
	}
	for _, segment := range segments {
		batches, err := a.Read(segment, true)
		if err != nil {
			b.t.Fatal(err)
		}
		for i := range batches {
			v := batches[i].Verdicts
			if len(v) == 0 || batches[i].Seq == 1 {
				continue
			}
			v[0] = byte(event.Late)
			if _, err := a.Seal(0, batches); err != nil {
				b.t.Fatal(err)
			}
			return
		}
	}
	b.t.Fatal("no batch to forge")
}

// TestDamageWhileRunningHalts: the keeper asks the engine now and then.
func TestDamageWhileRunningHalts(t *testing.T) {
	for name, c := range map[string]struct {
		damage func(b *bench)
		says   string
	}{
		"a hole":        {func(b *bench) { b.mem().Delete(b.w.seq) }, "missing inside"},
		"a regression":  {func(b *bench) { b.mem().Regress(b.w.seq - 2) }, "reported lost"},
		"a foreign cut": {func(b *bench) { b.foreignTrim() }, "was trimmed below"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			b.start()
			b.append(foreign("0"))
			b.append(foreign("1"))
			b.append(foreign("2"))
			b.flushed()
			b.lane.cfg.TrimInterval = 0
			c.damage(b)
			b.halted(c.says)
			if b.book.total() != 3 {
				t.Errorf("%d in the ledger", b.book.total())
			}
		})
	}
}

// foreignTrim deletes messages that the lane has not trimmed.
func (b *bench) foreignTrim() {
	b.t.Helper()
	if err := b.stream.Trim(b.t.Context(), b.w.seq); err != nil {
		b.t.Fatal(err)
	}
}

// TestAnAcknowledgedGapIsSteppedOver: only a repair lets a lane go on behind a hole, and the rest is counted exactly.
func TestAnAcknowledgedGapIsSteppedOver(t *testing.T) {
	b := newBench(t)
	b.start()
	b.append(foreign("0"))
	b.append(foreign("1"))
	b.flushed()
	b.crash()
	b.append(foreign("2"), foreign("lost"))
	lost := b.append(foreign("3"))
	resume := b.append(foreign("4"))
	last := b.append(foreign("0"), foreign("5"))
	b.mem().Delete(lost - 1)
	b.mem().Delete(lost)
	b.halts("missing inside")
	b.gaps = []journal.Gap{{First: lost - 1, Last: lost}}
	if err := os.Remove(b.lane.cfg.HaltFile); err != nil { // as a repair does
		t.Fatal(err)
	}
	b.halts("a batch is missing")
	m, err := b.stream.Get(t.Context(), resume)
	if err != nil {
		t.Fatal(err)
	}
	h, err := journal.PeekHeader(m.Data)
	if err != nil {
		t.Fatal(err)
	}
	b.gaps[0].Resume = []journal.Resume{{Incarnation: h.Incarnation, Counter: h.Counter, Prev: h.Prev}}
	b.start()
	b.flushed()
	b.until("segments are sealed", func() bool {
		b.append(foreign("0"))
		return b.lane.Status().Sealed > last
	})
	b.stop()
	segments, err := b.lane.cfg.Archive.Segments(0)
	if err != nil {
		t.Fatal(err)
	}
	next := uint64(1)
	for _, s := range segments {
		if s.First != journal.Behind(b.gaps, next) {
			t.Errorf("segment %d-%d follows %d", s.First, s.Last, next-1)
		}
		next = s.Last + 1
	}
	b.start() // from the image, and once more from nothing
	b.flushed()
	b.stop()
	var valid int64
	for k, v := range b.book.sums {
		if k.Class == event.Valid {
			valid += v.Events
		}
	}
	if valid != 4 {
		t.Errorf("%d valid, want those with ids 0, 1, 4 and 5", valid)
	}
	want := b.book.sums
	b.book = newBook()
	b.start()
	b.flushed()
	b.stop()
	if !maps.Equal(want, b.book.sums) {
		t.Errorf("counted again from the archive: %v, want %v", b.book.sums, want)
	}
}

var _ ledger.Ledger = (*book)(nil)

// TestRecordedVerdictsOutliveWhatTheyRestedOn: the first use of an id is lost, the repeat stands in the archive as a
// duplicate; who folds the archive from the beginning must not find it valid.
func TestRecordedVerdictsOutliveWhatTheyRestedOn(t *testing.T) {
	b := newBench(t)
	b.start()
	b.append(foreign("a"))
	lost := b.append(foreign("b"))
	b.append(foreign("b"), foreign("c"))
	resume := b.w.seq
	b.grow(0)
	b.stop()
	want := b.book.sums
	a := b.lane.cfg.Archive
	segments, err := a.Segments(0)
	if err != nil {
		t.Fatal(err)
	}
	batches, err := a.Read(segments[0], true)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []string{segments[0].Path, segments[0].Personal()} {
		if err := os.Remove(n); err != nil {
			t.Fatal(err)
		}
	}
	for _, part := range [][]archive.Batch{batches[:lost-1], batches[lost:]} {
		if _, err := a.Seal(0, part); err != nil {
			t.Fatal(err)
		}
	}
	h := batches[resume-1].Header
	b.gaps = []journal.Gap{{First: lost, Last: lost, Resume: []journal.Resume{{Incarnation: h.Incarnation, Counter: h.Counter, Prev: h.Prev}}}}
	b.book = newBook()
	b.start()
	b.flushed()
	b.stop()
	var missing int64
	for k, v := range want {
		if got := b.book.sums[k]; got != v {
			missing += v.Events - got.Events
			if k.Class != event.Valid {
				t.Errorf("%+v: %+v, want %+v", k, got, v)
			}
		}
	}
	if missing != 1 {
		t.Errorf("%d events are missing, want the lost one", missing)
	}
}
