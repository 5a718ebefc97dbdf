package duck

import (
	"testing"

	"golang.org/x/sys/unix"
)

// TestUpkeepYields: a checkpoint runs with less priority than the doors, and nobody else does after it.
func TestUpkeepYields(t *testing.T) {
	nice := func() int {
		raw, err := unix.Getpriority(unix.PRIO_PROCESS, unix.Gettid())
		if err != nil {
			t.Error(err)
		}
		return 20 - raw
	}
	before, tid, inside, within := nice(), 0, 0, 0
	l := &Ledger{}
	defer l.quiet.stop()
	if err := l.upkeep(func() error {
		inside, within, tid = nice(), unix.Getpid(), unix.Gettid()
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if inside != min(before+yieldBy, 19) || within != unix.Getpid() || tid == unix.Gettid() {
		t.Fatalf("nice %d before, %d inside, on thread %d", before, inside, tid)
	}
	for range 50 {
		again := 0
		if err := l.upkeep(func() error { again = unix.Gettid(); return nil }); err != nil {
			t.Fatal(err)
		}
		if again != tid {
			t.Fatalf("on thread %d, and on thread %d before", again, tid)
		}
		if after := nice(); after != before {
			t.Fatalf("nice %d after it, %d before", after, before)
		}
	}
}

func TestUpkeepRests(t *testing.T) {
	l := &Ledger{}
	defer l.quiet.stop()
	if err := l.rest(t.Context()); err != nil {
		t.Fatal(err)
	}
	release := make(chan struct{})
	go close(release)
	if err := l.upkeep(func() error { <-release; return nil }); err != nil {
		t.Fatal(err)
	}
	until := l.restUntil.Load()
	if until == 0 {
		t.Fatal("there is no rest after upkeep")
	}
	if err := l.rest(t.Context()); err != nil {
		t.Fatal(err)
	}
}
