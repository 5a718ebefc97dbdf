package duck

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"

	"milliard/internal/event"
	"milliard/internal/ledger"
	"milliard/internal/ledger/ledgertest"
)

// fill flushes n generations a second apart and returns their totals.
func fill(t testing.TB, l *Ledger, r *rand.Rand, n int, shape ledgertest.Shape) *ledgertest.Totals {
	t.Helper()
	want := ledgertest.NewTotals()
	epoch, at := acquire(t, l, 0)
	for i := range n {
		g := ledgertest.Random(r, 0, epoch, at, shape)
		g.To.LogTime = int64(ledgertest.BaseMinute)*60_000 + int64(i)*1000
		if err := l.Flush(t.Context(), g); err != nil {
			t.Fatal(err)
		}
		want.Add(g)
		at = g.To
	}
	return want
}

// denseShape repeats its few keys over and over.
func denseShape() ledgertest.Shape {
	shape := smallShape()
	shape.Keys = 1
	return shape
}

func number(t testing.TB, l *Ledger, query string) int64 {
	t.Helper()
	n, ok := ask(t, l, query).Rows[0][0].(int64)
	if !ok {
		t.Fatalf("%s: no integer", query)
	}
	return n
}

// rest moves the ledger's log time on, so that everything so far has been left alone long enough.
func rest(t testing.TB, l *Ledger, by time.Duration) {
	t.Helper()
	epoch, at := acquire(t, l, 0)
	g := &ledger.Generation{Epoch: epoch, From: at, To: ledgertest.Next(at, 1, at.LogTime+by.Milliseconds())}
	if err := l.Flush(t.Context(), g); err != nil {
		t.Fatal(err)
	}
}

