package duck

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"milliard/internal/ledger"
	"milliard/internal/ledger/ledgertest"
)

// smallDisk mounts a file system of the given size.
func smallDisk(t *testing.T, sizeBytes string) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size="+sizeBytes); err != nil {
		t.Skipf("cannot mount a small disk: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// A disk that is full, and then is not, costs nothing: what failed is repeated and counts once, in this process, in the
// next one, and for one that finds the files as a kill would leave them.
func TestFullDiskLosesNothing(t *testing.T) {
	dir := smallDisk(t, "64m")
	path, ballast := filepath.Join(dir, "ledger.duckdb"), filepath.Join(dir, "ballast")
	l, err := Open(t.Context(), Options{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	r, want := ledgertest.NewRandom(1), ledgertest.NewTotals()
	epoch, at := acquire(t, l, 0)
	shape := smallShape()
	shape.Cells = 4000
	for round := range 4 {
		var disk unix.Statfs_t
		if err := unix.Statfs(dir, &disk); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(ballast, make([]byte, int64(disk.Bavail)*disk.Bsize-2<<20), 0o600); err != nil { // leaves 2 MB
			t.Fatal(err)
		}
		for full := false; !full; {
			g := ledgertest.Random(r, 0, epoch, at, shape)
			err := l.Flush(t.Context(), g)
			full = err != nil
			if full {
				if !errors.Is(err, ledger.ErrUnavailable) {
					t.Fatalf("flush onto a full disk: %v", err)
				}
				if round%2 == 1 {
					if _, err := l.Durable(t.Context()); err == nil {
						t.Fatal("a full disk took a checkpoint")
					}
				}
				if err := os.Remove(ballast); err != nil {
					t.Fatal(err)
				}
				if err := l.Flush(t.Context(), g); err != nil {
					t.Fatalf("flush when there is room again: %v", err)
				}
			}
			want.Add(g)
			at = g.To
		}
		subject().MustEqual(t, l, want)
		asKilled(t, path, want)
		if _, err := l.Durable(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if l, err = Open(t.Context(), Options{Path: path}); err != nil {
		t.Fatal(err)
	}
	subject().MustEqual(t, l, want)
}

// asKilled compares what a process would find that was killed now: the files as they are.
func asKilled(t *testing.T, path string, want *ledgertest.Totals) {
	t.Helper()
	found := filepath.Join(t.TempDir(), "found.duckdb")
	for _, suffix := range []string{"", ".wal"} {
		data, err := os.ReadFile(path + suffix)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(found+suffix, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	l, err := Open(t.Context(), Options{Path: found})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	subject().MustEqual(t, l, want)
}
