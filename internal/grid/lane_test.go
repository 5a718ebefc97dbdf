package grid

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"milliard/internal/archive"
	"milliard/internal/count"
	"milliard/internal/durable"
	"milliard/internal/event"
	"milliard/internal/journal"
	"milliard/internal/journal/mem"
	"milliard/internal/ledger"
)

// book is a ledger of one lane in memory: positions, fencing and sums, nothing else.
type book struct {
	ledger.Ledger
	mu      sync.Mutex
	epoch   uint64
	at      ledger.Position
	sums    map[ledger.Key]ledger.Value
	failing error // what Flush answers, without writing; Acquire as well
	flushes int
	durable int // how often it was asked what is durable
	refused int // by failing
}

func newBook() *book { return &book{sums: make(map[ledger.Key]ledger.Value)} }

func (b *book) Acquire(context.Context, int) (uint64, ledger.Position, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.failing != nil {
		return 0, ledger.Position{}, b.failing
	}
	b.epoch++
	return b.epoch, b.at, nil
}

func (b *book) Flush(_ context.Context, g *ledger.Generation) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.failing != nil {
		b.refused++
		return b.failing
	}
	if g.Epoch != b.epoch || g.From.Seq != b.at.Seq {
		return ledger.ErrFenced
	}
	for _, c := range g.Cells {
		v := b.sums[c.Key]
		v.N, v.Amount, v.Events = v.N+c.N, v.Amount+c.Amount, v.Events+c.Events
		b.sums[c.Key] = v
	}
	b.at = g.To
	b.flushes++
	return nil
}

func (b *book) Durable(context.Context) (map[int]ledger.Position, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.durable++
	return map[int]ledger.Position{0: b.at}, nil
}

func (b *book) total() (events int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, v := range b.sums {
		events += v.Events
	}
	return events
}

type bench struct {
	t      *testing.T
	dir    string
	stream journal.Stream
	book   *book
	w      *writer
	lane   *Lane
	gaps   []journal.Gap

	options func(*Options) // of a test that wants others
	rarely  bool           // an image is only written at the end
	log     *slog.Logger   // default: discard
	files   durable.Files  // of images; default: the disk
}

func newBench(t *testing.T) *bench {
	b := &bench{t: t, dir: t.TempDir(), book: newBook(), w: newWriter("a")}
	j := mem.Open(mem.Options{Now: func() time.Time { return time.UnixMilli(b.w.stamp) }})
	stream, err := j.Stream("lane-0")
	if err != nil {
		t.Fatal(err)
	}
	b.stream = stream
	return b
}

func (b *bench) start() {
	b.t.Helper()
	arch, err := archive.Open(filepath.Join(b.dir, "archive"))
	if err != nil {
		b.t.Fatal(err)
	}
	opt := testOptions()
	opt.Gaps = b.gaps
	if b.options != nil {
		b.options(&opt)
	}
	every, events := time.Millisecond, int64(1)
	if b.rarely {
		every, events = 1<<62, 1<<40
	}
	if b.log == nil {
		b.log = slog.New(slog.DiscardHandler)
	}
	b.lane, err = NewLane(LaneConfig{
		Options: opt, Stream: b.stream, Ledger: b.book, Archive: arch, Files: b.files,
		ImageDir: filepath.Join(b.dir, "images"), FlushInterval: time.Millisecond, ImageInterval: every,
		ImageEvents: events, TrimInterval: 2 * time.Millisecond, Log: b.log,
		Metrics: NewMetrics(prometheus.NewRegistry()),
	})
	if err != nil {
		b.t.Fatal(err)
	}
	if err := b.lane.Start(b.t.Context()); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) append(events ...event.Event) uint64 {
	b.t.Helper()
	b.w.stamp += 1000
	m := b.w.batch(journal.KindEvents, events)
	state, err := b.stream.State(b.t.Context())
	if err != nil {
		b.t.Fatal(err)
	}
	seq, err := b.stream.Append(b.t.Context(), state.Last, m.Data)
	if err != nil {
		b.t.Fatal(err)
	}
	b.w.seq = seq
	return seq
}

