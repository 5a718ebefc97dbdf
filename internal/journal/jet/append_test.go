package jet

import (
	"bytes"
	"context"
	"errors"
	"testing"

	"github.com/nats-io/nats-server/v2/server"

	"milliard/internal/journal"
)

// stuck is a store that takes a message and returns only when it is let go.
type stuck struct {
	server.StreamStore
	begun, leave chan struct{}
}

func (s *stuck) StoreMsg(subject string, hdr, msg []byte, ttl int64) (uint64, int64, error) {
	close(s.begun)
	<-s.leave
	return s.StreamStore.StoreMsg(subject, hdr, msg, ttl)
}

// TestAnAppendDoesNotWaitForTheDisk: what became of it is found out by the next attempt, which stores nothing twice.
func TestAnAppendDoesNotWaitForTheDisk(t *testing.T) {
	j, err := Open(t.Context(), Options{Dir: t.TempDir(), InstallID: "i", MaxBytes: 1 << 30})
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close(context.Background())
	opened, err := j.Stream("lane-0")
	if err != nil {
		t.Fatal(err)
	}
	s := opened.(*Stream)
	if seq, err := s.Append(t.Context(), 0, []byte("first")); err != nil || seq != 1 {
		t.Fatal(seq, err)
	}
	slow := &stuck{StreamStore: s.store, begun: make(chan struct{}), leave: make(chan struct{})}
	s.writer.start(slow, s.subject, j.done)

	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-slow.begun
		cancel()
	}()
	data := []byte("second")
	if _, err := s.Append(ctx, 1, data); !errors.Is(err, journal.ErrUnknown) {
		t.Fatal(err)
	}
	clear(data) // the store has not read it yet
	if _, err := s.Append(ctx, 1, []byte("second")); !errors.Is(err, journal.ErrUnknown) {
		t.Fatal(err)
	}
	close(slow.leave)
	if seq, err := s.Append(t.Context(), 1, []byte("second")); err != nil || seq != 2 {
		t.Fatal(seq, err)
	}
	st, err := s.State(t.Context())
	if err != nil || st.Last != 2 {
		t.Fatalf("%+v, %v", st, err)
	}
	if m, err := s.Get(t.Context(), 2); err != nil || !bytes.Equal(m.Data, []byte("second")) {
		t.Fatalf("%q, %v", m.Data, err)
	}
}

// TestErrorsOfTheStore: a message that is refused for want of room stops nothing; an error of the disk stops the stream for good.
func TestErrorsOfTheStore(t *testing.T) {
	j, err := Open(t.Context(), Options{Dir: t.TempDir(), InstallID: "i", MaxBytes: 1 << 30})
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close(context.Background())
	opened, err := j.Stream("lane-0")
	if err != nil {
		t.Fatal(err)
	}
	s := opened.(*Stream)
	for _, c := range []struct {
		result stored
		want   error
		health bool
	}{
		{stored{err: server.ErrMaxBytes}, journal.ErrFull, true},
		{stored{err: errors.New("input/output error")}, journal.ErrStopped, false},
		{stored{seq: 1}, journal.ErrStopped, false}, // a stopped stream answers nobody, whatever the disk says now
	} {
		todo, done := make(chan []byte), make(chan stored, 1)
		s.writer.todo, s.writer.done = todo, done
		go func() {
			select {
			case <-todo:
				done <- c.result
			case <-t.Context().Done():
			}
		}()
		if _, err := s.Append(t.Context(), 0, []byte("x")); !errors.Is(err, c.want) {
			t.Errorf("%+v: %v", c.result, err)
		}
		if err := j.Health(); (err == nil) != c.health {
			t.Errorf("%+v: health %v", c.result, err)
		}
	}
}
