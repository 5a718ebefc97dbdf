package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"time"

	"milliard/internal/crash"
)

// cyclesPerDirectory is how often one data directory is used before it is judged and a new one begins.
const cyclesPerDirectory = 20

// runKills is tier T2.
func runKills(ctx context.Context, b *bench, r *result) error {
	binary, err := b.program(ctx, "crashpoints")
	if err != nil {
		return err
	}
	plain, err := b.program(ctx)
	if err != nil {
		return err
	}
	rnd := rand.New(rand.NewPCG(b.opt.seed, 2))
	random := b.either(b.opt.cycles, 40, 1000)
	each := b.either(b.opt.each, 2, 50)
	if err := b.randomKills(ctx, plain, random, rnd, r); err != nil {
		return err
	}
	var plan []string
	for _, name := range crash.Points() {
		if b.opt.point != "" && b.opt.point != name {
			continue
		}
		for range each {
			plan = append(plan, name)
		}
	}
	rnd.Shuffle(len(plan), func(i, k int) { plan[i], plan[k] = plan[k], plan[i] })
	return b.placedKills(ctx, binary, plan, rnd, r)
}

// arena is one data directory with its process, its clients and their log.
type arena struct {
	b       *bench
	p       *process
	d       *driver
	log     *clientLog
	logPath string
	applied bool
	ask     bool // for the program's own count of redirects at risk: the tier makes the journal fail
}

func (b *bench) newArena(ctx context.Context, name, binary string, seed uint64, extra ...string) (*arena, error) {
	dir, err := b.dir(name)
	if err != nil {
		return nil, err
	}
	a := &arena{b: b, logPath: filepath.Join(b.clients, name+".log")}
	if a.p, err = newProcess(ctx, binary, filepath.Join(dir, "data"), filepath.Join(dir, "server.log"), extra...); err != nil {
		return nil, err
	}
	if a.log, err = openClientLog(a.logPath); err != nil {
		return nil, err
	}
	a.p.bug = b.planted
	a.p.began = func() error { return a.log.line("L") }
	a.d = newDriver(a.p, a.log, name, 6, seed)
	return a, nil
}

// start starts the program without any fault and makes sure of the catalog.
func (a *arena) start(ctx context.Context) error {
	if err := a.p.start(ctx, 60*time.Second); err != nil {
		return err
	}
	if a.applied {
		return nil
	}
	if err := applyCatalog(ctx, http.DefaultClient, a.p.admin, network()); err != nil {
		return err
	}
	a.applied = true
	return nil
}

// load runs the clients until cut returns; cut breaks the program. It returns how many requests that left without an answer.
func (a *arena) load(ctx context.Context, cut func() error) (flying int64, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- a.d.run(ctx) }()
	if a.ask {
		go a.askAtRisk(ctx)
	}
	before := a.d.cutOff.Load()
	err = cut()
	cancel()
	err = errors.Join(err, <-done)
	return a.d.cutOff.Load() - before, err
}

// askAtRisk notes again and again how many clicks the program says it has redirected at risk.
func (a *arena) askAtRisk(ctx context.Context) {
	for pause(ctx, 40*time.Millisecond) {
		began := time.Now()
		n, err := a.p.metric(ctx, `milliard_door_refused_total{door="click",reason="at_risk"}`)
		if err != nil {
			continue
		}
		if err := a.log.line("R", fmt.Sprint(began.UnixMicro()), fmt.Sprint(time.Now().UnixMicro()), fmt.Sprint(int64(n))); err != nil {
			return
		}
	}
}

// finish starts the program a last time, stops it in order and judges what it leaves behind.
func (a *arena) finish(ctx context.Context, r *result) error {
	a.p.env, a.p.wrap = nil, nil
	if err := a.start(ctx); err != nil {
		return err
	}
	if err := a.p.stop(); err != nil {
		return err
	}
	if err := a.log.close(); err != nil {
		return err
	}
	f, err := judge(ctx, a.p.data, a.logPath)
	if err != nil {
		return err
	}
	r.add(f)
	if !f.clean() {
		return fmt.Errorf("lost=%d double=%d wrong=%d, see the notes; log of the program: %s", f.Lost, f.Double, f.Wrong, a.p.log)
	}
	return nil
}

