package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A token of a tag has 72 characters; a file of them has one in each line.
const (
	tokenChars = 72
	tokenLine  = tokenChars + 1
	macAt      = 60 // a character of the MAC that a forger changes
)

// mapFile maps a file, so that a gigabyte of tokens costs no heap.
func mapFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // only read
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if info.Size() == 0 {
		return nil, fmt.Errorf("%s is empty", path)
	}
	return syscall.Mmap(int(f.Fd()), 0, int(info.Size()), syscall.PROT_READ, syscall.MAP_SHARED)
}

// Pixels come from two threads, as wrk's do, that wait in the kernel. They look at the schedule every quarter of a
// millisecond: a client that is woken for each of 35,000 requests a second needs more of the two processors than the server.
const (
	pixelThreads = 2
	pixelTick    = 250 * time.Microsecond
	retryAfter   = time.Millisecond
)

// drivePixel asks for pixels with signed tokens, each token once, in an open loop: each connection has its own times, the
// connections together the rate, and a latency counts from the time a request was due, so an answer that comes late is also
// charged to those that had to wait behind it. It drives one connection in pixelThreads.
func drivePixel(ctx context.Context, r *loadRun, thread int) (*sent, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	p := r.pixels[thread]
	defer p.close()
	if err := p.run(ctx); err != nil {
		return nil, err
	}
	r.good.mu.Lock()
	defer r.good.mu.Unlock()
	r.good.all.Merge(p.all)
	for i, w := range p.windows {
		r.good.windows[i].Merge(w)
	}
	return p.s, nil
}

// forges says whether a connection forges its tokens. Forgers stand evenly among the others, so that in a schedule forged
// pixels fall due between good ones.
func (l *load) forges(worker int) bool {
	return worker*l.Forged/l.Conns != (worker+1)*l.Forged/l.Conns
}

// pixels is one thread's state.
type pixels struct {
	r       *loadRun
	s       *sent
	epoll   int
	timer   int
	conns   []*pixelConn
	byFD    map[int32]*pixelConn
	retries []*pixelConn // were told to come again, oldest first
	waiting int          // requests that were due and are not answered well
	all     *histogram
	windows [5]*histogram
}

// pixelConn is a connection, which has one request under way at most.
type pixelConn struct {
	fd      int
	worker  int // among all connections
	forged  bool
	due     int // requests that have come due
	sent    int // of these
	busy    bool
	again   time.Time // when the request that is under way is sent once more
	request []byte
	in      []byte // of an answer
}

// openPixels makes the connections, which is no part of the schedule: whoever came late would charge it to the answers.
func openPixels(r *loadRun) ([]*pixels, error) {
	if r.Rate <= 0 {
		return nil, errors.New("pixels need a rate")
	}
	addr, err := netip.ParseAddrPort(r.Addr)
	if err != nil {
		return nil, fmt.Errorf("address of the server: %w", err)
	}
	var all []*pixels
	for thread := range pixelThreads {
		p := &pixels{r: r, s: &sent{Valid: map[string]int64{}}, epoll: -1, timer: -1, all: newHistogram(), byFD: map[int32]*pixelConn{}}
		for i := range p.windows {
			p.windows[i] = newHistogram()
		}
		all = append(all, p)
		if err = p.open(addr, thread); err != nil {
			for _, p := range all {
				p.close()
			}
			return nil, err
		}
	}
	return all, nil
}

// every is the time between two requests of one connection.
func (r *loadRun) every() float64 { return float64(r.Conns) / r.Rate * float64(time.Second) }

// at is when a connection's n-th request is due.
func (r *loadRun) at(worker, n int) time.Time {
	return r.start.Add(time.Duration(r.every() * (float64(n) + float64(worker)/float64(r.Conns))))
}

