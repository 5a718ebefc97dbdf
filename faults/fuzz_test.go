package main

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestAFuzzerThatEndsByItselfIsRunAgain: twice, and an input that fails is a failure at once, as is what does not build.
func TestAFuzzerThatEndsByItselfIsRunAgain(t *testing.T) {
	job := fuzzJob{fuzzTarget: fuzzTarget{"./internal/journal", "FuzzOpen"}, seconds: 20}
	ended := errors.New("exit status 1")
	for name, c := range map[string]struct {
		out   string
		again int
	}{
		"ended":      {strings.Repeat("fuzz: elapsed\n", 100) + "--- FAIL: FuzzOpen\n    context deadline exceeded\nFAIL", fuzzEnds},
		"found":      {"--- FAIL: FuzzOpen\n    Failing input written to testdata/fuzz/FuzzOpen/x", 0},
		"kept input": {"failure while testing seed corpus entry: FuzzOpen/x", 0},
		"panic":      {"panic: runtime error", 0},
		"not built":  {"FAIL milliard/internal/journal [build failed]", 0},
	} {
		t.Run(name, func(t *testing.T) {
			r := &result{Tier: fuzzTier, Parts: map[string]int{}, Done: map[string]int{}}
			z := &fuzzing{b: &bench{shared: &shared{out: io.Discard}}, r: r, jobs: []fuzzJob{job}}
			runs := 0
			for len(z.jobs) > 0 {
				j := z.jobs[0]
				z.jobs = z.jobs[1:]
				z.judge(t.Context(), j, 20, c.out, ended)
				runs++
			}
			if runs != 1+c.again || r.Wrong != 1 || len(z.failed) != 1 || len(r.Done) != 0 {
				t.Errorf("%d runs, wrong %d, %v", runs, r.Wrong, z.failed)
			}
			if end := c.out[len(c.out)-20:]; !strings.Contains(strings.Join(r.Notes, ""), end) {
				t.Errorf("the notes do not say why: %q", r.Notes)
			}
		})
	}
}

// TestATargetThatFailedIsDoneAgainTheOthersAreNot: a failure of one parser says nothing of another.
func TestATargetThatFailedIsDoneAgainTheOthersAreNot(t *testing.T) {
	b := &bench{opt: options{results: t.TempDir()}}
	r := &result{
		Tier: fuzzTier, Commit: "a", Error: "t0: ./internal/journal FuzzOpen: exit status 1", finding: finding{Wrong: 1},
		Done: map[string]int{"journal.Open": 400, "token.Parse": 120},
	}
	line, err := json.Marshal(r)
	if err == nil {
		err = os.WriteFile(filepath.Join(b.opt.results, "t0.jsonl"), line, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := b.loadDone(); err != nil {
		t.Fatal(err)
	}
	if got := b.done[fuzzTier]; got["journal.Open"] != 0 || got["token.Parse"] != 120 {
		t.Errorf("done %v", got)
	}
	later := &result{Tier: fuzzTier, Commit: "b", N: 1, Done: map[string]int{"journal.Open": 600}}
	if row := rows([]*result{r, later})[0]; row.Wrong != 0 || row.Done["journal.Open"] != 600 || row.Done["token.Parse"] != 120 || len(row.before) != 1 {
		t.Errorf("%+v", row)
	}
}
