package mem

import (
	"context"
	"errors"
	"fmt"

	"milliard/internal/journal"
	"milliard/internal/planted"
)

// Read follows the stream from a sequence on.
func (s *Stream) Read(_ context.Context, from uint64) (journal.Reader, error) {
	if from == 0 {
		return nil, errors.New("read from sequence 0")
	}
	return &reader{s: s, next: from}, nil
}

// reader has one caller at a time.
type reader struct {
	s      *Stream
	next   uint64
	closed bool
}

// look returns the next message, or the channel that closes when there may be one.
func (r *reader) look() (m journal.Message, changed <-chan struct{}, err error) {
	if r.closed {
		return m, nil, fmt.Errorf("read %s: reader is closed: %w", r.s.name, journal.ErrStopped)
	}
	r.s.mu.Lock()
	defer r.s.mu.Unlock()
	if r.next > r.s.lastLocked() {
		if r.s.stopped {
			return m, nil, fmt.Errorf("read %s: %w", r.s.name, journal.ErrStopped)
		}
		return m, r.s.changed, nil
	}
	for m, err = r.s.getLocked(r.next); err != nil && planted.Is(planted.SkipOnGap) && r.next < r.s.lastLocked(); {
		r.next++
		m, err = r.s.getLocked(r.next)
	}
	if err != nil {
		return m, nil, err
	}
	r.next++
	return m, nil, nil
}

// Next waits for the next message.
func (r *reader) Next(ctx context.Context) (journal.Message, error) {
	for {
		m, changed, err := r.look()
		if err != nil || changed == nil {
			return m, err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return journal.Message{}, ctx.Err()
		}
	}
}

// TryNext returns the next message if there is one.
func (r *reader) TryNext() (journal.Message, bool, error) {
	m, changed, err := r.look()
	return m, err == nil && changed == nil, err
}

// Close ends the reader.
func (r *reader) Close() error {
	r.closed = true
	return nil
}
