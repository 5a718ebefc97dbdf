package loop

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Loop is one goroutine on a thread of its own, and its connections. It waits in the kernel, not in Go's poller: that one
// would be woken by every request that arrives while the loop works on others.
type Loop struct {
	all    *Loops
	index  int // in Loops.loops
	h      Handler
	fd     int      // of epoll
	bell   *os.File // wakes a loop that sleeps; never read, its events are edges
	rung   atomic.Bool
	asleep atomic.Bool // the bell has to be written to
	held   atomic.Int32
	events []unix.EpollEvent
	n      int // of events, or a negative error number

	// Owned by run.
	conns []*Conn // by descriptor
	count int
	again []*Conn // to be looked at without an event
	arena []byte
	used  int
	now   int64     // unix nanoseconds at the begin of the round
	ticks time.Time // when the next tick is due, by the monotonic clock; zero: there are no ticks
	swept bool      // stopping was noticed

	mu    sync.Mutex
	new   []*Conn
	ended bool // nothing may be added any more
}

const maxEvents = 512

func newLoop(s *Loops, index int) (*Loop, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll: %w", err)
	}
	bell, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("eventfd: %w", err), unix.Close(fd))
	}
	l := &Loop{
		all: s, index: index, fd: fd, bell: os.NewFile(uintptr(bell), "bell"),
		events: make([]unix.EpollEvent, maxEvents), arena: make([]byte, arenaSize),
	}
	if err := unix.EpollCtl(fd, unix.EPOLL_CTL_ADD, bell, &unix.EpollEvent{Events: unix.EPOLLIN | edges, Fd: noConn}); err != nil {
		return nil, errors.Join(fmt.Errorf("epoll: %w", err), l.close())
	}
	l.h = s.cfg.Handler(l)
	return l, nil
}

// noConn stands for the bell among the events.
const noConn = -1

// edges is EPOLLET, which unix has as a negative number.
const edges = unix.EPOLLET & 0xffffffff

func (l *Loop) close() error { return errors.Join(l.bell.Close(), unix.Close(l.fd)) }

// Wake has the loop call Handler.Woken soon. Any goroutine may call it. A loop that does not sleep will look by itself.
func (l *Loop) Wake() {
	if !l.rung.Swap(true) && l.asleep.Load() {
		_, _ = l.bell.Write(one) // a loop that has ended needs no waking
	}
}

var one = binary.NativeEndian.AppendUint64(nil, 1) //nolint:gochecknoglobals // a constant that Go cannot spell

// Stopping says whether Stop has begun, so that answers can say that the connection will be closed.
func (l *Loop) Stopping() bool { return l.all.stopping.Load() }

// add gives the loop a connection, new or of another loop. It returns false if the loop has ended.
func (l *Loop) add(c *Conn) bool {
	l.mu.Lock()
	ended := l.ended
	if !ended {
		l.held.Add(1)
		l.new = append(l.new, c)
	}
	l.mu.Unlock()
	if !ended {
		l.Wake()
	}
	return !ended
}

// end says whether the loop has nothing left, and if so that nothing may be added any more.
func (l *Loop) end() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended = l.count == 0 && len(l.new) == 0
	return l.ended
}

func (l *Loop) run() {
	runtime.LockOSThread() // and never unlocked: nobody else shall run on a thread that is tied
	l.all.pin(l)
	defer func() { _ = l.close() }() // nobody is left who could hear of it
	for {
		n, err := l.wait()
		if err != nil {
			l.closeAll()
			l.all.cfg.Failed(err)
			return
		}
		now := time.Now()
		l.now = now.UnixNano()
		for i := range l.events[:n] {
			ev := &l.events[i]
			if ev.Fd == noConn {
				continue
			}
			if c := l.conns[ev.Fd]; c != nil {
				l.ready(c, ev.Events)
			}
		}
		if l.rung.Load() {
			l.h.Flush() // what has arrived is on its way while the answers are written
			l.used = 0
			l.answerBell()
		}
		l.goOn()
		l.h.Flush()
		l.used = 0
		l.tick(now)
		if l.Stopping() && l.drained() {
			return
		}
	}
}

