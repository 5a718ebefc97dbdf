package collect

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"milliard/internal/catalog"
)

// ack is one line of a stream's answer.
type ack struct {
	Through  int64  `json:"through"`
	Accepted int64  `json:"accepted"`
	Rejected int64  `json:"rejected"`
	Line     int64  `json:"line"`
	Status   string `json:"status"`
	Field    string `json:"field"`
	Error    string `json:"error"`
	End      bool   `json:"end"`
}

// stream opens a stream and returns where to write lines and how to read answers.
func (r *rig) stream(head ...string) (in *io.PipeWriter, next func() (ack, bool)) {
	r.t.Helper()
	out, in := io.Pipe()
	req, err := http.NewRequestWithContext(context.Background(), "POST", r.base+"/v1/stream", out)
	if err != nil {
		r.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-ndjson")
	req.Header.Set("X-API-Key", keyFeed)
	for i := 0; i+1 < len(head); i += 2 {
		req.Header.Set(head[i], head[i+1])
	}
	transport := &http.Transport{}
	r.t.Cleanup(transport.CloseIdleConnections)
	res, err := transport.RoundTrip(req)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { res.Body.Close() })
	if res.StatusCode != 200 {
		body, _ := io.ReadAll(res.Body)
		r.t.Fatalf("stream: %d %s", res.StatusCode, body)
	}
	lines := bufio.NewScanner(res.Body)
	return in, func() (ack, bool) {
		if !lines.Scan() {
			return ack{}, false
		}
		var a ack
		if err := json.Unmarshal(lines.Bytes(), &a); err != nil {
			r.t.Errorf("answer %q: %v", lines.Text(), err)
		}
		return a, true
	}
}

func TestStreamAnswersWhileItIsBeingSent(t *testing.T) {
	r := newRig(t, nil)
	in, next := r.stream()
	write := func(s string) {
		t.Helper()
		if _, err := io.WriteString(in, s); err != nil {
			t.Fatal(err)
		}
	}
	write(`{"type":"page_view"}` + "\n")
	if a, ok := next(); !ok || a.Through != 1 || a.Accepted != 1 {
		t.Fatalf("first: %+v", a)
	}
	r.one()
	write(`{"type":"click"}` + "\n")
	if a, _ := next(); a.Line != 2 || a.Status != "rejected" || a.Field != "campaign" {
		t.Fatalf("second: %+v", a)
	}
	if a, _ := next(); a.Through != 2 || a.Accepted != 1 || a.Rejected != 1 {
		t.Fatalf("second: %+v", a)
	}
	write(`{"type":"pa`)
	write("ge_view\"}\n\n")
	if a, _ := next(); a.Through < 3 || a.Accepted != 2 {
		t.Fatalf("third: %+v", a)
	}
	const many = 5000
	go func() {
		for i := range many {
			fmt.Fprintf(in, `{"type":"page_view","id":"e%d"}`+"\n", i)
		}
		in.Close()
	}()
	var last ack
	for {
		a, ok := next()
		if !ok {
			break
		}
		last = a
	}
	if last.Through != many+4 || last.Accepted != many+2 || last.End {
		t.Fatalf("last: %+v", last)
	}
	if n := len(r.spy.take()); n != many+1 {
		t.Fatalf("%d events stored", n)
	}
}

func TestStreamSaysWhenDurabilityIsUnknown(t *testing.T) {
	r := newRig(t, func(c *Config) { c.MaxWait = 50 * time.Millisecond })
	in, next := r.stream()
	open := r.gate.close()
	defer open()
	if _, err := io.WriteString(in, `{"type":"page_view"}`+"\n"); err != nil {
		t.Fatal(err)
	}
	if a, ok := next(); !ok || !a.End || a.Status != "unknown" {
		t.Fatalf("%+v", a)
	}
	open()
	in.Close()
	if r.refused(doorStream, reasonNotDurable) != 1 {
		t.Error("not counted")
	}
}

func TestStreamEndsWithTheDoors(t *testing.T) {
	r := newRig(t, nil)
	in, next := r.stream()
	io.WriteString(in, `{"type":"page_view"}`+"\n") // the answer tells
	if a, _ := next(); a.Through != 1 {
		t.Fatalf("%+v", a)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := r.doors.Stop(ctx); err != nil {
		t.Fatal(err)
	}
	if a, ok := next(); !ok || !a.End || !strings.Contains(a.Error, "stopping") {
		t.Fatalf("%+v", a)
	}
	in.Close()
}

func TestStreamEndsWithItsKey(t *testing.T) {
	r := newRig(t, nil)
	in, next := r.stream()
	defer in.Close()
	send := func() {
		if _, err := io.WriteString(in, `{"type":"page_view"}`+"\n"); err != nil {
			t.Fatal(err)
		}
	}
	send()
	if a, _ := next(); a.Through != 1 {
		t.Fatalf("%+v", a)
	}
	doc, err := catalog.ParseDocument([]byte("tenants: [{key: default, api_keys: [{key: feed, status: archived}]}]"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.ctl.Apply(t.Context(), "test", "", doc); err != nil {
		t.Fatal(err)
	}
	send()
	for {
		a, ok := next()
		if !ok {
			t.Fatal("the stream ended without saying why")
		}
		if a.End {
			if a.Field != "Authorization" {
				t.Errorf("%+v", a)
			}
			if n := len(r.spy.take()); n != 1 {
				t.Errorf("%d events stored", n)
			}
			return
		}
	}
}

func TestStreamRefusals(t *testing.T) {
	r := newRig(t, func(c *Config) { c.Limits.Streams = 1 })
	for name, tc := range map[string]struct {
		head   []string
		status int
	}{
		"no key":     {[]string{"Content-Type", "application/x-ndjson"}, 401},
		"array":      {[]string{"X-API-Key", keyFeed, "Content-Type", "application/json"}, 415},
		"compressed": {[]string{"X-API-Key", keyFeed, "Content-Type", "application/x-ndjson", "Content-Encoding", "gzip"}, 415},
	} {
		if a := r.call("POST", "/v1/stream", "{}", tc.head...); a.status != tc.status {
			t.Errorf("%s: %d %s", name, a.status, a.body)
		}
	}
	in, next := r.stream()
	if a := r.call("POST", "/v1/stream", "{}", "X-API-Key", keyFeed, "Content-Type", "application/x-ndjson"); a.status != 503 {
		t.Errorf("one too many: %d %s", a.status, a.body)
	}
	go io.WriteString(in, `{"type":"page_view","id":"`+strings.Repeat("x", 40<<10)+"\"}\n") // the server stops reading
	if a, _ := next(); a.Line != 1 || a.Status != "rejected" {
		t.Errorf("long line: %+v", a)
	}
	for {
		a, ok := next()
		if !ok {
			break
		}
		if a.End && !strings.Contains(a.Error, "too long") {
			t.Errorf("%+v", a)
		}
	}
	in.Close()
	r.none()
}

func TestStreamWithContentLength(t *testing.T) {
	r := newRig(t, nil)
	a := r.call("POST", "/v1/stream", `{"type":"page_view"}`+"\n"+`{"type":"page_view"}`, "X-API-Key", keyFeed, "Content-Type", "application/x-ndjson")
	if a.status != 200 || !strings.Contains(a.body, `"through":2,"accepted":2`) {
		t.Fatalf("%d %s", a.status, a.body)
	}
}
