package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
)

// simulatedAtOnce is how many histories one run of the test has: between two runs the tier can stop.
const simulatedAtOnce = 5_000

// runSimulation runs seeded histories of the whole installation in virtual time, see internal/sim. A quick run is always
// the same seeds, a full one begins somewhere else every time.
func runSimulation(ctx context.Context, b *bench, r *result) error {
	const seeds = "seeds"
	want := b.plan(r, []part{{seeds, 5_000, 1_000_000, false}})[seeds]
	from := uint64(1)
	if !b.opt.quick {
		from = 1 + b.opt.seed%(1<<40)
	}
	r.Seed = from
	for want > 0 && !b.expired() {
		own := newResult(b, tier{name: r.Tier})
		n := min(want, simulatedAtOnce)
		err := b.simulate(ctx, n, from, own)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		own.Done[seeds] = own.N
		r.merge(own)
		if err != nil {
			return err
		}
		want, from = want-n, from+uint64(n)
		if err := b.keepSoFar(r); err != nil {
			return err
		}
		if r.N == 0 {
			r.Seed = from
		}
		b.say("  %d histories, %d to go", r.N, want)
	}
	return nil
}

func (b *bench) simulate(ctx context.Context, seeds int, from uint64, r *result) error {
	args := []string{"test", "./internal/sim", "-run", "TestSeeds$", "-v", "-count=1", "-timeout=24h"}
	if b.opt.tags != "" {
		args = append(args, "-tags", b.opt.tags)
	}
	args = append(args, fmt.Sprintf("-sim.seeds=%d", seeds), fmt.Sprintf("-sim.from=%d", from))
	args = append([]string{"-n", "10", "go"}, args...) // what waits for clocks goes first
	//nolint:gosec // the arguments are ours
	cmd := apart(exec.CommandContext(ctx, "nice", args...))
	cmd.Env = append(os.Environ(), "MILLIARD_PLANTED="+b.planted)
	out, err := cmd.CombinedOutput()
	return errors.Join(err, r.simulated(string(out)))
}

// simulated reads the simulation's last line, and what failed.
func (r *result) simulated(out string) error {
	found := false
	for line := range strings.Lines(out) {
		line = strings.TrimSpace(line)
		if _, after, ok := strings.Cut(line, "sim: seeds="); ok {
			var from uint64
			var seconds, other int
			_, err := fmt.Sscanf(after, "%d from=%d lost=%d double=%d other=%d acknowledged=%d unknown=%d batches=%d seconds=%d",
				&r.N, &from, &r.Lost, &r.Double, &other, &r.Acked, &r.Unknown, &r.Batches, &seconds)
			if err != nil {
				return fmt.Errorf("the simulation's line %q: %w", line, err)
			}
			r.Wrong, found = other, true
		}
		if _, after, ok := strings.Cut(line, ": seed "); ok {
			r.note("seed %s", after)
		}
	}
	if !found {
		return errors.New("the simulation did not come to its end")
	}
	return nil
}
