package loop

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Supported says whether this system has loops.
const Supported = true

// Loops are the loops of some listeners and those who accept for them.
type Loops struct {
	cfg       Config
	loops     []*Loop
	cpus      []int      // the processors that the program may use
	homes     []int16    // by processor, whose loop is its; -1: nobody's
	listeners []*os.File // duplicates, which the acceptors read from
	accepting sync.WaitGroup
	running   sync.WaitGroup
	next      atomic.Uint32 // whose turn it is to get a connection
	open      atomic.Int64  // connections of the loops
	moved     atomic.Int64  // connections that were handed over
	closed    atomic.Bool   // nothing is accepted any more
	stopping  atomic.Bool   // no connection comes any more, and those that wait for nothing are closed
	forced    atomic.Bool   // the others too
	crowded   atomic.Bool   // nearly all places are taken; written under mu

	mu    sync.Mutex
	conns int // places taken, those of handed-over connections included
	perIP map[netip.Addr]int
}

// Start serves the listeners, which stay the caller's: it must close them, before or after Stop.
func Start(cfg Config, listeners []net.Listener) (*Loops, error) {
	s := &Loops{cfg: cfg, perIP: make(map[netip.Addr]int)}
	for i := range max(1, cfg.Loops) {
		l, err := newLoop(s, i)
		if err != nil {
			return nil, errors.Join(err, s.discard())
		}
		s.loops = append(s.loops, l)
	}
	s.settle()
	schedule(len(s.loops))
	for _, l := range listeners {
		f, err := listenerFile(l)
		if err != nil {
			return nil, errors.Join(err, s.discard())
		}
		s.listeners = append(s.listeners, f)
	}
	for _, l := range s.loops {
		s.running.Go(l.run)
	}
	for _, f := range s.listeners {
		s.accepting.Go(func() { s.accept(f) })
	}
	return s, nil
}

// discard closes what a failed Start has opened.
func (s *Loops) discard() error {
	var errs []error
	for _, l := range s.loops {
		errs = append(errs, l.close())
	}
	for _, f := range s.listeners {
		errs = append(errs, f.Close())
	}
	return errors.Join(errs...)
}

// keepAliveSeconds is what net gives a connection that it accepts.
const keepAliveSeconds = 15

// listenerFile duplicates a listener's descriptor. What is set here is inherited by the connections.
func listenerFile(l net.Listener) (*os.File, error) {
	t, ok := l.(*net.TCPListener)
	if !ok {
		return nil, fmt.Errorf("listener %T has no descriptor", l)
	}
	f, err := t.File()
	if err != nil {
		return nil, fmt.Errorf("listener: %w", err)
	}
	raw, err := f.SyscallConn()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("listener: %w", err), f.Close())
	}
	var setErr error
	err = raw.Control(func(fd uintptr) {
		for _, o := range [...]struct{ level, name, value int }{
			{unix.IPPROTO_TCP, unix.TCP_NODELAY, 1},
			{unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1},
			{unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, keepAliveSeconds},
			{unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, keepAliveSeconds},
		} {
			setErr = errors.Join(setErr, unix.SetsockoptInt(int(fd), o.level, o.name, o.value))
		}
	})
	if err = errors.Join(err, setErr); err != nil {
		return nil, errors.Join(fmt.Errorf("listener: %w", err), f.Close())
	}
	return f, nil
}

