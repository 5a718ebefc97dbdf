package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Seconds for which each target is fuzzed: long where bytes come from strangers, or from a disk, as a whole; shorter where
// a target is a part of one of those.
const (
	quickFuzz = 15
	shortFuzz = 120
	fullFuzz  = 600
	// minimize is how long the fuzzer shortens an input that has reached something new. Left alone it takes a minute for
	// each, in which it tries nothing: a target of 15 seconds has tried 17 inputs instead of a hundred thousand.
	minimize = "20x"
	// fuzzAtOnce is how long one run of a target takes at most. What it has found interesting the next one begins with.
	fuzzAtOnce = 200
)

// longTargets are token, batch as it is stored and as it is sent, NDJSON, JSON and CloudEvents event, postback, map file,
// configuration and image.
func longTargets() []string {
	return []string{
		"token.Verify", "journal.Open", "collect.ClientBatch", "collect.NDJSON", "collect.JSONEvent", "collect.CloudEvents",
		"collect.Postback", "replay.Map", "milliard.Config", "grid.Image",
	}
}

// fuzzTier is the tier of fuzzing. Its targets stand alone: what one has found says nothing of the others.
const fuzzTier = "t0"

// fuzzJob is one run of a target.
type fuzzJob struct {
	fuzzTarget
	seconds int
	ended   int // how often it has ended by itself
}

// fuzzEnds is how often a run may end by itself without an input that fails: the fuzzer does so at the end of its time when
// its worker does not answer at once.
const fuzzEnds = 2

// runFuzz is tier T0: every parser of what comes from outside, or from a disk, gets bytes that nobody would send. Each
// target has one worker, and as many run beside each other as there are processors; while another tier needs one, that one
// is left to it.
func runFuzz(ctx context.Context, b *bench, r *result) error {
	targets, err := fuzzTargets()
	if err != nil {
		return err
	}
	jobs := fuzzJobs(targets, b.plan(r, fuzzParts(targets)))
	z := &fuzzing{b: b, r: r, jobs: jobs}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() { // an end that somebody wants does not wait for minutes
		for pause(ctx, 100*time.Millisecond) {
			if b.stopping.Load() {
				cancel()
			}
		}
	}()
	var wg sync.WaitGroup
	for i := range runtime.NumCPU() {
		wg.Go(func() { z.work(ctx, i) })
	}
	wg.Wait()
	b.say("  %d targets of %d", len(r.Parts), len(targets))
	if b.stopping.Load() {
		return errors.Join(z.failed...)
	}
	return errors.Join(append(z.failed, ctx.Err())...)
}

func fuzzParts(targets []fuzzTarget) []part {
	var parts []part
	for _, t := range targets {
		full := shortFuzz
		if slices.Contains(longTargets(), t.part()) {
			full = fullFuzz
		}
		parts = append(parts, part{t.part(), quickFuzz, full, false})
	}
	return parts
}

// fuzzJobs cuts what is wanted into runs: first one of every target, then the second ones.
func fuzzJobs(targets []fuzzTarget, want map[string]int) []fuzzJob {
	var jobs []fuzzJob
	for left := true; left; {
		left = false
		for _, t := range targets {
			if n := min(want[t.part()], fuzzAtOnce); n > 0 {
				jobs = append(jobs, fuzzJob{fuzzTarget: t, seconds: n})
				want[t.part()] -= n
				left = true
			}
		}
	}
	return jobs
}

// fuzzing is what the workers share.
type fuzzing struct {
	b      *bench
	mu     sync.Mutex // guards the following
	r      *result
	jobs   []fuzzJob
	failed []error
}

// next takes the next job. Of limited time each job gets an equal share.
func (z *fuzzing) next() (fuzzJob, bool) {
	z.mu.Lock()
	defer z.mu.Unlock()
	if len(z.jobs) == 0 || z.b.expired() {
		return fuzzJob{}, false
	}
	j := z.jobs[0]
	if until := z.b.until; !until.IsZero() {
		rounds := (len(z.jobs) + runtime.NumCPU() - 1) / runtime.NumCPU()
		share := int(time.Until(until).Seconds()) / rounds
		j.seconds = min(j.seconds, max(share, quickFuzz)) // to build a target takes as long
	}
	z.jobs = z.jobs[1:]
	return j, true
}

