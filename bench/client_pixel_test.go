package main

import (
	"bytes"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestPixelsOfASchedule: everything that is due is asked for once and answered well once, whatever the server says first and
// in however many pieces; forgers change their tokens, and an answer that is none is an error.
func TestPixelsOfASchedule(t *testing.T) {
	const conns, rate, span = 4, 400, 250 * time.Millisecond
	var tokens bytes.Buffer
	for i := range 200 {
		tokens.WriteString(strings.Repeat(string(rune('a'+i%26)), tokenChars-4))
		tokens.WriteString(strings.Repeat(string(rune('A'+i/26)), 4))
		tokens.WriteByte('\n')
	}
	path := filepath.Join(t.TempDir(), "tokens")
	if err := os.WriteFile(path, tokens.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	seen := map[string]int{}
	first := []int{http.StatusTooManyRequests, http.StatusServiceUnavailable}
	wrong := false
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		if len(first) > 0 {
			w.WriteHeader(first[0])
			first = first[1:]
			return
		}
		seen[r.URL.Query().Get("tk")]++
		w.Header().Set("Content-Length", "43")
		if wrong {
			w.Header().Set("Content-Length", "42")
		}
		_, _ = w.Write(make([]byte, 20))
		_ = http.NewResponseController(w).Flush()
		_, _ = w.Write(make([]byte, 22))
		if !wrong {
			_, _ = w.Write(make([]byte, 1))
		}
	}))
	defer srv.Close()
	l := &load{
		Mode: "pixel", Addr: strings.TrimPrefix(srv.URL, "http://"), Span: span, Conns: conns, Rate: rate, Forged: conns / 2, Tokens: path,
		Campaigns: 1, Affiliates: 1,
	}
	x, err := l.run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if x.Events != 50 || x.Forged != 50 || x.Valid["impression"] != 50 || x.Requests != 102 || x.Overloaded != 1 || x.Unknown != 1 || x.Wrong != "" {
		t.Errorf("%+v", x)
	}
	forged := 0
	for token, n := range seen {
		if n != 1 {
			t.Errorf("token %s came %d times", token, n)
		}
		if !bytes.Contains(tokens.Bytes(), []byte(token)) {
			forged++
		}
	}
	if len(seen) != 100 || forged != 50 {
		t.Errorf("%d tokens, %d of them forged", len(seen), forged)
	}
	if x.Latency.N != 50 || x.Latency.Max <= 0 || len(x.Windows) != 5 || x.Windows[4].N == 0 {
		t.Errorf("latencies %+v, %+v", x.Latency, x.Windows)
	}

	mu.Lock()
	wrong = true
	mu.Unlock()
	if x, err = l.run(t.Context()); err != nil || !strings.Contains(x.Wrong, "status 200, 42 bytes") {
		t.Errorf("a pixel of 42 bytes: %v, %v", x, err)
	}
	mu.Lock()
	wrong = false
	mu.Unlock()
	l.Span = time.Minute
	if x, err = l.run(t.Context()); err == nil || !strings.Contains(err.Error(), "too short") {
		t.Errorf("too few tokens: %+v, %v", x, err)
	}
}

// TestPixelsOfAServerThatEnds: a connection that is closed is an error, and so is nobody at home.
func TestPixelsOfAServerThatEnds(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tokens")
	if err := os.WriteFile(path, bytes.Repeat([]byte("x"), 1000*tokenLine), 0o600); err != nil {
		t.Fatal(err)
	}
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			_ = c.Close()
		}
	}()
	l := &load{Mode: "pixel", Addr: listener.Addr().String(), Span: time.Second, Conns: 2, Rate: 100, Tokens: path, Campaigns: 1, Affiliates: 1}
	if x, err := l.run(t.Context()); err == nil {
		t.Errorf("connections were closed, and it says %+v", x)
	}
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	if x, err := l.run(t.Context()); err == nil || !strings.Contains(err.Error(), "connect to") {
		t.Errorf("nobody listens, and it says %+v, %v", x, err)
	}
}