func (p *pixels) open(addr netip.AddrPort, thread int) (err error) {
	if p.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return fmt.Errorf("epoll: %w", err)
	}
	if p.timer, err = unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_CLOEXEC|unix.TFD_NONBLOCK); err != nil {
		return fmt.Errorf("timer: %w", err)
	}
	if err := p.watch(p.timer, unix.EPOLLIN); err != nil {
		return err
	}
	tick := unix.NsecToTimespec(int64(pixelTick))
	if err := unix.TimerfdSettime(p.timer, 0, &unix.ItimerSpec{Interval: tick, Value: tick}, nil); err != nil {
		return fmt.Errorf("timer: %w", err)
	}
	for worker := thread; worker < p.r.Conns; worker += pixelThreads {
		c := &pixelConn{worker: worker, forged: p.r.forges(worker)}
		if c.fd, err = connect(addr); err != nil {
			return err
		}
		c.request = append([]byte("GET /i?tk="), make([]byte, tokenChars)...)
		c.request = append(c.request, " HTTP/1.1\r\nHost: "+p.r.Addr+"\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:133.0) Gecko/20100101 Firefox/133.0\r\n\r\n"...)
		p.conns = append(p.conns, c)
		p.byFD[int32(c.fd)] = c
		if err := p.watch(c.fd, unix.EPOLLIN); err != nil {
			return err
		}
	}
	return nil
}

func (p *pixels) watch(fd int, events uint32) error {
	if err := unix.EpollCtl(p.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: events, Fd: int32(fd)}); err != nil {
		return fmt.Errorf("epoll: %w", err)
	}
	return nil
}

func (p *pixels) close() {
	for _, c := range p.conns {
		_ = unix.Close(c.fd) // everything of interest has been answered
	}
	_, _ = unix.Close(p.timer), unix.Close(p.epoll)
}

func connect(addr netip.AddrPort) (int, error) {
	if !addr.Addr().Is4() {
		return 0, fmt.Errorf("address of the server: %s is none of IPv4", addr)
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("socket: %w", err)
	}
	err = unix.Connect(fd, &unix.SockaddrInet4{Port: int(addr.Port()), Addr: addr.Addr().As4()})
	if err == nil {
		err = errors.Join(unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1), unix.SetNonblock(fd, true))
	}
	if err != nil {
		return 0, errors.Join(fmt.Errorf("connect to %s: %w", addr, err), unix.Close(fd))
	}
	return fd, nil
}

// run keeps the schedule until its end, and until all that was due is answered.
func (p *pixels) run(ctx context.Context) error {
	events := make([]unix.EpollEvent, 512)
	var ticks [8]byte
	heard := time.Now()
	next, round := 0, 0 // whose request comes due next: connection and round
	for {
		n, err := unix.EpollWait(p.epoll, events, 1000)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("epoll: %w", err)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		now := time.Now()
		for i := range max(n, 0) {
			c := p.byFD[events[i].Fd]
			if c == nil {
				_, _ = unix.Read(p.timer, ticks[:]) // only then does it run again
				continue
			}
			heard = now
			if err := p.read(c, now); err != nil || p.s.Wrong != "" {
				return err
			}
		}
		for ; len(p.conns) > 0; next++ {
			if next == len(p.conns) {
				next, round = 0, round+1
			}
			c := p.conns[next]
			due := p.r.at(c.worker, round)
			if due.After(now) || !due.Before(p.r.end) {
				break
			}
			c.due++
			p.waiting++
			if err := p.send(c); err != nil {
				return err
			}
		}
		for len(p.retries) > 0 && !now.Before(p.retries[0].again) {
			c := p.retries[0]
			p.retries = p.retries[1:]
			if err := c.write(); err != nil {
				return err
			}
		}
		switch {
		case p.waiting == 0 && !now.Before(p.r.end):
			return nil
		case p.waiting > 0 && now.Sub(heard) > time.Minute:
			return fmt.Errorf("no answer for a minute, %d requests wait", p.waiting)
		case p.waiting == 0:
			heard = now
		}
	}
}

