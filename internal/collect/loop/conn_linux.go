package loop

import (
	"bytes"
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The calls of the hot path. None of these three can wait, so the scheduler need not be told of them; telling it would
// cost as much as the loop's own work.

func epollNow(fd int, events []unix.EpollEvent) int {
	n, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(fd), uintptr(unsafe.Pointer(&events[0])), uintptr(len(events)), 0, 0, 0)
	if errno != 0 {
		return -int(errno)
	}
	return int(n)
}

// epollWait is the one that can.
func epollWait(fd int, events []unix.EpollEvent, milliseconds int) int {
	n, err := unix.EpollWait(fd, events, milliseconds)
	if errno, failed := errors.AsType[unix.Errno](err); failed {
		return -int(errno)
	}
	return n
}

func readNow(fd int32, b []byte) (int, unix.Errno) {
	n, _, errno := unix.RawSyscall(unix.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)))
	return int(n), errno
}

func writeNow(fd int32, b []byte) (int, unix.Errno) {
	n, _, errno := unix.RawSyscall(unix.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)))
	return int(n), errno
}

// ready follows an event.
func (l *Loop) ready(c *Conn, mask uint32) {
	if len(c.out) > 0 {
		if mask&(unix.EPOLLIN|unix.EPOLLRDHUP) != 0 {
			c.more = true
		}
		if mask&(unix.EPOLLOUT|unix.EPOLLHUP|unix.EPOLLERR) != 0 {
			l.push(c)
		}
		return
	}
	if mask&(unix.EPOLLIN|unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) == 0 {
		return
	}
	if mask&(unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) != 0 {
		c.hup = true
	}
	if c.busy || len(c.in) > 0 {
		c.more = true
		return
	}
	l.read(c)
}

// room returns memory for one read.
func (l *Loop) room() []byte {
	if len(l.arena)-l.used < readSize {
		l.h.Flush()
		l.used = 0
	}
	return l.arena[l.used : l.used+readSize]
}

// read takes what has arrived. Events are edges, so a connection of which not everything was read is looked at again.
func (l *Loop) read(c *Conn) {
	buf := l.room()
	n, errno := readNow(c.fd, buf)
	switch {
	case errno == unix.EAGAIN:
		c.more = false
		return
	case errno == unix.EINTR:
		l.later(c)
		return
	case errno != 0 || n == 0:
		l.drop(c)
		return
	}
	c.more = n == len(buf) || c.hup
	l.look(c)
	l.used += n
	l.feed(c, buf[:n])
}

// feed shows the handler what has arrived.
func (l *Loop) feed(c *Conn, data []byte) {
	c.fresh = false
	n := l.h.Take(c, data)
	if n <= 0 {
		l.handover(c, data, false)
		return
	}
	c.busy = true
	if n < len(data) {
		c.in = bytes.Clone(data[n:])
	}
}

// Answer writes the answer of the request that was taken from c, and goes on with what has arrived behind it. last closes
// the connection afterwards. b is not kept.
func (l *Loop) Answer(c *Conn, b []byte, last bool) {
	c.busy, c.last, c.since = false, last || l.swept, l.now
	n, errno := 0, unix.Errno(0)
	if len(b) > 0 {
		n, errno = writeNow(c.fd, b)
	}
	switch {
	case errno == unix.EAGAIN || errno == unix.EINTR:
		n = 0
	case errno != 0:
		l.drop(c)
		return
	}
	if n < len(b) {
		c.out = bytes.Clone(b[n:])
		if errno == unix.EINTR {
			l.push(c)
		}
		return
	}
	l.answered(c)
}

// push writes the rest of an answer. The socket says when it has room again.
func (l *Loop) push(c *Conn) {
	n, errno := writeNow(c.fd, c.out)
	if errno == unix.EAGAIN {
		return
	}
	if errno != 0 {
		l.drop(c)
		return
	}
	if c.out = c.out[n:]; len(c.out) == 0 {
		c.out, c.since = nil, l.now
		l.answered(c)
	}
}

func (l *Loop) answered(c *Conn) {
	switch {
	case c.last:
		l.drop(c)
	case len(c.in) > 0 || c.more:
		l.later(c)
	case c.goes != nil && !c.queue && !c.hup:
		l.follow(c)
	}
}

// forget takes a connection out of the loop.
func (l *Loop) forget(c *Conn) {
	if int(c.fd) < len(l.conns) && l.conns[c.fd] == c {
		l.conns[c.fd] = nil
	}
	c.fd = -1
	l.count--
	l.held.Add(-1)
	l.all.open.Add(-1)
}

// drop closes a connection.
func (l *Loop) drop(c *Conn) {
	_ = unix.Close(int(c.fd)) // nothing could be done about it
	l.forget(c)
	l.all.leave(c.peer)
}

// handover gives a connection away, with what was read of it. expired says that the time for its first byte is over,
// which the new owner is told as the result of its first read.
func (l *Loop) handover(c *Conn, data []byte, expired bool) {
	fd := int(c.fd)
	_ = unix.EpollCtl(l.fd, unix.EPOLL_CTL_DEL, fd, nil) // its duplicate goes on living
	l.forget(c)
	f := os.NewFile(uintptr(fd), "connection")
	conn, err := net.FileConn(f)
	_ = f.Close()
	if err != nil {
		l.all.leave(c.peer)
		return
	}
	l.all.moved.Add(1)
	l.all.cfg.Handover(&moved{Conn: conn, all: l.all, peer: c.peer, head: bytes.Clone(data), expired: expired})
}

// moved is a connection that has left its loop.
type moved struct {
	net.Conn
	all     *Loops
	peer    netip.Addr
	head    []byte // was read before
	expired bool
	once    sync.Once
}

func (m *moved) Read(p []byte) (int, error) {
	if len(m.head) > 0 {
		n := copy(p, m.head)
		if m.head = m.head[n:]; len(m.head) == 0 {
			m.head = nil
		}
		return n, nil
	}
	if m.expired {
		m.expired = false
		return 0, os.ErrDeadlineExceeded
	}
	return m.Conn.Read(p)
}

// Close gives the place back.
func (m *moved) Close() error {
	m.once.Do(func() { m.all.leave(m.peer) })
	return m.Conn.Close()
}
