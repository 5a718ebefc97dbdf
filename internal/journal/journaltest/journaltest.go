// Package journaltest is the conformance suite of journal.Journal: jet and mem pass the same tests, so that what is
// proved against mem holds for the engine. It is imported by tests only.
package journaltest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"milliard/internal/journal"
)

// Opener makes a fresh journal for one test. reopen closes the journal and opens the same data again.
type Opener func(t *testing.T) (j journal.Journal, reopen func() journal.Journal)

const patience = 20 * time.Second

// Run runs the whole suite.
func Run(t *testing.T, open Opener) {
	for _, c := range []struct {
		name string
		run  func(*testing.T, Opener)
	}{
		{"append and read in order", testOrder},
		{"the same bytes again are the same message", testResend},
		{"other bytes at the same place conflict", testConflict},
		{"a message that breaks the limits is refused and nothing is stored", testLimits},
		{"a reader follows", testFollow},
		{"a waiting reader ends with its context", testReaderContext},
		{"a reader from the middle", testMiddle},
		{"trim keeps the sequence going and leaves a gap below", testTrim},
		{"get", testGet},
		{"data belongs to the caller", testOwnership},
		{"two readers and a writer at once", testParallel},
		{"streams are independent", testStreams},
		{"an ended context makes the outcome unknown", testUnknown},
		{"reopen continues", testReopen},
		{"a closed journal refuses", testClosed},
	} {
		t.Run(c.name, func(t *testing.T) { c.run(t, open) })
	}
}

