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
		t.Skip("one processor: there is nowhere to move to")
	}
	return r, [2]int(r.loops.cpus[:2])
}

// from runs f on a processor. What f sends comes from there: loopback has no other way.
func from(t *testing.T, cpu int, f func()) {
	t.Helper()
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		var set unix.CPUSet
		set.Set(cpu)
		err := unix.SchedSetaffinity(0, &set)
		if err == nil {
			f()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// ask sends a request and returns which loop has answered.
func ask(t *testing.T, c net.Conn) int {
	t.Helper()
	var b [1]byte
	if _, err := c.Write([]byte("who\n")); err != nil {
		t.Error(err)
	} else if _, err := c.Read(b[:]); err != nil {
		t.Error(err)
	}
	return int(b[0] - '0')
}

func TestConnectionsFollowTheirPackets(t *testing.T) {
	r, cpus := newTellers(t)
	c := r.dial()
	for turn := range 6 {
		want := turn % 2
		from(t, cpus[want], func() {
			var last int
			for range 3 * lookEvery {
				last = ask(t, c)
			}
			if last != want {
				t.Errorf("turn %d: requests from processor %d are answered by loop %d", turn, cpus[want], last)
			}
		})
	}
	if a, b := r.loops.loops[0].held.Load(), r.loops.loops[1].held.Load(); a+b != 1 {
		t.Errorf("the loops hold %d and %d of one connection", a, b)
	}
}

// TestANewConnectionBeginsWhereItsPacketsAre: its first request is answered there.
func TestANewConnectionBeginsWhereItsPacketsAre(t *testing.T) {
	r, cpus := newTellers(t)
	for turn := range 6 {
		want := turn % 2
		from(t, cpus[want], func() {
			if got := ask(t, r.dial()); got != want {
				t.Errorf("a connection made on processor %d is answered by loop %d", cpus[want], got)
			}
		})
	}
}

// TestNoLoopGetsAll: where all packets are handled on one processor the other loops still work.
func TestNoLoopGetsAll(t *testing.T) {
	r, cpus := newTellers(t)
	const conns = 80
	from(t, cpus[1], func() {
		var list []net.Conn
		for range conns {
			list = append(list, r.dial())
		}
		for range 4 * lookEvery {
			for _, c := range list {
				ask(t, c)
			}
		}
	})
	a, b := r.loops.loops[0].held.Load(), r.loops.loops[1].held.Load()
	if a+b != conns || a < conns/8 || b < a {
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
					for n := 0; ; n++ {
						stop := false
						from(t, cpus[(i+n)%2], func() {
							for range 2*lookEvery + 1 {
								if _, err := c.Write([]byte("who\n")); err != nil {
									stop = true
									return
								}
								if _, err := in.ReadByte(); err != nil {
									stop = true
									return
								}
							}
						})
						if stop {
							return
						}
						if in.Buffered() > 0 {
							t.Error("a request was answered twice")
						}
						if n == 1 {
							begun <- struct{}{}
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