func compactAll(t testing.TB, l *Ledger) {
	t.Helper()
	for range 20 {
		if err := l.Compact(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

func TestCompactLeavesOneRowPerKey(t *testing.T) {
	l, err := Open(t.Context(), Options{Path: filepath.Join(t.TempDir(), "ledger.duckdb")})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	want := fill(t, l, ledgertest.NewRandom(1), 60, denseShape())
	before := number(t, l, "SELECT count(*) FROM cells")
	compactAll(t, l)
	if got := number(t, l, "SELECT count(*) FROM cells"); got != before {
		t.Fatalf("fresh cells were merged: %d rows of %d", got, before)
	}
	if got := number(t, l, "SELECT rolled_flush::BIGINT FROM rollup_state"); got != 60 {
		t.Fatalf("rolled to flush %d", got)
	}
	if n := number(t, l, "SELECT sum(events)::BIGINT FROM cells_1h"); n != want.Events() {
		t.Fatalf("hours hold %d events, want %d", n, want.Events())
	}
	rest(t, l, 3*time.Hour)
	compactAll(t, l)
	subject().MustEqual(t, l, want)
	check := func() {
		t.Helper()
		for _, table := range cellTables() {
			rows := number(t, l, "SELECT count(*) FROM "+table.name)
			keys := number(t, l, fmt.Sprintf("SELECT count(*) FROM (SELECT DISTINCT lane, %s FROM %s)", table.keys, table.name))
			if rows != keys || rows == 0 {
				t.Errorf("%s: %d rows for %d keys", table.name, rows, keys)
			}
		}
	}
	check()
	// Nothing is left to do, and a second look after reopening finds that out without writing.
	for range 2 {
		commits := 0
		l.commitHook = func(commit func() error) error { commits++; return commit() }
		compactAll(t, l)
		if commits > 2 { // after opening, one step looks at each of the lane's watermarks
			t.Fatalf("%d transactions with nothing to do", commits)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if l, err = Open(t.Context(), Options{Path: l.opt.Path}); err != nil {
			t.Fatal(err)
		}
	}
	check()
	subject().MustEqual(t, l, want)
}

func TestCompactNeverMergesAcrossTheWatermark(t *testing.T) {
	l := openTest(t)
	r := ledgertest.NewRandom(2)
	want := fill(t, l, r, 10, denseShape())
	compactAll(t, l)
	rest(t, l, 3*time.Hour)
	// Later flushes into the same old minutes, as an import makes them; merged before they are rolled up.
	epoch, at := acquire(t, l, 0)
	later := int64(0)
	for range 5 {
		g := ledgertest.Random(r, 0, epoch, at, denseShape())
		if err := l.Flush(t.Context(), g); err != nil {
			t.Fatal(err)
		}
		want.Add(g)
		at = g.To
		if len(g.Cells) > 0 {
			later++
		}
	}
	rest(t, l, 3*time.Hour)
	for range 10 {
		if _, err := l.compactStep(t.Context(), l.mergeStep); err != nil {
			t.Fatal(err)
		}
	}
	if unrolled := number(t, l, "SELECT count(DISTINCT c.flush) FROM cells c JOIN rollup_state r USING (lane) WHERE c.flush > r.rolled_flush"); unrolled != later || later == 0 {
		t.Fatalf("%d flushes above the watermark, want %d", unrolled, later)
	}
	subject().MustEqual(t, l, want)
	compactAll(t, l)
	subject().MustEqual(t, l, want)
}

func TestCompactStepsAreBounded(t *testing.T) {
	if testing.Short() {
		t.Skip("writes 400,000 rows")
	}
	l := openTest(t)
	r, want := ledgertest.NewRandom(3), ledgertest.NewTotals()
	epoch, at := acquire(t, l, 0)
	g := &ledger.Generation{Epoch: epoch}
	for i := range 40 {
		g.Cells = g.Cells[:0]
		for range 10_000 {
			g.Cells = append(g.Cells, ledger.Cell{
				Key:   ledger.Key{Bucket: ledgertest.BaseMinute + r.Int32N(60), Tenant: 1, Type: event.Click, Class: event.Valid, Campaign: event.CampaignID(r.Uint32N(5000))},
				Value: ledger.Value{N: event.One, Events: 1},
			})
		}
		g.From, g.To = at, ledgertest.Next(at, 1, int64(ledgertest.BaseMinute+int32(i))*60_000)
		if err := l.Flush(t.Context(), g); err != nil {
			t.Fatal(err)
		}
		want.Add(g)
		at = g.To
	}
	rest(t, l, 24*time.Hour)
	var longest time.Duration
	for _, step := range []func(context.Context) (bool, error){l.rollStep, l.mergeStep} {
		for more := true; more; {
			began := time.Now()
			var err error
			if more, err = l.compactStep(t.Context(), step); err != nil {
				t.Fatal(err)
			}
			longest = max(longest, time.Since(began))
		}
	}
	t.Logf("longest step %s", longest)
	subject().MustEqual(t, l, want)
}

func TestCompactFailureAtAnyCommitLosesNothing(t *testing.T) {
	failed := errors.New("disk on fire")
	for fail := range 12 {
		for _, committed := range []bool{false, true} {
			l := openTest(t)
			want := fill(t, l, ledgertest.NewRandom(4), 8, denseShape())
			rest(t, l, 3*time.Hour)
			n := 0
			l.commitHook = func(commit func() error) error {
				if n++; n-1 != fail {
					return commit()
				}
				if committed {
					return errors.Join(commit(), failed)
				}
				return failed
			}
			for range 20 {
				if err := l.Compact(t.Context()); err != nil && !errors.Is(err, failed) {
					t.Fatal(err)
				}
				subject().MustEqual(t, l, want)
			}
			if rows, keys := number(t, l, "SELECT count(*) FROM cells"), int64(len(want.Cells)); rows != keys {
				t.Fatalf("after a failure at commit %d: %d rows for %d keys", fail, rows, keys)
			}
		}
	}
}

func TestFloorTo(t *testing.T) {
	for _, c := range []struct{ bucket, unit, want int32 }{{0, 15, 0}, {14, 15, 0}, {15, 15, 15}, {-1, 15, -15}, {-15, 15, -15}, {-61, 60, -120}} {
		if got := floorTo(c.bucket, c.unit); got != c.want {
			t.Errorf("floorTo(%d, %d) = %d, want %d", c.bucket, c.unit, got, c.want)
		}
	}
}
