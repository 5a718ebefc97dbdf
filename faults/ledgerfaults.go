package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"milliard/internal/crash"
)

// runLedger is tier T9: the ledger fails, is slow, locked or full, and its COMMITs have no answer. The doors must go on.
func runLedger(ctx context.Context, b *bench, r *result) error {
	if why := canTrace(); why != "" {
		r.Skipped = why
		return nil
	}
	binary, err := b.program(ctx, "crashpoints") // it can hide the answer to a COMMIT
	if err != nil {
		return err
	}
	rnd := rand.New(rand.NewPCG(b.opt.seed, 9))
	outages := b.either(b.opt.each, 10, 100)
	commits := b.either(b.opt.cycles, 20, 200)
	var plan []func(context.Context, *arena) error
	for i := range outages {
		switch i % 10 {
		case 8: // as often as the others are worth: it needs a file system of its own
		case 9:
			plan = append(plan, func(ctx context.Context, a *arena) error { return a.lockedLedger(ctx, r) })
		default:
			what := []string{"error=EIO", "error=ENOSPC", "delay_enter=200000"}[i%3]
			from := 1 + rnd.IntN(12)
			when := fmt.Sprintf("%s:when=%d..%d", what, from, from+rnd.IntN(5)) // of each thread: some seconds
			plan = append(plan, func(ctx context.Context, a *arena) error {
				return a.ledgerTrouble(ctx, "outage", "fsync,fdatasync,pwrite64,write", when, rnd, r)
			})
		}
	}
	for i := range commits {
		if i%2 == 0 {
			every := 2 + rnd.IntN(20)
			plan = append(plan, func(ctx context.Context, a *arena) error { return a.commitsUnanswered(ctx, every, rnd, r) })
			continue
		}
		when := fmt.Sprintf("error=EIO:when=%d", 1+rnd.IntN(10))
		plan = append(plan, func(ctx context.Context, a *arena) error {
			return a.ledgerTrouble(ctx, "commit without an answer", "fsync,fdatasync", when, rnd, r)
		})
	}
	rnd.Shuffle(len(plan), func(i, k int) { plan[i], plan[k] = plan[k], plan[i] })
	if err := b.ledgerPlan(ctx, binary, plan, rnd, r); err != nil {
		return err
	}
	for i := range max(1, outages/10) {
		if err := b.fullLedger(ctx, binary, i, rnd, r); err != nil {
			return fmt.Errorf("full disk, time %d: %w", i, err)
		}
	}
	return nil
}

