package journal

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

// ErrOverloaded: the bounded queue in front of a lane is full; the event was not taken.
var ErrOverloaded = errors.New("journal queue is full")

// ErrNeverFits: the events of one call are more than the queue in front of a lane holds when it is empty. Nothing was
// taken, and the same call can never succeed; a part of it can.
var ErrNeverFits = errors.New("more at once than the journal queue holds")

// ErrTooLarge: the event alone is longer than MaxEventBytes.
var ErrTooLarge = errors.New("event is too large")

// pending is what the waiters of one batch share. Everything but done is written before done is closed and never after.
type pending struct {
	done   chan struct{}
	err    error    // why the batch is not known to be durable; nil: it is
	unsent bool     // the events were never part of a batch
	lane   int      // fixed from the start
	seq    uint64   // the batch's place in the stream
	first  []uint32 // per group: the batch row of its first event

	mu      sync.Mutex
	settled bool
	tell    []func() // called once, by whoever settles the batch
}

func newPending(lane int) *pending { return &pending{done: make(chan struct{}), lane: lane} }

func (p *pending) finish(seq uint64, err error) {
	p.seq, p.err = seq, err
	close(p.done)
	p.mu.Lock()
	tell := p.tell
	p.settled, p.tell = true, nil
	p.mu.Unlock()
	for _, f := range tell {
		f()
	}
}

// Ticket stands for one event that a lane has taken. It is small and copied by value; the zero Ticket is nobody's.
type Ticket struct {
	of    *pending
	row   uint32 // within its group
	group uint16
}

// Wait returns nil when the event is durable. When ctx ends first the outcome is unknown (ErrUnknown): the event may
// still be stored. ErrFull: it was not stored. ErrStopped: the lane is out of order, and what happened to the event is
// known only after a restart.
func (t Ticket) Wait(ctx context.Context) error {
	if t.of == nil {
		return fmt.Errorf("%w: no event", ErrStopped)
	}
	select {
	case <-t.of.done:
		return t.of.err
	default:
	}
	select {
	case <-t.of.done:
		return t.of.err
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", ErrUnknown, context.Cause(ctx))
	}
}

// With says whether both tickets are settled together, because their events are in one batch.
func (t Ticket) With(u Ticket) bool { return t.of == u.of }

// Tell has f called once when Wait would return without waiting: by the lane's goroutine, which must not be kept, or at
// once by the caller's.
func (t Ticket) Tell(f func()) {
	if t.of == nil || !t.of.telling(f) {
		f()
	}
}

// telling notes f unless the batch is settled.
func (p *pending) telling(f func()) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.settled {
		return false
	}
	p.tell = append(p.tell, f)
	return true
}

// Err is what Wait returns once the batch is settled, and ErrUnknown before.
func (t Ticket) Err() error {
	if t.of == nil {
		return fmt.Errorf("%w: no event", ErrStopped)
	}
	select {
	case <-t.of.done:
		return t.of.err
	default:
		return ErrUnknown
	}
}

// Position returns where the event stands in the journal: its lane, the sequence of its batch, and its row, counted
// through all blocks of the batch in order. It is valid after Wait has returned nil.
func (t Ticket) Position() (lane int, seq uint64, row uint32) {
	return t.of.lane, t.of.seq, t.of.first[t.group] + t.row
}
