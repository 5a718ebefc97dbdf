package duck

import (
	"context"
	"database/sql"
	"errors"
	"path/filepath"
	"strings"
	"testing"

	duckdb "github.com/duckdb/duckdb-go/v2"
	"github.com/prometheus/client_golang/prometheus"

	"milliard/internal/event"
	"milliard/internal/ledger"
	"milliard/internal/ledger/ledgertest"
)

func smallShape() ledgertest.Shape {
	return ledgertest.Shape{Cells: 60, Clicks: 5, Sales: 5, Tallies: 3, Minutes: 60, Minute: ledgertest.BaseMinute, Keys: 3}
}

func acquire(t testing.TB, l *Ledger, lane int) (uint64, ledger.Position) {
	t.Helper()
	epoch, at, err := l.Acquire(t.Context(), lane)
	if err != nil {
		t.Fatal(err)
	}
	return epoch, at
}

func TestCommitErrorIsReadBack(t *testing.T) {
	failed := errors.New("disk on fire")
	for name, c := range map[string]struct {
		hook func(l *Ledger, commit func() error) error
		want error
	}{
		"committed all the same": {func(_ *Ledger, commit func() error) error { return errors.Join(commit(), failed) }, nil},
		"not committed":          {func(*Ledger, func() error) error { return failed }, ledger.ErrUnavailable},
		"engine stopped, committed": {func(l *Ledger, commit func() error) error {
			return errors.Join(commit(), &duckdb.Error{Type: duckdb.ErrorTypeFatal, Msg: "FATAL Error: stopped"})
		}, nil},
		"engine stopped, not committed": {func(*Ledger, func() error) error {
			return &duckdb.Error{Type: duckdb.ErrorTypeFatal, Msg: "FATAL Error: stopped"}
		}, ledger.ErrUnavailable},
		"somebody else has it": {func(l *Ledger, commit func() error) error {
			if err := commit(); err != nil {
				return err
			}
			// As if another owner had come in between: neither where we were nor where we wanted to be.
			if _, err := l.conn.ExecContext(context.Background(), "UPDATE positions SET epoch = epoch + 1"); err != nil {
				return err
			}
			return failed
		}, ledger.ErrFenced},
	} {
		t.Run(name, func(t *testing.T) {
			l := openTest(t)
			r, want := ledgertest.NewRandom(7), ledgertest.NewTotals()
			epoch, at := acquire(t, l, 0)
			first := ledgertest.Random(r, 0, epoch, at, smallShape())
			if err := l.Flush(t.Context(), first); err != nil {
				t.Fatal(err)
			}
			want.Add(first)
			g := ledgertest.Random(r, 0, epoch, first.To, smallShape())
			l.commitHook = func(commit func() error) error { return c.hook(l, commit) }
			err := l.Flush(t.Context(), g)
			if !errors.Is(err, c.want) || (c.want == nil && err != nil) {
				t.Fatalf("flush: %v, want %v", err, c.want)
			}
			l.commitHook = nil
			if !errors.Is(c.want, ledger.ErrFenced) {
				if err := l.Flush(t.Context(), g); err != nil { // the owner tries again, or repeats itself
					t.Fatalf("second attempt: %v", err)
				}
			}
			want.Add(g)
			subject().MustEqual(t, l, want)
		})
	}
}

func TestUnresolvedFlushCanBeRepeated(t *testing.T) {
	l := openTest(t)
	epoch, at := acquire(t, l, 0)
	g, want := ledgertest.Random(ledgertest.NewRandom(8), 0, epoch, at, smallShape()), ledgertest.NewTotals()
	want.Add(g)
	path := l.opt.Path
	l.commitHook = func(commit func() error) error {
		err := commit()
		l.opt.Path = filepath.Join(t.TempDir(), "missing", "ledger.duckdb") // nothing can be read back from here
		l.dead = true
		return errors.Join(err, errors.New("disk on fire"))
	}
	if err := l.Flush(t.Context(), g); !errors.Is(err, ledger.ErrUnresolved) {
		t.Fatalf("flush: %v", err)
	}
	l.commitHook = nil
	if err := l.Flush(t.Context(), g); !errors.Is(err, ledger.ErrUnavailable) {
		t.Fatalf("flush while the file is away: %v", err)
	}
	l.opt.Path = path
	if err := l.Flush(t.Context(), g); err != nil {
		t.Fatalf("flush when it is back: %v", err)
	}
	subject().MustEqual(t, l, want)
}

// rival opens a second set of connections to the same database in this process, as no second process could.
func rival(t testing.TB, l *Ledger) *sql.DB {
	t.Helper()
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.db
}

func TestConflictOnTheFenceIsAFence(t *testing.T) {
	l := openTest(t)
	epoch, at := acquire(t, l, 0)
	other, err := rival(t, l).Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	for _, q := range []string{
		"BEGIN", "CREATE TEMP TABLE p AS SELECT * REPLACE (epoch + 1 AS epoch) FROM positions", "DELETE FROM positions WHERE lane = 0",
		"INSERT INTO positions FROM p",
	} {
		if _, err := other.ExecContext(t.Context(), q); err != nil {
			t.Fatal(err)
		}
	}
	g := ledgertest.Random(ledgertest.NewRandom(9), 0, epoch, at, smallShape())
	if err := l.Flush(t.Context(), g); !errors.Is(err, ledger.ErrFenced) {
		t.Fatalf("flush beside an open rival: %v", err)
	}
	if _, err := other.ExecContext(t.Context(), "COMMIT"); err != nil {
		t.Fatal(err)
	}
	if err := l.Flush(t.Context(), g); !errors.Is(err, ledger.ErrFenced) {
		t.Fatalf("flush after the rival: %v", err)
	}
	subject().MustEqual(t, l, ledgertest.NewTotals())
}

