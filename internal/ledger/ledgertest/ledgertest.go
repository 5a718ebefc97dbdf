package ledgertest

import (
	"context"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"

	"milliard/internal/catalog"
	"milliard/internal/event"
	"milliard/internal/ledger"
)

// Subject is an implementation under test.
type Subject struct {
	// Store returns a function that opens one store, empty at first; a second call, after Close, opens it again.
	Store func(t testing.TB) (open func() (ledger.Ledger, error))
	// Totals reads every sum back.
	Totals func(ctx context.Context, l ledger.Ledger) (*Totals, error)
}

// Run runs the suite.
func Run(t *testing.T, s Subject) {
	t.Run("a new lane starts at zero and every acquire raises the epoch", s.acquire)
	t.Run("a flush is read back and survives reopening", s.flush)
	t.Run("only the newest owner flushes", s.fence)
	t.Run("a flush that does not start where the ledger is writes nothing", s.wrongStart)
	t.Run("a repeated flush counts once", s.repeat)
	t.Run("counts of another journal are refused", s.foreign)
	t.Run("lanes are independent", s.lanes)
	t.Run("control records are projected once", s.project)
	t.Run("sums survive any flushes, compactions and reopenings", s.sums)
	t.Run("a closed ledger says so", s.closed)
}

func (s Subject) open(t testing.TB) ledger.Ledger {
	t.Helper()
	l, err := s.Store(t)()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() }) // a test that cares closes it itself
	return l
}

// NewRandom returns a source of random generations.
func NewRandom(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 1)) }

func defaultShape() Shape {
	return Shape{Cells: 40, Clicks: 5, Sales: 5, Tallies: 3, Minutes: 90, Minute: BaseMinute, Keys: 3}
}

func mustAcquire(t testing.TB, l ledger.Ledger, lane int) (uint64, ledger.Position) {
	t.Helper()
	epoch, at, err := l.Acquire(t.Context(), lane)
	if err != nil {
		t.Fatal(err)
	}
	return epoch, at
}

func mustFlush(t testing.TB, l ledger.Ledger, g *ledger.Generation) {
	t.Helper()
	if err := l.Flush(t.Context(), g); err != nil {
		t.Fatal(err)
	}
}

// MustEqual fails unless the ledger's sums are those of want.
func (s Subject) MustEqual(t testing.TB, l ledger.Ledger, want *Totals) {
	t.Helper()
	got, err := s.Totals(t.Context(), l)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range want.Diff(got) {
		t.Error(d)
	}
	if t.Failed() {
		t.FailNow()
	}
}

