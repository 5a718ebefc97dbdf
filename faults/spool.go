package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
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
	f.n = []int{1, 3, 10, 30}[i/4%4]
	var paths []string
	for n := range 200 { // a drained file is removed, and the next one has another name
		paths = append(paths, filepath.Join(a.p.data, "spool", "lane-0", fmt.Sprintf("%010d.spool", n+1)))
	}
	t := a.p.inject(filepath.Join(filepath.Dir(a.p.data), "strace.out"), f.calls, fmt.Sprintf("error=%s:when=%d", f.what, f.n), paths...)
	a.p.env = []string{limping(2)}
	err = a.p.spawn()
	if err == nil {
		err = a.p.await(ctx, a.p.patience(), "/readyz")
	}
	if err == nil {
		var flying int64
		flying, err = a.load(ctx, func() error {
			for began := time.Now(); time.Since(began) < promised && len(t.hits()) == 0 && pause(ctx, 50*time.Millisecond); {
				if exited(a.p) {
					return errors.New("the program ended because its spool failed")
				}
			}
			pause(ctx, time.Duration(100+rnd.IntN(400))*time.Millisecond)
			if met = len(t.hits()) > 0; met && a.wellFor(ctx, maxAnswer, "/readyz?part=grid") {
				r.Wrong++
				r.note("wrong: %s of the spool, and /readyz says that all is well", f)
			}
			if err := a.p.await(ctx, a.p.patience(), "/readyz?part=grid"); err != nil {
				return fmt.Errorf("the spool has not tried again: %w", err)
			}
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
