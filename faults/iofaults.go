package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"syscall"
	"time"
)

// The parts of tier T4.
const (
	failingCalls = "failing calls"
	storeLimit   = "store limit"
	fullDisk     = "full disk"
	orderOfCalls = "answers after their sync"
	spoolFails   = "spool fails"
)

// runIO is tier T4: every store meets write and sync errors, and full disks of three kinds.
func runIO(ctx context.Context, b *bench, r *result) error {
	if why := canTrace(); why != "" {
		r.Skipped = why
		return nil
	}
	binary, err := b.program(ctx)
	if err != nil {
		return err
	}
	sweep := b.sweep()
	want := b.plan(r, []part{{failingCalls, len(sweep), len(sweep), false}, {storeLimit, 2, 50, true}, {fullDisk, 2, 50, true}, {orderOfCalls, 200, 5000, true}, {spoolFails, 4, 60, true}})
	rnd := rand.New(rand.NewPCG(b.opt.seed, 4))
	var calls []step
	first := b.done[r.Tier][failingCalls] // the sweep goes on where it was left
	for i := range want[failingCalls] {
		f := sweep[(first+i)%len(sweep)]
		calls = append(calls, step{failingCalls, func(ctx context.Context, a *arena, r *result) (bool, error) {
			met, err := a.fail(ctx, f, rnd, r)
			if err != nil {
				err = fmt.Errorf("%s: %w", f, err)
			}
			return met, err
		}, false})
	}
	err = b.wear(ctx, series{"io", failuresPerDirectory, func(ctx context.Context, name string, round int) (*arena, error) {
		a, err := b.newArena(ctx, name, binary, rnd.Uint64(), "--lanes", fmt.Sprint(1+round%2))
		return a, err
	}}, calls, r)
	if err != nil {
		return err
	}
	err = b.singly(ctx, storeLimit, want[storeLimit], r, func(i int, r *result) (bool, error) { return b.storeLimit(ctx, binary, i, rnd, r) })
	if err != nil {
		return err
	}
	if n := want[orderOfCalls]; n > 0 && !b.expired() {
		if err := b.syncBeforeAck(ctx, binary, n, rnd, r); err != nil {
			return fmt.Errorf("%s: %w", orderOfCalls, err)
		}
	}
	if b.expired() {
		return nil
	}
	limps, err := b.program(ctx, "crashpoints")
	if err != nil {
		return err
	}
	err = b.singly(ctx, spoolFails, want[spoolFails], r, func(i int, r *result) (bool, error) { return b.spoolFails(ctx, limps, i, rnd, r) })
	if err != nil {
		return err
	}
	return b.singly(ctx, fullDisk, want[fullDisk], r, func(i int, r *result) (bool, error) { return b.fullDisk(ctx, binary, i, rnd, r) })
}

// failure is one injection: the n-th of these calls of a thread fails so.
type failure struct {
	calls, what string
	n           int
}

func (f failure) String() string { return fmt.Sprintf("%s %s at call %d", f.calls, f.what, f.n) }

// sweep lists the injections.
func (b *bench) sweep() []failure {
	kinds := []failure{
		{"fsync,fdatasync", "EIO", 0}, {"pwrite64", "ENOSPC", 0}, {"pwrite64", "EIO", 0}, {"fsync,fdatasync", "ENOSPC", 0}, {"write", "ENOSPC", 0},
	}
	ns := []int{1, 2, 5, 10, 30, 100}
	if !b.opt.quick {
		ns = nil
		for n := 1; n <= 300; n++ {
			ns = append(ns, n)
		}
	}
	var out []failure
	for i, n := range ns {
		for k, f := range kinds {
			// The first two kinds meet every n, the others every fifth, and all of them in a short sweep.
			if f.n = n; k < 2 || b.opt.quick && k < 4 || i%5 == k {
				out = append(out, f)
			}
		}
	}
	return out
}

const failuresPerDirectory = 12

// fail runs the program once with one failure armed, until it has happened and a moment longer; then it is killed, or
// stopped in order, which may fail.
func (a *arena) fail(ctx context.Context, f failure, rnd *rand.Rand, r *result) (met bool, err error) {
	if !a.applied {
		if err := a.start(ctx); err != nil {
			return false, err
		}
		if err := a.p.stop(); err != nil {
			return false, err
		}
	}
	t := a.p.inject(filepath.Join(filepath.Dir(a.p.data), "strace.out"), f.calls, fmt.Sprintf("error=%s:when=%d", f.what, f.n))
	defer func() { a.p.wrap = nil }()
	if err := a.p.spawn(); err != nil {
		return false, err
	}
	began := time.Now()
	if err := a.p.await(ctx, 4*time.Second, "/readyz?part=all"); err != nil && ctx.Err() != nil {
		return false, ctx.Err()
	}
	if a.p.cmd != nil {
		flying, err := a.load(ctx, func() error {
			for time.Since(began) < promised && len(t.hits()) == 0 && pause(ctx, 30*time.Millisecond) {
				if exited(a.p) {
					return nil
				}
			}
			pause(ctx, time.Duration(150+rnd.IntN([]int{300, 300, 300, 1200}[rnd.IntN(4)]))*time.Millisecond)
			a.explained(ctx, t, r)
			if rnd.IntN(2) == 0 {
				return a.p.kill()
			}
			return a.end()
		})
		if err != nil {
			return false, err
		}
		r.Flying += int(flying)
	}
	hits := t.hits()
	if len(hits) == 0 {
		return false, nil
	}
	r.Parts[hits[0].where()]++
	return true, a.failStop(hits, r)
}

