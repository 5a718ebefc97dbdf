package collect

import (
	"bytes"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"milliard/internal/event"
	"milliard/internal/testkit"
)

// syncBuffer is a buffer that a log writes to.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// TestAPanicEndsOneRequest: what is found by one request must not take the others along, in a round of a loop neither.
func TestAPanicEndsOneRequest(t *testing.T) {
	var fail atomic.Bool
	var log syncBuffer
	p := newPair(t, func(c *Config) {
		c.Country = func(netip.Addr) event.Country {
			if fail.Load() {
				panic("planted")
			}
			return 0
		}
		c.Log = slog.New(slog.NewTextHandler(&log, nil))
	})
	pixel := func() string { return request("GET /i?tk=" + p.tag(nil)) }
	body := `{"id":"e1","type":"page_view","ip":"192.0.2.1"}`
	for _, text := range []string{
		pixel(), request("GET /i/plain/ann?eid=x1"), request("GET /c/plain/ann?eid=x2"), post(body), post("[" + body + "]"),
	} {
		fail.Store(true)
		got, events := p.same("panics", text+request("GET /i?tk=forged"))
		if s := statuses(got); s != "500" || len(events) > 0 || !strings.Contains(got, `"code":"internal"`) {
			t.Errorf("%.80q: %s, %d events", text, s, len(events))
		}
		fail.Store(false)
		if got, events := p.same("afterwards", pixel()+post(`{"id":"e2","type":"page_view"}`)); statuses(got) != "200 200" || len(events) != 2 {
			t.Errorf("after %.80q: %q, %d events", text, got, len(events))
		}
	}
	if text := log.String(); !strings.Contains(text, "planted") || !strings.Contains(text, "personOf") {
		t.Errorf("%.300s", text)
	}
	p.sameCounts()
	// A stream ends, and nothing of it stays.
	fail.Store(true)
	r := p.hot
	c := r.stall("POST /v1/stream HTTP/1.1\r\nHost: x\r\nX-API-Key: " + keyFeed +
		"\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk(body+"\n"))
	testkit.Eventually(t, 10*time.Second, "the stream has ended", func() bool { return r.doors.streams.bytes() == 0 && r.doors.openConns() == 0 })
	_ = c.Close()
	r.none()
}
