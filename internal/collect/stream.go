package collect

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/valyala/fasthttp"

	"milliard/internal/journal"
)

// The streaming door: one long request whose body is a line per event, answered while it is still being sent.
//
// fasthttp answers a request once its handler returns, so this handler writes the response itself, straight to the
// connection, and leaves it hijacked without an answer of fasthttp's. Two goroutines share a stream: the handler's own
// reads lines and hands events to the lanes; acker waits for durability in the order of the lines and writes the
// answers. Between them is a bounded channel: when the journal is slow the reader stops reading, and TCP tells the sender.

// streamWindow is how many groups of lines may wait for durability, and streamGroup how many events a group holds at
// most. Together they bound the memory of a stream.
const (
	streamWindow = 64
	streamGroup  = 256
)

// streamIdle ends a stream on which nothing arrives.
const streamIdle = 5 * time.Minute

// group is some lines of a stream that were read together.
type group struct {
	through  int64 // number of its last line
	accepted int
	rejected int
	tickets  []journal.Ticket
	problems []lineProblem
	err      error // the lanes took none of its events
}

type lineProblem struct {
	line int64
	p    *problem
}

// streamConn is the answering side of a stream.
type streamConn struct {
	conn    net.Conn
	write   time.Duration
	chunked bool
	buf     []byte
	failed  bool // the sender no longer reads
}

// send writes text as one piece of the answer.
func (s *streamConn) send(text []byte) {
	if s.failed || len(text) == 0 {
		return
	}
	s.buf = s.buf[:0]
	if s.chunked {
		s.buf = strconv.AppendInt(s.buf, int64(len(text)), 16)
		s.buf = append(s.buf, "\r\n"...)
	}
	s.buf = append(s.buf, text...)
	if s.chunked {
		s.buf = append(s.buf, "\r\n"...)
	}
	s.raw(s.buf)
}

func (s *streamConn) raw(b []byte) {
	if s.failed {
		return
	}
	err := s.conn.SetWriteDeadline(time.Now().Add(s.write))
	if err == nil {
		_, err = s.conn.Write(b)
	}
	if err != nil {
		s.failed = true
		_ = s.conn.SetReadDeadline(time.Now()) // wakes the reader; the connection is lost in any case
	}
}

// awaitLine gives the sender its time for the next line. On a connection that is gone the next read says so.
func (s *streamConn) awaitLine() { _ = s.conn.SetReadDeadline(time.Now().Add(streamIdle)) }

// stream takes events for as long as they come: POST /v1/stream.
func (d *Doors) stream(ctx *fasthttp.RequestCtx, w *work) int {
	if !d.method(ctx, doorStream, fasthttp.MethodPost) {
		return 0
	}
	o, ok := d.openBatch(ctx, doorStream)
	if !ok {
		return 0
	}
	if f := formatOf(ctx.Request.Header.ContentType()); f != formatNDJSON {
		d.refuseRequest(ctx, o.tenant, doorStream, fasthttp.StatusUnsupportedMediaType,
			&problem{field: "Content-Type", msg: "expected application/x-ndjson", reason: reasonMediaType})
		return 0
	}
	if len(ctx.Request.Header.ContentEncoding()) > 0 {
		d.refuseRequest(ctx, o.tenant, doorStream, fasthttp.StatusUnsupportedMediaType,
			&problem{field: "Content-Encoding", msg: "a stream is not compressed", reason: reasonMediaType})
		return 0
	}
	h := keyHolder(&o)
	if got := d.streams.take(&h, 1); got != fits {
		d.refuse(o.tenant, doorStream, reasonOverloaded, 1)
		status, msg := fasthttp.StatusServiceUnavailable, "too many open streams"
		if got == fitsNot {
			status, msg = fasthttp.StatusTooManyRequests, "too many open streams of this key"
		}
		d.retryLater(ctx, status, msg)
		return 0
	}
	d.metrics.streams.Inc()
	defer func() {
		d.streams.give(&h, 1)
		d.metrics.streams.Dec()
	}()
	w.bodyRead = true
	ctx.HijackSetNoResponse(true)
	ctx.Hijack(func(net.Conn) {}) // the answer is already written; the connection only has to end
	ctx.SetConnectionClose()
	d.serveStream(ctx, w, &o)
	return 0
}

