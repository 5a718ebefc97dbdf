package loop

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Loop is one goroutine and its connections. Its epoll descriptor is itself watched by Go's own poller, so that a loop
// with nothing to do is parked like any goroutine and holds no thread.
type Loop struct {
	all    *Loops
	h      Handler
	file   *os.File // the epoll descriptor
	raw    syscall.RawConn
	fd     int // the same, for adding and removing
	rung   atomic.Bool
	poll   func(fd uintptr) bool
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

	mu  sync.Mutex
	new []*Conn
}

const maxEvents = 512

func newLoop(s *Loops) (*Loop, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll: %w", err)
	}
	l := &Loop{all: s, fd: fd, events: make([]unix.EpollEvent, maxEvents), arena: make([]byte, arenaSize)}
	err = unix.SetNonblock(fd, true) // which is how os finds out that it can be watched
	l.file = os.NewFile(uintptr(fd), "epoll")
	if err == nil {
		l.raw, err = l.file.SyscallConn()
	}
	if err == nil {
		err = l.file.SetReadDeadline(time.Time{}) // fails where the descriptor is not watched
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("epoll: %w", err), l.close())
	}
	l.poll = func(fd uintptr) bool {
		l.n = epollNow(int(fd), l.events)
		return l.n != 0
	}
	l.h = s.cfg.Handler(l)
	return l, nil
}

func (l *Loop) close() error { return l.file.Close() }

// Wake has the loop call Handler.Woken soon. Any goroutine may call it. A deadline that is over makes a parked loop
// runnable where it is called: no descriptor, no thread of the kernel's has to be woken for it.
func (l *Loop) Wake() {
	if !l.rung.Swap(true) {
		_ = l.file.SetReadDeadline(time.Unix(1, 0)) // a loop that has ended needs no waking
	}
}

// Stopping says whether Stop has begun, so that answers can say that the connection will be closed.
func (l *Loop) Stopping() bool { return l.all.stopping.Load() }

// add gives the loop a new connection.
func (l *Loop) add(c *Conn) {
	l.mu.Lock()
	l.new = append(l.new, c)
	l.mu.Unlock()
	l.Wake()
}

func (l *Loop) run() {
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

// wait returns how many events there are. It parks when there is nothing to do.
func (l *Loop) wait() (int, error) {
	if len(l.again) > 0 || l.rung.Load() {
		l.poll(uintptr(l.fd))
	} else if err := l.raw.Read(l.poll); errors.Is(err, os.ErrDeadlineExceeded) {
		if !l.rung.Load() { // a tick, or a bell that was answered before its ringer had set the deadline
			l.await()
		}
		l.poll(uintptr(l.fd)) // what has arrived belongs into the same round
	} else if err != nil {
		return 0, fmt.Errorf("event loop: %w", err)
	}
	if l.n < 0 {
		if errno := unix.Errno(-l.n); errno != unix.EINTR {
			return 0, fmt.Errorf("event loop: %w", errno)
		}
		return 0, nil
	}
	return l.n, nil
}

// answerBell does what somebody else has asked for.
func (l *Loop) answerBell() {
	l.await()           // before the bell is free again, or the deadline of its next ringer would be lost
	l.rung.Store(false) // before looking: who comes later rings again
	l.meet()
	l.h.Woken()
}

// meet takes the connections that were accepted for the loop.
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
	ev := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLRDHUP | unix.EPOLLET&0xffffffff, Fd: c.fd}
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
	l.await()
}

// await sets the deadline to the next tick. It may take back that of a Wake: wait looks at the bell before it parks.
func (l *Loop) await() {
	_ = l.file.SetReadDeadline(l.ticks) // it is watched: newLoop has tried
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
	return l.count == 0
}

// closeAll closes every connection, those included that the loop has not met yet.
func (l *Loop) closeAll() {
	l.mu.Lock()
	added := l.new
	l.new = nil
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
