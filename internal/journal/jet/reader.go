package jet

import (
	"context"
	"errors"
	"fmt"
	"reflect"

	"github.com/nats-io/nats-server/v2/server"

	"milliard/internal/durable"
	"milliard/internal/journal"
	"milliard/internal/planted"
)

// A reader has messages fetched from the engine's store in portions, and keeps two portions under way: the store is
// locked while it writes and syncs, and who reads had better do something else meanwhile. The engine keeps no state for
// it. A fetch is a goroutine that ends with its portion.
const (
	fetchBytes  = 1 << 20 // aimed at per portion
	minPerFetch = 8
	maxPerFetch = 64
	maxUnderway = 2
)

// fetched is a message, or why there is none, or the end of a portion.
type fetched struct {
	msg journal.Message
	err error
	end bool
}

// reader has one caller at a time.
type reader struct {
	s    *Stream
	in   chan fetched // has room for everything that is under way
	held []fetched    // taken off in by wait

	next     uint64        // to be returned
	asked    uint64        // the next to ask for
	brought  chan struct{} // closed behind the portion that was asked for last
	underway int           // portions without their end mark
	size     int           // running average of a message's bytes
	err      error         // what ended the reader
}

// portions has room for everything that may be under way.
func portions() chan fetched { return make(chan fetched, maxUnderway*(maxPerFetch+1)) }

// Read follows the stream from a sequence on.
func (s *Stream) Read(_ context.Context, from uint64) (journal.Reader, error) {
	if from == 0 {
		return nil, errors.New("read from sequence 0")
	}
	if s.isClosed() { // a stream that cannot be written can still be read
		return nil, s.failure()
	}
	return &reader{s: s, in: portions(), next: from, asked: from, size: 64 << 10}, nil
}

// ask keeps fetches under way as long as there is something to read.
func (r *reader) ask() {
	for r.underway < maxUnderway {
		last := r.s.last.Load()
		if r.asked > last {
			return
		}
		n := min(max(fetchBytes/max(r.size, 1), minPerFetch), maxPerFetch)
		n = int(min(uint64(n), last-r.asked+1))
		if r.underway > 0 && n < minPerFetch { // a small portion beside another gains nothing
			return
		}
		before, after := r.brought, make(chan struct{})
		r.brought = after
		go func(to chan<- fetched, seq uint64) {
			defer close(after)
			if before != nil { // portions come in order
				<-before
			}
			r.s.fetch(to, seq, n)
		}(r.in, r.asked)
		r.asked += uint64(n)
		r.underway++
	}
}

// fetch loads n messages from a sequence on, up to the first that is not there.
func (s *Stream) fetch(to chan<- fetched, seq uint64, n int) {
	for range n {
		if s.isClosed() {
			break
		}
		m, err := s.load(seq)
		to <- fetched{msg: m, err: err}
		if err != nil {
			break
		}
		seq = m.Seq + 1
	}
	to <- fetched{end: true}
}

// load reads one message. What the engine says of it is a gap, what the operating system says is not: then the engine has
// not seen the message.
func (s *Stream) load(seq uint64) (journal.Message, error) {
	sm, err := s.store.LoadMsg(seq, nil)
	if err != nil && planted.Is(planted.SkipOnGap) {
		sm, _, err = s.store.LoadNextMsg(">", true, seq, nil)
	}
	switch {
	case err == nil:
		return s.stored.message(sm), nil
	case errors.Is(err, server.ErrStoreClosed):
		return journal.Message{}, journal.ErrStopped
	case durable.Passing(err):
		return journal.Message{}, fmt.Errorf("%w: message %d: %w", journal.ErrUnavailable, seq, err)
	}
	return journal.Message{}, fmt.Errorf("%w: message %d: %w", journal.ErrGap, seq, err)
}

// layout is where the engine's record of a message has its parts, which have no exported names.
type layout struct{ seq, stamp, data int }

// findLayout looks for the parts by name and type; see storeOf.
func findLayout() (layout, error) {
	record := reflect.TypeFor[server.StoreMsg]()
	at := func(name string, kind reflect.Type) (int, error) {
		f, ok := record.FieldByName(name)
		if !ok || f.Type != kind || len(f.Index) != 1 {
			return 0, fmt.Errorf("engine %s has messages without %s %s", server.VERSION, name, kind)
		}
		return f.Index[0], nil
	}
	var l layout
	var errs [3]error
	l.seq, errs[0] = at("seq", reflect.TypeFor[uint64]())
	l.stamp, errs[1] = at("ts", reflect.TypeFor[int64]())
	l.data, errs[2] = at("msg", reflect.TypeFor[[]byte]())
	return l, errors.Join(errs[:]...)
}

