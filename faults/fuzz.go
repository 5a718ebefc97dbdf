package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
)

// runFuzz is tier T0: every parser of what comes from outside, or from a disk, gets bytes that nobody would send.
func runFuzz(ctx context.Context, b *bench, r *result) error {
	span := "10m"
	if b.opt.quick {
		span = "15s"
	}
	if b.opt.cycles > 0 {
		span = fmt.Sprintf("%ds", b.opt.cycles)
	}
	targets, err := fuzzTargets(ctx)
	if err != nil {
		return err
	}
	var failed []error
	for _, t := range targets {
		//nolint:gosec // the arguments are ours
		cmd := exec.CommandContext(ctx, "go", "test", t.pkg, "-run", "^$", "-fuzz", "^"+t.name+"$", "-fuzztime", span, "-parallel", "2")
		out, err := cmd.CombinedOutput()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			r.Wrong++
			r.note("%s %s: %.300s", t.pkg, t.name, out)
			failed = append(failed, fmt.Errorf("%s %s: %w", t.pkg, t.name, err))
			continue
		}
		r.N++
		r.Parts[t.name] = execs(string(out))
	}
	b.say("  %d targets, %s each", r.N, span)
	return errors.Join(failed...)
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