func stream(t *testing.T, j journal.Journal, name string) journal.Stream {
	t.Helper()
	s, err := j.Stream(name)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func message(i uint64) []byte {
	return fmt.Appendf(nil, "message %d %s", i, bytes.Repeat([]byte{'x'}, int(i%977)))
}

func fill(t *testing.T, s journal.Stream, from, to uint64) {
	t.Helper()
	for i := from; i <= to; i++ {
		seq, err := s.Append(t.Context(), i-1, message(i))
		if err != nil || seq != i {
			t.Fatalf("append %d: seq %d, %v", i, seq, err)
		}
	}
}

func expect(t *testing.T, r journal.Reader, from, to uint64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for i := from; i <= to; i++ {
		m, err := r.Next(ctx)
		if err != nil {
			t.Fatalf("next %d: %v", i, err)
		}
		if m.Seq != i || !bytes.Equal(m.Data, message(i)) {
			t.Fatalf("next %d: got seq %d, %d bytes", i, m.Seq, len(m.Data))
		}
	}
}

func reader(t *testing.T, s journal.Stream, from uint64) journal.Reader {
	t.Helper()
	r, err := s.Read(t.Context(), from)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

func testOrder(t *testing.T, open Opener) {
	j, _ := open(t)
	s := stream(t, j, "lane-0")
	before := time.Now().Add(-time.Minute).UnixNano()
	fill(t, s, 1, 300)
	r := reader(t, s, 1)
	expect(t, r, 1, 300)
	if _, ok, err := r.TryNext(); ok || err != nil {
		t.Fatalf("try at the end: %v %v", ok, err)
	}
	st, err := s.State(t.Context())
	if err != nil || st.First != 1 || st.Last != 300 || st.Messages != 300 || st.Deleted != 0 || st.Lost != 0 || st.ID == "" {
		t.Fatalf("state %+v, %v", st, err)
	}
	m, err := s.Get(t.Context(), 300)
	if err != nil || m.Stamp < before || m.Stamp > time.Now().Add(time.Minute).UnixNano() {
		t.Fatalf("stamp %d, %v", m.Stamp, err)
	}
	if err := j.Health(); err != nil {
		t.Fatal(err)
	}
}

func testResend(t *testing.T, open Opener) {
	j, _ := open(t)
	s := stream(t, j, "lane-0")
	fill(t, s, 1, 3)
	for _, i := range []uint64{3, 2, 1, 3} {
		if seq, err := s.Append(t.Context(), i-1, message(i)); err != nil || seq != i {
			t.Fatalf("again %d: seq %d, %v", i, seq, err)
		}
	}
	if st, err := s.State(t.Context()); err != nil || st.Last != 3 {
		t.Fatalf("state %+v, %v", st, err)
	}
	fill(t, s, 4, 4)
}

func testConflict(t *testing.T, open Opener) {
	j, _ := open(t)
	s := stream(t, j, "lane-0")
	fill(t, s, 1, 3)
	if _, err := s.Append(t.Context(), 2, []byte("other")); !errors.Is(err, journal.ErrConflict) {
		t.Fatalf("other bytes behind the end: %v", err)
	}
	if _, err := s.Append(t.Context(), 5, []byte("other")); !errors.Is(err, journal.ErrConflict) {
		t.Fatalf("ahead of the end: %v", err)
	}
	fill(t, s, 4, 4)
}

func testLimits(t *testing.T, open Opener) {
	j, _ := open(t)
	s := stream(t, j, "lane-0")
	if _, err := s.Append(t.Context(), 0, nil); err == nil {
		t.Fatal("an empty message was stored")
	}
	if _, err := s.Append(t.Context(), 0, make([]byte, journal.MaxBatchBytes+1)); err == nil {
		t.Fatal("a message over the limit was stored")
	}
	if _, err := s.Append(t.Context(), 0, make([]byte, journal.MaxBatchBytes)); err != nil {
		t.Fatalf("a message at the limit: %v", err)
	}
	if st, err := s.State(t.Context()); err != nil || st.Last != 1 {
		t.Fatalf("state %+v, %v", st, err)
	}
	if _, err := s.Read(t.Context(), 0); err == nil {
		t.Fatal("sequence 0 was accepted")
	}
}

func testFollow(t *testing.T, open Opener) {
	j, _ := open(t)
	s := stream(t, j, "lane-0")
	r := reader(t, s, 1)
	for i := uint64(1); i <= 50; i++ {
		if _, ok, err := r.TryNext(); ok || err != nil {
			t.Fatalf("try before %d: %v %v", i, ok, err)
		}
		got := make(chan journal.Message, 1)
		fail := make(chan error, 1)
		go func() {
			m, err := r.Next(t.Context())
			got <- m
			fail <- err
		}()
		fill(t, s, i, i)
		select {
		case m := <-got:
			if err := <-fail; err != nil || m.Seq != i || !bytes.Equal(m.Data, message(i)) {
				t.Fatalf("follow %d: seq %d, %v", i, m.Seq, err)
			}
		case <-time.After(patience):
			t.Fatalf("follow %d: nothing came", i)
		}
	}
}

func testReaderContext(t *testing.T, open Opener) {
	j, _ := open(t)
	s := stream(t, j, "lane-0")
	fill(t, s, 1, 1)
	r := reader(t, s, 1)
	expect(t, r, 1, 1)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := r.Next(ctx)
		done <- err
	}()
	cancel()
	select {
	case err := <-done:
		if !errors.Is(err, context.Canceled) {
			t.Fatalf("got %v", err)
		}
	case <-time.After(patience):
		t.Fatal("the reader did not return")
	}
	fill(t, s, 2, 2)
	expect(t, r, 2, 2) // and it is still usable
}

func testMiddle(t *testing.T, open Opener) {
	j, _ := open(t)
	s := stream(t, j, "lane-0")
	fill(t, s, 1, 120)
	expect(t, reader(t, s, 77), 77, 120)
	ahead := reader(t, s, 123)
	fill(t, s, 121, 125)
	expect(t, ahead, 123, 125)
}

func testTrim(t *testing.T, open Opener) {
	j, _ := open(t)
	s := stream(t, j, "lane-0")
	fill(t, s, 1, 100)
	slow := reader(t, s, 1)
	expect(t, slow, 1, 1)
	if err := s.Trim(t.Context(), 101); err == nil {
		t.Fatal("the last message was trimmed")
	}
	if err := s.Trim(t.Context(), 60); err != nil {
		t.Fatal(err)
	}
	if err := s.Trim(t.Context(), 60); err != nil {
		t.Fatalf("the same again: %v", err)
	}
	st, err := s.State(t.Context())
	if err != nil || st.First != 60 || st.Last != 100 || st.Messages != 41 {
		t.Fatalf("state %+v, %v", st, err)
	}
	expect(t, reader(t, s, 60), 60, 100)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if _, err := reader(t, s, 59).Next(ctx); !errors.Is(err, journal.ErrGap) {
		t.Fatalf("below the trim: %v", err)
	}
	if _, err := s.Get(t.Context(), 59); !errors.Is(err, journal.ErrGap) {
		t.Fatalf("get below the trim: %v", err)
	}
	if err := s.Trim(t.Context(), 100); err != nil {
		t.Fatal(err)
	}
	fill(t, s, 101, 105)
	expect(t, reader(t, s, 100), 100, 105)
}

func testGet(t *testing.T, open Opener) {
	j, _ := open(t)
	s := stream(t, j, "lane-0")
	if _, err := s.Get(t.Context(), 1); !errors.Is(err, journal.ErrGap) {
		t.Fatalf("get from an empty stream: %v", err)
	}
	fill(t, s, 1, 10)
	for _, i := range []uint64{1, 10, 5} {
		if m, err := s.Get(t.Context(), i); err != nil || m.Seq != i || !bytes.Equal(m.Data, message(i)) {
			t.Fatalf("get %d: seq %d, %v", i, m.Seq, err)
		}
	}
	if _, err := s.Get(t.Context(), 11); !errors.Is(err, journal.ErrGap) {
		t.Fatalf("get after the end: %v", err)
	}
}

func testOwnership(t *testing.T, open Opener) {
	j, _ := open(t)
	s := stream(t, j, "lane-0")
	buf := make([]byte, 0, 4096)
	for i := uint64(1); i <= 20; i++ {
		buf = append(buf[:0], message(i)...)
		if _, err := s.Append(t.Context(), i-1, buf); err != nil {
			t.Fatal(err)
		}
		clear(buf) // Append must have kept nothing
	}
	r := reader(t, s, 1)
	var all []journal.Message
	for range 20 {
		m, err := r.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, m)
	}
	for i, m := range all {
		if !bytes.Equal(m.Data, message(uint64(i)+1)) {
			t.Fatalf("message %d changed after it was read", i+1)
		}
		clear(m.Data) // ours now
	}
	expect(t, reader(t, s, 1), 1, 20)
}

