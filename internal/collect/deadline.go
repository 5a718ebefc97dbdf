package collect

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// deadlines shares contexts between requests that began about the same time: a context with a timer of its own for each
// of a hundred thousand pixels a second would cost more than the pixel. A request gets at least the wait it asked for and
// at most an eighth more.
type deadlines struct {
	mu   sync.Mutex
	next [4]atomic.Pointer[sharedDeadline]
}

type sharedDeadline struct {
	ctx    context.Context
	cancel context.CancelFunc // runs by itself at the deadline; kept so that the timer is not lost
	until  time.Time          // when the next one is due
}

// The kinds of wait.
const (
	waitDurable = iota
	waitClick
	waitVerdict
	waitSpool
)

// get returns a context that ends wait to wait*9/8 from now. The clock is the real one: a deadline is about waiting, not
// about the time of events.
func (s *deadlines) get(kind int, wait time.Duration) context.Context {
	now := time.Now()
	if d := s.next[kind].Load(); d != nil && now.Before(d.until) {
		return d.ctx
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if d := s.next[kind].Load(); d != nil && now.Before(d.until) {
		return d.ctx
	}
	ctx, cancel := context.WithDeadline(context.Background(), now.Add(wait+wait/8))
	s.next[kind].Store(&sharedDeadline{ctx: ctx, cancel: cancel, until: now.Add(wait / 8)})
	return ctx
}
