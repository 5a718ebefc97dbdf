//go:build linux

package loop

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// lines answers each line with itself: at the end of the round, or when told to. A line that begins with a dot is not
// for it.
type lines struct {
	l     *Loop
	taken []taken
	ticks int

	mu   sync.Mutex
	hold bool
	held []taken
}

type taken struct {
	c    *Conn
	text string
}

func (h *lines) Take(c *Conn, data []byte) int {
	line, _, ok := bytes.Cut(data, []byte{'\n'})
	if !ok || len(line) > 0 && line[0] == '.' {
		return 0
	}
	h.taken = append(h.taken, taken{c, string(line)})
	return len(line) + 1
}

func (h *lines) Flush() {
	list := h.taken
	h.taken = nil
	h.mu.Lock()
	if h.hold {
		h.held = append(h.held, list...)
		list = nil
	}
	h.mu.Unlock()
	h.answer(list)
}

func (h *lines) answer(list []taken) {
	for _, t := range list {
		if n, ok := strings.CutPrefix(t.text, "big "); ok {
			size := 0
			_, _ = fmt.Sscan(n, &size)
			h.l.Answer(t.c, append(bytes.Repeat([]byte{'x'}, size), '\n'), false)
			continue
		}
		h.l.Answer(t.c, []byte(t.text+"\n"), t.text == "bye")
	}
}

func (h *lines) Woken() {
	h.mu.Lock()
	list := h.held
	if h.hold {
		list = nil
	} else {
		h.held = nil
	}
	h.mu.Unlock()
	h.answer(list)
}

func (h *lines) Tick(time.Time) { h.ticks++ }

func (h *lines) keep(on bool) {
	h.mu.Lock()
	h.hold = on
	h.mu.Unlock()
	h.l.Wake()
}

type rig struct {
	t     *testing.T
	loops *Loops
	h     *lines
	addr  string
	moved chan net.Conn
}

func newRig(t *testing.T, edit func(*Config)) *rig {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, addr: l.Addr().String(), moved: make(chan net.Conn, 100)}
	cfg := Config{
		Loops: 1, Conns: 100, FirstTimeout: time.Minute, IdleTimeout: time.Minute, WriteTimeout: time.Minute, Tick: 20 * time.Millisecond,
		Handler:  func(l *Loop) Handler { r.h = &lines{l: l}; return r.h },
		Handover: func(c net.Conn) { r.moved <- c },
		Refuse:   func(perIP bool) []byte { return fmt.Appendf(nil, "no %v\n", perIP) },
		Failed:   func(err error) { t.Errorf("failed: %v", err) },
	}
	if edit != nil {
		edit(&cfg)
	}
	if r.loops, err = Start(cfg, []net.Listener{l}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = l.Close()
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := r.loops.Stop(ctx); err != nil {
			t.Errorf("stop: %v", err)
		}
		if n := r.loops.Open(); n != 0 {
			t.Errorf("%d connections are open", n)
		}
	})
	return r
}

func (r *rig) dial() net.Conn {
	r.t.Helper()
	c, err := net.Dial("tcp", r.addr)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = c.Close() })
	if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		r.t.Fatal(err)
	}
	return c
}

func (r *rig) say(c net.Conn, text string) {
	r.t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) hear(c io.Reader, want string) {
	r.t.Helper()
	got := make([]byte, len(want))
	if _, err := io.ReadFull(c, got); err != nil || string(got) != want {
		r.t.Fatalf("%.80q %v, want %.80q", got, err, want)
	}
}

func (r *rig) ended(c io.Reader, want string) {
	r.t.Helper()
	if got, err := io.ReadAll(c); string(got) != want {
		r.t.Fatalf("%.80q %v, want %q", got, err, want)
	}
}

func TestPipelinedRequestsAreAnsweredInOrder(t *testing.T) {
	r := newRig(t, nil)
	c := r.dial()
	var all strings.Builder
	for i := range 1000 { // in one read: a request that is cut in two is handed over
		fmt.Fprintf(&all, "line %d\n", i)
	}
	go io.WriteString(c, all.String())
	r.hear(c, all.String())
	r.say(c, "bye\n")
	r.ended(c, "bye\n")
}

func TestWhatArrivesMeanwhileWaits(t *testing.T) {
	r := newRig(t, nil)
	c, other := r.dial(), r.dial()
	r.h.keep(true)
	r.say(c, "first\n")
	r.say(other, "x\n")
	r.say(c, "second\nthird\n")
	if err := c.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	r.h.keep(false)
	r.ended(c, "first\nsecond\nthird\n")
	r.hear(other, "x\n")
}

