package duck

import (
	"os"
	"path/filepath"
	"testing"

	"milliard/internal/ledger/ledgertest"
)

// TestCheckFindsDamageThatNobodyHasReadYet: the engine opens a file whose blocks are damaged and says so only when they
// are read.
func TestCheckFindsDamageThatNobodyHasReadYet(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger.duckdb")
	l, err := Open(t.Context(), Options{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	epoch, at := acquire(t, l, 0)
	r := ledgertest.NewRandom(11)
	for range 20 {
		g := ledgertest.Random(r, 0, epoch, at, ledgertest.Shape{
			Cells: 5_000, Clicks: 2_000, Sales: 500, Tallies: 3, Minutes: 60, Minute: ledgertest.BaseMinute, Keys: 50,
		})
		if err := l.Flush(t.Context(), g); err != nil {
			t.Fatal(err)
		}
		at = g.To
	}
	if err := l.Check(t.Context()); err != nil {
		t.Fatalf("a sound ledger: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	const block = 256 << 10
	opened, found := 0, 0
	for from := 3*4096 + block/2; from < len(whole); from += block { // the middle of each block
		spoilt := append([]byte(nil), whole...)
		spoilt[from] ^= 0x10
		if err := os.WriteFile(path, spoilt, 0o600); err != nil {
			t.Fatal(err)
		}
		l, err := Open(t.Context(), Options{Path: path})
		if err != nil {
			continue // found by opening it
		}
		opened++
		if l.Check(t.Context()) != nil {
			found++
		}
		_ = l.Close() // may fail: it is damaged
	}
	t.Logf("%d blocks, %d damaged ones opened, %d found", len(whole)/block, opened, found)
	if found == 0 || found < opened-1 { // a block may be free
		t.Fatalf("of %d damaged files that opened, %d were found", opened, found)
	}
}
