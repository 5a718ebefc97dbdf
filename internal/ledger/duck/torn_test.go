package duck

import (
	"os"
	"path/filepath"
	"testing"
)

// pageBytes is the least that a file system writes or does not write of a file.
const pageBytes = 4096

// TestALogThatCannotBeRead: after a power cut the write-ahead log may end in pages that were never written, or have such
// pages in what was being written last; and it may be damaged. The ledger is then that of its last checkpoint or of a flush behind it;
// it is never refused, and never in between.
func TestALogThatCannotBeRead(t *testing.T) {
	const seed, flushes, folded = 77, 12, 5
	path := filepath.Join(t.TempDir(), "ledger.duckdb")
	l, err := Open(t.Context(), Options{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	epoch, at := acquire(t, l, 0)
	var ends [flushes + 1]int64 // of the log after each flush
	for at.Flush < flushes {
		g := crashGeneration(seed, epoch, at)
		if err := l.Flush(t.Context(), g); err != nil {
			t.Fatal(err)
		}
		if at = g.To; at.Flush == folded {
			if _, err := l.Durable(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		ends[at.Flush] = int64(fileBytes(path + ".wal"))
	}
	file, log, undo := read(t, path), read(t, path+".wal"), read(t, undoPath(path))
	last, middle := ends[flushes-1], (ends[flushes-1]+ends[flushes])/2
	for name, c := range map[string]struct {
		damage  func(b []byte) []byte
		flushes uint64 // that must be there
	}{
		"whole":                           {func(b []byte) []byte { return b }, flushes},
		"zeros behind it":                 {func(b []byte) []byte { return append(b, make([]byte, 3*pageBytes)...) }, folded},
		"a few zeros behind it":           {func(b []byte) []byte { return append(b, make([]byte, 100)...) }, folded},
		"the last flush is zeros":         {zero(last, int64(len(log))), folded},
		"from the middle of it":           {zero(middle/pageBytes*pageBytes+pageBytes, int64(len(log))), folded},
		"its first page is zeros":         {zero(last, last/pageBytes*pageBytes+pageBytes), folded},
		"a bit of it has flipped":         {func(b []byte) []byte { b[last+200] ^= 4; return b }, folded},
		"a flush before is rotten":        {func(b []byte) []byte { b[ends[folded+1]+200] ^= 4; return b }, folded},
		"its beginning is rotten":         {func(b []byte) []byte { b[3] ^= 4; return b }, folded},
		"it ends in the middle of one":    {func(b []byte) []byte { return b[:middle] }, flushes - 1},
		"it ends behind one":              {func(b []byte) []byte { return b[:last] }, flushes - 1},
		"it ends in its first":            {func(b []byte) []byte { return b[:200] }, folded},
		"it is gone":                      {func([]byte) []byte { return nil }, folded},
		"it ends in zeros and is cut off": {func(b []byte) []byte { return append(b[:middle], make([]byte, 700)...) }, flushes - 1},
	} {
		t.Run(name, func(t *testing.T) {
			other := filepath.Join(t.TempDir(), "ledger.duckdb")
			write(t, other, file)
			write(t, undoPath(other), undo)
			write(t, other+".wal", c.damage(append([]byte(nil), log...)))
			for range 2 { // and so it stays when it is killed again
				l, err := Open(t.Context(), Options{Path: other})
				if err != nil {
					t.Fatal(err)
				}
				defer l.Close()
				mustBeAt(t, l, seed, c.flushes)
				c.flushes++
				epoch, at := acquire(t, l, 0)
				if err := l.Flush(t.Context(), crashGeneration(seed, epoch, at)); err != nil {
					t.Fatal(err)
				}
				next := filepath.Join(t.TempDir(), "ledger.duckdb")
				for _, ext := range []string{"", ".wal", ".undo"} {
					write(t, next+ext, read(t, other+ext))
				}
				other = next
			}
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
