package main

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"
)

// track says which tiers may run beside each other.
type track int

const (
	waiting   track = iota // for a program to start, to be loaded, to be judged: half a core
	computing              // as much as it gets
	alone                  // measures times: nothing runs beside it
)

// all runs the tiers: those that wait, one after the other, and beside them those that compute, in the order in which the
// fuzzer comes last, so that it has the processors for itself as long as possible; then those that measure times.
func (b *bench) all(ctx context.Context, chosen []tier) error {
	tracks := map[track][]tier{}
	for _, t := range chosen {
		tracks[t.track] = append(tracks[t.track], t)
	}
	if c := tracks[computing]; len(c) == 2 {
		c[0], c[1] = c[1], c[0]
	}
	errs := make([]error, 3)
	var wg sync.WaitGroup
	for _, k := range []track{waiting, computing} {
		wg.Go(func() { errs[k] = b.inTurn(ctx, tracks[k], len(tracks[alone])) })
	}
	wg.Wait()
	errs[alone] = b.inTurn(ctx, tracks[alone], 0)
	return errors.Join(errs...)
}

// inTurn runs tiers one after the other. Of limited time each gets an equal share of what is left, and so does each of
// those that come after all of them.
func (b *bench) inTurn(ctx context.Context, list []tier, later int) error {
	var failures []error
	for i, t := range list {
		own := *b
		if b.opt.limit > 0 {
			left := time.Until(b.began.Add(b.opt.limit))
			if left <= 0 {
				break
			}
			own.until = time.Now().Add(left / time.Duration(len(list)-i+later))
		}
		if ctx.Err() != nil || own.expired() {
			break
		}
		failures = append(failures, own.one(ctx, t))
	}
	return errors.Join(failures...)
}

// listen waits for signals: the first ends the run as the end of its time does, the second at once. Either way every tier
// that was under way leaves its line.
func (b *bench) listen(ctx context.Context, signals <-chan os.Signal, cancel func()) {
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-signals:
		}
		if n > 0 {
			cancel()
			return
		}
		b.stopping.Store(true)
		b.say("stopping: what is under way is judged and kept; once more: at once")
	}
}

// expired says whether this tier must come to its end: its time is over, or somebody wants it.
func (b *bench) expired() bool {
	return b.stopping.Load() || !b.until.IsZero() && time.Now().After(b.until)
}

// keepEvery is how often a tier that goes on leaves a line of what it has judged: so much is lost when this program is
// killed.
const keepEvery = 10 * time.Minute

// keepSoFar leaves a line and begins another.
func (b *bench) keepSoFar(r *result) error {
	if b.opt.quick || b.planted != "" || r.failed() || time.Since(r.began) < keepEvery {
		return nil
	}
	part := *r
	*r = *newResult(b, tier{name: r.Tier})
	r.Asked = part.Asked
	part.Seconds = int(time.Since(part.began).Seconds())
	return b.put(&part)
}

// apart makes a child the leader of a process group: a signal to ours, as a terminal sends it, must not reach what is being
// tested. What the child starts ends with it.
func apart(cmd *exec.Cmd) *exec.Cmd {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	return cmd
}
