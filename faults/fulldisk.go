package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"syscall"
	"time"
)

// fullDisk lets the program run into a file system that is really full. Clicks must go to the room that the spool has taken
// before, and count afterwards. Every second time the journal refuses before its writes fail: then it must go on by itself
// as soon as there is room. The other times it meets the failed write, and is started again, first with the disk still full.
func (b *bench) fullDisk(ctx context.Context, binary string, i int, rnd *rand.Rand, r *result) (met bool, err error) {
	name := fmt.Sprintf("full%d", i)
	refuses, floor := i%2 == 1, "-1"
	if refuses {
		floor = "0" // the default
	}
	a, err := b.newArena(ctx, name, binary, rnd.Uint64(), "--journal-bytes", "1073741824", "--lanes", fmt.Sprint(1+i/2%2),
		"--spool-reserve", "4194304", "--disk-floor="+floor)
	if err != nil {
		return false, err
	}
	disk := filepath.Dir(a.p.data)
	if err := syscall.Mount("tmpfs", disk, "tmpfs", 0, "size=24m"); err != nil {
		r.cannot(fullDisk, "tmpfs cannot be mounted: %v", err)
		return false, nil
	}
	defer func() { _ = syscall.Unmount(disk, syscall.MNT_DETACH) }() // the directory is removed with it
	a.p.log = filepath.Join(b.clients, name+".server.log")
	if err := a.start(ctx); err != nil {
		return false, err
	}
	a.d.fat = fatEvents
	full, room := int64(0), int64(0)
	flying, err := a.load(ctx, func() error {
		err := a.p.within(ctx, "the disk is full", func() bool { return a.d.refused.Load() > 30 || exited(a.p) })
		if err != nil {
			return err
		}
		full = unixMicros(time.Now())
		pause(ctx, time.Duration(500+rnd.IntN(1500))*time.Millisecond)
		room = unixMicros(time.Now())
		if refuses {
			if err := a.goesOn(ctx, disk); err != nil {
				return err
			}
		}
		if refuses && rnd.IntN(2) == 0 || i%20 == 4 { // on a full disk an end in order takes all the time that it may
			return a.end()
		}
		return a.p.kill()
	})
	r.Flying += int(flying)
	if err == nil {
		met = true
		err = a.keptWhileFull(full, room, r)
	}
	if err == nil && !refuses {
		// First a start with the disk still full: it may fail, it must not spoil anything.
		if err := a.p.start(ctx, 3*time.Second); err != nil {
			r.Parts["start on a full disk refused or not ready"]++
		}
		if err := a.p.kill(); err != nil {
			return met, err
		}
		err = makeRoom(disk)
	}
	return met, a.conclude(ctx, r, err)
}

func makeRoom(disk string) error {
	return syscall.Mount("tmpfs", disk, "tmpfs", syscall.MS_REMOUNT, "size=512m")
}

// goesOn makes room and waits until a lane that has refused takes events again, without a restart.
func (a *arena) goesOn(ctx context.Context, disk string) error {
	if err := makeRoom(disk); err != nil {
		return err
	}
	if err := a.p.within(ctx, "/readyz is well, as there is room again", func() bool { return a.p.probe(ctx, "/readyz") == nil }); err != nil {
		return err
	}
	before := a.d.acked.Load()
	return a.p.within(ctx, "something is taken, as there is room again", func() bool { return a.d.acked.Load() > before+100 })
}

// keptWhileFull looks at the redirects between two times (unix µs) in which the disk was full. Those that were no promise may be
// clicks that were on their way when it became full, and ones that this machine was too slow for.
func (a *arena) keptWhileFull(from, to int64, r *result) error {
	truth, err := readClientLog(a.logPath)
	if err != nil {
		return err
	}
	kept, risk := 0, 0
	for _, x := range truth.answers {
		switch {
		case x.sent < from || x.at > to:
		case x.status == redirectAtRisk:
			risk++
		case x.status == 302:
			kept++
		}
	}
	r.Parts["clicks kept on a full disk"] += kept
	r.Parts["clicks at risk on a full disk"] += risk
	if kept <= risk {
		r.Wrong++
		r.note("wrong: on a full disk %d clicks were kept and %d were at risk", kept, risk)
	}
	return nil
}
