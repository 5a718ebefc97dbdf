package duck

import (
	"os"
	"path/filepath"
	"testing"

	"milliard/internal/ledger"
	"milliard/internal/ledger/ledgertest"
)

// TestATornLogIsCut: after a power cut the write-ahead log may end in pages that were never written, or have such pages
// in what was being written last. The ledger is then that of a flush before; it is never refused, and never in between.
func TestATornLogIsCut(t *testing.T) {
	const seed, flushes = 77, 12
	path := filepath.Join(t.TempDir(), "ledger.duckdb")
	l, err := Open(t.Context(), Options{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	epoch, at, err := l.Acquire(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	var ends []int64 // of the log after each flush
	for range flushes {
		g := crashGeneration(seed, epoch, at)
		if err := l.Flush(t.Context(), g); err != nil {
			t.Fatal(err)
		}
		at = g.To
		ends = append(ends, int64(fileBytes(path+".wal")))
	}
	file, log := read(t, path), read(t, path+".wal")
	for name, c := range map[string]struct {
		damage  func(b []byte) []byte
		flushes uint64 // that must be there
		refused bool
	}{
		"whole":                    {func(b []byte) []byte { return b }, flushes, false},
		"zeros behind it":          {func(b []byte) []byte { return append(b, make([]byte, 3*pageBytes)...) }, flushes, false},
		"a few zeros behind it":    {func(b []byte) []byte { return append(b, make([]byte, 100)...) }, flushes, false},
		"the last flush is zeros":  {zero(ends[flushes-2], int64(len(log))), flushes - 1, false},
		"from the middle of it":    {zero((ends[flushes-2]+ends[flushes-1])/2/pageBytes*pageBytes+pageBytes, int64(len(log))), flushes - 1, false},
		"its first page is zeros":  {zero(ends[flushes-2], ends[flushes-2]/pageBytes*pageBytes+pageBytes), flushes - 1, false},
		"a bit of it has flipped":  {func(b []byte) []byte { b[ends[flushes-2]+200] ^= 4; return b }, 0, true},
		"a flush before is rotten": {func(b []byte) []byte { b[ends[2]+200] ^= 4; return b }, 0, true},
	} {
		t.Run(name, func(t *testing.T) {
			other := filepath.Join(t.TempDir(), "ledger.duckdb")
			write(t, other, file)
			write(t, other+".wal", c.damage(append([]byte(nil), log...)))
			if c.refused {
				if l, err := Open(t.Context(), Options{Path: other}); err == nil {
					_ = l.Close()
					t.Fatal("it was opened")
				}
				return
			}
			l, err := Open(t.Context(), Options{Path: other})
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			positions, err := l.Positions(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if got := positions[0].Flush; got != c.flushes {
				t.Fatalf("the ledger is at flush %d, want %d", got, c.flushes)
			}
			want, at := ledgertest.NewTotals(), ledger.Position{}
			for at.Flush < c.flushes {
				g := crashGeneration(seed, 0, at)
				want.Add(g)
				at = g.To
			}
			subject().MustEqual(t, l, want)
		})
	}
}

// zero returns a damage that overwrites a part with zeros.
func zero(from, to int64) func([]byte) []byte {
	return func(b []byte) []byte { clear(b[from:to]); return b }
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func write(t *testing.T, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}