// randomKills kills at instants that nothing has chosen: most under load, some while starting or recovering.
func (b *bench) randomKills(ctx context.Context, binary string, cycles int, rnd *rand.Rand, r *result) error {
	for round := 0; r.Parts["random"] < cycles; round++ {
		a, err := b.newArena(ctx, fmt.Sprintf("r%d", round), binary, rnd.Uint64(), "--lanes", fmt.Sprint(1+round%2))
		if err != nil {
			return err
		}
		err = a.kills(ctx, min(cyclesPerDirectory, cycles-r.Parts["random"]), rnd, r)
		if err == nil {
			err = a.finish(ctx, r)
		}
		if err != nil {
			b.opt.keep = true
			return errors.Join(fmt.Errorf("directory r%d, seed %d: %w", round, b.opt.seed, err), a.p.kill())
		}
		b.say("  random: %d of %d kills, acknowledged %d, unknown %d of which kept %d, lost %d, double %d",
			r.Parts["random"], cycles, r.Acked, r.Unknown, r.Kept, r.Lost, r.Double)
		if _, err := b.dir(fmt.Sprintf("r%d", round)); err != nil {
			return err
		}
	}
	return nil
}

func (a *arena) kills(ctx context.Context, cycles int, rnd *rand.Rand, r *result) error {
	for done := 0; done < cycles; {
		if a.applied && rnd.IntN(6) == 0 { // while it starts: nothing is under way, so it is not counted
			if err := a.p.spawn(); err != nil {
				return err
			}
			pause(ctx, time.Duration(rnd.IntN(700))*time.Millisecond)
			if err := a.p.kill(); err != nil {
				return err
			}
			r.Parts["starting"]++
		}
		if err := a.start(ctx); err != nil {
			return err
		}
		flying, err := a.load(ctx, func() error {
			pause(ctx, time.Duration(30+rnd.IntN(800))*time.Millisecond)
			return a.p.kill()
		})
		if err != nil {
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		r.Flying += int(flying)
		if flying == 0 {
			r.Parts["idle"]++ // nothing was under way: not the fault that was meant
			continue
		}
		r.N++
		r.Parts["random"]++
		done++
	}
	return nil
}

// placedKills kills at named places.
func (b *bench) placedKills(ctx context.Context, binary string, plan []string, rnd *rand.Rand, r *result) error {
	for round := 0; len(plan) > 0; round++ {
		name := fmt.Sprintf("p%d", round)
		a, err := b.newArena(ctx, name, binary, rnd.Uint64(), "--lanes", fmt.Sprint(1+round%2))
		if err != nil {
			return err
		}
		n := min(cyclesPerDirectory, len(plan))
		for _, point := range plan[:n] {
			if err = a.killAt(ctx, point, rnd, r); err != nil {
				err = fmt.Errorf("place %s: %w", point, err)
				break
			}
		}
		if err == nil {
			err = a.finish(ctx, r)
		}
		if err != nil {
			b.opt.keep = true
			return errors.Join(fmt.Errorf("directory %s, seed %d: %w", name, b.opt.seed, err), a.p.kill())
		}
		plan = plan[n:]
		b.say("  named places: %d to go, acknowledged %d, unknown %d of which kept %d, lost %d, double %d",
			len(plan), r.Acked, r.Unknown, r.Kept, r.Lost, r.Double)
		if _, err := b.dir(name); err != nil {
			return err
		}
	}
	return nil
}

// often are the places that a busy program passes many times a second, so that a kill can wait for a later visit.
func often(point string) int {
	switch point {
	case crash.JournalFrozen, crash.JournalBefore, crash.JournalAfter, crash.GridFolded:
		return 120
	case crash.FlushClosed, crash.FlushBegun, crash.FlushFenced, crash.FlushRows, crash.FlushCommitted:
		return 10
	case crash.FlushCells:
		return 40
	case crash.MinterWritten, crash.MinterRenamed, crash.ImagePart:
		return 1
	}
	return 2
}

// killAt runs the program with one place armed and loads it until it has died there.
func (a *arena) killAt(ctx context.Context, point string, rnd *rand.Rand, r *result) error {
	if !a.applied {
		if err := a.start(ctx); err != nil {
			return err
		}
		if err := a.p.stop(); err != nil {
			return err
		}
	}
	visit := 1 + rnd.IntN(often(point))
	a.p.env = []string{fmt.Sprintf("MILLIARD_CRASH=%s:%d", point, visit)}
	defer func() { a.p.env = nil }()
	a.d.admin = ""
	if point == crash.ControlBefore || point == crash.ControlAfter || point == crash.ProjectBefore {
		a.d.admin = a.p.admin
	}
	err := a.p.start(ctx, 60*time.Second)
	if err != nil && !errors.Is(err, errEnded) {
		return err
	}
	if err == nil { // else it has died while starting
		flying, err := a.load(ctx, func() error {
			select {
			case <-a.p.exited:
				a.p.cmd = nil
				return nil
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(30 * time.Second):
				return fmt.Errorf("visit %d was never reached\n%s", visit, a.p.tail())
			}
		})
		if err != nil {
			return err
		}
		r.Flying += int(flying)
	}
	r.N++
	r.Parts[point]++
	return nil
}
