package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"milliard/internal/crash"
)

// cyclesPerDirectory is how often one data directory is used before it is judged and a new one begins.
const cyclesPerDirectory = 20

// randomKills is the part of tier T2 whose instants are drawn.
const randomKills = "random"

// runKills is tier T2.
func runKills(ctx context.Context, b *bench, r *result) error {
	parts := []part{{randomKills, 40, 1000, false}}
	for _, name := range crash.Points() {
		parts = append(parts, part{name, 2, 50, true})
	}
	want := b.plan(r, parts)
	rnd := rand.New(rand.NewPCG(b.opt.seed, 2))
	at := func(name string, _ int) step {
		return step{do: func(ctx context.Context, a *arena, r *result) (bool, error) { return true, a.killAt(ctx, name, rnd, r) }}
	}
	random := func(string, int) step {
		return step{do: func(ctx context.Context, a *arena, r *result) (bool, error) { return a.killSometime(ctx, rnd, r) }}
	}
	for _, s := range []struct {
		tag, dirs string
		steps     []step
	}{
		{"", "r", steps(parts[:1], want, random)},
		{"crashpoints", "p", shuffled(steps(parts[1:], want, at), rnd)},
	} {
		if len(s.steps) == 0 || b.expired() {
			continue
		}
		binary, err := b.program(ctx, strings.Fields(s.tag)...)
		if err != nil {
			return err
		}
		err = b.wear(ctx, series{s.dirs, cyclesPerDirectory, func(ctx context.Context, name string, round int) (*arena, error) {
			return b.newArena(ctx, name, binary, rnd.Uint64(), "--lanes", fmt.Sprint(1+round%2))
		}}, s.steps, r)
		if err != nil {
			return err
		}
	}
	return nil
}

// arena is one data directory with its process, its clients and their log.
type arena struct {
	b       *bench
	p       *process
	d       *driver
	log     *clientLog
	logPath string
	applied bool
	disk    *disk // it lives on, if its power can be cut
}

// clean takes down what the directory stood on.
func (a *arena) clean() error {
	if a.disk == nil {
		return nil
	}
	return errors.Join(a.disk.unmount(), os.Remove(a.disk.image))
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
	if err := a.p.start(ctx, a.p.patience()); err != nil {
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
	before := a.d.cutOff.Load()
	err = cut()
	cancel()
	err = errors.Join(err, <-done)
	return a.d.cutOff.Load() - before, err
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
		return fmt.Errorf("lost=%d double=%d wrong=%d, see the notes", f.Lost, f.Double, f.Wrong)
	}
	return nil
}

// killSometime kills at an instant that nothing has chosen: under load, and now and then before that while it starts.
func (a *arena) killSometime(ctx context.Context, rnd *rand.Rand, r *result) (bool, error) {
	if a.applied && rnd.IntN(6) == 0 { // while it starts: nothing is under way, so it is not counted
		if err := a.p.spawn(); err != nil {
			return false, err
		}
		pause(ctx, time.Duration(rnd.IntN(700))*time.Millisecond)
		if err := a.p.kill(); err != nil {
			return false, err
		}
		r.Parts["starting"]++
	}
	if err := a.start(ctx); err != nil {
		return false, err
	}
	flying, err := a.load(ctx, func() error {
		pause(ctx, time.Duration(30+rnd.IntN(800))*time.Millisecond)
		return a.p.kill()
	})
	r.Flying += int(flying)
	if flying == 0 {
		r.Parts["idle"]++ // nothing was under way: not the fault that was meant
	}
	return flying > 0, err
}

// limping makes every n-th click find its lane limping, so that it goes to the spool and from there into the journal.
func limping(n int) string { return fmt.Sprintf("MILLIARD_FAIL=%s:%d", crash.LaneLimping, n) }

// often are the places that a busy program passes many times a second, so that a kill can wait for a later visit.
func often(point string) int {
	switch point {
	case crash.JournalFrozen, crash.JournalBefore, crash.JournalAfter, crash.GridFolded:
		return 120
	case crash.FlushClosed, crash.FlushBegun, crash.FlushFenced, crash.FlushRows, crash.FlushCommitted:
		return 10
	case crash.FlushCells:
		return 40
	case crash.SpoolWritten, crash.SpoolDrained, crash.SpoolRemoved:
		return 20
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
	if strings.HasPrefix(point, "spool.") {
		a.p.env = append(a.p.env, limping(2))
	}
	defer func() { a.p.env = nil }()
	a.d.admin = ""
	if point == crash.ControlBefore || point == crash.ControlAfter || point == crash.ProjectBefore {
		a.d.admin = a.p.admin
	}
	err := a.p.start(ctx, a.p.patience())
	if err != nil && !errors.Is(err, errEnded) {
		return err
	}
	if err == nil { // else it has died while starting
		flying, err := a.load(ctx, func() error { return a.p.died(ctx, fmt.Sprintf("visit %d was never reached", visit)) })
		if err != nil {
			return err
		}
		r.Flying += int(flying)
	}
	return nil
}