// wait returns how many events there are. It sleeps when there is nothing to do.
func (l *Loop) wait() (int, error) {
	l.n = epollNow(l.fd, l.events)
	if l.n == 0 && len(l.again) == 0 {
		l.asleep.Store(true)
		if !l.rung.Load() { // who rings from now on sees that the bell is needed
			l.n = epollWait(l.fd, l.events, l.timeout())
		}
		l.asleep.Store(false)
	}
	if l.n < 0 {
		if errno := unix.Errno(-l.n); errno != unix.EINTR {
			return 0, fmt.Errorf("event loop: %w", errno)
		}
		return 0, nil
	}
	return l.n, nil
}

// timeout returns the milliseconds until the next tick, or -1.
func (l *Loop) timeout() int {
	if l.ticks.IsZero() {
		return -1
	}
	return max(0, int(math.Ceil(float64(time.Until(l.ticks))/float64(time.Millisecond))))
}

// answerBell does what somebody else has asked for.
func (l *Loop) answerBell() {
	l.rung.Store(false) // before looking: who comes later rings again
	l.meet()
	l.h.Woken()
}

// meet takes the connections that were given to the loop.
func (l *Loop) meet() {
	l.mu.Lock()
	added := l.new
	l.new = nil
	l.mu.Unlock()
	for _, c := range added {
		l.register(c)
	}
}

func (l *Loop) register(c *Conn) {
	for int(c.fd) >= len(l.conns) {
		l.conns = append(l.conns, make([]*Conn, len(l.conns)+64)...)
	}
	l.conns[c.fd] = c
	l.count++
	c.since = l.now
	ev := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLRDHUP | edges, Fd: c.fd}
	if err := unix.EpollCtl(l.fd, unix.EPOLL_CTL_ADD, int(c.fd), &ev); err != nil {
		l.drop(c)
		return
	}
	if l.ticks.IsZero() {
		l.schedule()
	}
}

// schedule sets the time of the next tick.
func (l *Loop) schedule() {
	if l.ticks = (time.Time{}); l.count > 0 {
		l.ticks = time.Now().Add(l.all.cfg.Tick)
	}
}

// tick looks at the time.
func (l *Loop) tick(now time.Time) {
	if l.ticks.IsZero() || now.Before(l.ticks) {
		return
	}
	l.h.Tick(now)
	l.limits()
	l.schedule()
}

// limits ends connections whose time is over.
func (l *Loop) limits() {
	cfg := &l.all.cfg
	idle := cfg.IdleTimeout
	if l.all.Crowded() {
		idle /= CrowdedPart
	}
	for _, c := range l.conns {
		if c == nil || c.busy {
			continue
		}
		switch age := time.Duration(l.now - c.since); {
		case len(c.out) > 0:
			if age > cfg.WriteTimeout {
				l.drop(c)
			}
		case c.fresh:
			if age > cfg.FirstTimeout {
				l.handover(c, nil, true)
			}
		case age > idle:
			l.drop(c)
		}
	}
}

// goOn looks at connections that need no event. What they leave behind waits for the next round, so that none of them
// keeps the others waiting.
func (l *Loop) goOn() {
	list := l.again
	l.again = nil
	for _, c := range list {
		c.queue = false
		if c.fd < 0 || c.busy || len(c.out) > 0 {
			continue
		}
		if len(c.in) > 0 {
			data := l.room()
			data = data[:copy(data, c.in)]
			c.in = nil
			l.used += len(data)
			l.feed(c, data)
			continue
		}
		l.read(c)
	}
	if l.again == nil {
		l.again = list[:0]
	}
}

func (l *Loop) later(c *Conn) {
	if !c.queue {
		c.queue = true
		l.again = append(l.again, c)
	}
}

// drained closes what waits for nothing and says whether that was all.
func (l *Loop) drained() bool {
	if l.all.forced.Load() {
		l.closeAll()
		return true
	}
	l.swept = true
	l.meet() // nobody rings for what was accepted while the last bell was answered
	for _, c := range l.conns {
		if c == nil || c.busy || len(c.out) > 0 || len(c.in) > 0 {
			continue
		}
		if l.read(c); c.fd >= 0 && !c.busy { // what has arrived is still answered
			l.drop(c)
		}
	}
	l.h.Flush()
	l.used = 0
	return l.end()
}

// closeAll closes every connection, those included that the loop has not met yet.
func (l *Loop) closeAll() {
	l.mu.Lock()
	added := l.new
	l.new, l.ended = nil, true
	l.mu.Unlock()
	for _, c := range added {
		l.count++
		l.drop(c)
	}
	for _, c := range l.conns {
		if c != nil {
			l.drop(c)
		}
	}
}
