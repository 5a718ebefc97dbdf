package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// spoolFails lets writes and syncs of the click spool fail while clicks go there: those who wait for it are redirected at
// risk and told so, the others are durable somewhere, what the spool had taken before is counted, and it goes on by itself.
func (b *bench) spoolFails(ctx context.Context, binary string, i int, rnd *rand.Rand, r *result) (met bool, err error) {
	name := fmt.Sprintf("spool%d", i)
	a, err := b.newArena(ctx, name, binary, rnd.Uint64(), "--lanes", "1")
	if err != nil {
		return false, err
	}
	if err := a.start(ctx); err != nil {
		return false, err
	}
	if err := a.p.stop(); err != nil {
		return false, err
	}
	f := []failure{{"fsync", "EIO", 0}, {"write", "ENOSPC", 0}, {"write", "EIO", 0}, {"fsync", "ENOSPC", 0}}[i%4]
	f.n = []int{1, 3, 10, 30}[(i+i/4)%4]
	paths, what, err := a.failingFiles(f)
	if err != nil {
		return false, err
	}
	t := a.p.inject(filepath.Join(filepath.Dir(a.p.data), "strace.out"), f.calls, what, paths...)
	a.p.env = []string{limping(2)}
	err = a.p.spawn()
	if err == nil {
		err = a.p.await(ctx, a.p.patience(), "/readyz")
	}
	if err == nil {
		var flying int64
		flying, err = a.load(ctx, func() error {
			for began := time.Now(); time.Since(began) < promised && len(t.hits()) == 0 && pause(ctx, 20*time.Millisecond); {
				if exited(a.p) {
					return errors.New("the program ended because its spool failed")
				}
			}
			if hits := t.hits(); len(hits) > 0 {
				met = true
				if err := a.saysWhy(ctx, f, time.UnixMicro(hits[0].at), r); err != nil {
					return err
				}
			}
			if err := a.writesAgain(ctx, f); err != nil {
				return err
			}
			pause(ctx, time.Duration(100+rnd.IntN(400))*time.Millisecond) // clicks go there again
			return a.p.kill()
		})
		r.Flying += int(flying)
	}
	a.p.wrap = nil
	if err = a.conclude(ctx, r, err); err != nil {
		return met, fmt.Errorf("%s: %w", f, err)
	}
	_, err = b.dir(name)
	return met, err
}

// saysWhy checks that /readyz names the error for as long as the spool is sure to rest after its first failure: that clicks
// wait in it, which /readyz says too, is nothing new.
func (a *arena) saysWhy(ctx context.Context, f failure, failed time.Time, r *result) error {
	const rests, enough = 900 * time.Millisecond, 5
	asked := 0
	for ; time.Since(failed) < rests && pause(ctx, 20*time.Millisecond); asked++ {
		if err := a.p.probe(ctx, "/readyz?part=grid"); err != nil && strings.Contains(err.Error(), f.text()) {
			return nil
		}
	}
	if asked < enough {
		return fmt.Errorf("%w: /readyz was asked %d times while the spool rested after %s", errLate, asked, f)
	}
	r.Wrong++
	r.note("wrong: %s of the spool, and /readyz does not say so", f)
	return nil
}

// writesAgain waits until /readyz does not name the error any more. Under load clicks may be on their way through the spool all the
// time, so it need not say that all is well.
func (a *arena) writesAgain(ctx context.Context, f failure) error {
	for began := time.Now(); ; {
		err := a.p.probe(ctx, "/readyz?part=grid")
		if err == nil || strings.Contains(err.Error(), "503 Service Unavailable") && !strings.Contains(err.Error(), f.text()) {
			return nil
		}
		if exited(a.p) {
			return errors.New("the program ended because its spool failed")
		}
		if time.Since(began) > promised {
			return fmt.Errorf("%w: the spool does not write again within %s: %w", errLate, promised, err)
		}
		if !pause(ctx, 20*time.Millisecond) {
			return ctx.Err()
		}
	}
}

// text is what the program is told.
func (f failure) text() string {
	if f.what == "ENOSPC" {
		return syscall.ENOSPC.Error()
	}
	return syscall.EIO.Error()
}

// failingFiles says which files of the spool fail, and how. strace counts a thread's calls, and the spool goes from thread to
// thread: without an end "the first call" would be every attempt that there is. So only the names that are next can fail: for a
// first call each of them, which is two attempts or more in a row; for a later one so many that a thread comes to it.
func (a *arena) failingFiles(f failure) (paths []string, what string, err error) {
	files, what := 4, "error="+f.what
	if f.n > 1 {
		files, what = 64*f.n, fmt.Sprintf("error=%s:when=%d", f.what, f.n)
	}
	dir := filepath.Join(a.p.data, "spool", "lane-0")
	there, err := os.ReadDir(dir)
	if err != nil {
		return nil, "", fmt.Errorf("look into the spool: %w", err)
	}
	last := 0 // no number is given twice: neither to a file nor to a reserve, which is there already
	for _, e := range there {
		number, _, _ := strings.Cut(e.Name(), ".")
		k, err := strconv.Atoi(number)
		if err != nil {
			return nil, "", fmt.Errorf("a file in the spool: %w", err)
		}
		last = max(last, k)
	}
	for k := range files {
		paths = append(paths, filepath.Join(dir, fmt.Sprintf("%010d.spool", last+1+k)))
	}
	return paths, what, nil
}
