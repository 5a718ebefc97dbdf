package mem

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"time"

	"milliard/internal/journal"
)

// Stream implements journal.Stream. A deleted message keeps its place with nil Data.
type Stream struct {
	opt  Options
	name string

	mu      sync.Mutex
	first   uint64 // sequence of msgs[0]
	msgs    []journal.Message
	bytes   int64
	lost    int
	stopped bool
	late    []byte        // a message on its way that belongs at sequence lateAt
	lateAt  uint64        // 0: none
	changed chan struct{} // closed and replaced whenever readers have something new to look at
}

// Name returns the stream's name.
func (s *Stream) Name() string { return s.name }

// lastLocked returns the last sequence.
func (s *Stream) lastLocked() uint64 { return s.first + uint64(len(s.msgs)) - 1 }

// landLocked stores a late message if its place is still free.
func (s *Stream) landLocked() {
	if s.lateAt == 0 {
		return
	}
	if s.lateAt == s.lastLocked()+1 && !s.stopped {
		s.storeLocked(s.late)
	}
	s.late, s.lateAt = nil, 0
}

func (s *Stream) storeLocked(data []byte) {
	s.msgs = append(s.msgs, journal.Message{
		Seq: s.lastLocked() + 1, Stamp: s.opt.Now().UnixNano(), Data: bytes.Clone(data),
	})
	s.bytes += int64(len(data))
	s.wakeLocked()
	if s.opt.OnStore != nil {
		s.opt.OnStore(s.name, s.msgs[len(s.msgs)-1])
	}
}

func (s *Stream) wakeLocked() {
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *Stream) stopLocked() {
	s.stopped = true
	s.wakeLocked()
}

// Append stores data at last+1; see journal.Stream.
func (s *Stream) Append(ctx context.Context, last uint64, data []byte) (uint64, error) {
	if len(data) == 0 || len(data) > journal.MaxBatchBytes {
		return 0, fmt.Errorf("append %d bytes: %w", len(data), journal.ErrBadBatch)
	}
	var f Fault
	if s.opt.OnAppend != nil {
		f = s.opt.OnAppend(s.name, last, data)
	}
	if !wait(ctx, f.Delay) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.late, s.lateAt = bytes.Clone(data), last+1 // it is on its way
		return 0, fmt.Errorf("append: %w: %w", journal.ErrUnknown, ctx.Err())
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return 0, journal.ErrStopped
	}
	s.landLocked()
	if f.Action == Full { // an engine may see that it is full before it sees that it has the message already
		return 0, journal.ErrFull
	}
	if l := s.lastLocked(); l != last {
		if l > last && last+1 >= s.first && bytes.Equal(s.msgs[last+1-s.first].Data, data) {
			return last + 1, nil
		}
		return 0, fmt.Errorf("append after %d, stream is at %d: %w", last, l, journal.ErrConflict)
	}
	if s.opt.MaxBytes > 0 && s.bytes+int64(len(data)) > s.opt.MaxBytes {
		return 0, journal.ErrFull
	}
	return s.applyLocked(f.Action, last, data)
}

func (s *Stream) applyLocked(a Action, last uint64, data []byte) (uint64, error) {
	switch a {
	case LoseMessage:
		return 0, journal.ErrUnknown
	case Late:
		s.late, s.lateAt = bytes.Clone(data), last+1
		return 0, journal.ErrUnknown
	case Stop:
		s.stopLocked()
		return 0, journal.ErrStopped
	case LoseAck:
		s.storeLocked(data)
		return 0, journal.ErrUnknown
	case Twice:
		s.storeLocked(data)
	case StopAfterSave:
		s.storeLocked(data)
		s.stopLocked()
		return 0, journal.ErrStopped
	case Store, Full: // Full was answered before
	}
	s.storeLocked(data)
	return last + 1, nil
}

// wait says whether d passed before ctx ended.
func wait(ctx context.Context, d time.Duration) bool {
	if ctx.Err() != nil {
		return false
	}
	if d <= 0 {
		return true
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// Get returns one message.
func (s *Stream) Get(_ context.Context, seq uint64) (journal.Message, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.landLocked()
	return s.getLocked(seq)
}

func (s *Stream) getLocked(seq uint64) (journal.Message, error) {
	if seq < s.first || seq > s.lastLocked() || s.msgs[seq-s.first].Data == nil {
		return journal.Message{}, fmt.Errorf("message %d of %s: %w", seq, s.name, journal.ErrGap)
	}
	m := s.msgs[seq-s.first]
	m.Data = bytes.Clone(m.Data)
	return m, nil
}

// State describes the stream.
func (s *Stream) State(context.Context) (journal.State, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.landLocked()
	st := journal.State{First: s.first, Last: s.lastLocked(), Bytes: uint64(s.bytes), Lost: s.lost, ID: "mem-" + s.name}
	for _, m := range s.msgs {
		if m.Data == nil {
			st.Deleted++
		}
	}
	st.Messages = uint64(len(s.msgs) - st.Deleted)
	return st, nil
}

// Trim deletes what is below seq; the last message stays.
func (s *Stream) Trim(_ context.Context, below uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.landLocked()
	if below > s.lastLocked() {
		return fmt.Errorf("trim %s below %d: the last message is %d", s.name, below, s.lastLocked())
	}
	for s.first < below {
		s.bytes -= int64(len(s.msgs[0].Data))
		s.msgs = s.msgs[1:]
		s.first++
	}
	return nil
}

// Delete damages the stream: one message is gone.
func (s *Stream) Delete(seq uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bytes -= int64(len(s.msgs[seq-s.first].Data))
	s.msgs[seq-s.first].Data = nil
}

// Corrupt damages the stream: edit may change a message's bytes.
func (s *Stream) Corrupt(seq uint64, edit func([]byte)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	edit(s.msgs[seq-s.first].Data)
}

// Tear damages the stream: of one message only the first n bytes are left.
func (s *Stream) Tear(seq uint64, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := &s.msgs[seq-s.first]
	n = min(n, len(m.Data))
	s.bytes -= int64(len(m.Data) - n)
	m.Data = m.Data[:n]
}

// Unwrite takes the last message back: it was written and never synced, nobody was told, and the power failed.
func (s *Stream) Unwrite() {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := len(s.msgs) - 1
	s.bytes -= int64(len(s.msgs[n].Data))
	s.msgs = s.msgs[:n]
}

// Regress damages the stream: everything after last is gone and its numbers will be used again.
func (s *Stream) Regress(last uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lost += int(s.lastLocked() - last)
	for s.lastLocked() > last {
		n := len(s.msgs) - 1
		s.bytes -= int64(len(s.msgs[n].Data))
		s.msgs = s.msgs[:n]
	}
}

var _ journal.Stream = (*Stream)(nil)