// send begins a connection's next request if one is due and none is under way.
func (p *pixels) send(c *pixelConn) error {
	if c.busy || c.sent == c.due {
		return nil
	}
	at := (c.sent*p.r.Conns + c.worker) * tokenLine
	if at+tokenLine > len(p.r.tokens) {
		return fmt.Errorf("the file of tokens is too short for %s at %.0f/s", p.r.Span, p.r.Rate)
	}
	const tokenAt = len("GET /i?tk=")
	copy(c.request[tokenAt:], p.r.tokens[at:at+tokenChars])
	if c.forged {
		x := &c.request[tokenAt+macAt]
		if *x == 'A' {
			*x = 'B'
		} else {
			*x = 'A'
		}
	}
	c.busy = true
	c.sent++
	return c.write()
}

func (c *pixelConn) write() error {
	n, err := unix.Write(c.fd, c.request)
	if err == nil && n < len(c.request) { // there is room for hundreds
		err = fmt.Errorf("%d of %d bytes", n, len(c.request))
	}
	if err != nil {
		return fmt.Errorf("send a request: %w", err)
	}
	return nil
}

// read takes what has arrived. An answer ends what is in the buffer: there is no second request under way.
func (p *pixels) read(c *pixelConn, now time.Time) error {
	const room = 2048
	if cap(c.in)-len(c.in) < room {
		c.in = append(make([]byte, 0, 2*cap(c.in)+room), c.in...)
	}
	n, err := unix.Read(c.fd, c.in[len(c.in):cap(c.in)])
	switch {
	case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR):
		return nil
	case err != nil:
		return fmt.Errorf("read an answer: %w", err)
	case n == 0:
		return errors.New("the server has closed a connection")
	}
	c.in = c.in[:len(c.in)+n]
	status, body, ok, err := wholeAnswer(c.in)
	if err != nil || !ok {
		return err
	}
	c.in = c.in[:0]
	p.s.Requests++
	switch {
	case !c.busy:
		p.s.Wrong = "an answer that nobody asked for"
		return nil
	case status == 200 && body == 43:
		p.done(c, now)
		return p.send(c)
	case status == 429:
		p.s.Overloaded++
	case status == 503: // perhaps taken; the token makes a repeat harmless
		p.s.Unknown++
	default:
		p.s.Wrong = fmt.Sprintf("pixel: status %d, %d bytes", status, body)
		return nil
	}
	c.again = now.Add(retryAfter)
	p.retries = append(p.retries, c)
	return nil
}

// wholeAnswer returns the status and the length of the body of an answer, ok when all of it is there.
func wholeAnswer(b []byte) (status, body int, ok bool, err error) {
	head, rest, ok := bytes.Cut(b, []byte("\r\n\r\n"))
	if !ok {
		return 0, 0, false, nil
	}
	if len(head) < 12 || !bytes.HasPrefix(head, []byte("HTTP/1.1 ")) {
		return 0, 0, false, fmt.Errorf("answer %.40q", head)
	}
	status = int(head[9]-'0')*100 + int(head[10]-'0')*10 + int(head[11]-'0')
	const name = "\r\nContent-Length: "
	_, value, found := bytes.Cut(head, []byte(name))
	if found {
		value, _, _ = bytes.Cut(value, []byte("\r\n"))
		if body, err = strconv.Atoi(string(value)); err != nil {
			return 0, 0, false, fmt.Errorf("answer: %w", err)
		}
	}
	if len(rest) > body {
		return 0, 0, false, fmt.Errorf("answer: %d bytes behind it", len(rest)-body)
	}
	return status, body, len(rest) == body, nil
}

func (p *pixels) done(c *pixelConn, now time.Time) {
	c.busy = false
	p.waiting--
	if c.forged {
		p.s.Forged++
		return
	}
	p.s.Events++
	p.s.Valid["impression"]++
	due := p.r.at(c.worker, c.sent-1)
	note(p.all, now.Sub(due))
	note(p.windows[min(int(5*due.Sub(p.r.start)/max(1, p.r.Span)), len(p.windows)-1)], now.Sub(due))
}
