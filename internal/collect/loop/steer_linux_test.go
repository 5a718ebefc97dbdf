package loop

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"milliard/internal/testkit"
)

// teller answers every request with its loop's number.
type teller struct {
	l     *Loop
	taken []*Conn
}

func (h *teller) Take(c *Conn, data []byte) int {
	h.taken = append(h.taken, c)
	return len(data)
}

func (h *teller) Flush() {
	list := h.taken
	h.taken = nil
	for _, c := range list {
		h.l.Answer(c, strconv.AppendInt(nil, int64(h.l.index), 10), false)
	}
}

func (h *teller) Woken() {}

func (h *teller) Tick(time.Time) {}

// newTellers returns two loops and a processor of each.
func newTellers(t *testing.T) (r *rig, cpus [2]int) {
	t.Helper()
	r = newRig(t, func(c *Config) {
		c.Loops = 2
		c.Handler = func(l *Loop) Handler { return &teller{l: l} }
	})
	if len(r.loops.cpus) < 2 {
		testkit.Missing(t, "processors", "there is one processor, and nowhere to move to")
	}
	for cpu, home := range r.loops.homes {
		if home >= 0 {
			cpus[home] = cpu
		}
	}
	out, in := socketPair(t)
	from(t, cpus[1], func() error {
		_, err := out.Write([]byte{1})
		return err
	})
	raw, err := in.SyscallConn()
	cpu, said := 0, error(nil)
	if err == nil {
		err = raw.Control(func(fd uintptr) { cpu, said = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_INCOMING_CPU) })
	}
	if err != nil {
		t.Fatal(err)
	}
	if said != nil || cpu != cpus[1] {
		testkit.Missing(t, "processors", fmt.Sprintf("packets sent on processor %d are handled on %d, %v", cpus[1], cpu, said))
	}
	return r, cpus
}

// socketPair returns both ends of a connection.
func socketPair(t *testing.T) (a, b *net.TCPConn) {
	t.Helper()
	l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err == nil {
		a, err = net.DialTCP("tcp", nil, l.Addr().(*net.TCPAddr))
	}
	if err == nil {
		b, err = l.AcceptTCP()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _, _ = a.Close(), b.Close(), l.Close() })
	return a, b
}

