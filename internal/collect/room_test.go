package collect

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"milliard/internal/event"
	"milliard/internal/testkit"
)

// stall opens a connection that sends text and then nothing more.
func (r *rig) stall(text string) net.Conn {
	r.t.Helper()
	conn, err := net.Dial("tcp", r.doors.Addr().String())
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		r.t.Fatal(err)
	}
	if _, err := io.WriteString(conn, text); err != nil {
		r.t.Fatal(err)
	}
	return conn
}

func heard(c net.Conn) string {
	buf := make([]byte, 4096)
	n, _ := c.Read(buf)
	return string(buf[:n])
}

const keySecond = "mk_two_two_two_two_two_two_two_tw"

// longBody is the head of a request for events and the beginning of its body, which is where a sender may stall.
func longBody(key string, length, sent int) string {
	return fmt.Sprintf("POST /v1/events HTTP/1.1\r\nHost: x\r\nX-API-Key: %s\r\nContent-Type: application/x-ndjson\r\nContent-Length: %d\r\n\r\n%s",
		key, length, strings.Repeat(" ", sent))
}

func TestBodiesThatStallHoldNoMoreThanTheirShare(t *testing.T) {
	const total = 2 << 20
	r := newRig(t, func(c *Config) { c.Limits.BodyMemory = total })
	var held []net.Conn
	for range 4 { // of 128 KB each: the key's quarter
		held = append(held, r.stall(longBody(keyFeed, 128<<10, 100<<10)))
	}
	testkit.Eventually(t, 10*time.Second, "four bodies are under way", func() bool { return r.doors.room.bytes() == total/4 })
	for range 50 {
		got := heard(r.stall(longBody(keyFeed, 128<<10, 9<<10)))
		if !strings.HasPrefix(got, "HTTP/1.1 429 ") || !strings.Contains(got, "Retry-After: 1\r\n") || !strings.Contains(got, `"field":"body"`) {
			t.Fatalf("%q", got)
		}
	}
	if n := r.doors.room.bytes(); n != total/4 {
		t.Errorf("%d bytes are taken", n)
	}
	if n := r.refused(doorEvents, reasonNoRoom); n != 50 {
		t.Errorf("%v counted", n)
	}
	lines := strings.Repeat(`{"type":"click","campaign":"summer"}`+"\n", 1000)
	if a := r.call("POST", "/v1/events", lines, "X-API-Key", keySecond, "Content-Type", "application/x-ndjson"); a.status != 200 {
		t.Errorf("another key: %d %.200s", a.status, a.body)
	}
	if a := r.post("application/json", `{"type":"page_view"}`); a.status != 200 {
		t.Errorf("a short one: %d %.200s", a.status, a.body)
	}
	for _, c := range held {
		_ = c.Close()
	}
	testkit.Eventually(t, 10*time.Second, "the room is given back", func() bool { return r.doors.room.bytes() == 0 })
	if a := r.post("application/x-ndjson", strings.Repeat(`{"type":"page_view"}`+"\n", 2000)); a.status != 200 {
		t.Errorf("afterwards: %d %.200s", a.status, a.body)
	}
	if len(r.doors.room.by) != 0 {
		t.Errorf("%d accounts are left", len(r.doors.room.by))
	}
}

// TestARefusalDoesNotWaitForTheBody: who is refused for something else hears it before he has sent his body.
func TestARefusalDoesNotWaitForTheBody(t *testing.T) {
	r := newRig(t, func(c *Config) { c.Limits.Streams = 1 })
	chunked := " HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Type: application/x-ndjson\r\nX-API-Key: "
	r.stall("POST /v1/stream" + chunked + keyFeed + "\r\n\r\n")
	testkit.Eventually(t, 10*time.Second, "the stream is open", func() bool { return r.doors.streams.bytes() == 1 })
	for want, text := range map[string]string{
		"503": "POST /v1/stream" + chunked + keyFeed + "\r\n\r\n1\r\n{\r\n",
		"401": "POST /v1/events" + chunked + "nonsense\r\n\r\n",
		"404": "POST /nowhere" + chunked + "\r\n\r\n1\r\n{\r\n",
		"405": strings.Replace(longBody(keyFeed, 100_000, 8<<10), "POST", "PUT", 1),
	} {
		start := time.Now()
		if got := heard(r.stall(text)); !strings.HasPrefix(got, "HTTP/1.1 "+want) || time.Since(start) > 3*time.Second {
			t.Errorf("%s after %v: %q", want, time.Since(start), got)
		}
	}
	r = newRig(t, func(c *Config) { c.Limits.BodyPatience = 100 * time.Millisecond })
	for _, text := range []string{"1;", "", "2\r\n{", "2\r\n{}\r"} {
		if got := heard(r.stall("POST /v1/events" + chunked + keyFeed + "\r\n\r\n" + text)); !strings.HasPrefix(got, "HTTP/1.1 408 ") {
			t.Errorf("half of %q: %q", text, got)
		}
	}
}

