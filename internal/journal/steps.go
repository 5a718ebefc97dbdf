package journal

import (
	"context"
	"errors"
)

// Steps drives a producer without its goroutines: whoever calls decides what happens next, so that a simulation can try
// every order and break off between any two steps. Each step is the code that the goroutines run. One caller at a time; a
// Steps that is simply dropped is a process that was killed.
type Steps struct {
	p *Producer
	cycle
	answer *result
}

// Steps makes the producer ready to write, in place of Start.
func (p *Producer) Steps(ctx context.Context) (*Steps, error) {
	if err := p.begin(ctx); err != nil {
		return nil, err
	}
	return &Steps{p: p}, nil
}

// Tick says that the lane has been idle for the time after which log time is to be moved.
func (s *Steps) Tick() { s.tick = true }

// Freeze encodes the next batch, and fixes its bytes unless one is in flight. It says whether a batch was launched.
func (s *Steps) Freeze() bool { return s.p.launch(&s.cycle) != nil }

// InFlight says whether a batch is on its way, answered or not.
func (s *Steps) InFlight() bool { return s.flight != nil }

// Send tries once to append the batch in flight, unless its answer is already there. It says whether the outcome is known.
func (s *Steps) Send(ctx context.Context) bool {
	if s.flight == nil || s.answer != nil {
		return s.answer != nil
	}
	seq, err := s.p.try(ctx, s.flight)
	if errors.Is(err, ErrUnknown) {
		return false
	}
	s.answer = &result{s.flight, seq, err}
	return true
}

// Resolve acts on the answer and tells the waiters. After an error the lane has stopped.
func (s *Steps) Resolve(ctx context.Context) error {
	if s.answer == nil {
		return nil
	}
	r := *s.answer
	s.answer = nil
	return s.p.land(ctx, &s.cycle, r)
}

// Pending returns how many events the lane has taken that are not durable yet.
func (p *Producer) Pending() int64 { return p.pendingEvents.Load() }

// Producers returns the producer of every lane, for who drives them by Steps.
func (l *Lanes) Producers() []*Producer { return l.producers }

// Settled says whether the outcome of the event is known, and what it is; see Wait.
func (t Ticket) Settled() (bool, error) {
	select {
	case <-t.of.done:
		return true, t.of.err
	default:
		return false, nil
	}
}
