package duck

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"milliard/internal/ledger"
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
		"its version is rotten":           {func(b []byte) []byte { b[5] ^= 8; return b }, folded},
		"its first entry's kind":          {func(b []byte) []byte { b[2] ^= 1; return b }, folded},
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

// largeLog makes a ledger whose log is more than the engine can read with tooLittle memory.
func largeLog(t *testing.T) (l *Ledger, epoch uint64, at ledger.Position) {
	t.Helper()
	l, err := Open(t.Context(), Options{Path: filepath.Join(t.TempDir(), "ledger.duckdb")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	epoch, at = acquire(t, l, 0)
	at = flushOnce(t, l, epoch, at)
	if _, err := l.Durable(t.Context()); err != nil {
		t.Fatal(err)
	}
	g := largeGeneration(epoch, at)
	if err := l.Flush(t.Context(), g); err != nil {
		t.Fatal(err)
	}
	return l, epoch, g.To
}

// tooLittle memory is one of which the engine says, while it reads a log, that it could not commit.
const tooLittle = 4 << 20

// TestALogIsNotPutAsideForWantOfMemory, by a server that starts.
func TestALogIsNotPutAsideForWantOfMemory(t *testing.T) {
	l, _, at := largeLog(t)
	path := filepath.Join(t.TempDir(), "ledger.duckdb") // it was killed
	for _, ext := range []string{"", ".wal", ".undo"} {
		write(t, path+ext, read(t, l.opt.Path+ext))
	}
	for _, memory := range []int64{1 << 20, tooLittle} {
		starved, err := Open(t.Context(), Options{Path: path, MemoryLimit: memory})
		if err == nil {
			_ = starved.Close()
			t.Fatalf("with %d bytes of memory it was opened", memory)
		}
		for _, says := range []string{"left as it is", "block of size"} {
			if !strings.Contains(err.Error(), says) {
				t.Errorf("with %d bytes of memory: %v; must say %q", memory, err, says)
			}
		}
		if !bytes.Equal(read(t, path+".wal"), read(t, l.opt.Path+".wal")) {
			t.Fatal("the log is not what it was")
		}
	}
	again, err := Open(t.Context(), Options{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	mustStandAt(t, again, at)
}

// TestALedgerDoesNotGoBackForWantOfMemory: an engine that has stopped is opened anew by the next flush. If there is no memory
// for its log then, the flush is tried again, and nothing is taken back that had been committed.
func TestALedgerDoesNotGoBackForWantOfMemory(t *testing.T) {
	l, epoch, at := largeLog(t)
	g := crashGeneration(33, epoch, at)
	enough := l.opt.MemoryLimit
	l.opt.MemoryLimit = tooLittle
	l.dropConn()
	l.dead = true
	for range 2 {
		if err := l.Flush(t.Context(), g); !errors.Is(err, ledger.ErrUnavailable) {
			t.Fatalf("flush without memory: %v", err)
		}
	}
	l.opt.MemoryLimit = enough
	if err := l.Flush(t.Context(), g); err != nil {
		t.Fatalf("flush when there is memory again: %v", err)
	}
	mustStandAt(t, l, g.To)
}

// mustStandAt fails unless exactly what leads to a position was committed.
func mustStandAt(t *testing.T, l *Ledger, want ledger.Position) {
	t.Helper()
	if now, err := l.Positions(t.Context()); err != nil || now[0] != want {
		t.Fatalf("the ledger is at %+v, want %+v; %v", now[0], want, err)
	}
}

// TestWhatIsDamage: the engine's own words, met while it read a log that was damaged, or was whole.
func TestWhatIsDamage(t *testing.T) {
	for why, want := range map[string]bool{
		"Corrupt WAL file: entry at byte position 119 computed checksum 25 does not match stored checksum 19": true,
		"could not allocate block of size 2.0 KiB (1.0 MiB/1.0 MiB used)":                                     false,
		"Failed to commit: could not allocate block of size 256.0 KiB (3.9 MiB/4.0 MiB used)":                 false,
		`Could not read from file "/Corrupt WAL/ledger.duckdb.wal": Input/output error`:                       false,
	} {
		for head, damaged := range map[string]bool{logHead + "…": want, string(flip([]byte(logHead), 3)): true, logHead[:3]: true} {
			path := filepath.Join(t.TempDir(), "ledger.duckdb.wal")
			write(t, path, []byte(head))
			if is, err := isDamaged(path, why); err != nil || is != damaged {
				t.Errorf("%q, of a log that begins with %q: damaged %v, %v", why, head, is, err)
			}
		}
	}
	if is, err := isDamaged(t.TempDir(), "unordered_map::at"); err == nil || is {
		t.Errorf("a log whose head cannot be read: damaged %v, %v", is, err)
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