func testParallel(t *testing.T, open Opener) {
	j, _ := open(t)
	s := stream(t, j, "lane-0")
	const n = 400
	var wg sync.WaitGroup
	for range 2 {
		r := reader(t, s, 1)
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			for i := uint64(1); i <= n; i++ {
				if m, err := r.Next(ctx); err != nil || m.Seq != i || !bytes.Equal(m.Data, message(i)) {
					t.Errorf("parallel %d: seq %d, %v", i, m.Seq, err)
					return
				}
			}
		})
	}
	fill(t, s, 1, n)
	wg.Wait()
}

func testStreams(t *testing.T, open Opener) {
	j, _ := open(t)
	for _, name := range []string{"control", "lane-0", "lane-1"} {
		fill(t, stream(t, j, name), 1, 5)
	}
	s := stream(t, j, "lane-1")
	fill(t, s, 6, 8)
	if s.Name() != "lane-1" {
		t.Fatalf("name %q", s.Name())
	}
	if st, err := stream(t, j, "lane-0").State(t.Context()); err != nil || st.Last != 5 {
		t.Fatalf("state %+v, %v", st, err)
	}
	if st, err := stream(t, j, "lane-1").State(t.Context()); err != nil || st.Last != 8 {
		t.Fatalf("state %+v, %v", st, err)
	}
}

func testUnknown(t *testing.T, open Opener) {
	j, _ := open(t)
	s := stream(t, j, "lane-0")
	fill(t, s, 1, 2)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Append(ctx, 2, message(3)); !errors.Is(err, journal.ErrUnknown) {
		t.Fatalf("got %v", err)
	}
	fill(t, s, 3, 4) // the same bytes resolve it, stored or not
	expect(t, reader(t, s, 1), 1, 4)
}

func testReopen(t *testing.T, open Opener) {
	j, reopen := open(t)
	s := stream(t, j, "lane-0")
	fill(t, s, 1, 40)
	if err := s.Trim(t.Context(), 11); err != nil {
		t.Fatal(err)
	}
	before, err := s.State(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	j = reopen()
	s = stream(t, j, "lane-0")
	after, err := s.State(t.Context())
	if err != nil || after.First != 11 || after.Last != 40 || after.ID != before.ID {
		t.Fatalf("state %+v after %+v, %v", after, before, err)
	}
	if seq, err := s.Append(t.Context(), 39, message(40)); err != nil || seq != 40 {
		t.Fatalf("the last message again: %d %v", seq, err)
	}
	fill(t, s, 41, 45)
	expect(t, reader(t, s, 11), 11, 45)
}

func testClosed(t *testing.T, open Opener) {
	j, _ := open(t)
	s := stream(t, j, "lane-0")
	fill(t, s, 1, 1)
	r := reader(t, s, 2)
	done := make(chan error, 1)
	go func() {
		_, err := r.Next(t.Context())
		done <- err
	}()
	if err := j.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-done:
		if !errors.Is(err, journal.ErrStopped) {
			t.Fatalf("reader: %v", err)
		}
	case <-time.After(patience):
		t.Fatal("a reader outlived the journal")
	}
	if _, err := s.Append(t.Context(), 1, message(2)); !errors.Is(err, journal.ErrStopped) {
		t.Fatalf("append: %v", err)
	}
	if err := j.Health(); err == nil {
		t.Fatal("a closed journal says it is healthy")
	}
	if err := j.Close(t.Context()); err != nil {
		t.Fatalf("close again: %v", err)
	}
}
