package main

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// errLate: something has not come within the time for which this program waits. On a busy machine that says nothing, so it
// is told apart from a wrong number: the directory is judged by its files, the fault is done again, and the run ends as
// "LATE", not as "FAILED". It does not pass either. Only a quick run, which has to share its machine, forgives a tier that
// came to its end one such thing, and tells it.
var errLate = errors.New("too late")

const (
	// patience is how long is waited for what must come: many times what an idle machine needs.
	patience = 4 * time.Minute
	// promised is within what time everything must have caught up after a fault (invariant I12).
	promised = time.Minute
	// maxLate is how often a tier does a fault again because something came too late.
	maxLate = 3
)

// patience is shorter for a program with a bug: what it has stopped for does not come.
func (p *process) patience() time.Duration {
	if p.bug != "" {
		return promised
	}
	return patience
}

// tooLate notes an error that is only a matter of time. It reports false where something else is the matter too.
func (r *result) tooLate(err error) bool {
	if !errors.Is(err, errLate) || !r.clean() {
		return false
	}
	r.late("%v", brief(err))
	return true
}

func (r *result) late(format string, args ...any) {
	r.Late++
	r.note("late: "+format, args...)
}

// within waits until a condition is true, at most for as long as this program is patient. It looks every few milliseconds.
func (p *process) within(ctx context.Context, what string, done func() bool) error {
	for until := time.Now().Add(p.patience()); !done(); {
		if time.Now().After(until) {
			return fmt.Errorf("%w: %s within %s", errLate, what, p.patience())
		}
		if !pause(ctx, 30*time.Millisecond) {
			return ctx.Err()
		}
	}
	return nil
}

// stall measures by how much this program itself comes too late: what it sees of a program's times is no better.
type stall struct {
	longest time.Duration
	done    chan struct{}
}

func startStall(ctx context.Context) *stall {
	s := &stall{done: make(chan struct{})}
	go func() {
		defer close(s.done)
		const step = 10 * time.Millisecond
		for {
			began := time.Now()
			if !pause(ctx, step) {
				return
			}
			s.longest = max(s.longest, time.Since(began)-step)
		}
	}()
	return s
}

// longestOnce returns the longest one, once its context has ended.
func (s *stall) longestOnce() time.Duration {
	<-s.done
	return s.longest
}
