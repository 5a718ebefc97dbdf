package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"milliard/internal/crash"
)

// The parts of tier T9: outages, and COMMITs whose end is not known.
const (
	ledgerLocked  = "locked"
	ledgerSlow    = "slow"
	ledgerFailing = "failing"
	ledgerNoRoom  = "no room, said by the calls"
	ledgerFull    = "disk full"
	ledgerKilled  = "killed between the statements"
	ledgerLarge   = "killed in a large commit"
	commitFails   = "commit fails"
	commitUnknown = "commit carried out, answer lost"
)

// runLedger is tier T9: the ledger fails, is slow, locked or full, the program dies in the middle of a transaction, and
// COMMITs have no answer. The doors must go on.
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
	parts := []part{
		{ledgerLocked, 2, 20, true},
		{ledgerSlow, 2, 20, true},
		{ledgerFailing, 2, 20, true},
		{ledgerNoRoom, 1, 10, true},
		{ledgerKilled, 2, 20, true},
		{commitFails, 10, 100, false},
		{commitUnknown, 10, 100, false},
		{ledgerFull, 1, 10, true}, // on a directory of its own, as the next
		{ledgerLarge, 2, 20, true},
	}
	want := b.plan(r, parts)
	plan := shuffled(steps(parts[:len(parts)-2], want, func(name string, i int) step { return ledgerStep(name, i, rnd) }), rnd)
	err = b.wear(ctx, series{"l", failuresPerDirectory, func(ctx context.Context, name string, round int) (*arena, error) {
		a, err := b.newArena(ctx, name, binary, rnd.Uint64(), "--lanes", fmt.Sprint(1+round%2))
		if err != nil {
			return nil, err
		}
		a.d.pause = 8 * time.Millisecond
		if err := a.start(ctx); err != nil {
			return nil, errors.Join(err, a.p.kill())
		}
		return a, a.p.stop()
	}}, plan, r)
	if err != nil {
		return err
	}
	err = b.singly(ctx, ledgerLarge, want[ledgerLarge], r, func(i int, r *result) (bool, error) { return b.largeCommit(ctx, binary, i, rnd, r) })
	if err != nil {
		return err
	}
	return b.singly(ctx, ledgerFull, want[ledgerFull], r, func(i int, r *result) (bool, error) { return b.fullLedger(ctx, binary, i, rnd, r) })
}

// ledgerStep is one fault of a part.
func ledgerStep(name string, i int, rnd *rand.Rand) step {
	const writes, syncs = "fsync,fdatasync,pwrite64,write", "fsync,fdatasync"
	trouble := func(calls, what string, from, long int) step {
		return step{do: func(ctx context.Context, a *arena, r *result) (bool, error) {
			n := 1 + rnd.IntN(from) // calls are counted for each thread
			return a.ledgerTrouble(ctx, name, calls, fmt.Sprintf("%s:when=%d..%d", what, n, n+rnd.IntN(long)), rnd, r)
		}}
	}
	switch name {
	case ledgerSlow:
		return trouble(writes, "delay_enter=200000", 12, 5)
	case ledgerFailing:
		return trouble(writes, "error=EIO", 12, 5)
	case ledgerNoRoom:
		return trouble(writes, "error=ENOSPC", 12, 5)
	case commitFails:
		return trouble(syncs, "error=EIO", 10, 1)
	case commitUnknown:
		return step{do: func(ctx context.Context, a *arena, r *result) (bool, error) {
			return true, a.commitsUnanswered(ctx, 2+rnd.IntN(20), rnd, r)
		}}
	case ledgerKilled:
		places := []string{
			crash.FlushCells, crash.FlushFenced, crash.FlushRows, crash.FlushBegun, crash.FlushCommitted, crash.CheckpointBefore,
			crash.CheckpointAfter, crash.CompactCommitted,
		}
		return step{do: func(ctx context.Context, a *arena, r *result) (bool, error) {
			return true, a.killAt(ctx, places[i%len(places)], rnd, r)
		}}
	}
	return step{do: func(ctx context.Context, a *arena, r *result) (bool, error) { return true, a.lockedLedger(ctx, r) }}
}