func TestAConnectionIsHandedOverWithWhatWasRead(t *testing.T) {
	r := newRig(t, nil)
	c := r.dial()
	r.say(c, "one\n.two\nthree")
	r.hear(c, "one\n")
	moved := <-r.moved
	r.say(c, " four\n")
	in := bufio.NewReader(moved)
	for _, want := range []string{".two\n", "three four\n"} {
		if got, err := in.ReadString('\n'); got != want {
			t.Fatalf("%q %v, want %q", got, err, want)
		}
	}
	r.say(moved, "five\n")
	r.hear(c, "five\n")
	if err := moved.Close(); err != nil {
		t.Fatal(err)
	}
	_ = moved.Close() // gives its place back only once
	r.ended(c, "")
	if n := r.loops.Moved(); n != 1 {
		t.Errorf("%d moved", n)
	}
}

// TestAPeerThatDoesNotRead: an answer that the socket does not take waits, and the others do not.
func TestAPeerThatDoesNotRead(t *testing.T) {
	r := newRig(t, nil)
	const size = 20 << 20
	slow, quick := r.dial(), r.dial()
	r.say(slow, fmt.Sprintf("big %d\nafter\n", size))
	for i := range 20 {
		text := fmt.Sprintf("%d\n", i)
		r.say(quick, text)
		r.hear(quick, text)
	}
	if n, err := io.CopyN(io.Discard, slow, size+1); err != nil {
		t.Fatalf("%d %v", n, err)
	}
	r.hear(slow, "after\n")
}

func TestTimeLimits(t *testing.T) {
	t.Run("write", func(t *testing.T) {
		r := newRig(t, func(c *Config) { c.WriteTimeout = 100 * time.Millisecond })
		c := r.dial()
		r.say(c, "big 50000000\n")
		for r.loops.Open() > 0 {
		}
	})
	t.Run("idle", func(t *testing.T) {
		r := newRig(t, func(c *Config) { c.IdleTimeout = 100 * time.Millisecond })
		c := r.dial()
		r.say(c, "x\n")
		r.ended(c, "x\n")
	})
	t.Run("first byte", func(t *testing.T) {
		r := newRig(t, func(c *Config) { c.FirstTimeout = 100 * time.Millisecond })
		c := r.dial()
		moved := <-r.moved
		var netErr net.Error
		if _, err := moved.Read(make([]byte, 1)); !errors.As(err, &netErr) || !netErr.Timeout() {
			t.Errorf("%v", err)
		}
		r.say(c, "late")
		r.hear(moved, "late")
		_ = moved.Close()
	})
	t.Run("a request in hand has none", func(t *testing.T) {
		r := newRig(t, func(c *Config) { c.IdleTimeout, c.FirstTimeout = 50*time.Millisecond, 50*time.Millisecond })
		c, other := r.dial(), r.dial()
		r.h.keep(true)
		r.say(c, "x\n")
		_ = (<-r.moved).Close() // other's time is over, and so would be c's
		r.ended(other, "")
		r.h.keep(false)
		r.hear(c, "x\n")
	})
}

func TestPlaces(t *testing.T) {
	for name, edit := range map[string]func(*Config){
		"no false\n": func(c *Config) { c.Conns = 2 },
		"no true\n":  func(c *Config) { c.ConnsPerIP = 2 },
	} {
		r := newRig(t, edit)
		a, b := r.dial(), r.dial()
		r.say(a, "x\n")
		r.hear(a, "x\n")
		r.say(b, ".\n")
		moved := <-r.moved
		r.ended(r.dial(), name)
		_ = moved.Close() // a connection keeps its place wherever it is served
		c := r.dial()
		r.say(c, "y\n")
		r.hear(c, "y\n")
		r.ended(r.dial(), name)
		_ = a.Close()
		for {
			d := r.dial()
			_, _ = io.WriteString(d, "z\n")
			if got, _ := bufio.NewReader(d).ReadString('\n'); got == "z\n" {
				break
			}
		}
	}
}

func TestStopAnswersWhatIsInHand(t *testing.T) {
	r := newRig(t, nil)
	idle, busy := r.dial(), r.dial()
	r.say(idle, "x\n")
	r.hear(idle, "x\n")
	r.h.keep(true)
	r.say(busy, "y\n")
	for held := 0; held == 0; {
		r.h.mu.Lock()
		held = len(r.h.held)
		r.h.mu.Unlock()
	}
	stopped := make(chan error, 1)
	go func() { stopped <- r.loops.Stop(t.Context()) }()
	r.ended(idle, "")
	r.h.keep(false)
	r.ended(busy, "y\n")
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	r.h.l.Wake() // harmless
}

func TestStopGivesUpAtItsDeadline(t *testing.T) {
	r := newRig(t, nil)
	c := r.dial()
	r.say(c, "a\n")
	r.hear(c, "a\n") // it was accepted
	r.h.keep(true)
	r.say(c, "x\n")
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := r.loops.Stop(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
	r.ended(c, "")
}
