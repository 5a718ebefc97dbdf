package jet

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"sync"
	"sync/atomic"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"

	"milliard/internal/journal"
)

// Stream implements journal.Stream.
type Stream struct {
	j       *Journal
	name    string
	subject string
	id      string
	reads   prometheus.Counter

	get    *nats.Conn
	store  server.StreamStore
	stored layout

	last atomic.Uint64 // the last sequence known to be durable

	reached uint64 // what highWater said when the stream was opened

	appending sync.Mutex // held through an Append: the contract has one at a time, a mistake must not mix two
	writer    writer     // under appending
	highWater highWater  // under appending

	mu      sync.Mutex
	changed chan struct{} // closed and replaced when last grows
	stopped error         // the engine could not write; nothing is acknowledged any more
}

// Name returns the stream's name.
func (s *Stream) Name() string { return s.name }

func (s *Stream) isClosed() bool {
	select {
	case <-s.j.done:
		return true
	default:
		return false
	}
}

// failure returns why the stream takes nothing any more.
func (s *Stream) failure() error {
	if s.isClosed() {
		return fmt.Errorf("stream %s: journal is closed: %w", s.name, journal.ErrStopped)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stopped
}

func (s *Stream) stop(cause error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped == nil {
		s.stopped = fmt.Errorf("stream %s: %w: %w", s.name, journal.ErrStopped, cause)
		s.j.log.Error("journal stream stopped", "stream", s.name, "err", cause)
	}
	return s.stopped
}

// errNoLook says that the engine did not get as far as looking at a stream.
var errNoLook = errors.New("the engine did not look at the stream")

// healthLooks is how often the engine is asked in a row when it does not look.
const healthLooks = 10

// writeError asks the engine whether it has given up, or frozen the stream after a failed write of its own. What our appends
// meet their own answers tell; a store that a failed trim has frozen shows at the next append.
// Before it looks at a stream the engine looks at itself: it says no when a processor has been away for a millisecond at the
// wrong moment, and knows no stream when it may not open one more file. Such an answer is errNoLook.
func (s *Stream) writeError() (err error) {
	for range healthLooks {
		h := s.j.healthz(&server.HealthzOptions{Account: account, Stream: s.name, Details: true})
		if len(h.Errors) == 0 {
			return nil
		}
		for _, e := range h.Errors {
			frozen := e.Type == server.HealthzErrorStream && h.StatusCode != http.StatusNotFound
			if frozen || e.Type == server.HealthzErrorJetStream {
				return errors.New(e.Error)
			}
			err = fmt.Errorf("%w: %s", errNoLook, e.Error)
		}
	}
	return err
}

// compare decides what a wrong last sequence means: an earlier attempt with the same bytes, or somebody else.
func (s *Stream) compare(ctx context.Context, data []byte, last uint64) (uint64, error) {
	m, err := s.Get(ctx, last+1)
	switch {
	case errors.Is(err, journal.ErrGap):
		return 0, fmt.Errorf("append to %s after %d: %w: nothing stands there", s.name, last, journal.ErrConflict)
	case errors.Is(err, journal.ErrStopped):
		return 0, err
	case err != nil:
		return 0, fmt.Errorf("append to %s: %w: %w", s.name, journal.ErrUnknown, err)
	case !bytes.Equal(m.Data, data):
		return 0, fmt.Errorf("append to %s after %d: %w", s.name, last, journal.ErrConflict)
	}
	switch err := s.writeError(); {
	case errors.Is(err, errNoLook):
		return 0, fmt.Errorf("append to %s: %w: %w", s.name, journal.ErrUnknown, err)
	case err != nil:
		return 0, s.stop(err)
	}
	s.advance(last + 1)
	return last + 1, nil
}

// advance tells the readers that the stream is durable up to seq.
func (s *Stream) advance(seq uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if seq <= s.last.Load() {
		return
	}
	s.last.Store(seq)
	close(s.changed)
	s.changed = make(chan struct{})
}

// grown returns a channel that closes when the stream is durable beyond what it is now.
func (s *Stream) grown() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.changed
}

