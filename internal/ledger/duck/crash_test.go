package duck

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"milliard/internal/ledger"
	"milliard/internal/ledger/ledgertest"
)

// The child's orders stand in its environment.
const (
	childPath = "MILLIARD_TEST_LEDGER"
	childSeed = "MILLIARD_TEST_SEED"
)

// crashGeneration is the generation that leads from a position; parent and child agree on it without talking.
func crashGeneration(seed uint64, epoch uint64, from ledger.Position) *ledger.Generation {
	shape := smallShape()
	shape.Cells, shape.Minute = 200, ledgertest.BaseMinute+int32(from.Flush)
	return ledgertest.Random(ledgertest.NewRandom(seed+from.Flush), 0, epoch, from, shape)
}

// TestCrashChild is no test of its own: TestKill runs it in a process that it kills. It flushes, compacts and
// checkpoints as fast as it can and writes a line for every flush that was acknowledged.
func TestCrashChild(t *testing.T) {
	path := os.Getenv(childPath)
	if path == "" {
		t.Skip("run by TestKillLosesNothing")
	}
	seed, err := strconv.ParseUint(os.Getenv(childSeed), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	l, err := Open(t.Context(), Options{Path: path, MergeAge: time.Millisecond, RollEvery: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	epoch, at := acquire(t, l, 0)
	fmt.Printf("\nopen %d\n", at.Flush)
	for {
		g := crashGeneration(seed, epoch, at)
		if err := l.Flush(t.Context(), g); err != nil {
			t.Fatal(err)
		}
		at = g.To
		fmt.Printf("flushed %d\n", at.Flush)
		if at.Flush%3 == 0 {
			err = l.Compact(t.Context())
		}
		if at.Flush%5 == 0 && err == nil {
			_, err = l.Durable(t.Context())
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestKillLosesNothing(t *testing.T) {
	kills := 25
	if testing.Short() {
		kills = 10
	}
	path := filepath.Join(t.TempDir(), "ledger.duckdb")
	const seed = 1000
	var acknowledged uint64
	r := ledgertest.NewRandom(99)
	for range kills {
		acknowledged = max(acknowledged, runAndKill(t, path, seed, 1+r.IntN(12), time.Duration(r.IntN(15))*time.Millisecond))
		checkCrashed(t, path, seed, acknowledged)
	}
	if acknowledged < uint64(kills) {
		t.Fatalf("only %d flushes in %d lives", acknowledged, kills)
	}
}

// runAndKill lets a child acknowledge some flushes, waits a moment more, kills it, and returns the last flush that it
// acknowledged.
func runAndKill(t *testing.T, path string, seed uint64, flushes int, more time.Duration) uint64 {
	t.Helper()
	child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestCrashChild$", "-test.v")
	child.Env = append(os.Environ(), childPath+"="+path, childSeed+"="+strconv.FormatUint(seed, 10))
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	var last uint64
	var seen []string
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		seen = append(seen, lines.Text())
		number, ok := strings.CutPrefix(lines.Text(), "flushed ")
		if !ok {
			continue
		}
		if last, err = strconv.ParseUint(number, 10, 64); err != nil {
			t.Fatal(err)
		}
		if flushes--; flushes == 0 {
			timer := time.AfterFunc(more, func() { _ = child.Process.Kill() })
			defer timer.Stop()
		}
	}
	if err := child.Wait(); err == nil || flushes > 0 {
		t.Fatalf("the child ended by itself: %v\n%s", err, strings.Join(seen, "\n"))
	}
	return last
}

// checkCrashed opens what the child left, and compares it with the generations that lead to its position.
func checkCrashed(t *testing.T, path string, seed, acknowledged uint64) {
	t.Helper()
	l, err := Open(t.Context(), Options{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	positions, err := l.Positions(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if positions[0].Flush < acknowledged || positions[0].Flush > acknowledged+1 {
		t.Fatalf("the ledger is at flush %d, acknowledged was %d", positions[0].Flush, acknowledged)
	}
	want := ledgertest.NewTotals()
	at := ledger.Position{}
	for at.Flush < positions[0].Flush {
		g := crashGeneration(seed, 0, at)
		want.Add(g)
		at = g.To
	}
	if at != positions[0] {
		t.Fatalf("position %+v, want %+v", positions[0], at)
	}
	subject().MustEqual(t, l, want)
}

// TestSecondProcessIsRefused: also after the file was read for a backup and for the undo file, because closing any descriptor
// of a file gives back a process's locks of it.
func TestSecondProcessIsRefused(t *testing.T) {
	l := openTest(t)
	if _, err := l.Backup(t.Context(), filepath.Join(t.TempDir(), "backup.duckdb")); err != nil {
		t.Fatal(err)
	}
	child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestCrashChild$")
	child.Env = append(os.Environ(), childPath+"="+l.opt.Path, childSeed+"=1")
	out, err := child.CombinedOutput()
	if err == nil || !strings.Contains(string(out), ErrInUse.Error()+": PID "+strconv.Itoa(os.Getpid())) {
		t.Fatalf("%v: %s", err, out)
	}
}
