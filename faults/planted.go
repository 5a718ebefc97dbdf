package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"milliard/internal/crash"
	"milliard/internal/planted"
)

// plant is one bug with the tier that must notice it.
type plant struct {
	bug   string
	tier  func(ctx context.Context, b *bench, r *result) error
	name  string
	tune  func(o *options)
	quick bool // planted in a quick run too
}

// plantedTier is the tier of planted bugs: a line of its results says which of them were noticed, and fails for the others.
const plantedTier = "t13"

// maxPlanted is within how many faults a planted bug must be noticed.
const maxPlanted = 100

func plants() []plant {
	random := func(o *options) { o.cycles, o.each = maxPlanted, -1 }
	places := func(o *options) { o.cycles, o.each = -1, 3 }
	begun := func(o *options) { o.each, o.point = maxPlanted, crash.FlushBegun }
	calls := func(o *options) { o.cycles, o.each = maxPlanted, -1 }
	seeds := func(o *options) { o.cycles, o.seed = maxPlanted, 0 }
	return []plant{
		{planted.AckEarly, runIO, "t4", calls, false},
		{planted.PositionOutside, runKills, "t2", places, true},
		{planted.SkipOnGap, runSimulation, "t1", seeds, false},
		{planted.DefaultSync, runPowerCuts, "t3", func(o *options) { o.cycles = maxPlanted }, false},
		{planted.TrimEarly, runKills, "t2", random, false},
		{planted.IgnoreEIO, runIO, "t4", calls, false},
		{planted.WindowReplay, runKills, "t2", random, true},
		{planted.ImageAhead, runKills, "t2", begun, false},
		{planted.CommitRollback, runLedger, "t9", func(o *options) { o.cycles, o.each = maxPlanted/2, -1 }, false},
		{planted.NoFence, runSimulation, "t1", seeds, false},
		{planted.NewIdentity, runSimulation, "t1", seeds, false},
		{planted.RuleOutsideLog, runSimulation, "t1", seeds, false},
		{planted.OrderByClick, runKills, "t2", random, false},
		{planted.NoTenant, runKills, "t2", random, false},
		{planted.SpoolTwice, runSimulation, "t1", seeds, false},
	}
}

// runPlanted is tier T13: the program is built with one bug at a time, and the tier that must notice it runs unchanged. What
// it finds is not our finding; a bug that it does not find is. A lane that halts, or a program that does not start, is no
// notice: something must be lost, counted twice or wrong.
func runPlanted(ctx context.Context, b *bench, r *result) error {
	var parts []part
	for _, p := range plants() {
		n := 0
		if p.quick {
			n = 1
		}
		parts = append(parts, part{p.bug, n, 1, true})
	}
	want := b.plan(r, parts)
	for _, p := range plants() {
		if want[p.bug] == 0 || b.expired() {
			continue
		}
		inner := *b
		inner.shared = &shared{out: io.Discard, built: b.programs()}
		inner.opt.tags, inner.planted, inner.opt.point, inner.opt.quick, inner.until = "planted", p.bug, "", true, time.Time{}
		p.tune(&inner.opt)
		seen := newResult(&inner, tier{name: p.name})
		err := p.tier(ctx, &inner, seen)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if seen.Skipped != "" {
			r.cannot(p.bug, "%s is not run: %s", p.name, seen.Skipped)
			continue
		}
		if seen.clean() {
			r.Wrong++
			r.note("%s was not noticed by %s in %d faults: %v", p.bug, p.name, seen.N, brief(err))
			continue
		}
		caught := fmt.Sprintf("caught %s by %s at cycle %d: lost=%d double=%d wrong=%d", p.bug, p.name, max(1, seen.N), seen.Lost, seen.Double, seen.Wrong)
		b.say("  %s", caught)
		r.Found = append(r.Found, caught)
		r.Parts[p.bug] = max(1, seen.N)
		r.Done[p.bug]++
		r.N++
	}
	return nil
}