func exited(p *process) bool {
	select {
	case <-p.exited:
		p.cmd = nil
		return true
	default:
		return false
	}
}

// end stops the program as an operator does; after a write error it may end with an error, but it must end.
func (a *arena) end() error {
	if a.p.cmd == nil || exited(a.p) {
		return nil
	}
	if err := syscall.Kill(a.p.pid(), syscall.SIGTERM); err != nil {
		return fmt.Errorf("stop the program: %w", err)
	}
	select {
	case <-a.p.exited:
		a.p.cmd = nil
		return nil
	case <-time.After(a.p.patience()):
		return errors.Join(fmt.Errorf("%w: the program did not end within %s of SIGTERM after a write error", errLate, a.p.patience()), a.p.kill())
	}
}

// explained checks that a lane that cannot be written says so on /readyz.
func (a *arena) explained(ctx context.Context, t *tracer, r *result) {
	lane := false
	for _, h := range t.hits() {
		lane = lane || h.laneFile()
	}
	if !lane || a.p.cmd == nil || exited(a.p) {
		return
	}
	if a.wellFor(ctx, maxAnswer, "/readyz") { // the doors need the journal
		r.Wrong++
		r.note("wrong: a lane's write failed and /readyz says that all is well")
	}
}

// wellFor says whether a path of the admin side answers 200 all the while.
func (a *arena) wellFor(ctx context.Context, while time.Duration, path string) bool {
	for began := time.Now(); time.Since(began) < while; {
		if a.p.probe(ctx, path) != nil || exited(a.p) || !pause(ctx, 20*time.Millisecond) {
			return false
		}
	}
	return true
}

// failStop checks invariant I11: after the first failed write or sync of a lane nothing of it is acknowledged until the
// program is started again. With several lanes the others go on, so it is checked where there is one.
func (a *arena) failStop(hits []hit, r *result) error {
	if a.lanes() != 1 {
		return nil
	}
	at := int64(0)
	for _, h := range hits {
		if h.laneFile() && (at == 0 || h.at < at) {
			at = h.at
		}
	}
	if at == 0 {
		return nil
	}
	r.Parts["fail-stop checked"]++
	truth, err := readClientLog(a.logPath)
	if err != nil {
		return err
	}
	for _, x := range truth.answers {
		if x.sent > at && x.status/100 == 2 && x.at < unixMicros(time.Now()) {
			r.Wrong++
			r.note("wrong: sent %d µs after a lane's write had failed, answered %d", x.sent-at, x.status)
			return nil
		}
	}
	return nil
}

func (a *arena) lanes() int {
	for i, f := range a.p.extra {
		if f == "--lanes" && a.p.extra[i+1] == "2" {
			return 2
		}
	}
	return 1
}

// storeLimit fills the journal up to its own limit: refusals are clean, nothing is lost, and it works again as soon as
// there is room.
func (b *bench) storeLimit(ctx context.Context, binary string, i int, rnd *rand.Rand, r *result) (met bool, err error) {
	a, err := b.newArena(ctx, fmt.Sprintf("limit%d", i), binary, rnd.Uint64(), "--trim-interval", "1h", "--journal-bytes", "8388608")
	if err != nil {
		return false, err
	}
	if err := a.start(ctx); err != nil {
		return false, err
	}
	a.d.fat = fatEvents
	flying, err := a.load(ctx, func() error {
		err := a.p.within(ctx, "the limit is reached", func() bool { return a.d.refused.Load() > 50 })
		return errors.Join(err, a.p.kill())
	})
	r.Flying += int(flying)
	if err == nil {
		met = true
		a.p.extra = []string{"--journal-bytes", "268435456"}
		if err = a.start(ctx); err == nil {
			before := a.d.acked.Load()
			_, err = a.load(ctx, func() error {
				err := a.p.within(ctx, "something is taken, as there is room again", func() bool { return a.d.acked.Load() > before })
				pause(ctx, 300*time.Millisecond)
				return errors.Join(err, a.p.kill())
			})
		}
	}
	if err = a.conclude(ctx, r, err); err != nil {
		return met, err
	}
	_, err = b.dir(fmt.Sprintf("limit%d", i))
	return met, err
}
