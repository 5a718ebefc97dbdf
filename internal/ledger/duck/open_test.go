package duck

import (
	"context"
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"milliard/internal/ledger/ledgertest"
)

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	garbage := filepath.Join(dir, "garbage")
	if err := os.WriteFile(garbage, make([]byte, 20_000), 0o600); err != nil {
		t.Fatal(err)
	}
	foreign := filepath.Join(dir, "foreign.duckdb")
	withRaw(t, foreign, "CREATE TABLE x (a INTEGER)")
	newer := filepath.Join(dir, "newer.duckdb")
	l, err := Open(t.Context(), Options{Path: newer})
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	withRaw(t, newer, "INSERT INTO schema_migrations VALUES (99, '0099_future', now()::TIMESTAMP)")
	for path, want := range map[string]error{
		garbage: ErrForeign, foreign: ErrForeign, newer: ErrNewer, "": nil, filepath.Join(dir, "a?b"): nil,
		filepath.Join(dir, "missing", "x"): nil,
	} {
		l, err := Open(t.Context(), Options{Path: path})
		if err == nil {
			_ = l.Close()
			t.Fatalf("%s was opened", path)
		}
		if want != nil && !errors.Is(err, want) {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func withRaw(t *testing.T, path, query string) {
	t.Helper()
	db, err := sql.Open("duckdb", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.ExecContext(t.Context(), query); err != nil {
		t.Fatal(err)
	}
}

func TestMigrationsRunOnceAndInOrder(t *testing.T) {
	list, err := migrations()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "with space", "ledger.duckdb")
	if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		l, err := Open(t.Context(), Options{Path: path})
		if err != nil {
			t.Fatal(err)
		}
		table := ask(t, l, "SELECT version, name FROM schema_migrations ORDER BY version")
		if len(table.Rows) != len(list) {
			t.Fatalf("%v", table.Rows)
		}
		for i, row := range table.Rows {
			if row[0] != int32(i+1) || row[1] != list[i].name {
				t.Fatalf("%v", table.Rows)
			}
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// An interrupted migration leaves the step before it, not half a step.
func TestMigrationIsOneTransaction(t *testing.T) {
	l := openTest(t)
	err := l.inTx(t.Context(), func(conn *sql.Conn) error {
		if _, err := conn.ExecContext(t.Context(), "CREATE TABLE half (a INTEGER); INSERT INTO half VALUES (1)"); err != nil {
			return err
		}
		return context.Canceled
	})
	if !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if n := len(ask(t, l, "SELECT table_name FROM duckdb_tables() WHERE table_name = 'half'").Rows); n != 0 {
		t.Fatal("half a migration is there")
	}
}

// The file stays readable by this program's earlier data: a store is opened, used and reopened many times.
func TestReopeningManyTimes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger.duckdb")
	r, want := ledgertest.NewRandom(3), ledgertest.NewTotals()
	for range 10 {
		l, err := Open(t.Context(), Options{Path: path})
		if err != nil {
			t.Fatal(err)
		}
		epoch, at := acquire(t, l, 1)
		g := ledgertest.Random(r, 1, epoch, at, smallShape())
		if err := l.Flush(t.Context(), g); err != nil {
			t.Fatal(err)
		}
		want.Add(g)
		subject().MustEqual(t, l, want)
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
