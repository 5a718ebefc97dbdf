package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// TestTiersThatMeasureRunAlone: those that wait run beside those that compute, what measures times beside nothing.
func TestTiersThatMeasureRunAlone(t *testing.T) {
	b := &bench{began: time.Now(), shared: &shared{out: io.Discard}}
	var mu sync.Mutex
	var order []string
	both := make(chan string, 2)
	run := func(name string, meet bool) tier {
		k := waiting
		switch name {
		case "a":
			k = alone
		case "c", "d":
			k = computing
		}
		return tier{name: name, track: k, run: func(_ context.Context, b *bench, r *result) error {
			r.Done["x"], r.N = 1, 1
			if meet { // the first two that are under way together let each other go on
				both <- name
				for len(both) < 2 {
					if !pause(t.Context(), time.Millisecond) {
						return t.Context().Err()
					}
				}
			}
			mu.Lock()
			defer mu.Unlock()
			if order = append(order, name); name == "a" && b.loaded.Load() != 1 {
				t.Errorf("%d tiers are under way beside what measures times", b.loaded.Load())
			}
			return nil
		}}
	}
	if err := b.all(t.Context(), []tier{run("c", false), run("d", true), run("a", false), run("w", true)}); err != nil {
		t.Fatal(err)
	}
	if len(order) != 4 || order[3] != "a" || strings.Index(strings.Join(order, ""), "d") > strings.Index(strings.Join(order, ""), "c") {
		t.Errorf("the order was %v", order)
	}
}

// TestASignalLosesNothing: after the first signal a tier ends as if its time were over, and what it has judged is saved.
func TestASignalLosesNothing(t *testing.T) {
	for _, sig := range []os.Signal{os.Interrupt, syscall.SIGTERM} {
		b := &bench{began: time.Now(), opt: options{results: t.TempDir()}, shared: &shared{out: io.Discard}}
		ctx, cancel := context.WithCancel(t.Context())
		signals := make(chan os.Signal, 2)
		go b.listen(ctx, signals, cancel)
		judged := 0
		err := b.all(ctx, []tier{{name: "t2", track: waiting, run: func(ctx context.Context, b *bench, r *result) error {
			return b.singly(ctx, "kills", 1000, r, func(i int, _ *result) (bool, error) {
				judged++
				if i == 4 {
					signals <- sig
					for !b.expired() && pause(ctx, time.Millisecond) {
					}
				}
				return true, ctx.Err()
			})
		}}})
		cancel()
		if err != nil {
			t.Fatal(err)
		}
		saved, err := readResults(b.opt.results + "/t2.jsonl")
		if err != nil {
			t.Fatal(err)
		}
		if judged != 5 || len(saved) != 1 || saved[0].Done["kills"] != 5 || saved[0].failed() {
			t.Errorf("%v: %d judged, saved %+v", sig, judged, saved)
		}
		if line, err := b.summary(); err != nil || !strings.Contains(line, "faults: ok t2:5") || !strings.HasSuffix(line, " stopped") {
			t.Errorf("%s: %v", line, err)
		}
	}
}

// TestASecondSignalEndsAtOnce: what was judged before it is saved all the same.
func TestASecondSignalEndsAtOnce(t *testing.T) {
	b := &bench{began: time.Now(), opt: options{results: t.TempDir()}, shared: &shared{out: io.Discard}}
	ctx, cancel := context.WithCancel(t.Context())
	signals := make(chan os.Signal, 2)
	go b.listen(ctx, signals, cancel)
	err := b.all(ctx, []tier{{name: "t2", track: waiting, run: func(ctx context.Context, b *bench, r *result) error {
		return b.singly(ctx, "kills", 1000, r, func(i int, _ *result) (bool, error) {
			if i == 3 {
				signals <- os.Interrupt
				signals <- os.Interrupt
				<-ctx.Done()
			}
			return true, ctx.Err()
		})
	}}})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	saved, err := readResults(b.opt.results + "/t2.jsonl")
	if err != nil || len(saved) != 1 || saved[0].Done["kills"] != 3 || saved[0].failed() {
		t.Errorf("saved %+v, %v", saved, err)
	}
}