// ledgerTrouble makes calls on the ledger's files fail or take long for a while. The doors must take events all along,
// and afterwards the lanes must catch up by themselves. In half of the cycles the program is killed before that.
func (a *arena) ledgerTrouble(ctx context.Context, part, calls, what string, rnd *rand.Rand, r *result) (met bool, err error) {
	ledger := filepath.Join(a.p.data, "ledger.duckdb")
	t := a.p.inject(filepath.Join(filepath.Dir(a.p.data), "strace.out"), calls, what, ledger, ledger+".wal")
	defer func() { a.p.wrap = nil }()
	if err := a.p.spawn(); err != nil {
		return false, err
	}
	if err := a.p.await(ctx, a.p.patience(), "/readyz"); err != nil {
		if errors.Is(err, errEnded) && len(t.hits()) > 0 { // it could not even open its ledger
			r.Parts[part+", at start"]++
			return true, nil
		}
		return false, err
	}
	crash := rnd.IntN(2) == 0
	var during int64
	flying, err := a.load(ctx, func() error {
		for range 100 {
			if len(t.hits()) > 0 || !pause(ctx, 50*time.Millisecond) {
				break
			}
		}
		during = a.taken(ctx, time.Duration(200+rnd.IntN(900))*time.Millisecond)
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
		return false, err
	}
	hits := t.hits()
	if len(hits) == 0 {
		return false, a.p.kill()
	}
	if during == 0 {
		r.Wrong++
		r.note("wrong: %s of the ledger: the doors took nothing", what)
	}
	if crash {
		return true, nil
	}
	return true, a.heal(ctx, r)
}

// commitsUnanswered reports every n-th COMMIT as failed although it was carried out.
func (a *arena) commitsUnanswered(ctx context.Context, every int, rnd *rand.Rand, r *result) error {
	a.p.env = []string{fmt.Sprintf("MILLIARD_FAIL=%s:%d", crash.CommitUnanswered, every)}
	defer func() { a.p.env = nil }()
	if err := a.p.start(ctx, a.p.patience()); err != nil {
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
	return err
}

// heal waits until every lane has caught up again (invariant I12: within a minute) and stops in order.
func (a *arena) heal(ctx context.Context, r *result) error {
	began := time.Now()
	if err := a.p.await(ctx, a.p.patience(), "/readyz?part=all"); err != nil {
		return fmt.Errorf("it does not heal: %w", err)
	}
	if took := time.Since(began); took > promised {
		r.late("all has caught up only after %s", took)
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
	if err := a.p.start(ctx, a.p.patience()); err != nil {
		return err
	}
	return a.p.stop()
}

// taken returns how many requests the doors take in a while. Where none was answered at all, well or badly, the first answer is
// waited for as long as it may take, counted in steps: a machine that stands still takes no step. A short silence of a busy
// machine is no finding; that all were refused is one.
func (a *arena) taken(ctx context.Context, while time.Duration) int64 {
	const step = 10 * time.Millisecond
	acked, refused := a.d.acked.Load(), a.d.refused.Load()
	pause(ctx, while)
	for range maxAnswer / step {
		if a.d.acked.Load() != acked || a.d.refused.Load() != refused || !pause(ctx, step) {
			break
		}
	}
	return a.d.acked.Load() - acked
}

// fullLedger gives ledger, images and archive a small file system of their own and the journal a large one: when the
// small one is full the doors go on.
func (b *bench) fullLedger(ctx context.Context, binary string, i int, rnd *rand.Rand, r *result) (met bool, err error) {
	name := fmt.Sprintf("lfull%d", i)
	a, err := b.newArena(ctx, name, binary, rnd.Uint64())
	if err != nil {
		return false, err
	}
	if err := os.MkdirAll(a.p.data, 0o700); err != nil {
		return false, err
	}
	if err := syscall.Mount("tmpfs", a.p.data, "tmpfs", 0, "size=9m"); err != nil {
		r.cannot(ledgerFull, "tmpfs cannot be mounted: %v", err)
		return false, nil
	}
	defer func() { _ = syscall.Unmount(a.p.data, syscall.MNT_DETACH) }() // the directory is removed with it
	if err := a.start(ctx); err != nil {
		return false, err
	}
	// The journal is moved to the large disk.
	if err := a.p.stop(); err != nil {
		return false, err
	}
	large := filepath.Join(filepath.Dir(a.p.data), "journal")
	small := filepath.Join(a.p.data, "journal")
	if err := os.CopyFS(large, os.DirFS(small)); err != nil {
		return false, err
	}
	if err := errors.Join(os.RemoveAll(small), os.Symlink(large, small)); err != nil {
		return false, err
	}
	if err := a.start(ctx); err != nil {
		return false, err
	}
	var during int64
	a.d.fat = fatEvents
	flying, err := a.load(ctx, func() error {
		err := a.p.within(ctx, "the ledger's disk is full", func() bool { return a.p.probe(ctx, "/readyz?part=all") != nil })
		if err != nil {
			return err
		}
		during = a.taken(ctx, 1500*time.Millisecond)
		if rnd.IntN(2) == 0 {
			return a.p.kill()
		}
		return nil
	})
	r.Flying += int(flying)
	if met = err == nil; met && during == 0 {
		r.Wrong++
		r.note("wrong: the ledger's disk is full and the doors took nothing")
	}
	if err == nil {
		err = syscall.Mount("tmpfs", a.p.data, "tmpfs", syscall.MS_REMOUNT, "size=512m")
	}
	if err == nil && a.p.cmd != nil {
		err = a.heal(ctx, r)
	}
	return met, a.conclude(ctx, r, err)
}

// largeCommit has a generation of so many rows that the ledger's engine writes them into its file before it commits, and kills
// the program where the file is synced for that. Nothing else syncs the file here: there is no checkpoint.
func (b *bench) largeCommit(ctx context.Context, binary string, i int, rnd *rand.Rand, r *result) (met bool, err error) {
	name := fmt.Sprintf("llarge%d", i)
	a, err := b.newArena(ctx, name, binary, rnd.Uint64(), "--flush-interval", "6s", "--trim-interval", "1h", "--window-ids", "16777216")
	if err != nil {
		return false, err
	}
	a.d.bulk, a.d.pause = 3000, 200*time.Millisecond
	if err := a.start(ctx); err != nil {
		return false, err
	}
	if rnd.IntN(2) == 0 { // after some flushes that are whole
		if _, err := a.load(ctx, func() error { pause(ctx, time.Duration(rnd.IntN(1000))*time.Millisecond); return nil }); err != nil {
			return false, err
		}
	}
	if err := a.p.stop(); err != nil {
		return false, err
	}
	a.p.inject(filepath.Join(filepath.Dir(a.p.data), "strace.out"), "fsync,fdatasync", "signal=KILL", filepath.Join(a.p.data, "ledger.duckdb"))
	a.p.wrap = slices.DeleteFunc(a.p.wrap, func(flag string) bool { return flag == "--seccomp-bpf" }) // with it signals are not injected
	if err := a.p.spawn(); err != nil {
		return false, err
	}
	if err := a.p.await(ctx, a.p.patience(), "/readyz"); err != nil {
		return false, err
	}
	flying, err := a.load(ctx, func() error { return a.p.died(ctx, "no commit was large") })
	r.Flying += int(flying)
	return err == nil, a.conclude(ctx, r, err)
}