func (d *Doors) serveStream(ctx *fasthttp.RequestCtx, w *work, o *origin) {
	sc := &streamConn{conn: ctx.Conn(), write: d.cfg.Limits.WriteTimeout, chunked: ctx.Request.Header.IsHTTP11()}
	head := "HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nCache-Control: no-store\r\n" +
		"X-Accel-Buffering: no\r\nX-Content-Type-Options: nosniff\r\nConnection: close\r\n"
	if sc.chunked {
		head += "Transfer-Encoding: chunked\r\n"
	}
	sc.raw([]byte(head + "\r\n"))

	groups := make(chan *group, streamWindow)
	lost := make(chan struct{}) // closed by the acker when the rest cannot be acknowledged
	var acker sync.WaitGroup
	acker.Go(func() { d.ackStream(sc, o, groups, lost) })
	stop := d.closeOnStop(sc.conn)
	end := func() *problem {
		defer func() { // after a panic too, or they would wait for ever
			stop()
			close(groups)
			acker.Wait()
		}()
		return d.readStream(ctx, w, o, sc, groups, lost)
	}()
	if end != nil {
		d.refuse(o.tenant, doorStream, end.reason, 1)
		sc.send(append(appendProblem([]byte(`{"end":true`), end), "}\n"...))
	}
	if sc.chunked {
		sc.raw([]byte("0\r\n\r\n"))
	}
}

// closeOnStop wakes the reader of a stream when the doors close; the returned function ends the watch.
func (d *Doors) closeOnStop(conn net.Conn) func() {
	done := make(chan struct{})
	var watch sync.WaitGroup
	watch.Go(func() {
		select {
		case <-d.closing:
			_ = conn.SetReadDeadline(time.Now()) // an error means that it is closed already
		case <-done:
		}
	})
	return func() {
		close(done)
		watch.Wait()
	}
}

func (d *Doors) isClosing() bool {
	select {
	case <-d.closing:
		return true
	default:
		return false
	}
}

// readStream reads lines until the sender ends, and hands them on in groups: whatever has arrived together.
func (d *Doors) readStream(
	ctx *fasthttp.RequestCtx, w *work, o *origin, sc *streamConn, groups chan<- *group, lost <-chan struct{},
) *problem {
	expectBody(ctx, true) // what is cut off is not a line
	in := bufio.NewReaderSize(ctx.RequestBodyStream(), d.cfg.Limits.LineBytes)
	line := int64(0)
	g := &group{}
	flush := func() bool {
		if g.accepted+g.rejected == 0 {
			return true
		}
		g.through = line
		d.takeGroup(w, o, g)
		select {
		case groups <- g:
			g = &group{}
			return true
		case <-lost:
			return false
		}
	}
	for {
		if !lineWaits(in) || g.accepted+g.rejected >= streamGroup {
			if !flush() {
				return nil // the acker has said why
			}
			if d.isClosing() {
				return &problem{msg: "the server is stopping", reason: reasonOverloaded}
			}
			sc.awaitLine()
		}
		text, err := in.ReadSlice('\n')
		if len(text) > 0 && (err == nil || errors.Is(err, io.EOF) && !endedEarly(ctx)) {
			line++
			if !d.streamLine(w, o, g, line, text) {
				return &problem{field: "Authorization", msg: "the API key is no longer valid", reason: reasonUnauthorized}
			}
		}
		switch {
		case err == nil:
		case errors.Is(err, bufio.ErrBufferFull):
			line++
			g.reject(line, &problem{field: "line", msg: "the event is longer than 32 KB", reason: reasonTooLarge})
			flush()
			return &problem{msg: "a line is too long to go on", reason: reasonTooLarge}
		default:
			flush()
			if errors.Is(err, io.EOF) && endedEarly(ctx) {
				err = io.ErrUnexpectedEOF
			}
			return d.endOfStream(err)
		}
	}
}

// lineWaits says whether a whole line has arrived, so that reading it cannot block.
func lineWaits(in *bufio.Reader) bool {
	b, err := in.Peek(in.Buffered())
	return err == nil && bytes.IndexByte(b, '\n') >= 0
}

// endOfStream says why a stream ended, nil when its sender ended it.
func (d *Doors) endOfStream(err error) *problem {
	var netErr net.Error
	switch {
	case errors.Is(err, io.EOF):
		return nil
	case d.isClosing():
		return &problem{msg: "the server is stopping", reason: reasonOverloaded}
	case errors.As(err, &netErr) && netErr.Timeout():
		return &problem{msg: "nothing arrived for five minutes", reason: reasonTimeout}
	}
	return &problem{msg: "the body did not arrive whole", reason: reasonMalformed}
}

func (g *group) reject(line int64, p *problem) {
	g.rejected++
	g.problems = append(g.problems, lineProblem{line: line, p: p})
}

