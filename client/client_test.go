package client

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// server counts ids like Milliard does: an id seen twice is one event.
type server struct {
	mu       sync.Mutex
	seen     map[string]int
	bodies   map[string]int
	requests int
	fail     func(n int) int // status of the n-th request after its events were stored, 0: none
	maxRows  int
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	body, _ := io.ReadAll(r.Body)
	s.requests++
	var b Batch
	if err := b.Decode(body, 100_000); err != nil || r.Header.Get("Authorization") != "Bearer k" {
		http.Error(w, `{"error":{"message":"bad"}}`, http.StatusUnauthorized)
		return
	}
	if s.maxRows > 0 && b.Rows > s.maxRows {
		http.Error(w, "too large", http.StatusRequestEntityTooLarge)
		return
	}
	rejected := ""
	bad := 0
	for i := range b.Rows {
		if string(b.Strings[FieldType].Row(i)) == "bad" {
			if bad++; rejected != "" {
				rejected += ","
			}
			rejected += fmt.Sprintf(`{"index":%d,"status":"rejected","field":"type","error":"unknown"}`, i)
			continue
		}
		s.seen[string(b.Strings[FieldID].Row(i))]++
	}
	s.bodies[string(body)]++
	if s.fail != nil {
		if code := s.fail(s.requests); code != 0 {
			http.Error(w, "later", code)
			return
		}
	}
	fmt.Fprintf(w, `{"accepted":%d,"rejected":%d,"items":[%s]}`, b.Rows-bad, bad, rejected)
}

func serve(t *testing.T) (*server, string) {
	t.Helper()
	s := &server{seen: make(map[string]int), bodies: make(map[string]int)}
	ts := httptest.NewServer(s)
	t.Cleanup(ts.Close)
	return s, ts.URL
}

func start(t *testing.T, opt Options) *Client {
	t.Helper()
	c, err := New(opt)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestRetriesCarryTheSameBytes(t *testing.T) {
	s, url := serve(t)
	s.fail = func(n int) int {
		switch n % 3 {
		case 1:
			return 503
		case 2:
			return 429
		}
		return 0
	}
	c := start(t, Options{URL: url, Key: "k", MaxEvents: 100, MinBackoff: time.Millisecond, MaxBackoff: 4 * time.Millisecond})
	const n = 1000
	for i := range n {
		if err := c.Send(t.Context(), &Event{Type: "page_view", Subs: []string{fmt.Sprint(i)}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := c.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(s.seen) != n {
		t.Errorf("%d distinct ids, want %d", len(s.seen), n)
	}
	if st := c.Stats(); st.Accepted != n || st.Retries == 0 || len(s.bodies) > int(st.Requests-st.Retries) {
		t.Errorf("%+v, %d distinct bodies", st, len(s.bodies))
	}
	if err := c.Send(t.Context(), &Event{}); err == nil {
		t.Error("a stopped client took an event")
	}
}

func TestRejectionsAreReported(t *testing.T) {
	_, url := serve(t)
	var got atomic.Int64
	c := start(t, Options{URL: url, Key: "k", OnReject: func(r Rejection) {
		if r.Field == "type" && r.Event.Campaign == "x" {
			got.Add(1)
		}
	}})
	for i := range 10 {
		e := Event{Type: "page_view"}
		if i%3 == 0 {
			e = Event{Type: "bad", Campaign: "x"}
		}
		if err := c.Send(t.Context(), &e); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if st := c.Stats(); st.Accepted != 6 || st.Rejected != 4 || got.Load() != 4 {
		t.Errorf("%+v, told of %d", st, got.Load())
	}
}

func TestFinalRefusalIsNotRepeated(t *testing.T) {
	s, url := serve(t)
	c, err := New(Options{URL: url, Key: "wrong"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.SendBatch(t.Context(), []Event{{Type: "page_view"}}); err == nil || s.requests != 1 {
		t.Errorf("%v after %d requests", err, s.requests)
	}
}

func TestTooLargeIsSplit(t *testing.T) {
	s, url := serve(t)
	s.maxRows = 10
	c, err := New(Options{URL: url, Key: "k"})
	if err != nil {
		t.Fatal(err)
	}
	events := make([]Event, 100)
	for i := range events {
		events[i].Type = "page_view"
	}
	events[77].Type = "bad"
	rep, err := c.SendBatch(t.Context(), events)
	if err != nil || rep.Accepted != 99 || len(rep.Items) != 1 || rep.Items[0].Index != 77 {
		t.Errorf("%+v %v", rep, err)
	}
}

func TestSendBatchCanBeRepeatedAfterItsDeadline(t *testing.T) {
	s, url := serve(t)
	fail := true
	s.fail = func(int) int {
		if fail {
			return 503
		}
		return 0
	}
	c, err := New(Options{URL: url, Key: "k", MinBackoff: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	events := []Event{{Type: "page_view"}, {Type: "page_view", ID: "mine"}}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := c.SendBatch(ctx, events); err == nil {
		t.Fatal("no error")
	}
	s.mu.Lock()
	fail = false
	s.mu.Unlock()
	if rep, err := c.SendBatch(t.Context(), events); err != nil || rep.Accepted != 2 || len(s.seen) != 2 {
		t.Errorf("%+v %v %v", rep, err, s.seen)
	}
}

func TestStopGivesUpAtItsDeadline(t *testing.T) {
	s, url := serve(t)
	s.fail = func(int) int { return 503 }
	var told atomic.Int64
	c := start(t, Options{URL: url, Key: "k", OnReject: func(Rejection) { told.Add(1) }})
	for range 5 {
		if err := c.Send(t.Context(), &Event{Type: "page_view"}); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := c.Stop(ctx); err == nil {
		t.Error("no error")
	}
	if told.Load() != 5 || c.Stats().GivenUp != 5 {
		t.Errorf("told of %d, %+v", told.Load(), c.Stats())
	}
}

func TestBadOptions(t *testing.T) {
	for _, o := range []Options{{}, {URL: "http://x"}, {URL: "ftp://x", Key: "k"}, {URL: "x:8080", Key: "k"}} {
		if _, err := New(o); err == nil {
			t.Errorf("%+v: no error", o)
		}
	}
	c, err := New(Options{URL: "http://x", Key: "k"})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Stop(t.Context()); err != nil {
		t.Errorf("stop before start: %v", err)
	}
	if err := c.Stop(t.Context()); err != nil {
		t.Errorf("second stop: %v", err)
	}
}
