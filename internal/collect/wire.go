package collect

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"

	"milliard/internal/collect/loop"
)

// This file is about where a request ends. fasthttp takes the end of a connection for the end of a chunked body, and waits
// for the start of a body that nobody will read.

// bodyListener wraps the connections that it accepts.
type bodyListener struct {
	net.Listener
	idle time.Duration // how long its connections may do nothing
}

func (l bodyListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &bodyConn{Conn: c, idle: l.idle}, nil
}

// bodyConn is a connection on which the end of the stream is an error while a body is being read. It is its own local
// address, which is how a handler gets hold of it through whatever fasthttp has wrapped around it.
type bodyConn struct {
	net.Conn
	idle   time.Duration
	rests  atomic.Bool // a request was answered while places were few: the time that is set next is that for another one
	inBody atomic.Bool
	late   atomic.Bool // its time was over; fasthttp does not always say so
	ended  atomic.Bool // the stream has ended within a body; fasthttp forgives that where the last line of a body is missing
}

func (c *bodyConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if errors.Is(err, io.EOF) && c.inBody.Load() {
		c.ended.Store(true)
		err = io.ErrUnexpectedEOF
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		c.late.Store(true)
	}
	return n, err
}

// SetReadDeadline shortens the time for which a connection may do nothing when there are few places left.
func (c *bodyConn) SetReadDeadline(t time.Time) error {
	if c.rests.Load() {
		c.rests.Store(false)
		if soon := time.Now().Add(c.idle / loop.CrowdedPart); soon.Before(t) {
			t = soon
		}
	}
	return c.Conn.SetReadDeadline(t)
}

func (c *bodyConn) LocalAddr() net.Addr { return c }

// Network makes the connection an address.
func (c *bodyConn) Network() string { return c.Conn.LocalAddr().Network() }

// String returns the local address.
func (c *bodyConn) String() string { return c.Conn.LocalAddr().String() }

// expectBody says whether a body is being read from the request's connection.
func expectBody(ctx *fasthttp.RequestCtx, on bool) {
	if c, ok := ctx.LocalAddr().(*bodyConn); ok {
		c.inBody.Store(on)
	}
}

// restShortly says that the request's connection has less time for the next one.
func restShortly(ctx *fasthttp.RequestCtx) {
	if c, ok := ctx.LocalAddr().(*bodyConn); ok {
		c.rests.Store(true)
	}
}

// endedEarly says whether the sender closed the connection before the end of the body that was expected.
func endedEarly(ctx *fasthttp.RequestCtx) bool {
	c, ok := ctx.LocalAddr().(*bodyConn)
	return ok && c.ended.Load()
}

// cameLate says whether the time for a body was over before it was here.
func cameLate(ctx *fasthttp.RequestCtx) bool {
	c, ok := ctx.LocalAddr().(*bodyConn)
	return ok && c.late.Load()
}

// maxDrain and maxDrainTime bound what is still read of a body that was refused, so that a sender which writes before it
// reads gets to see the answer.
const (
	maxDrain     = 1 << 20
	maxDrainTime = time.Second
)

// answerNow writes the answer of a request whose body is not read, and only then reads some of it.
func (d *Doors) answerNow(ctx *fasthttp.RequestCtx) {
	ctx.SetConnectionClose()
	var out bytes.Buffer
	if _, err := ctx.Response.WriteTo(&out); err != nil {
		return // cannot happen with a buffer; the answer then goes the usual way
	}
	patience := d.cfg.Limits.WriteTimeout
	ctx.HijackSetNoResponse(true)
	ctx.Hijack(func(c net.Conn) {
		if c.SetWriteDeadline(time.Now().Add(patience)) != nil {
			return
		}
		if _, err := c.Write(out.Bytes()); err != nil || c.SetReadDeadline(time.Now().Add(maxDrainTime)) != nil {
			return
		}
		_, _ = io.CopyN(io.Discard, c, maxDrain) // the connection is closed in any case
	})
}