// TestABodyOfUnknownLengthTakesRoomAsItGrows: what cannot be asked for before it comes is refused when it is too much.
func TestABodyOfUnknownLengthTakesRoomAsItGrows(t *testing.T) {
	r := newRig(t, func(c *Config) { c.Limits.BodyMemory = 512 << 10 })
	head := "POST /v1/events HTTP/1.1\r\nHost: x\r\nX-API-Key: " + keyFeed + "\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n"
	blank := strings.Repeat(" ", 10<<10)
	c := r.stall(head + "\r\n" + chunk(blank))
	testkit.Eventually(t, 10*time.Second, "it has begun", func() bool { return r.doors.room.bytes() == firstRoom })
	for range 20 {
		if _, err := io.WriteString(c, chunk(blank)); err != nil {
			break // it has been refused already
		}
	}
	if got := heard(c); !strings.HasPrefix(got, "HTTP/1.1 429 ") || !strings.Contains(got, "Connection: close") {
		t.Errorf("%q", got)
	}
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	_, _ = z.Write(bytes.Repeat([]byte(`{"type":"page_view","n":1.25,"sub1":"abcdefgh"}`+"\n"), 5000))
	_ = z.Close()
	if a := r.post("application/x-ndjson", packed.String(), "Content-Encoding", "gzip"); a.status != 429 || a.header.Get("Retry-After") == "" {
		t.Errorf("what comes out of a decompressor: %d %.200s", a.status, a.body)
	}
	testkit.Eventually(t, 10*time.Second, "the room is given back", func() bool { return r.doors.room.bytes() == 0 })
	r.none()
}

func TestPostbacksShareTheRoomOfStrangers(t *testing.T) {
	r := newRig(t, func(c *Config) { c.Limits.BodyMemory = 1 << 20 })
	long := "POST /conversion HTTP/1.1\r\nHost: x\r\nContent-Length: 30000\r\n\r\n" + strings.Repeat("x", 20_000)
	r.stall(long)
	testkit.Eventually(t, 10*time.Second, "one is under way", func() bool { return r.doors.room.bytes() == 30_000 })
	for _, path := range []string{"/conversion", "/conversion.gif"} { // a pixel that is answered is not sent again
		if got := heard(r.stall(strings.Replace(long, "/conversion", path, 1))); !strings.HasPrefix(got, "HTTP/1.1 429 ") {
			t.Errorf("%s: %q", path, got)
		}
	}
	if a := r.get("/conversion?adv=shop&key=pk-shop-1234&campaign=plain&order_id=1"); a.status != 200 {
		t.Errorf("one without a body: %d %s", a.status, a.body)
	}
}

func TestSlowBodiesEnd(t *testing.T) {
	r := newRig(t, func(c *Config) { c.Limits.BodyPatience, c.Limits.BodyRate = 200*time.Millisecond, 100<<10 })
	start := time.Now()
	c := r.stall(longBody(keyFeed, 200<<10, 10<<10))
	done := make(chan struct{})
	go func() { // a byte at a time is no excuse
		defer close(done)
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for range tick.C {
			if _, err := io.WriteString(c, " "); err != nil {
				return
			}
		}
	}()
	if got := heard(c); !strings.HasPrefix(got, "HTTP/1.1 408 ") || time.Since(start) > 5*time.Second {
		t.Errorf("after %v: %q", time.Since(start), got)
	}
	_ = c.Close()
	<-done
	if n := r.refused(doorEvents, reasonTimeout); n != 1 {
		t.Errorf("%v counted", n)
	}
	// Who keeps the rate has longer than the patience.
	body := strings.Repeat(`{"type":"page_view"}`+"\n", 2000)
	c = r.stall(longBody(keyFeed, len(body), 0))
	step := len(body) / 30
	for at := 0; at < len(body); at += step {
		pause := time.NewTimer(10 * time.Millisecond)
		<-pause.C
		if _, err := io.WriteString(c, body[at:min(len(body), at+step)]); err != nil {
			t.Fatal(err)
		}
	}
	if got := heard(c); !strings.HasPrefix(got, "HTTP/1.1 200 ") {
		t.Errorf("%.300q", got)
	}
}

func TestAKeyDoesNotHoldAllStreams(t *testing.T) {
	r := newRig(t, func(c *Config) { c.Limits.Streams = 4 })
	open := func(key string) string {
		return heard(r.stall("POST /v1/stream HTTP/1.1\r\nHost: x\r\nX-API-Key: " + key +
			"\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n"))
	}
	for i, want := range []string{"200", "200", "429", "429"} {
		if got := open(keyFeed); !strings.HasPrefix(got, "HTTP/1.1 "+want) {
			t.Errorf("%d: %q", i, got)
		}
	}
	for i, want := range []string{"200", "200", "503"} {
		if got := open([]string{keySecond, keySecond, keyImporter}[i]); !strings.HasPrefix(got, "HTTP/1.1 "+want) {
			t.Errorf("another key, %d: %q", i, got)
		}
	}
}