func (b *bench) flushed() {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), 20*time.Second)
	defer cancel()
	state, err := b.stream.State(ctx)
	if err == nil {
		err = b.lane.Flushed(ctx, state.Last)
	}
	if err != nil {
		b.t.Fatal(err)
	}
}

// until polls cond until it holds.
func (b *bench) until(what string, cond func() bool) {
	b.t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	deadline := time.After(20 * time.Second)
	for !cond() {
		select {
		case <-tick.C:
		case <-deadline:
			b.t.Fatalf("timed out waiting until %s", what)
		}
	}
}

func (b *bench) stop() {
	b.t.Helper()
	if err := b.lane.Stop(b.t.Context()); err != nil {
		b.t.Fatal(err)
	}
}

// crash ends the lane's goroutines without a last flush or image.
func (b *bench) crash() {
	b.lane.cancel()
	b.lane.roomy.Broadcast()
	b.lane.wg.Wait()
}

func TestCountsSurviveCrashesTrimAndDamagedImages(t *testing.T) {
	b := newBench(t)
	b.start()
	n := 0
	next := func(count int) {
		for range count {
			b.append(foreign(fmt.Sprint(n)), foreign(fmt.Sprint(n/2))) // the second is a duplicate of an earlier one
			n++
		}
	}
	next(40)
	b.flushed()
	b.until("the journal is trimmed", func() bool {
		s, err := b.stream.State(t.Context())
		next(1)
		return err == nil && s.First > 1
	})
	b.crash()
	next(7)
	b.start()
	b.flushed()
	b.stop()
	next(3)
	// Both images are damaged: the lane folds from the archive and the journal.
	images, err := filepath.Glob(filepath.Join(b.dir, "images", "*.image"))
	if err != nil || len(images) != 2 {
		t.Fatalf("images %v, %v", images, err)
	}
	for _, name := range images {
		if err := os.Truncate(name, 100); err != nil {
			t.Fatal(err)
		}
	}
	b.start()
	b.flushed()
	b.stop()
	if got := b.book.total(); got != int64(2*n) {
		t.Fatalf("%d events counted, %d sent", got, 2*n)
	}
	var valid int64
	for k, v := range b.book.sums {
		if k.Class == event.Valid {
			valid += v.Events
		}
	}
	if valid != int64(n) {
		t.Fatalf("%d valid, want %d", valid, n)
	}
}

func TestALedgerThatIsDownLosesNothing(t *testing.T) {
	b := newBench(t)
	b.start()
	b.append(foreign("0"))
	b.flushed()
	b.book.mu.Lock()
	b.book.failing = ledger.ErrUnavailable
	b.book.mu.Unlock()
	for i := range 20 {
		b.append(foreign(fmt.Sprint(i)))
	}
	b.until("all is folded", func() bool { return b.lane.Status().Folded.Seq == 21 })
	var pending int64
	for _, g := range b.lane.Pending() {
		for _, c := range g.Cells {
			pending += c.Events
		}
	}
	if pending != 20 || b.book.total() != 1 {
		t.Fatalf("pending %d, in the ledger %d", pending, b.book.total())
	}
	b.book.mu.Lock()
	b.book.failing = nil
	b.book.mu.Unlock()
	b.flushed()
	if b.book.total() != 21 {
		t.Fatalf("%d in the ledger", b.book.total())
	}
	b.stop()
}

func TestALaneWaitsForALedgerThatIsDownAtStart(t *testing.T) {
	b := newBench(t)
	b.start()
	b.append(foreign("0"))
	b.flushed()
	b.stop()
	b.book.failing = fmt.Errorf("%w: fsync failed", ledger.ErrUnavailable)
	b.start()
	b.until("the lane says why it waits", func() bool { return b.lane.Status().FlushErr != nil })
	if s := b.lane.Status(); s.Halted != nil || s.CaughtUp {
		t.Fatalf("%+v", s)
	}
	b.append(foreign("1"))
	b.book.mu.Lock()
	b.book.failing = nil
	b.book.mu.Unlock()
	b.flushed()
	if s := b.lane.Status(); s.FlushErr != nil || b.book.total() != 2 {
		t.Fatalf("%d in the ledger, %+v", b.book.total(), s)
	}
	b.stop()
}