func (b *bench) ledgerPlan(ctx context.Context, binary string, plan []func(context.Context, *arena) error, rnd *rand.Rand, r *result) error {
	for round := 0; len(plan) > 0; round++ {
		name := fmt.Sprintf("l%d", round)
		a, err := b.newArena(ctx, name, binary, rnd.Uint64(), "--lanes", fmt.Sprint(1+round%2))
		if err != nil {
			return err
		}
		a.d.pause = 8 * time.Millisecond
		n := min(failuresPerDirectory, len(plan))
		if err = a.start(ctx); err == nil {
			err = a.p.stop()
		}
		for _, do := range plan[:n] {
			if err == nil {
				err = do(ctx, a)
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
		b.say("  ledger: %d to go, acknowledged %d, lost %d, double %d, %v", len(plan), r.Acked, r.Lost, r.Double, r.Parts)
		if _, err := b.dir(name); err != nil {
			return err
		}
	}
	return nil
}

// ledgerTrouble makes calls on the ledger's files fail or take long for a while. The doors must take events all along,
// and afterwards the lanes must catch up by themselves. In half of the cycles the program is killed before that.
func (a *arena) ledgerTrouble(ctx context.Context, part, calls, what string, rnd *rand.Rand, r *result) error {
	ledger := filepath.Join(a.p.data, "ledger.duckdb")
	t := a.p.inject(filepath.Join(filepath.Dir(a.p.data), "strace.out"), calls, what, ledger, ledger+".wal")
	defer func() { a.p.wrap = nil }()
	if err := a.p.spawn(); err != nil {
		return err
	}
	if err := a.p.await(ctx, 20*time.Second, "/readyz"); err != nil {
		if errors.Is(err, errEnded) && len(t.hits()) > 0 { // it could not even open its ledger
			r.N++
			r.Parts[part+" at start"]++
			return nil
		}
		return err
	}
	crash := rnd.IntN(2) == 0
	var during int64
	flying, err := a.load(ctx, func() error {
		for range 100 {
			if len(t.hits()) > 0 || !pause(ctx, 50*time.Millisecond) {
				break
			}
		}
		before := a.d.acked.Load()
		pause(ctx, time.Duration(200+rnd.IntN(900))*time.Millisecond)
		during = a.d.acked.Load() - before
		if exited(a.p) {
			return errors.New("the program ended by itself\n" + a.p.tail())
		}
		if crash {
			return a.p.kill()
		}
		return nil
	})
	r.Flying += int(flying)
	if err != nil {
		return err
	}
	hits := t.hits()
	if len(hits) == 0 {
		r.Parts["not reached"]++
		return a.p.kill()
	}
	r.N++
	r.Parts[part]++
	if during == 0 {
		r.Wrong++
		r.note("wrong: %s of the ledger: the doors took nothing", what)
	}
	if crash {
		return nil
	}
	return a.heal(ctx)
}

// commitsUnanswered reports every n-th COMMIT as failed although it was carried out.
func (a *arena) commitsUnanswered(ctx context.Context, every int, rnd *rand.Rand, r *result) error {
	a.p.env = []string{fmt.Sprintf("MILLIARD_FAIL=%s:%d", crash.CommitUnanswered, every)}
	defer func() { a.p.env = nil }()
	if err := a.p.start(ctx, time.Minute); err != nil {
		return err
	}
	stop := rnd.IntN(2) == 0
	flying, err := a.load(ctx, func() error {
		pause(ctx, time.Duration(300+rnd.IntN(900))*time.Millisecond)
		if stop {
			return nil
		}
		return a.p.kill()
	})
	if err == nil && stop {
		err = a.p.stop()
	}
	r.Flying += int(flying)
	r.N++
	r.Parts["commit carried out, answer lost"]++
	return err
}

// heal waits until every lane has caught up again (invariant I12: within a minute) and stops in order.
func (a *arena) heal(ctx context.Context) error {
	if err := a.p.await(ctx, time.Minute, "/readyz?part=all"); err != nil {
		return fmt.Errorf("it does not heal: %w", err)
	}
	return a.p.stop()
}

// lockedLedger lets another process hold the ledger's file while the program starts.
func (a *arena) lockedLedger(ctx context.Context, r *result) error {
	db, err := sql.Open("duckdb", filepath.Join(a.p.data, "ledger.duckdb"))
	if err != nil {
		return err
	}
	if err := db.PingContext(ctx); err != nil {
		return errors.Join(err, db.Close())
	}
	r.N++
	err = a.p.start(ctx, 10*time.Second)
	switch {
	case err == nil:
		err = errors.New("the program says that it is ready while another process holds its ledger")
	case errors.Is(err, errEnded) && strings.Contains(err.Error(), "open in another process"):
		r.Parts["locked: refused to start"]++
		err = nil
	case errors.Is(err, errEnded):
	default:
		r.Parts["locked: not ready"]++
		err = a.p.kill()
	}
	if err := errors.Join(err, db.Close()); err != nil {
		return err
	}
	if err := a.p.start(ctx, 20*time.Second); err != nil {
		return err
	}
	return a.p.stop()
}

// fullLedger gives ledger, images and archive a small file system of their own and the journal a large one: when the
// small one is full the doors go on.
func (b *bench) fullLedger(ctx context.Context, binary string, i int, rnd *rand.Rand, r *result) error {
	name := fmt.Sprintf("lfull%d", i)
	a, err := b.newArena(ctx, name, binary, rnd.Uint64())
	if err != nil {
		return err
	}
	if err := os.MkdirAll(a.p.data, 0o700); err != nil {
		return err
	}
	if err := syscall.Mount("tmpfs", a.p.data, "tmpfs", 0, "size=9m"); err != nil {
		r.note("full disk of the ledger not run: mount tmpfs: %v", err)
		return nil
	}
	defer func() { _ = syscall.Unmount(a.p.data, syscall.MNT_DETACH) }() // the directory is removed with it
	if err := a.start(ctx); err != nil {
		return err
	}
	// The journal is moved to the large disk.
	if err := a.p.stop(); err != nil {
		return err
	}
	large := filepath.Join(filepath.Dir(a.p.data), "journal")
	small := filepath.Join(a.p.data, "journal")
	if err := os.CopyFS(large, os.DirFS(small)); err != nil {
		return err
	}
	if err := errors.Join(os.RemoveAll(small), os.Symlink(large, small)); err != nil {
		return err
	}
	if err := a.start(ctx); err != nil {
		return err
	}
	var during int64
	full := false
	flying, err := a.load(ctx, func() error {
		for range 400 {
			if full = a.p.probe(ctx, "/readyz?part=all") != nil; full || !pause(ctx, 50*time.Millisecond) {
				break
			}
		}
		before := a.d.acked.Load()
		pause(ctx, 1500*time.Millisecond)
		during = a.d.acked.Load() - before
		if rnd.IntN(2) == 0 {
			return a.p.kill()
		}
		return nil
	})
	r.Flying += int(flying)
	if err == nil && full {
		r.N++
		r.Parts["full disk of the ledger"]++
		if during == 0 {
			r.Wrong++
			r.note("wrong: the ledger's disk is full and the doors took nothing")
		}
	} else if err == nil {
		err = errors.New("the ledger's disk was not full in 20 s")
	}
	if err == nil {
		err = syscall.Mount("tmpfs", a.p.data, "tmpfs", syscall.MS_REMOUNT, "size=512m")
	}
	if err == nil && a.p.cmd != nil {
		err = a.heal(ctx)
	}
	if err == nil {
		err = a.finish(ctx, r)
	}
	if err != nil {
		b.opt.keep = true
		return errors.Join(err, errors.New(a.p.tail()), a.p.kill())
	}
	return nil
}