func TestCancelledFlushWritesNothing(t *testing.T) {
	l := openTest(t)
	epoch, at := acquire(t, l, 0)
	g := ledgertest.Random(ledgertest.NewRandom(10), 0, epoch, at, smallShape())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := l.Flush(ctx, g); !errors.Is(err, ledger.ErrUnavailable) {
		t.Fatal(err)
	}
	<-l.write // held by somebody
	ctx, cancel = context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- l.Flush(ctx, g) }()
	cancel()
	if err := <-done; !errors.Is(err, ledger.ErrUnavailable) || !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	l.unlock()
	subject().MustEqual(t, l, ledgertest.NewTotals())
	if err := l.Flush(t.Context(), g); err != nil {
		t.Fatal(err)
	}
}

func TestTextThatIsNotUTF8IsKept(t *testing.T) {
	l := openTest(t)
	epoch, at := acquire(t, l, 0)
	g := &ledger.Generation{Epoch: epoch, From: at, To: ledgertest.Next(at, 1, 1)}
	for _, order := range []string{"a\xffb", "a\xfeb", "a\x00b", "\uFFFD", "plain", "\xe2\x82"} {
		g.Sales.Append(ledger.SaleRow{Order: order, Class: event.Valid})
	}
	if err := l.Flush(t.Context(), g); err != nil {
		t.Fatal(err)
	}
	table := ask(t, l, "SELECT count(*), count(DISTINCT order_id), string_agg(order_id, '|') FROM sales")
	if table.Rows[0][0] != int64(6) || table.Rows[0][1] != int64(6) || table.Rows[0][2] != "a\\xffb|a\\xfeb|a\x00b|\uFFFD|plain|\\xe2\\x82" {
		t.Fatalf("%q", table.Rows[0])
	}
}

func TestReadersHoldBackNothing(t *testing.T) {
	l := openTest(t)
	epoch, at := acquire(t, l, 0)
	r := ledgertest.NewRandom(11)
	err := l.Snapshot(t.Context(), func(q ledger.Querier) error {
		count := func() (n int) {
			rows, err := q.QueryContext(t.Context(), "SELECT count(*) FROM cells")
			if err != nil {
				t.Fatal(err)
			}
			defer rows.Close()
			for rows.Next() {
				if err := rows.Scan(&n); err != nil {
					t.Fatal(err)
				}
			}
			if err := rows.Err(); err != nil {
				t.Fatal(err)
			}
			return n
		}
		before := count()
		for range 5 {
			g := ledgertest.Random(r, 0, epoch, at, smallShape())
			if err := l.Flush(t.Context(), g); err != nil {
				t.Fatal(err)
			}
			if err := l.Compact(t.Context()); err != nil {
				t.Fatal(err)
			}
			if _, err := l.Durable(t.Context()); err != nil {
				t.Fatalf("checkpoint beside an open snapshot: %v", err)
			}
			at = g.To
		}
		if after := count(); after != before {
			t.Fatalf("the snapshot moved from %d to %d rows", before, after)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestSnapshotCannotWrite(t *testing.T) {
	l := openTest(t)
	err := l.Snapshot(t.Context(), func(q ledger.Querier) error {
		rows, err := q.QueryContext(t.Context(), "DELETE FROM control_position")
		if err != nil {
			return err
		}
		defer rows.Close()
		return rows.Err()
	})
	if err == nil || !strings.Contains(err.Error(), "read-only") {
		t.Fatal(err)
	}
}

func TestMetricsAreRegisteredOnce(t *testing.T) {
	registry := prometheus.NewRegistry()
	path := filepath.Join(t.TempDir(), "ledger.duckdb")
	for range 2 { // the second time shows that Close has unregistered them
		l, err := Open(t.Context(), Options{Path: path, Registry: registry})
		if err != nil {
			t.Fatal(err)
		}
		epoch, at := acquire(t, l, 0)
		if err := l.Flush(t.Context(), ledgertest.Random(ledgertest.NewRandom(1), 0, epoch, at, smallShape())); err != nil {
			t.Fatal(err)
		}
		families, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		seen := map[string]bool{}
		for _, f := range families {
			seen[f.GetName()] = true
			if f.GetName() == "milliard_ledger_wal_bytes" && f.GetMetric()[0].GetGauge().GetValue() == 0 {
				t.Error("the write-ahead log is empty after a flush")
			}
		}
		for _, name := range []string{"flush_seconds", "flush_rows_total", "compact_seconds", "wal_bytes"} {
			if !seen["milliard_ledger_"+name] {
				t.Errorf("no metric %s", name)
			}
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func BenchmarkFlush10000(b *testing.B) {
	l, err := Open(b.Context(), Options{Path: filepath.Join(b.TempDir(), "ledger.duckdb")})
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	epoch, at, err := l.Acquire(b.Context(), 0)
	if err != nil {
		b.Fatal(err)
	}
	r := ledgertest.NewRandom(1)
	g := &ledger.Generation{Epoch: epoch}
	for len(g.Cells) < 10_000 {
		g.Cells = append(g.Cells, ledgertest.Random(r, 0, 0, at, ledgertest.Shape{Cells: 1000, Minute: ledgertest.BaseMinute, Keys: 2000}).Cells...)
	}
	g.Cells = g.Cells[:10_000]
	for b.Loop() {
		g.From, g.To = at, ledgertest.Next(at, 1, 1)
		if err := l.Flush(b.Context(), g); err != nil {
			b.Fatal(err)
		}
		at = g.To
	}
	b.ReportMetric(float64(b.Elapsed().Milliseconds())/float64(b.N), "ms/flush")
}
