package api

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// serveJSON takes bodies of at most 1,000 bytes.
func serveJSON(t *testing.T) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var in struct {
			A string   `json:"a"`
			B []nested `json:"b"`
		}
		if readJSON(w, r, 1000, &in) {
			WriteJSON(w, http.StatusOK, in)
		}
	}))
	t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "http://")
}

type nested struct {
	A string            `json:"a"`
	M map[string]string `json:"m"`
}

func TestAMemberThatStandsTwiceIsRefused(t *testing.T) {
	at := serveJSON(t)
	for body, field := range map[string]string{
		`{"a":"1","a":"2"}`:                               "a",
		`{"a":"1","b":[{"a":"1"},{"a":"a","a":"a"}]}`:     "a",
		`{"b":[{"m":{"x":"1","y":"2","x":"3"}}],"a":""}`:  "x",
		`{"a":"1"} {"a":"2"}`:                             "body",
		`{"a":"1","b":[{"a":"1"},{"a":"a"}]}`:             "",
		`{"b":[{"m":{"x":"x","y":"x"}}, {"m":{"x":""}}]}`: "",
	} {
		res, err := http.Post("http://"+at, "application/json", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		var got struct {
			Error struct{ Field, Message string }
		}
		err = json.NewDecoder(res.Body).Decode(&got)
		_ = res.Body.Close()
		if err != nil || got.Error.Field != field || (res.StatusCode == http.StatusOK) != (field == "") {
			t.Errorf("%s: %d %+v %v", body, res.StatusCode, got, err)
		}
	}
}

// A client that sends everything before it looks for an answer must find one.
func TestTheRefusalOfALargeBodyIsRead(t *testing.T) {
	at := serveJSON(t)
	const size = 8 << 20 // far more than the sockets hold
	for _, form := range []string{"Content-Length: %d\r\n\r\n%s", "Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n"} {
		c, err := (&net.Dialer{Timeout: 5 * time.Second}).DialContext(t.Context(), "tcp", at)
		if err != nil {
			t.Fatal(err)
		}
		_ = c.SetDeadline(time.Now().Add(10 * time.Second))
		if _, err := fmt.Fprintf(c, "POST / HTTP/1.1\r\nHost: x\r\n"+form, size, strings.Repeat("x", size)); err != nil {
			t.Errorf("sending was cut off: %v", err)
		}
		res, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(res.Body)
		_ = res.Body.Close()
		_ = c.Close()
		if err != nil || res.StatusCode != http.StatusRequestEntityTooLarge || !strings.Contains(string(text), "larger than 1000 bytes") || !res.Close {
			t.Errorf("%d %s, closed %v, %v", res.StatusCode, text, res.Close, err)
		}
	}
}
