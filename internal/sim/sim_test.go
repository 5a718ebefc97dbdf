package sim

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

var (
	seedFlag  = flag.Uint64("sim.seed", 0, "TestSeed: the history to run, with its steps")
	seedsFlag = flag.Int("sim.seeds", 300, "TestSeeds: how many histories")
	fromFlag  = flag.Uint64("sim.from", 1, "TestSeeds: the first")
)

func newRunner(t testing.TB) *Runner {
	t.Helper()
	r, err := NewRunner()
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestSeed runs one history and shows how it went: go test ./internal/sim -run TestSeed$ -v -sim.seed=7.
func TestSeed(t *testing.T) {
	if *seedFlag == 0 {
		t.Skip("no -sim.seed")
	}
	r := newRunner(t)
	r.Tracing = true
	sum, err := r.Run(*seedFlag)
	if f, ok := errors.AsType[*Failure](err); ok {
		t.Log(strings.Join(f.Trace, "\n"))
		t.Fatal(err)
	}
	t.Logf("%+v", sum)
}

// TestSeeds runs many histories, on every processor one at a time, and ends in one line.
func TestSeeds(t *testing.T) {
	var (
		mu       sync.Mutex
		all      Summary
		failures []error
		next     atomic.Int64
		wg       sync.WaitGroup
	)
	began := time.Now()
	for range runtime.GOMAXPROCS(0) {
		r := newRunner(t)
		wg.Go(func() {
			var mine Summary
			for {
				n := next.Add(1) - 1
				if n >= int64(*seedsFlag) {
					break
				}
				sum, err := r.Run(*fromFlag + uint64(n))
				mine.Add(&sum)
				if err != nil {
					mu.Lock()
					failures = append(failures, err)
					mu.Unlock()
					next.Add(int64(*seedsFlag) / 10) // ten are enough
				}
			}
			mu.Lock()
			all.Add(&mine)
			mu.Unlock()
		})
	}
	wg.Wait()
	report(t, &all, failures, time.Since(began))
}

// report prints what the seeds found, and the line that a log is searched for.
func report(t *testing.T, all *Summary, failures []error, took time.Duration) {
	t.Helper()
	found := map[string]int{}
	for _, err := range failures {
		t.Error(err)
		if f, ok := errors.AsType[*Failure](err); ok {
			found[f.Invariant]++
		}
	}
	lost, double := found["NO-LOSS"], found["NO-DOUBLE"]+found["ORDER-ONCE"]
	t.Logf("%+v", *all)
	t.Logf("sim: seeds=%d from=%d lost=%d double=%d other=%d acknowledged=%d unknown=%d batches=%d seconds=%.0f",
		*seedsFlag, *fromFlag, lost, double, len(failures)-lost-double, all.Acked, all.Unknown, all.Batches, took.Seconds())
}

// TestSeedsThatOnceFailed runs the histories that have found something.
func TestSeedsThatOnceFailed(t *testing.T) {
	list, err := os.ReadFile("testdata/seeds.txt")
	if err != nil {
		t.Fatal(err)
	}
	r := newRunner(t)
	for line := range strings.Lines(string(list)) {
		text, _, _ := strings.Cut(line, "#")
		if text = strings.TrimSpace(text); text == "" {
			continue
		}
		seed, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.Run(seed); err != nil {
			t.Error(err)
		}
	}
}

// TestASeedIsOneHistory: what a seed does must depend on nothing but the seed.
func TestASeedIsOneHistory(t *testing.T) {
	for seed := uint64(1); seed <= 20; seed++ {
		a, errA := newRunner(t).Run(seed)
		r := newRunner(t)
		if _, err := r.Run(seed + 1); err != nil {
			t.Fatal(err)
		}
		r.Tracing = true
		b, errB := r.Run(seed)
		if fmt.Sprint(a, errA) != fmt.Sprint(b, errB) {
			t.Fatalf("seed %d:\n%+v %v\n%+v %v", seed, a, errA, b, errB)
		}
	}
}