func TestASecondOwnerFencesTheFirst(t *testing.T) {
	b := newBench(t)
	b.start()
	b.append(foreign("0"))
	b.flushed()
	if _, _, err := b.book.Acquire(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	b.append(foreign("1"))
	b.until("the lane halts", func() bool { return b.lane.Status().Halted != nil })
	if err := b.lane.Status().Halted; !errors.Is(err, ledger.ErrFenced) {
		t.Fatal(err)
	}
	b.crash()
	if b.book.total() != 1 {
		t.Fatalf("%d in the ledger", b.book.total())
	}
}

func TestAJournalThatIsBehindTheLedgerHalts(t *testing.T) {
	b := newBench(t)
	b.start()
	b.append(foreign("0"))
	b.flushed()
	b.stop()
	b.book.at.Seq = 9
	b.start()
	b.until("the lane halts", func() bool { return errors.Is(b.lane.Status().Halted, ErrHalt) })
	b.crash()
}

func TestVerdictsAreShownToThoseWhoWait(t *testing.T) {
	b := newBench(t)
	b.start()
	got := make(chan event.Class, 2)
	for row := range uint32(2) {
		go func() {
			c, err := b.lane.board.wait(t.Context(), 1, row)
			if err != nil {
				t.Error(err)
			}
			got <- c
		}()
	}
	b.append(foreign("0"), foreign("0"))
	if a, c := <-got, <-got; a+c != event.Valid+event.Duplicate {
		t.Fatalf("verdicts %v and %v", a, c)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := b.lane.board.wait(ctx, 99, 0); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	b.stop()
}

// TestALargeGenerationStaysOpenWhileItGrows: it is written late, but neither later than promised nor once nothing comes.
func TestALargeGenerationStaysOpenWhileItGrows(t *testing.T) {
	st := NewState(testOptions())
	st.Count()
	for n := range manyDetails {
		st.open.details.Add(&count.Detail{Cell: ledger.Key{Campaign: event.CampaignID(n)}}, ledger.Value{Events: 1}, st.budgets)
	}
	begun := time.Unix(1_800_000_000, 0)
	at := func(seconds float64) time.Time { return begun.Add(time.Duration(seconds * float64(time.Second))) }
	clicked := NewState(testOptions())
	clicked.Count()
	for n := range manyDetails {
		clicked.open.details.Add(&count.Detail{Cell: ledger.Key{Campaign: event.CampaignID(n)}}, ledger.Value{Events: 1}, clicked.budgets)
	}
	for range 2*manyDetails + 1 {
		clicked.open.clicks.Append(ledger.ClickRow{})
	}
	small := NewState(testOptions())
	small.Count()
	crowded := testOptions()
	crowded.MinuteCells = 2*manyDetails - 1
	for name, c := range map[string]struct {
		st     *State
		opt    Options
		folded float64 // when the last batch was folded
		now    float64
		due    bool
	}{
		"too early":     {st, testOptions(), 0.4, 0.5, false},
		"growing":       {st, testOptions(), 3.97, 4, false},
		"long enough":   {st, testOptions(), 4.99, 5, true},
		"mostly rows":   {clicked, testOptions(), 1, 1, true},
		"nothing comes": {st, testOptions(), 1.1, 1.5, true},
		"small":         {small, testOptions(), 1, 1, true},
		"nearly full":   {st, crowded, 1, 1, true},
	} {
		l := &Lane{st: c.st, openedAt: begun, foldedAt: at(c.folded)}
		l.cfg.Options, l.cfg.FlushInterval = c.opt, time.Second
		if got := l.flushDueLocked(at(c.now)); got != c.due {
			t.Errorf("%s: %v", name, got)
		}
	}
}
