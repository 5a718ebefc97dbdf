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
	err := l.quiet.do(do)
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

// quietThread is a thread with a lower priority. A thread may not raise its priority again, so it is one of its own; it is
// the same one for the life of a ledger. What it runs must be nearly all engine: while it runs Go code, a collection may have
// to wait for it. Its owner is who holds the ledger's write: do is never called by two at once, nor after stop.
type quietThread struct {
	work chan func() // nil before the first
}

// do runs f on the thread and returns its error.
func (q *quietThread) do(f func() error) error {
	if q.work == nil {
		q.work = make(chan func())
		go func(work <-chan func()) {
			runtime.LockOSThread() // never unlocked: that ends the thread with the goroutine
			lowerPriority()
			for f := range work {
				f()
			}
		}(q.work)
	}
	done := make(chan error, 1)
	q.work <- func() { done <- f() }
	return <-done
}

// stop ends the thread.
func (q *quietThread) stop() {
	if q.work != nil {
		close(q.work)
		q.work = nil
	}
}
