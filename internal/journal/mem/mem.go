// Package mem is the journal in memory: the same contract as jet, with faults injected on request. It is for tests and
// for simulation and keeps nothing. It starts no goroutine and reads no clock but the one it is given; a fault is
// decided by the caller's hook, so a run is as deterministic as its callers. It must not be used for real events.
package mem

import (
	"context"
	"fmt"
	"sync"
	"time"

	"milliard/internal/journal"
)

// Action is what happens to one Append.
type Action uint8

// The faults of an Append.
const (
	Store         Action = iota // no fault
	LoseAck                     // stored; the answer is lost: ErrUnknown
	LoseMessage                 // not stored, and nobody knows: ErrUnknown
	Late                        // ErrUnknown; stored just before the stream's next operation, if it still fits
	Twice                       // stored two times in a row; the answer names the first
	Full                        // ErrFull, not stored
	Stop                        // ErrStopped, not stored; the stream stays stopped until Reopen
	StopAfterSave               // stored, yet ErrStopped, as after a failed fsync
)

// Fault is an action and how long the Append takes before it.
type Fault struct {
	Action Action
	Delay  time.Duration
}

// Options of a journal.
type Options struct {
	MaxBytes int64                                            // per stream; 0 is no limit
	Now      func() time.Time                                 // stamps; nil is time.Now
	OnAppend func(stream string, last uint64, d []byte) Fault // nil: no faults
	// OnStore sees every message that is stored; it must not call the stream. When it panics, the message is stored and
	// its answer is lost, as when the process is killed in between.
	OnStore func(stream string, m journal.Message)
}

// Journal implements journal.Journal.
type Journal struct {
	opt Options

	mu      sync.Mutex
	streams map[string]*Stream
	closed  bool
}

// Open returns an empty journal.
func Open(opt Options) *Journal {
	if opt.Now == nil {
		opt.Now = time.Now
	}
	return &Journal{opt: opt, streams: make(map[string]*Stream)}
}

// Stream opens or makes a stream.
func (j *Journal) Stream(name string) (journal.Stream, error) { return j.Mem(name) }

// Mem is Stream with the concrete type, which has the damaging methods.
func (j *Journal) Mem(name string) (*Stream, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.closed {
		return nil, fmt.Errorf("open stream %s: %w", name, journal.ErrStopped)
	}
	s := j.streams[name]
	if s == nil {
		s = &Stream{opt: j.opt, name: name, first: 1, changed: make(chan struct{})}
		j.streams[name] = s
	}
	return s, nil
}

// Health names a stream that has stopped.
func (j *Journal) Health() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.closed {
		return journal.ErrStopped
	}
	for _, s := range j.streams {
		s.mu.Lock()
		stopped := s.stopped
		s.mu.Unlock()
		if stopped {
			return fmt.Errorf("stream %s: %w", s.name, journal.ErrStopped)
		}
	}
	return nil
}

// Close stops every stream; readers that wait get ErrStopped. What is stored stays for Reopen.
func (j *Journal) Close(context.Context) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.closed = true
	for _, s := range j.streams {
		s.mu.Lock()
		s.stopLocked()
		s.mu.Unlock()
	}
	return nil
}

// Reopen is a restart: it returns a journal with what this one has stored. Messages on the way (Late) are lost.
func (j *Journal) Reopen(opt Options) *Journal {
	n := Open(opt)
	j.mu.Lock()
	defer j.mu.Unlock()
	for name, s := range j.streams {
		s.mu.Lock()
		n.streams[name] = &Stream{
			opt: n.opt, name: name, first: s.first, lost: s.lost, bytes: s.bytes,
			msgs: append([]journal.Message(nil), s.msgs...), changed: make(chan struct{}),
		}
		s.mu.Unlock()
	}
	return n
}

var _ journal.Journal = (*Journal)(nil)
