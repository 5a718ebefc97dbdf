package main

import (
	"context"
	"fmt"

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

// maxPlanted is within how many faults a planted bug must be noticed.
const maxPlanted = 100

func plants() []plant {
	random := func(o *options) { o.cycles, o.each = maxPlanted, -1 }
	places := func(o *options) { o.cycles, o.each = -1, 3 }
	seeds := func(o *options) { o.cycles, o.seed = maxPlanted, 0 }
	return []plant{
		{planted.AckEarly, runKills, "t2", random, true},
		{planted.PositionOutside, runKills, "t2", places, false},
		{planted.SkipOnGap, runCorruption, "t5", func(o *options) { o.each, o.point = maxPlanted, "truncation" }, false},
		{planted.DefaultSync, runPowerCuts, "t3", func(o *options) { o.cycles = maxPlanted }, false},
		{planted.TrimEarly, runKills, "t2", random, false},
		{planted.IgnoreEIO, runIO, "t4", func(o *options) { o.cycles, o.each = 30, -1 }, false},
		{planted.WindowReplay, runKills, "t2", random, true},
		{planted.ImageAhead, runKills, "t2", random, false},
		{planted.CommitRollback, runLedger, "t9", func(o *options) { o.cycles, o.each = maxPlanted, -1 }, false},
		{planted.NoFence, runSimulation, "t1", seeds, false},
		{planted.NewIdentity, runSimulation, "t1", seeds, false},
		{planted.RuleOutsideLog, runSimulation, "t1", seeds, false},
		{planted.OrderByClick, runKills, "t2", random, false},
		{planted.NoTenant, runKills, "t2", random, false},
	}
}

// runPlanted is tier T13: the program is built with one bug at a time, and the tier that must notice it runs unchanged. What
// it finds is not our finding; a bug that it does not find is.
func runPlanted(ctx context.Context, b *bench, r *result) error {
	for _, p := range plants() {
		if b.opt.quick && !p.quick || b.opt.point != "" && b.opt.point != p.bug {
			continue
		}
		inner := *b
		inner.opt.tags, inner.planted, inner.opt.point, inner.opt.quick = "planted", p.bug, "", true
		p.tune(&inner.opt)
		seen := newResult(&inner, tier{name: p.name})
		err := p.tier(ctx, &inner, seen)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		switch {
		case seen.Skipped != "":
			r.note("%s not planted: %s is not run: %s", p.bug, p.name, seen.Skipped)
			r.Parts[p.bug+" not run"]++
			continue
		case seen.clean() && err == nil:
			r.Wrong++
			r.note("%s was not noticed by %s in %d faults", p.bug, p.name, seen.N)
		default:
			r.Parts[p.bug] = seen.N
			how := fmt.Sprintf("lost=%d double=%d wrong=%d", seen.Lost, seen.Double, seen.Wrong)
			if seen.clean() {
				how = fmt.Sprintf("halted: %.160s", err)
			}
			b.say("  %s: noticed by %s within %d faults: %s", p.bug, p.name, seen.N, how)
			r.Found = append(r.Found, fmt.Sprintf("%s: %s, fault %d: %s", p.bug, p.name, seen.N, how))
		}
		r.N++
	}
	return nil
}
