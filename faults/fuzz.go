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
	targets, err := fuzzTargets()
	if err != nil {
		return err
	}
	var parts []part
	for _, t := range targets {
		parts = append(parts, part{t.part(), quickFuzz, fullFuzz, false})
	}
	want := b.plan(r, parts)
	var mu sync.Mutex
	var failed []error
	var wg sync.WaitGroup
	slots := make(chan struct{}, runtime.NumCPU())
	for i, t := range targets {
		seconds := want[t.part()]
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
				r.Done[t.part()] += seconds
				r.Parts[t.part()] = execs(out)
				b.say("  %s: %d s, %d inputs", t.part(), seconds, execs(out))
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