func TestConnectionsOfOneAddress(t *testing.T) {
	for _, tc := range []struct {
		trusted string
		want    string
		refused int64
	}{{"", "HTTP/1.1 429 ", 1}, {"127.0.0.0/8", "HTTP/1.1 200 ", 0}} {
		r := newRig(t, func(c *Config) {
			c.Limits.ConnsPerIP = 2
			if tc.trusted != "" {
				c.Trusted = []netip.Prefix{netip.MustParsePrefix(tc.trusted)}
			}
		})
		if !r.doors.looped() {
			t.Skip("fasthttp counts by itself and knows no proxies")
		}
		pixel := "GET /i/plain/ann HTTP/1.1\r\nHost: x\r\n\r\n"
		for range 2 {
			if got := heard(r.stall(pixel)); !strings.HasPrefix(got, "HTTP/1.1 200 ") {
				t.Fatalf("%q", got)
			}
		}
		third := r.stall("")
		if tc.trusted != "" { // one that is refused may be closed before it can be written to
			if _, err := io.WriteString(third, pixel); err != nil {
				t.Fatal(err)
			}
		}
		if got := heard(third); !strings.HasPrefix(got, tc.want) {
			t.Errorf("behind %q: %q", tc.trusted, got)
		}
		if n := r.doors.turnedAwayIP.Load(); n != tc.refused {
			t.Errorf("behind %q: %d are counted", tc.trusted, n)
		}
	}
}

// TestIdleConnectionsMakeRoom: who does nothing on most of the places is let go sooner than who does it on a few.
func TestIdleConnectionsMakeRoom(t *testing.T) {
	r := newRig(t, func(c *Config) { c.Limits.Conns, c.Limits.IdleTimeout = 16, 6*time.Second })
	if !r.doors.looped() {
		t.Skip("fasthttp alone does not count")
	}
	hot, handed := "GET /i?tk=forged HTTP/1.1\r\nHost: x\r\n\r\n", "GET /i/plain/ann HTTP/1.1\r\nHost: x\r\n\r\n"
	ask := func(c net.Conn, text string) {
		t.Helper()
		if _, err := io.WriteString(c, text); err != nil {
			t.Fatal(err)
		}
		if got := heard(c); !strings.HasPrefix(got, "HTTP/1.1 200 ") {
			t.Fatalf("%q", got)
		}
	}
	var conns []net.Conn
	for i := range 16 {
		c := r.stall("")
		ask(c, []string{hot, handed}[i%2])
		conns = append(conns, c)
	}
	start := time.Now()
	if got := heard(r.stall("")); !strings.HasPrefix(got, "HTTP/1.1 503 ") {
		t.Fatalf("one more: %q", got)
	}
	testkit.Eventually(t, 5*time.Second, "places are free", func() bool { return r.doors.openConns() < 14 })
	if d := time.Since(start); d > 4*time.Second {
		t.Errorf("after %v", d)
	}
	ask(r.stall(""), hot)
	for _, c := range conns {
		_ = c.Close()
	}
	testkit.Eventually(t, 5*time.Second, "all are closed", func() bool { return r.doors.openConns() <= 1 })
	few := []net.Conn{r.stall(""), r.stall("")}
	for i, c := range few {
		ask(c, []string{hot, handed}[i])
	}
	pause := time.NewTimer(time.Second)
	<-pause.C
	for i, c := range few {
		ask(c, []string{hot, handed}[i])
	}
}

func BenchmarkRoom(b *testing.B) {
	r := newRoom(1 << 30)
	h := holder{own: account{key: [32]byte{1}}, group: account{tenant: 1}}
	b.ReportAllocs()
	for b.Loop() {
		if r.take(&h, 1<<16) != fits {
			b.Fatal("no room")
		}
		r.give(&h, 1<<16)
	}
}

func TestRoomIsShared(t *testing.T) {
	r := newRoom(3200)
	key := func(k byte, tenant event.TenantID) *holder {
		h := keyHolder(&origin{keyHash: [32]byte{k}, tenant: tenant})
		return &h
	}
	addr := func(s string) *holder { h := addressHolder(netip.MustParseAddr(s)); return &h }
	for i, x := range []struct {
		h    *holder
		n    int64
		want fit
	}{
		{key(1, 1), 801, fitsNot},
		{key(1, 1), 800, fits},
		{key(1, 1), 1, fitsNot},
		{key(2, 1), 800, fits},
		{key(3, 1), 1, fitsNone}, // the tenant has its half
		{addr("192.0.2.1"), 101, fitsNot},
		{addr("192.0.2.1"), 100, fits},
		{addr("192.0.2.2"), 100, fits},
		{addr("192.0.2.3"), 100, fits},
		{addr("192.0.2.4"), 100, fits},
		{addr("192.0.2.5"), 1, fitsNone},
		{key(4, 2), 800, fits},
		{key(5, 2), 401, fitsNone}, // the whole is used
		{key(5, 2), 400, fits},
	} {
		if got := r.take(x.h, x.n); got != x.want {
			t.Errorf("%d: %d, want %d", i, got, x.want)
		}
	}
	if n := r.bytes(); n != 3200 {
		t.Errorf("%d taken", n)
	}
}