// accept takes connections until the listener is closed.
func (s *Loops) accept(f *os.File) {
	raw, err := f.SyscallConn()
	if err != nil {
		s.cfg.Failed(fmt.Errorf("accept: %w", err))
		return
	}
	for !s.closed.Load() {
		var fd int
		var from unix.Sockaddr
		var failure error
		err := raw.Read(func(l uintptr) bool {
			fd, from, failure = unix.Accept4(int(l), unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
			return !errors.Is(failure, unix.EAGAIN)
		})
		switch {
		case s.closed.Load():
			if err == nil && failure == nil {
				_ = unix.Close(fd) // it came too late to be served
			}
			return
		case err != nil:
			s.cfg.Failed(fmt.Errorf("accept: %w", err))
			return
		case failure == nil:
			s.welcome(fd, from)
		case errors.Is(failure, unix.ECONNABORTED), errors.Is(failure, unix.EINTR), errors.Is(failure, unix.EPERM):
		case errors.Is(failure, unix.EMFILE), errors.Is(failure, unix.ENFILE), errors.Is(failure, unix.ENOBUFS), errors.Is(failure, unix.ENOMEM):
			s.pause()
		default:
			s.cfg.Failed(fmt.Errorf("accept: %w", failure))
			return
		}
	}
}

// acceptPause lets connections be closed when there are no descriptors or no memory for more.
const acceptPause = 20 * time.Millisecond

func (s *Loops) pause() {
	t := time.NewTimer(acceptPause)
	defer t.Stop()
	<-t.C
}

// welcome gives a connection its place and a loop, or refuses it.
func (s *Loops) welcome(fd int, from unix.Sockaddr) {
	var peer netip.Addr
	switch a := from.(type) {
	case *unix.SockaddrInet4:
		peer = netip.AddrFrom4(a.Addr)
	case *unix.SockaddrInet6:
		peer = netip.AddrFrom16(a.Addr).Unmap()
	}
	if ok, perIP := s.place(peer); !ok {
		_, _ = unix.Write(fd, s.cfg.Refuse(perIP)) // a courtesy: an empty socket takes it
		_ = unix.Close(fd)
		return
	}
	l := s.home(fd)
	if l == nil || !l.hasRoom() {
		l = s.loops[int(s.next.Add(1))%len(s.loops)]
	}
	s.open.Add(1)
	if !l.add(&Conn{fd: int32(fd), peer: peer, fresh: true}) { // it has failed, and so will the program
		_ = unix.Close(fd)
		s.open.Add(-1)
		s.leave(peer)
	}
}

// place takes a place for a connection. When there is none it says whether the address has too many.
func (s *Loops) place(peer netip.Addr) (ok, perIP bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conns >= s.cfg.Conns {
		return false, false
	}
	if sender, counted := s.sender(peer); counted {
		if s.perIP[sender] >= s.cfg.ConnsPerIP {
			return false, true
		}
		s.perIP[sender]++
	}
	s.countLocked(1)
	return true, false
}

// sender says what an address is counted as, if it is.
func (s *Loops) sender(peer netip.Addr) (netip.Addr, bool) {
	if s.cfg.ConnsPerIP <= 0 || s.cfg.Sender == nil {
		return peer, s.cfg.ConnsPerIP > 0
	}
	return s.cfg.Sender(peer)
}

// Crowded says whether nearly all places are taken, so that connections which do nothing should make room.
func (s *Loops) Crowded() bool { return s.crowded.Load() }

// countLocked counts places.
func (s *Loops) countLocked(n int) {
	s.conns += n
	if crowded := s.conns >= s.cfg.Conns-s.cfg.Conns/8; crowded != s.crowded.Load() {
		s.crowded.Store(crowded)
	}
}

// leave gives a place back.
func (s *Loops) leave(peer netip.Addr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.countLocked(-1)
	if sender, counted := s.sender(peer); counted {
		if s.perIP[sender]--; s.perIP[sender] <= 0 {
			delete(s.perIP, sender)
		}
	}
}

// Open returns how many connections the loops have; those that were handed over are their new owner's to count.
func (s *Loops) Open() int { return int(s.open.Load()) }

// Moved returns how many connections were handed over.
func (s *Loops) Moved() int64 { return s.moved.Load() }

// Stop stops accepting, lets the requests in hand be answered, closes the connections and waits for the goroutines. When
// ctx ends first the rest is closed unanswered.
func (s *Loops) Stop(ctx context.Context) error {
	s.closed.Store(true)
	var errs []error
	for _, f := range s.listeners {
		if err := f.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
			errs = append(errs, err)
		}
	}
	s.accepting.Wait()
	s.stopping.Store(true)
	for _, l := range s.loops {
		l.Wake()
	}
	ended := make(chan struct{})
	go func() {
		s.running.Wait()
		close(ended)
	}()
	select {
	case <-ended:
	case <-ctx.Done():
		s.forced.Store(true)
		for _, l := range s.loops {
			l.Wake()
		}
		<-ended
		errs = append(errs, ctx.Err())
	}
	return errors.Join(errs...)
}