// message takes the parts of a record that was loaded for us alone.
func (l *layout) message(sm *server.StoreMsg) journal.Message {
	v := reflect.ValueOf(sm).Elem()
	return journal.Message{Seq: v.Field(l.seq).Uint(), Stamp: v.Field(l.stamp).Int(), Data: v.Field(l.data).Bytes()}
}

// fail ends the reader, unless the error passes.
func (r *reader) fail(err error) error {
	if r.s.isClosed() {
		err = journal.ErrStopped
	}
	err = fmt.Errorf("read %s at %d: %w", r.s.name, r.next, err)
	if errors.Is(err, journal.ErrUnavailable) {
		r.startOver()
	} else {
		r.err = err
	}
	return err
}

// startOver asks for the next message anew. The portions under way lie behind it: they end in a channel that nobody reads.
func (r *reader) startOver() {
	r.in, r.held = portions(), nil
	r.asked, r.brought, r.underway = r.next, nil, 0
}

// take looks at one result. ok is false when it was only an end mark.
func (r *reader) take(f fetched) (msg journal.Message, ok bool, err error) {
	if f.end {
		if r.underway--; r.underway == 0 && r.next < r.asked { // what was asked for is not there
			return msg, false, r.fail(fmt.Errorf("%w: messages to %d are missing", journal.ErrGap, r.asked-1))
		}
		r.ask()
		return msg, false, nil
	}
	if f.err != nil {
		return msg, false, r.fail(f.err)
	}
	if planted.Is(planted.SkipOnGap) {
		r.next = max(r.next, f.msg.Seq)
	}
	if f.msg.Seq != r.next {
		return journal.Message{}, false, r.fail(fmt.Errorf("%w: found %d", journal.ErrGap, f.msg.Seq))
	}
	r.next++
	r.size += (len(f.msg.Data) - r.size) / 8
	r.s.reads.Inc()
	return f.msg, true, nil
}

// TryNext returns the next message when it is here. At the end of the stream it costs an atomic load.
func (r *reader) TryNext() (journal.Message, bool, error) {
	if r.err != nil {
		return journal.Message{}, false, r.err
	}
	if r.underway == 0 && r.next > r.s.last.Load() {
		if r.s.isClosed() {
			return journal.Message{}, false, r.fail(journal.ErrStopped)
		}
		return journal.Message{}, false, nil
	}
	r.ask()
	for {
		f, ok := r.poll()
		if !ok {
			return journal.Message{}, false, nil
		}
		if msg, ok, err := r.take(f); ok || err != nil {
			return msg, ok, err
		}
	}
}

// poll returns a result that is here.
func (r *reader) poll() (fetched, bool) {
	if n := len(r.held); n > 0 {
		f := r.held[n-1]
		r.held = r.held[:0]
		return f, true
	}
	select {
	case f := <-r.in:
		return f, true
	default:
		return fetched{}, false
	}
}

// Next waits for the next message.
func (r *reader) Next(ctx context.Context) (journal.Message, error) {
	for {
		grown := r.s.grown() // before looking, or a message between the two would be missed
		msg, ok, err := r.TryNext()
		if ok || err != nil {
			return msg, err
		}
		if err := r.wait(ctx, grown); err != nil {
			return journal.Message{}, err
		}
	}
}

// wait returns when TryNext may have something.
func (r *reader) wait(ctx context.Context, grown <-chan struct{}) error {
	if r.underway > 0 {
		grown = nil // the portion comes first
	}
	select {
	case f := <-r.in:
		r.held = append(r.held, f)
	case <-grown:
	case <-r.s.j.done:
		return r.fail(journal.ErrStopped)
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}

// Close ends the reader. A fetch that is under way has room for what it brings.
func (r *reader) Close() error {
	if r.err == nil {
		r.err = fmt.Errorf("read %s: reader is closed: %w", r.s.name, journal.ErrStopped)
	}
	return nil
}