// streamLine reads one line into the group. Its event stays in w.events until the group is taken: the bytes of a line
// are gone with the next read, so they are copied. The first line of a group takes over the catalog in force then; the
// result is false when the stream's key is no longer good.
func (d *Doors) streamLine(w *work, o *origin, g *group, line int64, text []byte) bool {
	text = bytes.TrimSpace(text)
	if len(text) == 0 {
		return true
	}
	if g.accepted+g.rejected == 0 {
		w.events, w.outcomes, w.arena, w.body = w.events[:0], w.outcomes[:0], w.arena[:0], w.body[:0]
		w.scan.start(nil)
		o.now = d.now().UnixMilli()
		if !d.refresh(o) {
			return false
		}
	}
	at := len(w.body)
	w.body = append(w.body, text...)
	d.parseLine(w, o, w.body[at:len(w.body):len(w.body)])
	if x := w.outcomes[len(w.outcomes)-1]; x.problem != nil {
		g.reject(line, x.problem)
		return true
	}
	g.accepted++
	return true
}

// takeGroup hands a group's events to the lanes. When their queue is full it waits: that is what a stream is for.
func (d *Doors) takeGroup(w *work, o *origin, g *group) {
	if len(w.events) == 0 || g.accepted == 0 {
		return
	}
	deadline := time.NewTimer(d.cfg.MaxWait)
	defer deadline.Stop()
	events := w.events
	for pause := time.Millisecond; ; pause = min(2*pause, 50*time.Millisecond) {
		var err error
		w.handed = true
		g.tickets, err = d.cfg.Lanes.AddAll(g.tickets, events, o.version)
		w.handed = false
		if err == nil {
			if events = w.events[len(g.tickets):]; len(events) == 0 {
				return
			}
			continue
		}
		if errors.Is(err, journal.ErrNeverFits) && len(events) > 1 {
			events = events[:len(events)/2] // a group is ours, not the sender's: a small queue takes it in parts
			continue
		}
		if !errors.Is(err, journal.ErrOverloaded) {
			g.err = err
			return
		}
		retry := time.NewTimer(pause)
		select {
		case <-retry.C:
		case <-deadline.C:
			retry.Stop()
			g.err = err
			return
		}
	}
}

// ackStream writes the answers in the order of the lines. After the first group whose durability is not known it closes
// lost and acknowledges nothing more: a "through" must cover everything before it.
func (d *Doors) ackStream(sc *streamConn, o *origin, groups <-chan *group, lost chan<- struct{}) {
	var accepted, rejected int64
	broken := false
	var out []byte
	for g := range groups {
		if broken {
			continue
		}
		out = out[:0]
		for _, lp := range g.problems {
			d.refuse(o.tenant, doorStream, lp.p.reason, 1)
			out = append(out, `{"line":`...)
			out = strconv.AppendInt(out, lp.line, 10)
			out = append(appendProblem(out, lp.p), "}\n"...)
		}
		err := d.waitGroup(sc, g, &out)
		if err != nil {
			broken = true
			close(lost)
			reason := reasonNotDurable
			if errors.Is(err, journal.ErrOverloaded) {
				reason = reasonOverloaded
			}
			d.refuse(o.tenant, doorStream, reason, g.accepted)
			sc.send(append(out, `{"end":true,"status":"unknown","error":"what follows the last \"through\" is not known to be durable; send it again with the same ids"}`+"\n"...))
			continue
		}
		accepted += int64(g.accepted)
		rejected += int64(g.rejected)
		d.metrics.byDoor[doorStream].Add(float64(g.accepted))
		out = append(out, `{"through":`...)
		out = strconv.AppendInt(out, g.through, 10)
		out = append(out, `,"accepted":`...)
		out = strconv.AppendInt(out, accepted, 10)
		out = append(out, `,"rejected":`...)
		out = strconv.AppendInt(out, rejected, 10)
		out = append(out, "}\n"...)
		sc.send(out)
	}
}

// waitGroup waits for a group's events. Its rejections are sent at once when that takes a while.
func (d *Doors) waitGroup(sc *streamConn, g *group, out *[]byte) error {
	if g.err != nil {
		return g.err
	}
	if len(*out) > 0 && len(g.tickets) > 0 {
		sc.send(*out)
		*out = (*out)[:0]
	}
	ctx := d.waits.get(waitDurable, d.cfg.MaxWait)
	for i := range g.tickets {
		if err := g.tickets[i].Wait(ctx); err != nil {
			return err
		}
	}
	return nil
}