func mustPosition(t testing.TB, l ledger.Ledger, lane int, want ledger.Position) {
	t.Helper()
	at, err := l.Positions(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if at[lane] != want {
		t.Fatalf("position of lane %d: %+v, want %+v", lane, at[lane], want)
	}
}

func (s Subject) acquire(t *testing.T) {
	l := s.open(t)
	var last uint64
	for range 3 {
		epoch, at := mustAcquire(t, l, 2)
		if epoch <= last || at != (ledger.Position{}) {
			t.Fatalf("epoch %d after %d, position %+v", epoch, last, at)
		}
		last = epoch
	}
}

func (s Subject) flush(t *testing.T) {
	open := s.Store(t)
	l, err := open()
	if err != nil {
		t.Fatal(err)
	}
	epoch, at := mustAcquire(t, l, 0)
	r, want := NewRandom(1), NewTotals()
	for range 5 {
		g := Random(r, 0, epoch, at, defaultShape())
		mustFlush(t, l, g)
		want.Add(g)
		at = g.To
	}
	s.MustEqual(t, l, want)
	mustPosition(t, l, 0, at)
	durable, err := l.Durable(t.Context())
	if err != nil || durable[0] != at {
		t.Fatalf("durable %+v, %v", durable, err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if l, err = open(); err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	s.MustEqual(t, l, want)
	if _, again := mustAcquire(t, l, 0); again != at {
		t.Fatalf("position after reopening %+v, want %+v", again, at)
	}
}

func (s Subject) fence(t *testing.T) {
	l := s.open(t)
	r, want := NewRandom(2), NewTotals()
	old, at := mustAcquire(t, l, 0)
	g := Random(r, 0, old, at, defaultShape())
	mustFlush(t, l, g)
	want.Add(g)
	stale := Random(r, 0, old, g.To, defaultShape())
	fresh, at := mustAcquire(t, l, 0)
	if at != g.To {
		t.Fatalf("the new owner starts at %+v, want %+v", at, g.To)
	}
	if err := l.Flush(t.Context(), stale); !errors.Is(err, ledger.ErrFenced) {
		t.Fatalf("flush of the old owner: %v", err)
	}
	s.MustEqual(t, l, want)
	g = Random(r, 0, fresh, at, defaultShape())
	mustFlush(t, l, g)
	want.Add(g)
	if err := l.Flush(t.Context(), stale); !errors.Is(err, ledger.ErrFenced) {
		t.Fatalf("flush of the old owner after the new one's: %v", err)
	}
	s.MustEqual(t, l, want)
	mustPosition(t, l, 0, g.To)
}

func (s Subject) wrongStart(t *testing.T) {
	l := s.open(t)
	epoch, at := mustAcquire(t, l, 0)
	ahead := Random(NewRandom(3), 0, epoch, Next(at, 4, 1), defaultShape())
	if err := l.Flush(t.Context(), ahead); !errors.Is(err, ledger.ErrFenced) {
		t.Fatalf("flush from ahead of the ledger: %v", err)
	}
	nowhere := &ledger.Generation{Epoch: epoch, From: at, To: at}
	if err := l.Flush(t.Context(), nowhere); err == nil {
		t.Fatal("a flush that does not advance was accepted")
	}
	unowned := Random(NewRandom(3), 7, 0, ledger.Position{}, defaultShape())
	if err := l.Flush(t.Context(), unowned); !errors.Is(err, ledger.ErrFenced) {
		t.Fatalf("flush of a lane that nobody acquired: %v", err)
	}
	s.MustEqual(t, l, NewTotals())
}

// foreign: the first flush that names its journal stream binds the lane to it.
func (s Subject) foreign(t *testing.T) {
	l := s.open(t)
	epoch, at := mustAcquire(t, l, 0)
	r := NewRandom(5)
	flush := func(stream string) error {
		g := Random(r, 0, epoch, at, defaultShape())
		g.To.Stream = stream
		err := l.Flush(t.Context(), g)
		if err == nil {
			at = g.To
		}
		return err
	}
	for _, stream := range []string{"", "a", "a"} {
		if err := flush(stream); err != nil {
			t.Fatalf("stream %q: %v", stream, err)
		}
	}
	for _, stream := range []string{"b", ""} {
		if err := flush(stream); !errors.Is(err, ledger.ErrFenced) || !errors.Is(err, ledger.ErrForeignJournal) {
			t.Fatalf("stream %q after \"a\": %v", stream, err)
		}
	}
	mustPosition(t, l, 0, at)
	if _, again := mustAcquire(t, l, 0); again.Stream != "a" {
		t.Fatalf("acquired at %+v", again)
	}
}

func (s Subject) repeat(t *testing.T) {
	l := s.open(t)
	epoch, at := mustAcquire(t, l, 0)
	g, want := Random(NewRandom(4), 0, epoch, at, defaultShape()), NewTotals()
	want.Add(g)
	for range 3 {
		mustFlush(t, l, g) // as an owner does that was told "unresolved"
	}
	s.MustEqual(t, l, want)
	other := *g
	other.To.Hash[0]++
	if err := l.Flush(t.Context(), &other); !errors.Is(err, ledger.ErrFenced) {
		t.Fatalf("another generation to the same sequence: %v", err)
	}
	s.MustEqual(t, l, want)
}

func (s Subject) lanes(t *testing.T) {
	l := s.open(t)
	r, want := NewRandom(5), NewTotals()
	at := map[int]ledger.Position{}
	for i := range 9 {
		lane := i % 3
		epoch, from := mustAcquire(t, l, lane)
		g := Random(r, lane, epoch, from, defaultShape())
		mustFlush(t, l, g)
		want.Add(g)
		at[lane] = g.To
	}
	for lane, p := range at {
		mustPosition(t, l, lane, p)
	}
	s.MustEqual(t, l, want)
}

func put(t testing.TB, kind, key string, tenant event.TenantID, id uint32, entity any) catalog.Change {
	t.Helper()
	after, err := json.Marshal(entity)
	if err != nil {
		t.Fatal(err)
	}
	return catalog.Change{Op: "put", Kind: kind, Tenant: tenant, ID: id, Key: key, After: after}
}

func (s Subject) project(t *testing.T) {
	open := s.Store(t)
	l, err := open()
	if err != nil {
		t.Fatal(err)
	}
	records := []catalog.Record{
		{Seq: 1, At: 1, Actor: "cli", Changes: []catalog.Change{put(t, "tenant", "default", 1, 1, catalog.Tenant{ID: 1, Key: "default"})}},
		{Seq: 5, At: 2, Actor: "cli", Changes: []catalog.Change{put(t, "affiliate", "a", 1, 9, catalog.Affiliate{ID: 9, Key: "a"})}},
	}
	for _, through := range []uint64{3, 5, 5, 4, 0} {
		if err := l.Project(t.Context(), records, through); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Project(t.Context(), nil, 8); err != nil { // records that changed nothing still move the position
		t.Fatal(err)
	}
	late := []catalog.Record{{Seq: 10, At: 3, Actor: "cli"}} // a ledger that went back must not be given a hole
	if err := l.Project(t.Context(), late, 10); !errors.Is(err, ledger.ErrHole) {
		t.Fatalf("records that leave one out: %v", err)
	}
	if at, err := l.ControlPosition(t.Context()); err != nil || at != 8 {
		t.Fatalf("control position %d, %v", at, err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if l, err = open(); err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if at, err := l.ControlPosition(t.Context()); err != nil || at != 8 {
		t.Fatalf("control position after reopening %d, %v", at, err)
	}
}

func (s Subject) sums(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		open := s.Store(t)
		l, err := open()
		if err != nil {
			rt.Fatal(err)
		}
		defer func() { _ = l.Close() }()
		r := NewRandom(rapid.Uint64().Draw(rt, "seed"))
		want := NewTotals()
		minute := int32(BaseMinute)
		for range rapid.IntRange(1, 15).Draw(rt, "steps") {
			switch rapid.SampledFrom([]string{"flush", "flush", "flush", "compact", "import", "reopen", "durable"}).Draw(rt, "step") {
			case "flush", "import":
				lane := r.IntN(2)
				epoch, at, err := l.Acquire(t.Context(), lane)
				if err != nil {
					rt.Fatal(err)
				}
				minute += r.Int32N(20)
				sh := defaultShape()
				sh.Minute, sh.Keys = minute, 1+2*r.IntN(2)
				if r.IntN(5) == 0 {
					sh.Minute, sh.Minutes = -3, 200 // before 1970, and across it
				}
				g := Random(r, lane, epoch, at, sh)
				g.To.LogTime = max(at.LogTime, int64(minute)*60_000)
				if err := l.Flush(t.Context(), g); err != nil {
					rt.Fatal(err)
				}
				want.Add(g)
			case "compact":
				if err := l.Compact(t.Context()); err != nil {
					rt.Fatal(err)
				}
			case "durable":
				if _, err := l.Durable(t.Context()); err != nil {
					rt.Fatal(err)
				}
			case "reopen":
				if err := l.Close(); err != nil {
					rt.Fatal(err)
				}
				if l, err = open(); err != nil {
					rt.Fatal(err)
				}
			}
			got, err := s.Totals(t.Context(), l)
			if err != nil {
				rt.Fatal(err)
			}
			for _, d := range want.Diff(got) {
				rt.Error(d)
			}
			if rt.Failed() {
				rt.FailNow()
			}
		}
	})
}

func (s Subject) closed(t *testing.T) {
	l := s.open(t)
	epoch, at := mustAcquire(t, l, 0)
	for range 2 {
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Flush(t.Context(), Random(NewRandom(6), 0, epoch, at, defaultShape())); !errors.Is(err, ledger.ErrUnavailable) {
		t.Fatalf("flush: %v", err)
	}
	if _, _, err := l.Acquire(t.Context(), 0); !errors.Is(err, ledger.ErrUnavailable) {
		t.Fatalf("acquire: %v", err)
	}
	if _, err := l.Positions(t.Context()); !errors.Is(err, ledger.ErrUnavailable) {
		t.Fatalf("positions: %v", err)
	}
}
