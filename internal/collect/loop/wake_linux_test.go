package loop

import (
	"slices"
	"sync"
	"testing"
	"time"
)

// bell is a handler that lets go of whoever has rung, and of requests, which it answers when it is woken.
type bell struct {
	l     *Loop
	order []string // what the loop has called, as long as there are requests

	mu      sync.Mutex
	waiting []chan struct{}
	taken   []*Conn
	first   []string // order when requests were first answered
}

func (b *bell) Take(c *Conn, data []byte) int {
	b.order = append(b.order, "take")
	b.mu.Lock()
	b.taken = append(b.taken, c)
	b.mu.Unlock()
	if string(data) == "second\n" {
		b.l.Wake() // in the middle of a round
	}
	return len(data)
}

func (b *bell) Flush() {
	if len(b.order) > 0 && b.order[len(b.order)-1] == "take" {
		b.order = append(b.order, "flush")
	}
}

func (b *bell) Woken() {
	if len(b.order) > 0 {
		b.order = append(b.order, "woken")
	}
	b.mu.Lock()
	waiting, taken := b.waiting, b.taken
	b.waiting, b.taken = nil, nil
	if len(taken) > 0 && b.first == nil {
		b.first = slices.Clone(b.order)
	}
	b.mu.Unlock()
	for _, w := range waiting {
		close(w)
	}
	for _, c := range taken {
		b.l.Answer(c, []byte("ok\n"), false)
	}
}

func (b *bell) Tick(time.Time) {}

// ring waits until the loop has been woken after it was called.
func (b *bell) ring() bool {
	w := make(chan struct{})
	b.mu.Lock()
	b.waiting = append(b.waiting, w)
	b.mu.Unlock()
	b.l.Wake()
	select {
	case <-w:
		return true
	case <-time.After(20 * time.Second):
		return false
	}
}

// TestNoWakeIsLost: rings come from many goroutines, while the loop parks, runs, ticks and is woken for others.
func TestNoWakeIsLost(t *testing.T) {
	var b *bell
	r := newRig(t, func(c *Config) {
		c.Tick = time.Millisecond
		c.Handler = func(l *Loop) Handler { b = &bell{l: l}; return b }
	})
	c := r.dial() // without connections there are no ticks
	r.say(c, "first\n")
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for i := range 5000 {
				if !b.ring() {
					t.Errorf("ring %d was not heard", i)
					return
				}
			}
		})
	}
	all.Wait()
	r.hear(c, "ok\n")
}

// TestWhatHasArrivedGoesBeforeTheAnswers: the journal works on a round's events while the answers of others are written.
func TestWhatHasArrivedGoesBeforeTheAnswers(t *testing.T) {
	var b *bell
	r := newRig(t, func(c *Config) { c.Handler = func(l *Loop) Handler { b = &bell{l: l}; return b } })
	c := r.dial()
	r.say(c, "second\n")
	r.hear(c, "ok\n")
	b.mu.Lock()
	defer b.mu.Unlock()
	if !slices.Equal(b.first, []string{"take", "flush", "woken"}) {
		t.Fatalf("order %v", b.first)
	}
}
