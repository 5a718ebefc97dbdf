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

// flushMinute flushes one event of one counter's minute at another; both are since a quarter of an hour began.
func flushMinute(t testing.TB, l *Ledger, now, minute int32) {
	t.Helper()
	epoch, at := acquire(t, l, 0)
	g := &ledger.Generation{Epoch: epoch, From: at, To: ledgertest.Next(at, 1, int64(ledgertest.BaseMinute/15*15+now)*60_000)}
	g.Cells = []ledger.Cell{{
		Key:   ledger.Key{Bucket: ledgertest.BaseMinute/15*15 + minute, Tenant: 1, Type: event.Click, Class: event.Valid, Campaign: 1},
		Value: ledger.Value{N: event.One, Events: 1},
	}}
	if err := l.Flush(t.Context(), g); err != nil {
		t.Fatal(err)
	}
}

// TestMinutesAreRolledUpOnceAQuarter looks at when minutes are rolled up, and that what is not is neither merged nor missing.
func TestMinutesAreRolledUpOnceAQuarter(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger.duckdb")
	l, err := Open(t.Context(), Options{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	flushes := int64(0)
	at := func(now, minute int32, rolled, cells int64) {
		t.Helper()
		flushMinute(t, l, now, minute)
		flushes++
		if err := l.Compact(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := number(t, l, "SELECT coalesce(max(rolled_flush), 0)::BIGINT FROM rollup_state"); got != rolled {
			t.Fatalf("minute %d: rolled to flush %d, want %d", now, got, rolled)
		}
		if got := number(t, l, "SELECT count(*) FROM cells"); got != cells {
			t.Fatalf("minute %d: %d rows of minutes, want %d", now, got, cells)
		}
		for _, view := range []string{"exact_15m", "exact_1h", "exact_1d"} {
			if got := number(t, l, "SELECT sum(events)::BIGINT FROM "+view); got != flushes {
				t.Fatalf("minute %d: %s has %d events of %d", now, view, got, flushes)
			}
		}
	}
	at(1, 1, 0, 1) // a new ledger has nothing from before
	at(1, 1, 0, 2)
	at(14, 14, 0, 3)
	at(16, 16, 4, 3) // the next quarter; and minute 1 is merged, for it has been left alone for long enough
	at(17, 1, 4, 4)  // as an import does it
	at(29, 29, 4, 5) // left alone for long enough again, but not in the quarters yet
	at(30, 30, 7, 5) // now it is
	at(46, 46, 8, 6)
	at(47, 47, 8, 7)
	if err := l.Compact(t.Context()); err != nil { // nobody has flushed since the last time
		t.Fatal(err)
	}
	if got := number(t, l, "SELECT max(rolled_flush)::BIGINT FROM rollup_state"); got != flushes {
		t.Fatalf("nobody flushes any more, and flush %d of %d is rolled up", got, flushes)
	}
	if got := number(t, l, "SELECT count(*) FROM cells_1h"); got != 4 { // one a roll
		t.Fatalf("%d rows of hours for four rolls", got)
	}
	if got := number(t, l, "SELECT count(*) FROM cells_1d"); got != 1 { // with the first roll; then once an hour
		t.Fatalf("%d rows of days", got)
	}
	at(48, 48, 9, 8)
	at(48, 48, 9, 9)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if l, err = Open(t.Context(), Options{Path: path}); err != nil {
		t.Fatal(err)
	}
	at(61, 61, 9, 10)  // a restart alone is no reason
	at(76, 76, 13, 10) // and minute 48, of which nobody has written since, is merged
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
	l.rollRows = 50_000
	for range 2 { // at the second look nobody has flushed since the first
		if err := l.beginRoll(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	commits := map[int]int{}
	for i, step := range []func(context.Context) (bool, error){l.rollStep, l.mergeStep} {
		l.commitHook = func(commit func() error) error { commits[i]++; return commit() }
		for more := true; more; {
			began := time.Now()
			var err error
			if more, err = l.compactStep(t.Context(), step); err != nil {
				t.Fatal(err)
			}
			longest = max(longest, time.Since(began))
		}
	}
	t.Logf("longest step %s of %v", longest, commits)
	if commits[0] < 6 || commits[1] < 2 {
		t.Fatalf("%v steps for 40 flushes of some 10,000 rows", commits)
	}
	subject().MustEqual(t, l, want)
}

// TestCompactWithLittleMemory: a step that rolls up more than the engine may keep in memory writes it out meanwhile.
func TestCompactWithLittleMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("writes a million rows")
	}
	l, err := Open(t.Context(), Options{
		Path: filepath.Join(t.TempDir(), "ledger.duckdb"), MemoryLimit: 64 << 20, MergeAge: time.Millisecond, RollEvery: time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	const flushes, rows = 20, 50_000
	epoch, at := acquire(t, l, 0)
	g := &ledger.Generation{Epoch: epoch}
	for i := range int32(flushes) {
		g.Cells = g.Cells[:0]
		for k := range rows {
			g.Cells = append(g.Cells, ledger.Cell{
				Key: ledger.Key{
					Bucket: ledgertest.BaseMinute + i, Tenant: 1, Type: event.Click, Class: event.Valid,
					Campaign: event.CampaignID(k), Affiliate: event.AffiliateID(i),
				},
				Value: ledger.Value{N: event.One, Events: 1},
			})
		}
		g.From, g.To = at, ledgertest.Next(at, 1, int64(ledgertest.BaseMinute+i)*60_000)
		if err := l.Flush(t.Context(), g); err != nil {
			t.Fatal(err)
		}
		at = g.To
	}
	rest(t, l, 24*time.Hour)
	compactAll(t, l)
	for _, table := range []string{"cells", "cells_15m", "cells_1h", "cells_1d"} {
		got, err := column[int64](t.Context(), l.db, "SELECT sum(events)::BIGINT FROM "+table)
		if err != nil || len(got) != 1 || got[0] != flushes*rows {
			t.Errorf("%s: %d events, want %d; %v", table, got, flushes*rows, err)
		}
	}
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
