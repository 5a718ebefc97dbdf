package api

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// bodies serves a handler that reads at most 1,000 bytes. It says on began that a request has got its room.
func bodies(t *testing.T, total int64) (addr string, began <-chan struct{}) {
	t.Helper()
	here := make(chan struct{}, 100)
	s := httptest.NewServer(Bodies(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		here <- struct{}{}
		var text bytes.Buffer
		if err := readBody(w, r, 1000, &text); err != nil {
			writeBodyError(w, err)
			return
		}
		WriteJSON(w, http.StatusOK, text.Len())
	}), total))
	t.Cleanup(s.Close)
	return s.Listener.Addr().String(), here
}

func dial(t *testing.T, addr, text string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
	return c
}

// status returns what is answered, and when it may be tried again.
func status(t *testing.T, c net.Conn) (code int, retry string) {
	t.Helper()
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	return res.StatusCode, res.Header.Get("Retry-After")
}

func TestBodiesOfTheAdminSideShareRoom(t *testing.T) {
	addr, began := bodies(t, 2*bodyStep)
	head := func(n int) string { return fmt.Sprintf("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n", n) }
	first, second := dial(t, addr, head(900)+"x"), dial(t, addr, "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n")
	<-began
	<-began
	short := head(900) + strings.Repeat("x", 900)
	code, retry := status(t, dial(t, addr, short))
	if code != http.StatusServiceUnavailable || retry == "" {
		t.Errorf("%d, again after %q", code, retry)
	}
	if code, _ := status(t, dial(t, addr, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")); code != http.StatusOK {
		t.Errorf("without a body: %d", code)
	}
	_, _ = io.WriteString(first, strings.Repeat("x", 899))
	_, _ = io.WriteString(second, "0\r\n\r\n")
	for _, c := range []net.Conn{first, second} {
		if code, _ := status(t, c); code != http.StatusOK {
			t.Errorf("one that was here: %d", code)
		}
	}
	// A short answer leaves when its handler has returned: the room is back.
	if code, _ := status(t, dial(t, addr, short)); code != http.StatusOK {
		t.Errorf("afterwards: %d", code)
	}
}