// work is one worker. The last one rests while another tier is under way.
func (z *fuzzing) work(ctx context.Context, i int) {
	for ctx.Err() == nil {
		if last := runtime.NumCPU() - 1; i == last && last > 0 && z.b.loaded.Load() > 1 {
			if z.idle() || !pause(ctx, time.Second) {
				return
			}
			continue
		}
		j, ok := z.next()
		if !ok {
			return
		}
		began := time.Now()
		out, err := j.run(ctx)
		z.judge(ctx, j, int(time.Since(began).Seconds()), out, err)
	}
}

func (z *fuzzing) idle() bool {
	z.mu.Lock()
	defer z.mu.Unlock()
	return len(z.jobs) == 0 || z.b.expired()
}

func (z *fuzzing) judge(ctx context.Context, j fuzzJob, took int, out string, err error) {
	z.mu.Lock()
	defer z.mu.Unlock()
	r := z.r
	switch {
	case err != nil && ctx.Err() != nil && !strings.Contains(out, "Failing input"):
		return // interrupted
	case err != nil && !found(out) && j.ended < fuzzEnds:
		j.ended++
		z.jobs = append(z.jobs, j)
		z.b.say("  %s ended without an input that fails, and is run again: %s", j.part(), tail(out))
		return
	case err != nil:
		r.Wrong++
		r.note("%s %s: %s", j.pkg, j.name, tail(out))
		z.failed = append(z.failed, fmt.Errorf("%s %s: %w", j.pkg, j.name, err))
		return
	}
	if ctx.Err() != nil {
		j.seconds = min(j.seconds, took)
	}
	if r.Done[j.part()] == 0 {
		r.N++
	}
	r.Done[j.part()] += j.seconds
	r.Parts[j.part()] += execs(out)
	z.b.say("  %s: %d s, %d inputs", j.part(), j.seconds, execs(out))
	if err := z.b.keepSoFar(r); err != nil {
		z.failed = append(z.failed, err)
	}
}

// found says whether a run has found an input that fails.
func found(out string) bool {
	for _, sign := range []string{"Failing input written", "failure while testing seed corpus", "panic:", "fatal error:", "build failed"} {
		if strings.Contains(out, sign) {
			return true
		}
	}
	return false
}

// tail is the end of what a run has said, where it says why it ended.
func tail(out string) string {
	out = strings.TrimSpace(out)
	return out[max(0, len(out)-400):]
}

// failedIn says whether the target is one of those that a result of the tier names as failed.
func failedIn(r *result, part string) bool {
	pkg, name, _ := strings.Cut(part, ".")
	return r.Tier == fuzzTier && strings.Contains(r.Error, "/"+pkg+" Fuzz"+name+":")
}

func (j fuzzJob) run(ctx context.Context) (string, error) {
	//nolint:gosec // the arguments are ours
	cmd := apart(exec.CommandContext(ctx, "go", "test", j.pkg, "-run", "^$", "-fuzz", "^"+j.name+"$", "-parallel", "1",
		"-fuzztime", fmt.Sprintf("%ds", j.seconds), "-fuzzminimizetime", minimize))
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGINT) } // it ends in order
	cmd.WaitDelay = 10 * time.Second
	out, err := cmd.CombinedOutput()
	if ctx.Err() != nil && strings.HasPrefix(lastLine(string(out)), "ok") {
		err = nil // what was tried until then was tried
	}
	return string(out), err
}

func lastLine(out string) string {
	out = strings.TrimSpace(out)
	return out[strings.LastIndexByte(out, '\n')+1:]
}

type fuzzTarget struct{ pkg, name string }

// part names the target: two packages have one of the same name.
func (t fuzzTarget) part() string {
	return filepath.Base(t.pkg) + "." + strings.TrimPrefix(t.name, "Fuzz")
}

// fuzzTargets reads the sources: to ask the test binaries would mean to link every one of them.
func fuzzTargets() ([]fuzzTarget, error) {
	var targets []fuzzTarget
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		source, err := os.ReadFile(path)
		for line := range strings.Lines(string(source)) {
			if rest, ok := strings.CutPrefix(line, "func Fuzz"); ok {
				name, _, _ := strings.Cut(rest, "(")
				targets = append(targets, fuzzTarget{"./" + filepath.Dir(path), "Fuzz" + name})
			}
		}
		return err
	})
	if err == nil && len(targets) == 0 {
		err = errors.New("there are no fuzz targets")
	}
	return targets, err
}

// execs reads how many inputs were tried from the last line that says so.
func execs(out string) int {
	n := 0
	for line := range strings.Lines(out) {
		if _, rest, ok := strings.Cut(line, "execs: "); ok {
			_, _ = fmt.Sscanf(rest, "%d", &n) // a line of another form leaves what was known
		}
	}
	return n
}