// from runs f on a processor. What f sends comes from there: loopback has no other way.
func from(t *testing.T, cpu int, f func() error) {
	t.Helper()
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		var set unix.CPUSet
		set.Set(cpu)
		err := unix.SchedSetaffinity(0, &set)
		if err == nil {
			err = f()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// ask sends a request and returns which loop has answered.
func ask(c net.Conn) (int, error) {
	var b [1]byte
	_, err := c.Write([]byte("who\n"))
	if err == nil {
		_, err = c.Read(b[:])
	}
	return int(b[0] - '0'), err
}

// holds waits until the loops hold as many connections as there are, and returns how many each has.
func (r *rig) holds(conns int) (a, b int) {
	r.t.Helper()
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); runtime.Gosched() {
		a, b = int(r.loops.loops[0].held.Load()), int(r.loops.loops[1].held.Load())
		if a+b == conns {
			return a, b
		}
	}
	r.t.Errorf("the loops hold %d and %d of %d connections", a, b, conns)
	return a, b
}

func TestConnectionsFollowTheirPackets(t *testing.T) {
	r, cpus := newTellers(t)
	c := r.dial()
	for turn := range 6 {
		want := turn % 2
		from(t, cpus[want], func() error {
			for range 100 * lookEvery {
				if got, err := ask(c); err != nil || got == want {
					return err
				}
			}
			return fmt.Errorf("turn %d: requests from processor %d are not answered by loop %d", turn, cpus[want], want)
		})
	}
	r.holds(1)
}

// TestANewConnectionBeginsWhereItsPacketsAre: its first request is answered there.
func TestANewConnectionBeginsWhereItsPacketsAre(t *testing.T) {
	r, cpus := newTellers(t)
	for turn := range 6 {
		want := turn % 2
		from(t, cpus[want], func() error {
			c, err := net.Dial("tcp", r.addr)
			if err != nil {
				return err
			}
			defer c.Close()
			if got, err := ask(c); err != nil || got != want {
				return fmt.Errorf("a connection made on processor %d is answered by loop %d, %w", cpus[want], got, err)
			}
			return nil
		})
	}
}

// TestNoLoopGetsAll: where all packets are handled on one processor the other loops still work.
func TestNoLoopGetsAll(t *testing.T) {
	r, cpus := newTellers(t)
	const conns, most = 80, 80*3/4 + 2
	var list []net.Conn
	for range conns {
		list = append(list, r.dial())
	}
	from(t, cpus[1], func() error {
		for range 4 * lookEvery {
			for _, c := range list {
				if _, err := ask(c); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if a, b := r.holds(conns); b > most || b < a {
		t.Errorf("of %d connections that all come from one processor its loop has %d and the other %d", conns, b, a)
	}
}

// TestStopWhileConnectionsMove: what a loop gives away while the other one ends is closed all the same, and every request
// before that has one answer. newRig's cleanup finds a connection that was left behind.
func TestStopWhileConnectionsMove(t *testing.T) {
	for round := range 30 {
		t.Run(fmt.Sprint(round), func(t *testing.T) {
			r, cpus := newTellers(t)
			var all sync.WaitGroup
			begun := make(chan struct{}, 8)
			for i := range cap(begun) {
				c := r.dial()
				all.Go(func() {
					in := bufio.NewReader(c)
					var once sync.Once
					begin := func() { once.Do(func() { begun <- struct{}{} }) }
					defer begin()
					for n := 0; ; n++ {
						stop := false
						from(t, cpus[(i+n)%2], func() error {
							for range 2*lookEvery + 1 {
								_, err := c.Write([]byte("who\n"))
								if err == nil {
									_, err = in.ReadByte()
								}
								if stop = err != nil; stop { // it was closed
									break
								}
							}
							return nil
						})
						if in.Buffered() > 0 {
							t.Error("a request was answered twice")
						}
						if stop {
							return
						}
						if n == 1 {
							begin()
						}
					}
				})
			}
			for range cap(begun) {
				<-begun
			}
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			if err := r.loops.Stop(ctx); err != nil {
				t.Error(err)
			}
			all.Wait()
			for _, l := range r.loops.loops {
				if n := l.held.Load(); n != 0 || len(l.new) != 0 {
					t.Errorf("loop %d ends with %d connections, %d that it never met", l.index, n, len(l.new))
				}
			}
		})
	}
}

// TestNothingIsGivenToALoopThatHasEnded: it would never be looked at. What was given before keeps the loop from ending.
func TestNothingIsGivenToALoopThatHasEnded(t *testing.T) {
	l := &Loop{}
	if !l.add(&Conn{}) || l.end() {
		t.Fatal("a loop has ended with a connection that it has not met")
	}
	l.new = nil
	if !l.end() {
		t.Fatal("a loop with nothing left has not ended")
	}
	if l.add(&Conn{}) || len(l.new) > 0 || l.held.Load() != 1 {
		t.Fatal("a loop that has ended was given a connection")
	}
}

// TestARingAfterTheEnd: a loop that has ended is rung by the batches that it waited for. Its descriptor may be anything's
// by then.
func TestARingAfterTheEnd(t *testing.T) {
	r := newRig(t, nil)
	l := r.loops.loops[0]
	if err := r.loops.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for i := range 50 {
		f, err := os.Create(filepath.Join(dir, strconv.Itoa(i)))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
	}
	l.rung.Store(false)
	l.asleep.Store(true) // as somebody who rings may have seen it just before
	l.Wake()
	for i := range 50 {
		if b, err := os.ReadFile(filepath.Join(dir, strconv.Itoa(i))); err != nil || len(b) > 0 {
			t.Errorf("a file that was opened afterwards holds %x, %v", b, err)
		}
	}
}
