package collect

import (
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/valyala/fasthttp"

	"milliard/internal/collect/loop"
)

// handedOver is the listener from which fasthttp gets the connections that the event loops do not serve.
type handedOver struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
	addr   net.Addr
}

// handoverRoom is how many connections may wait for fasthttp to take them, which it does at once.
const handoverRoom = 256

func newHandedOver(addr net.Addr) *handedOver {
	return &handedOver{conns: make(chan net.Conn, handoverRoom), closed: make(chan struct{}), addr: addr}
}

// give hands a connection to fasthttp. After Close it is closed.
func (h *handedOver) give(c net.Conn) {
	select {
	case h.conns <- c:
	case <-h.closed:
		_ = c.Close() // nobody is there to serve it
	}
}

// Accept returns the next connection.
func (h *handedOver) Accept() (net.Conn, error) {
	select {
	case c := <-h.conns:
		return c, nil
	case <-h.closed:
		return nil, net.ErrClosed
	}
}

// Close ends Accept. The loops have ended before, so nothing is given any more.
func (h *handedOver) Close() error {
	h.once.Do(func() { close(h.closed) })
	for {
		select {
		case c := <-h.conns:
			_ = c.Close() // nobody is there to serve it
		default:
			return nil
		}
	}
}

// Addr returns the address that is listened on.
func (h *handedOver) Addr() net.Addr { return h.addr }

// looped says whether event loops stand in front of fasthttp.
func (d *Doors) looped() bool { return loop.Supported && d.cfg.Loops >= 0 }

// serve begins to serve the listeners: through event loops where there are any, else by fasthttp alone.
func (d *Doors) serve() error {
	if !d.looped() {
		for _, l := range d.listeners {
			d.serveHTTP(l)
		}
		return nil
	}
	l := &d.cfg.Limits
	h := newHandedOver(d.listeners[0].Addr())
	n := d.cfg.Loops
	if n == 0 {
		n = loop.Processors
	}
	loops, err := loop.Start(loop.Config{
		Loops: n, Conns: l.Conns, ConnsPerIP: l.ConnsPerIP, Sender: d.connSender,
		FirstTimeout: l.HeaderTimeout, IdleTimeout: l.IdleTimeout, WriteTimeout: l.WriteTimeout,
		Tick:     min(d.cfg.MaxWait/8, time.Second/4),
		Handler:  func(l *loop.Loop) loop.Handler { return newHot(d, l) },
		Handover: h.give, Refuse: d.refuseConn, Failed: d.fails,
	}, d.listeners)
	if err != nil {
		return fmt.Errorf("doors: %w", err)
	}
	d.loops, d.handed = loops, h
	d.serveHTTP(h)
	return nil
}

// crowded says whether few places for connections are left.
func (d *Doors) crowded() bool { return d.loops != nil && d.loops.Crowded() }

func (d *Doors) serveHTTP(l net.Listener) {
	d.serving.Go(func() {
		if err := d.server.Serve(bodyListener{Listener: l, idle: d.cfg.Limits.IdleTimeout}); err != nil && !d.isClosing() {
			d.fails(err)
		}
	})
}

// fails reports what has ended by itself.
func (d *Doors) fails(err error) {
	select {
	case d.fatal <- fmt.Errorf("doors: %w", err):
	default:
	}
}

// connSender is what connections from one address are counted as: the address, or the /64 of a sender with IPv6. Those of
// a trusted proxy are of everybody behind it and are not counted.
func (d *Doors) connSender(peer netip.Addr) (netip.Addr, bool) {
	if d.trusted(peer) {
		return netip.Addr{}, false
	}
	return limited(peer), true
}

// refuseConn counts a connection beyond the limits, and answers it as fasthttp does.
func (d *Doors) refuseConn(perIP bool) []byte {
	if perIP {
		d.turnedAwayIP.Add(1)
	} else {
		d.turnedAway.Add(1)
	}
	status, msg := fasthttp.StatusServiceUnavailable, "The connection cannot be served because Server.Concurrency limit exceeded"
	if perIP {
		status, msg = fasthttp.StatusTooManyRequests, "The number of connections from your ip exceeds MaxConnsPerIP"
	}
	return fmt.Appendf(nil, "HTTP/1.1 %d %s\r\nConnection: close\r\nDate: %s\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n%s",
		status, fasthttp.StatusMessage(status), fasthttp.AppendHTTPDate(nil, time.Now()), len(msg), msg)
}

// movedConns is how many connections the loops have handed to fasthttp.
func (d *Doors) movedConns() int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.loops == nil {
		return 0
	}
	return d.loops.Moved()
}

// openConns is how many connections are open, wherever they are served.
func (d *Doors) openConns() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := max(int(d.server.GetOpenConnectionsCount()), 0)
	if d.loops != nil {
		n += d.loops.Open()
	}
	return n
}
