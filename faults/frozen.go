package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// besideFrozen is the part of T10 that compares redirects with and without a stopped ledger.
const besideFrozen = "redirects beside a stopped ledger"

// The ioctls that stop and go on with all writes to a file system.
const (
	freezeFS = 0xC0045877 // FIFREEZE
	thawFS   = 0xC0045878 // FITHAW
)

// freeze stops every write to the disk, or lets them go on.
func (d *disk) freeze(call uint) error {
	f, err := os.Open(d.dir)
	if err != nil {
		return err
	}
	err = unix.IoctlSetInt(int(f.Fd()), call, 0)
	return errors.Join(err, f.Close())
}

// turns is how often the ledger stands still, and as often not, in between: other programs and the machine itself disturb
// both alike. What one set of them leaves in doubt is decided by more, all taken together.
const (
	turns    = 5
	turnSets = 3
)

// besideFrozenLedger lets the disk of ledger, images and archive stand still for a while, again and again, on one program whose
// journal and spool are on another, and compares what redirects take with the times in between.
func (b *bench) besideFrozenLedger(ctx context.Context, binary string, span time.Duration, r *result) error {
	a, err := b.newArena(ctx, "frozen", binary, b.opt.seed, "--journal-bytes", "1073741824")
	if err != nil {
		return err
	}
	a.p.log = filepath.Join(b.clients, "frozen.server.log")
	root := filepath.Dir(a.p.data)
	if a.disk, err = makeDisk(ctx, filepath.Join(root, "disk.img"), filepath.Join(root, "disk"), 1<<30); err != nil {
		r.cannot(besideFrozen, "loop mounts are not allowed here: %v", brief(err))
		return nil
	}
	a.p.data = filepath.Join(a.disk.dir, "data")
	outside, err := a.moveOut(ctx, root)
	if err == nil {
		err = b.compareTurns(ctx, a, span/turns, r)
	}
	if err == nil {
		err = a.finish(ctx, r)
	}
	if err != nil {
		b.keepAll()
	}
	err = errors.Join(err, a.p.kill())
	for _, dir := range outside {
		err = errors.Join(err, syscall.Unmount(dir, syscall.MNT_DETACH))
	}
	return errors.Join(err, a.clean())
}

// moveOut makes the directory and puts journal and spool of the stopped program on the disk that never stands still.
func (a *arena) moveOut(ctx context.Context, root string) (mounted []string, err error) {
	if err = a.start(ctx); err == nil {
		err = a.p.stop()
	}
	for _, name := range []string{"journal", "spool"} {
		if err != nil {
			return mounted, err
		}
		from, to := filepath.Join(a.p.data, name), filepath.Join(root, name)
		if out, err := exec.CommandContext(ctx, "cp", "-a", from, to).CombinedOutput(); err != nil {
			return mounted, fmt.Errorf("copy %s: %w: %s", name, err, out)
		}
		if err = syscall.Mount(to, from, "", syscall.MS_BIND, ""); err == nil {
			mounted = append(mounted, from)
		}
	}
	return mounted, err
}

// stretch is a stretch of time in unix µs.
type stretch struct{ from, to int64 }

// takeTurns loads the program and returns when its ledger went (0) and when it stood still (1).
func (a *arena) takeTurns(ctx context.Context, each time.Duration, r *result) (out [2][]stretch, err error) {
	if err := a.start(ctx); err != nil {
		return out, err
	}
	const settle = 300 * time.Millisecond // what was on its way when it changed belongs to neither
	a.d.pause = 5 * time.Millisecond
	flying, err := a.load(ctx, func() error {
		pause(ctx, time.Second)
		for turn := range 2 * turns {
			still := turn % 2
			if still == 1 {
				if err := a.disk.freeze(freezeFS); err != nil {
					return fmt.Errorf("freeze: %w", err)
				}
			}
			pause(ctx, settle)
			from := time.Now().UnixMicro()
			pause(ctx, each/2)
			out[still] = append(out[still], stretch{from, time.Now().UnixMicro()})
			if still == 1 {
				if err := a.disk.freeze(thawFS); err != nil {
					return fmt.Errorf("thaw: %w", err)
				}
			}
		}
		return a.p.kill()
	})
	r.Flying += int(flying)
	return out, err
}

// compareTurns takes sets of turns until the ledger's standing still shows in no more than half of them.
func (b *bench) compareTurns(ctx context.Context, a *arena, each time.Duration, r *result) error {
	var took [2][][]time.Duration
	for range turnSets {
		went, err := a.takeTurns(ctx, each, r)
		if err != nil {
			return err
		}
		truth, err := readClientLog(a.logPath)
		if err != nil {
			return err
		}
		for still, list := range went {
			for _, s := range list {
				took[still] = append(took[still], truth.redirects(s))
			}
		}
		r.N += turns
		if !b.sayTurns(took, r) {
			break
		}
	}
	r.Done[besideFrozen]++
	without, with, slower := compare(took)
	if pairs := len(took[0]); 2*slower > pairs {
		r.Wrong++
		r.note("wrong: a redirect's p99 is %s with the ledger stopped, %s without, and it was longer in %d turns of %d", with, without, slower, pairs)
	}
	if n := min(len(slices.Concat(took[0]...)), len(slices.Concat(took[1]...))); n < 500 {
		r.Wrong++
		r.note("wrong: only %d redirects in the turns of one kind", n)
	}
	return nil
}

// sayTurns says what all turns so far have shown, and whether that leaves doubt.
func (b *bench) sayTurns(took [2][][]time.Duration, r *result) bool {
	without, with, slower := compare(took)
	pairs := len(took[0])
	b.say("  %s: p99 %s while it goes, %s while it stands still, much longer in %d turns of %d (medians; %d and %d redirects)",
		besideFrozen, without, with, slower, pairs, len(slices.Concat(took[0]...)), len(slices.Concat(took[1]...)))
	r.Parts[besideFrozen+", p99 µs"] = int(with.Microseconds())
	r.Parts[besideFrozen+", usual p99 µs"] = int(without.Microseconds())
	return 2*slower > pairs
}

// compare gives the medians of the turns' p99 without [0] and with [1] a ledger that stands still, and in how many turns it
// was much longer than in the one before.
func compare(took [2][][]time.Duration) (without, with time.Duration, slower int) {
	var p99 [2][]time.Duration
	for still, turns := range took {
		for _, t := range turns {
			p99[still] = append(p99[still], at(slices.Sorted(slices.Values(t)), 0.99))
		}
	}
	for i := range p99[0] {
		if p99[1][i] > 2*p99[0][i]+5*time.Millisecond {
			slower++
		}
	}
	for still := range p99 {
		slices.Sort(p99[still])
	}
	return at(p99[0], 0.5), at(p99[1], 0.5), slower
}

// redirects are the times that those took which began and ended in a stretch.
func (t *clientTruth) redirects(s stretch) (took []time.Duration) {
	for _, x := range t.answers {
		if x.sent >= s.from && x.at <= s.to && (x.status == 302 || x.status == redirectAtRisk) {
			took = append(took, time.Duration(x.at-x.sent)*time.Microsecond)
		}
	}
	return took
}
