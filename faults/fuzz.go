package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"time"
)

// Seconds for which each target is fuzzed.
const (
	quickFuzz = 15
	fullFuzz  = 600
)

// runFuzz is tier T0: every parser of what comes from outside, or from a disk, gets bytes that nobody would send. Each
// target has one worker, and as many run beside each other as there are processors.
func runFuzz(ctx context.Context, b *bench, r *result) error {
	targets, err := fuzzTargets(ctx)
	if err != nil {
		return err
	}
	var parts []part
	for _, t := range targets {
		parts = append(parts, part{t.name, quickFuzz, fullFuzz, false})
	}
	want := b.plan(r, parts)
	var mu sync.Mutex
	var failed []error
	var wg sync.WaitGroup
	slots := make(chan struct{}, runtime.NumCPU())
	for i, t := range targets {
		seconds := want[t.name]
		if !b.until.IsZero() { // an equal share of what is left
			rounds := (len(targets) - i + cap(slots) - 1) / cap(slots)
			seconds = min(seconds, int(time.Until(b.until).Seconds())/rounds)
		}
		if seconds <= 0 {
			continue
		}
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			out, err := t.run(ctx, seconds)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case ctx.Err() != nil:
			case err != nil:
				r.Wrong++
				r.note("%s %s: %.300s", t.pkg, t.name, out)
				failed = append(failed, fmt.Errorf("%s %s: %w", t.pkg, t.name, err))
			default:
				r.N++
				r.Done[t.name] += seconds
				r.Parts[t.name] = execs(out)
			}
		})
	}
	wg.Wait()
	b.say("  %d targets of %d", r.N, len(targets))
	return errors.Join(append(failed, ctx.Err())...)
}

func (t fuzzTarget) run(ctx context.Context, seconds int) (string, error) {
	//nolint:gosec // the arguments are ours
	cmd := exec.CommandContext(ctx, "go", "test", t.pkg, "-run", "^$", "-fuzz", "^"+t.name+"$", "-fuzztime", fmt.Sprintf("%ds", seconds), "-parallel", "1")
	out, err := cmd.CombinedOutput()
	return string(out), err
}

type fuzzTarget struct{ pkg, name string }

func fuzzTargets(ctx context.Context) ([]fuzzTarget, error) {
	out, err := exec.CommandContext(ctx, "go", "list", "-f", "{{if or .TestGoFiles .XTestGoFiles}}{{.ImportPath}}{{end}}", "./internal/...", "./client/...", "./cmd/...").Output()
	if err != nil {
		return nil, fmt.Errorf("list packages: %w", err)
	}
	var targets []fuzzTarget
	for pkg := range strings.FieldsSeq(string(out)) {
		list, err := exec.CommandContext(ctx, "go", "test", "-list", "^Fuzz", pkg).Output() //nolint:gosec // packages of ours
		if err != nil {
			return nil, fmt.Errorf("list fuzz targets of %s: %w", pkg, err)
		}
		for line := range strings.Lines(string(list)) {
			if name := strings.TrimSpace(line); strings.HasPrefix(name, "Fuzz") {
				targets = append(targets, fuzzTarget{pkg, name})
			}
		}
	}
	if len(targets) == 0 {
		return nil, errors.New("there are no fuzz targets")
	}
	return targets, nil
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
