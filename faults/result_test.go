package main

import (
	"io"
	"strings"
	"testing"
	"time"
)

// TestRowsHideNoFailure: what failed is in the sums until a later commit was clean, and told of beside them afterwards.
func TestRowsHideNoFailure(t *testing.T) {
	run := func(commit string, n, lost int, done map[string]int) *result {
		return &result{Tier: "t2", Commit: commit, N: n, Asked: 100, Done: done, finding: finding{Acked: 10 * n, Lost: lost}}
	}
	first := []*result{run("a", 10, 0, map[string]int{"random": 10}), run("b", 5, 3, map[string]int{"random": 5})}
	got := rows(first)
	if len(got) != 1 || got[0].Lost != 3 || got[0].N != 15 || len(got[0].before) != 0 {
		t.Fatalf("%+v", got[0])
	}
	same := rows(append(first, run("b", 9, 0, map[string]int{"random": 9})))
	if same[0].Lost != 3 {
		t.Errorf("a clean run of the same commit has hidden a failure: %+v", same[0])
	}
	later := rows(append(first, run("c", 20, 0, map[string]int{"random": 20})))
	line := later[0].row()
	if later[0].Lost != 0 || later[0].N != 30 || !strings.Contains(line, "30 of 100") || !strings.Contains(line, "a c") ||
		!strings.Contains(line, "b: lost 3 double 0 wrong 0") {
		t.Errorf("%s", line)
	}
}

// TestPlanGoesOn: a full run does what is missing, a quick one everything, a flag what it says.
func TestPlanGoesOn(t *testing.T) {
	parts := []part{{"random", 40, 1000, false}, {"place", 2, 50, true}}
	b := &bench{done: map[string]map[string]int{"t2": {"random": 970, "place": 60}}}
	for name, c := range map[string]struct {
		opt           options
		random, place int
	}{
		"full":      {options{}, 30, 0},
		"quick":     {options{quick: true}, 40, 2},
		"a flag":    {options{cycles: 7}, 7, 0},
		"none":      {options{cycles: -1, each: 3}, 0, 3},
		"one place": {options{point: "place", each: 4}, 0, 4},
	} {
		b.opt = c.opt
		got := b.plan(&result{Tier: "t2"}, parts)
		if got["random"] != c.random || got["place"] != c.place {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// TestBriefLeavesOutWhatDiffers: nothing of a port or of the program's log gets into the results.
func TestBriefLeavesOutWhatDiffers(t *testing.T) {
	got := brief(errTwoLines{}).Error()
	if got != "not ready: Get refused" {
		t.Errorf("%q", got)
	}
}

type errTwoLines struct{}

func (errTwoLines) Error() string {
	return "not ready: Get http://127.0.0.1:4711/readyz refused\ntime=now level=ERROR"
}

// TestARunWithNothingLeftSaysSo: zeros alone would look like a run that did not happen and passed.
func TestARunWithNothingLeftSaysSo(t *testing.T) {
	for _, quick := range []bool{false, true} {
		b := &bench{began: time.Now(), opt: options{quick: quick}, shared: &shared{out: io.Discard}}
		b.done = map[string]map[string]int{"t9": {"slow": 20, "locked": 5}}
		b.results = []*result{{Tier: "t9"}, {Tier: "t2", N: 3}}
		want := "faults: ok t2:3 t9:0+25 "
		if quick {
			want = "faults: ok t2:3 t9:0 "
		}
		if line, err := b.summary(); err != nil || !strings.HasPrefix(line, want) {
			t.Errorf("%s: %v", line, err)
		}
	}
}