// TestLateIsNoWrongNumber: what comes too late is done again and told; it does not pass, and it hides nothing.
func TestLateIsNoWrongNumber(t *testing.T) {
	b := &bench{began: time.Now(), shared: &shared{out: io.Discard}}
	late := func(times, wrong int) *result {
		b.results = nil
		_ = b.one(t.Context(), tier{name: "t9", run: func(ctx context.Context, b *bench, r *result) error {
			return b.singly(ctx, "outages", 10, r, func(_ int, own *result) (bool, error) {
				if times--; times >= 0 {
					own.Wrong += wrong
					return true, fmt.Errorf("%w: not ready", errLate)
				}
				return true, nil
			})
		}})
		return b.results[0]
	}
	if r := late(2, 0); r.failed() || r.Late != 2 || r.Done["outages"] != 10 || r.N != 10 {
		t.Errorf("twice too late: %+v", r)
	}
	if line, err := b.summary(); err == nil || !strings.HasPrefix(line, "faults: LATE ") {
		t.Errorf("%s: %v", line, err)
	}
	if found := b.findings(); len(found) != 2 || !strings.HasPrefix(found[0], "faults: t9: late: ") {
		t.Errorf("findings: %q", found)
	}
	if r := late(1000, 0); r.failed() || r.Late != maxLate+1 || r.N != 0 {
		t.Errorf("always too late: %+v", r)
	}
	if line, err := b.summary(); err == nil || !b.results[0].gaveUp {
		t.Errorf("given up: %s: %v", line, err)
	}
	for _, quick := range []bool{true, false} {
		for times, word := range map[int]string{0: "ok", 1: map[bool]string{true: "ok", false: "LATE"}[quick], 2: "LATE"} {
			b.opt.quick = quick
			late(times, 0)
			if line, err := b.summary(); !strings.HasPrefix(line, "faults: "+word+" ") || (err == nil) != (word == "ok") ||
				!strings.Contains(line, fmt.Sprintf(" late=%d ", times)) {
				t.Errorf("quick %t, %d times: %s: %v", quick, times, line, err)
			}
		}
	}
	b.opt.quick = false
	if r := late(1, 1); !r.failed() || r.clean() {
		t.Errorf("late and wrong: %+v", r)
	}
	if line, err := b.summary(); err == nil || !strings.HasPrefix(line, "faults: FAILED ") {
		t.Errorf("%s: %v", line, err)
	}
}

// TestFuzzJobsTakeTurns: every target has its time, and none waits for all of another's.
func TestFuzzJobsTakeTurns(t *testing.T) {
	targets := []fuzzTarget{{"./internal/token", "FuzzVerify"}, {"./internal/event", "FuzzParseMicros"}}
	parts := fuzzParts(targets)
	want := map[string]int{}
	for _, p := range parts {
		want[p.name] = p.full
	}
	if want["token.Verify"] != 600 || want["event.ParseMicros"] != 120 {
		t.Fatalf("%v", want)
	}
	got := ""
	for _, j := range fuzzJobs(targets, want) {
		got += fmt.Sprintf("%s %d ", j.part(), j.seconds)
	}
	if got != "token.Verify 200 event.ParseMicros 120 token.Verify 200 token.Verify 200 " {
		t.Error(got)
	}
}

// TestLongTargetsExist: a target that has another name now would be fuzzed for two minutes only.
func TestLongTargetsExist(t *testing.T) {
	t.Chdir("..")
	targets, err := fuzzTargets()
	if err != nil {
		t.Fatal(err)
	}
	long := 0
	for _, p := range fuzzParts(targets) {
		if p.full == fullFuzz {
			long++
		}
	}
	if long != len(longTargets()) {
		t.Errorf("of %d long targets there are %d", len(longTargets()), long)
	}
}
