package duck

import (
	"context"
	"runtime"
	"time"
)

// longestRest bounds how long upkeep waits after a piece of upkeep.
const longestRest = 500 * time.Millisecond

// upkeep runs a checkpoint or a step of compaction, which take a whole core for some hundred milliseconds, so that the
// doors notice little of it: on a thread that yields, and with a rest before the next one, in which those that have fallen
// behind meanwhile catch up.
func (l *Ledger) upkeep(do func() error) error {
	began := time.Now()
	err := yielding(do)
	end := time.Now()
	l.restUntil.Store(end.Add(min(end.Sub(began), longestRest)).UnixNano())
	return err
}

// rest waits until the next piece of upkeep may begin. The caller does not hold the lock: flushes do not wait.
func (l *Ledger) rest(ctx context.Context) error {
	wait := time.Until(time.Unix(0, l.restUntil.Load()))
	if wait <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// yielding runs do on a thread of its own with a lower priority. A thread may not raise its priority again, so it ends
// with do. It must be nearly all engine: while it runs Go code, a collection may have to wait for it.
func yielding(do func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: that ends the thread with the goroutine
		lowerPriority()
		done <- do()
	}()
	return <-done
}
