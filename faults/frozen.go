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
// both alike.
const turns = 5

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
	var went [2][]stretch
	if err == nil {
		went, err = a.takeTurns(ctx, span/turns, r)
	}
	if err == nil {
		err = a.finish(ctx, r)
	}
	if err == nil {
		err = b.compareTurns(a.logPath, went, r)
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

// compareTurns compares the medians of the turns' p99.
func (b *bench) compareTurns(clients string, spans [2][]stretch, r *result) error {
	truth, err := readClientLog(clients)
	if err != nil {
		return err
	}
	var p99 [2]time.Duration
	n := [2]int{}
	for still, list := range spans {
		var quantiles []time.Duration
		for _, s := range list {
			var took []time.Duration
			for _, x := range truth.answers {
				if x.sent >= s.from && x.at <= s.to && (x.status == 302 || x.status == redirectAtRisk) {
					took = append(took, time.Duration(x.at-x.sent)*time.Microsecond)
				}
			}
			slices.Sort(took)
			n[still] += len(took)
			quantiles = append(quantiles, at(took, 0.99))
		}
		slices.Sort(quantiles)
		p99[still] = quantiles[len(quantiles)/2]
	}
	r.N += turns
	r.Done[besideFrozen]++
	b.say("  %s: p99 %s while it goes, %s while it stands still (medians of %d turns each, %d and %d redirects)",
		besideFrozen, p99[0], p99[1], turns, n[0], n[1])
	r.Parts[besideFrozen+", p99 µs"] = int(p99[1].Microseconds())
	r.Parts[besideFrozen+", usual p99 µs"] = int(p99[0].Microseconds())
	if min(n[0], n[1]) < 500 {
		r.Wrong++
		r.note("wrong: only %d and %d redirects in the turns", n[0], n[1])
	}
	if p99[1] > 2*p99[0]+5*time.Millisecond {
		r.Wrong++
		r.note("wrong: a redirect's p99 is %s with the ledger stopped, %s without", p99[1], p99[0])
	}
	return nil
}
