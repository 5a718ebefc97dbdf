package main

import (
	"runtime"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// coresApart returns how long a cache line takes from one processor to another, the mean of the fastest fifty trips. A host may put
// a virtual machine's processors beside each other or far apart and change its mind every few seconds, and what passes
// from process to process with every request takes that much longer. It is zero where there is one processor or none may
// be chosen, and where the two have hardly run at once.
func coresApart() time.Duration {
	var may unix.CPUSet
	if unix.SchedGetaffinity(0, &may) != nil || may.Count() < 2 || runtime.GOMAXPROCS(0) < 2 {
		return 0
	}
	var cpus []int
	for cpu := 0; len(cpus) < 2; cpu++ {
		if may.IsSet(cpu) {
			cpus = append(cpus, cpu)
		}
	}
	const (
		most       = 20 * time.Millisecond // on a busy machine the two seldom run at once
		leastTries = 10
	)
	var line struct {
		_    [128]byte
		turn atomic.Int64 // odd: the other one's
		_    [128]byte
		stop atomic.Bool
	}
	ready, done := make(chan bool, 1), make(chan struct{})
	go func() {
		defer close(done)
		ok, leave := stayOn(cpus[1], &may)
		defer leave()
		ready <- ok
		for !line.stop.Load() {
			if n := line.turn.Load(); n%2 == 1 {
				line.turn.Store(n + 1)
			}
		}
	}()
	best := make(chan time.Duration, 1)
	go func() {
		var least time.Duration
		tries := 0
		ok, leave := stayOn(cpus[0], &may)
		if <-ready && ok {
			for begin := time.Now(); time.Since(begin) < most; {
				const trips = 50
				from, n := time.Now(), line.turn.Load()
				for range int64(trips) {
					line.turn.Store(n + 1)
					for n += 2; line.turn.Load() != n; {
					}
				}
				if d := time.Since(from) / (2 * trips); least == 0 || d < least {
					least = d
				}
				tries++
			}
			if tries < leastTries {
				least = 0
			}
		}
		line.stop.Store(true)
		leave()
		best <- least
	}()
	<-done
	return <-best
}

// stayOn ties the calling goroutine to a processor until leave. The thread must outlive it: the peers that were started
// from it are killed when it ends (Pdeathsig).
func stayOn(cpu int, may *unix.CPUSet) (ok bool, leave func()) {
	runtime.LockOSThread()
	var own unix.CPUSet
	own.Set(cpu)
	ok = unix.SchedSetaffinity(0, &own) == nil
	return ok, func() {
		if unix.SchedSetaffinity(0, may) == nil {
			runtime.UnlockOSThread() // else the thread is as good as lost, and ends
		}
	}
}
