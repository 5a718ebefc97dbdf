package jet

import (
	"context"
	"errors"
	"fmt"
	"reflect"

	"github.com/nats-io/nats-server/v2/server"

	"milliard/internal/journal"
	"milliard/internal/planted"
)

// storeOf returns the engine's own store of a stream. The engine has no exported way to it, so it is found behind the
// account by the names of two fields, which a test holds fast: with another version of the engine no stream opens.
func storeOf(srv *server.Server, name string) (server.StreamStore, error) {
	at := reflect.ValueOf(srv.GlobalAccount())
	for _, field := range []string{"js", "streams"} {
		if at.Kind() == reflect.Pointer && !at.IsNil() && at.Elem().Kind() == reflect.Struct {
			at = at.Elem().FieldByName(field)
		}
	}
	if at.Kind() != reflect.Map || at.Type().Key().Kind() != reflect.String || at.Type().Elem().Kind() != reflect.Pointer {
		return nil, fmt.Errorf("engine %s keeps its streams elsewhere", server.VERSION)
	}
	found := at.MapIndex(reflect.ValueOf(name))
	if !found.IsValid() || found.IsNil() {
		return nil, fmt.Errorf("engine has no stream %s", name)
	}
	mset, ok := reflect.TypeAssert[interface{ Store() server.StreamStore }](reflect.NewAt(found.Type().Elem(), found.UnsafePointer()))
	if !ok {
		return nil, fmt.Errorf("engine %s does not give its stores away", server.VERSION)
	}
	return mset.Store(), nil
}

// writer hands messages to the engine's store in a goroutine of its own, because the store writes and syncs before it
// returns, however long a disk takes, while an Append must return when its time is over. The goroutine ends with the
// journal. All fields but the channels belong to who holds Stream.appending.
type writer struct {
	todo chan []byte
	done chan stored // has room for one: the goroutine never waits for a caller that has given up

	data     []byte // the store may still read it when its Append is long gone
	after    uint64 // it was to be stored behind this sequence
	underway bool   // it was handed over and its result has not been taken
}

// stored is what became of a message.
type stored struct {
	seq uint64
	err error
}

func (w *writer) start(store server.StreamStore, subject string, closed <-chan struct{}) {
	todo, done := make(chan []byte), make(chan stored, 1)
	w.todo, w.done = todo, done
	go func() {
		for {
			select {
			case data := <-todo:
				seq, _, err := store.StoreMsg(subject, nil, data, 0)
				done <- stored{seq, err}
			case <-closed:
				return
			}
		}
	}()
}

// Append stores data at last+1; see journal.Stream.
func (s *Stream) Append(ctx context.Context, last uint64, data []byte) (uint64, error) {
	if len(data) == 0 || len(data) > journal.MaxBatchBytes {
		return 0, fmt.Errorf("append %d bytes: %w", len(data), journal.ErrBadBatch)
	}
	s.appending.Lock()
	defer s.appending.Unlock()
	if err := s.failure(); err != nil {
		return 0, err
	}
	if ctx.Err() != nil {
		return 0, fmt.Errorf("append to %s: %w: %w", s.name, journal.ErrUnknown, ctx.Err())
	}
	if s.writer.underway { // an earlier attempt; what became of it is in the store's state then
		if _, err := s.await(ctx); err != nil && !errors.Is(err, journal.ErrFull) {
			return 0, err
		}
	}
	var state server.StreamState
	s.store.FastState(&state)
	if state.LastSeq != last && !planted.Is(planted.IgnoreEIO) {
		return s.compare(ctx, data, last)
	}
	s.writer.data = append(s.writer.data[:0], data...)
	select {
	case s.writer.todo <- s.writer.data:
		s.writer.after, s.writer.underway = last, true
	case <-s.j.done:
		return 0, s.failure()
	}
	return s.await(ctx)
}

// await waits for the result of the message that is with the store.
func (s *Stream) await(ctx context.Context) (uint64, error) {
	select {
	case r := <-s.writer.done:
		s.writer.underway = false
		return s.answered(r, s.writer.after)
	case <-s.j.done:
		return 0, fmt.Errorf("append to %s: %w: journal is closed", s.name, journal.ErrUnknown)
	case <-ctx.Done():
		return 0, fmt.Errorf("append to %s: %w: %w", s.name, journal.ErrUnknown, ctx.Err())
	}
}

// answered turns the store's answer into the contract's. Only a message that was refused for want of room leaves the
// stream as it was; after any other error nobody knows what the files hold until they are opened again.
func (s *Stream) answered(r stored, last uint64) (uint64, error) {
	switch {
	case r.err == nil && r.seq != last+1:
		return 0, s.stop(fmt.Errorf("appended after %d, stored as %d", last, r.seq))
	case r.err == nil:
		s.highWater.set(r.seq)
		s.advance(r.seq)
		return r.seq, nil
	case errors.Is(r.err, server.ErrMaxBytes):
		return 0, fmt.Errorf("append to %s: %w", s.name, journal.ErrFull)
	case errors.Is(r.err, server.ErrStoreClosed) && s.isClosed():
		return 0, s.failure()
	case planted.Is(planted.IgnoreEIO):
		return last + 1, nil
	}
	return 0, s.stop(r.err)
}
