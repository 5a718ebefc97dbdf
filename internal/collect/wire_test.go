package collect

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// cut sends text, ends the sending side, and returns what comes back.
func (r *rig) cut(text string) string {
	r.t.Helper()
	conn, err := net.Dial("tcp", r.doors.Addr().String())
	if err != nil {
		r.t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		r.t.Fatal(err)
	}
	if _, err := io.WriteString(conn, text); err != nil {
		r.t.Fatal(err)
	}
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		r.t.Fatal(err)
	}
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return "no response: " + err.Error()
	}
	defer res.Body.Close()
	body, _ := io.ReadAll(res.Body)
	return res.Status + "\n" + string(body)
}

func chunk(text string) string { return fmt.Sprintf("%x\r\n%s\r\n", len(text), text) }

func TestATruncatedBodyIsNotWhole(t *testing.T) {
	r := newRig(t, func(c *Config) { c.Limits.ConnsPerIP = 100 })
	lines := strings.Repeat(`{"type":"page_view"}`+"\n", 3)
	long := strings.Repeat(`{"type":"page_view"}`+"\n", 1000)
	events := "POST /v1/events HTTP/1.1\r\nHost: x\r\nX-API-Key: " + keyFeed + "\r\nContent-Type: application/x-ndjson\r\n"
	form := "adv=shop&key=pk-shop-1234&campaign=plain&order_id=1"
	postback := "POST /conversion HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\n"
	const chunked = "Transfer-Encoding: chunked\r\n\r\n"
	for name, text := range map[string]string{
		"events without the last chunk":   events + chunked + chunk(lines),
		"events with half the last chunk": events + chunked + chunk(lines) + "0\r\n",
		"events with a zero":              events + chunked + chunk(lines) + "0",
		"events with half a size":         events + chunked + chunk(lines) + "1",
		"events with half a chunk":        events + chunked + "ff\r\n" + lines,
		"events short of their length":    events + fmt.Sprintf("Content-Length: %d\r\n\r\n", 2*len(long)) + long,
		"postback":                        postback + chunked + chunk(form),
		"postback with half the end":      postback + chunked + chunk(form) + "0\r\n",
	} {
		if got := r.cut(text); !strings.HasPrefix(got, "400") || !strings.Contains(got, "did not arrive whole") {
			t.Errorf("%s: %s", name, got)
		}
		r.none()
	}
	for name, text := range map[string]string{
		"events":                   events + chunked + chunk(lines) + "0\r\n\r\n",
		"events with their length": events + fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(long), long),
		"postback":                 postback + chunked + chunk(form) + "0\r\n\r\n",
	} {
		if got := r.cut(text); !strings.HasPrefix(got, "200") {
			t.Errorf("whole %s: %s", name, got)
		}
		r.spy.take()
	}
}

func TestATruncatedStreamCountsCompleteLines(t *testing.T) {
	r := newRig(t, nil)
	head := "POST /v1/stream HTTP/1.1\r\nHost: x\r\nX-API-Key: " + keyFeed +
		"\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n"
	got := r.cut(head + chunk(`{"type":"page_view"}`+"\n"+`{"type":"page_view","n":1}`))
	if !strings.Contains(got, `{"through":1,"accepted":1,"rejected":0}`) || !strings.Contains(got, "did not arrive whole") {
		t.Errorf("cut: %s", got)
	}
	r.one()
	got = r.cut(head + chunk(`{"type":"page_view"}`+"\n"+`{"type":"page_view","n":1}`) + "0\r\n\r\n")
	if !strings.Contains(got, `{"through":2,"accepted":2,"rejected":0}`) || strings.Contains(got, "whole") {
		t.Errorf("whole: %s", got)
	}
	if n := len(r.spy.take()); n != 2 {
		t.Errorf("%d stored", n)
	}
}

func TestAmbiguousFramingIsRefused(t *testing.T) {
	r := newRig(t, nil)
	post := "POST /v1/events HTTP/1.1\r\nHost: x\r\nX-API-Key: " + keyFeed + "\r\nContent-Type: application/json\r\n"
	body := `{"type":"page_view"}`
	for _, tc := range []struct{ name, text, field string }{
		{"two codings", post + "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n" + chunk(body) + "0\r\n\r\n", "Transfer-Encoding"},
		{"the same twice", post + "transfer-encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk(body) + "0\r\n\r\n", "Transfer-Encoding"},
		{"space before the colon", post + "Content-Length : 20\r\n\r\n" + body, "Content-Length"},
		{"space in a GET", "GET /i/plain/ann HTTP/1.1\r\nHost: x\r\nContent-Length : 20\r\n\r\n" + body, "Content-Length"},
		{"space and a length", post + "Content-Length: 20\r\nTransfer-Encoding : chunked\r\n\r\n" + body, "Transfer-Encoding"},
	} {
		got := r.raw(tc.text)
		if !strings.HasPrefix(got, "400") || fieldIn(strings.SplitN(got+"\n", "\n", 2)[1]) != tc.field {
			t.Errorf("%s: %s", tc.name, got)
		}
		r.none()
	}
}

func TestALongBodyIsRefusedBeforeItComes(t *testing.T) {
	r := newRig(t, nil)
	for name, length := range map[string]int{"a gigabyte": 1 << 30, "just over": 512<<10 + 1} {
		start := time.Now()
		got := r.raw(fmt.Sprintf("POST /v1/events HTTP/1.1\r\nHost: x\r\nX-API-Key: %s\r\nContent-Type: application/json\r\n"+
			"Content-Length: %d\r\n\r\n", keyFeed, length))
		if !strings.HasPrefix(got, "413") || time.Since(start) > 900*time.Millisecond {
			t.Errorf("%s: after %v: %s", name, time.Since(start), got)
		}
	}
	// What follows such a header on another door is a body all the same, never a request.
	if got := r.raw("POST /i/plain/ann HTTP/1.1\r\nHost: x\r\nContent-Length: 1073741824\r\n\r\nGET /c/plain/ann HTTP/1.1\r\nHost: x\r\n\r\n"); !strings.HasPrefix(got, "204") {
		t.Errorf("%s", got)
	}
	r.one()
	if r.refused(doorEvents, reasonTooLarge) != 2 {
		t.Error("not counted")
	}
}

func TestCodingsIgnoreCase(t *testing.T) {
	r := newRig(t, nil)
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	if _, err := z.Write([]byte(`{"type":"page_view"}`)); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	body := packed.String()
	for _, coding := range []string{"gzip", "GZIP", "X-Gzip"} {
		if a := r.post("application/json", body, "Content-Encoding", coding); a.status != 200 {
			t.Errorf("%s: %d %s", coding, a.status, a.body)
		}
		r.one()
	}
	if a := r.post("application/json", `{"type":"page_view"}`, "Content-Encoding", "Identity"); a.status != 200 {
		t.Errorf("%d %s", a.status, a.body)
	}
}