// findHighWater looks up how far the stream was acknowledged. One that ends before that takes nothing: its numbers would
// be given out a second time. Where another stream was, one that holds something has been put into its place, and is the
// journal now.
func (s *Stream) findHighWater() (err error) {
	if s.j.opt.HighWater == "" {
		return nil
	}
	s.highWater = highWater{path: filepath.Join(s.j.opt.HighWater, s.name), stream: s.id, log: s.j.log}
	reached, other, err := s.highWater.read()
	if err != nil {
		return err
	}
	last := s.last.Load()
	if reached == 0 && last == 0 {
		reached = other // the stream was made because the one that had been here is gone
	}
	if s.reached = reached; reached > last {
		_ = s.stop(fmt.Errorf("%w: it ends at %d and was acknowledged to %d", journal.ErrGap, last, reached))
	}
	return nil
}

// Get returns one message.
func (s *Stream) Get(ctx context.Context, seq uint64) (journal.Message, error) {
	in := make(chan fetched, 2)
	go s.fetch(in, seq, 1)
	var f fetched
	select {
	case f = <-in:
	case <-ctx.Done():
		f.err = ctx.Err()
	}
	switch {
	case f.end: // it did not even begin
		f.err = journal.ErrStopped
	case f.err == nil && f.msg.Seq != seq:
		f.err = fmt.Errorf("%w: got %d", journal.ErrGap, f.msg.Seq)
	}
	if f.err != nil {
		return journal.Message{}, fmt.Errorf("message %d of %s: %w", seq, s.name, f.err)
	}
	return f.msg, nil
}

// State asks the engine.
func (s *Stream) State(ctx context.Context) (journal.State, error) {
	info, err := s.info(ctx, true)
	if err != nil {
		return journal.State{}, fmt.Errorf("state of %s: %w", s.name, err)
	}
	st := journal.State{
		First: info.State.FirstSeq, Last: info.State.LastSeq, Messages: info.State.Msgs, Bytes: info.State.Bytes,
		Deleted: info.State.NumDeleted, ID: s.id, HighWater: s.reached,
	}
	if st.Messages == 0 { // the engine numbers an empty stream in its own way
		st.First, st.Deleted = st.Last+1, 0
	}
	if info.State.Lost != nil {
		st.Lost = lostUpTo(info.State.Lost.Msgs, st.Last)
	}
	return st, nil
}

// lostUpTo counts the messages that stood in the stream and are lost. The engine also reports one that it could not write
// to its end, on a full disk: that one was refused, nobody was told that it stands there, and its number is given again.
func lostUpTo(seqs []uint64, last uint64) int {
	n := 0
	for _, seq := range seqs {
		if seq <= last {
			n++
		}
	}
	return n
}

// health returns why the stream cannot be written or trusted.
func (s *Stream) health(ctx context.Context) error {
	if err := s.failure(); err != nil {
		return err
	}
	switch err := s.writeError(); {
	case errors.Is(err, errNoLook):
		return fmt.Errorf("stream %s: %w", s.name, err)
	case err != nil:
		return s.stop(err)
	}
	st, err := s.State(ctx)
	if err != nil {
		return err
	}
	if missing := journal.Missing(s.j.opt.Gaps[s.name], st.First, st.Last); st.Deleted > missing || st.Lost > missing {
		return fmt.Errorf("stream %s: %w: %d missing inside, %d lost", s.name, journal.ErrGap, st.Deleted, st.Lost)
	}
	return nil
}

func (s *Stream) close() {
	if s.get != nil {
		s.get.Close()
	}
	s.appending.Lock()
	defer s.appending.Unlock()
	s.highWater.close()
}

var _ journal.Stream = (*Stream)(nil)
