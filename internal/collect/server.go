package collect

import (
	"bytes"
	"errors"
	"io"
	"net"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/valyala/fasthttp"
)

func (d *Doors) newServer() *fasthttp.Server {
	l := &d.cfg.Limits
	perIP := l.ConnsPerIP
	if d.looped() {
		perIP = 0 // the loops count them, wherever they are served
	}
	return &fasthttp.Server{
		Handler:            d.handle,
		ErrorHandler:       d.badRequest,
		HeaderReceived:     d.headerReceived,
		Name:               "",
		Concurrency:        l.Conns,
		MaxConnsPerIP:      perIP,
		ReadBufferSize:     l.HeaderBytes,
		ReadTimeout:        l.HeaderTimeout,
		WriteTimeout:       l.WriteTimeout,
		IdleTimeout:        l.IdleTimeout,
		MaxRequestBodySize: l.BodyBytes,
		// Bodies are read by the doors themselves: with a limit for each, and for a stream while it is being sent.
		StreamRequestBody:             true,
		DisablePreParseMultipartForm:  true,
		NoDefaultServerHeader:         true,
		NoDefaultContentType:          true,
		CloseOnShutdown:               true,
		SecureErrorLogMessage:         true,
		Logger:                        quiet{},
		DisableHeaderNamesNormalizing: false,
	}
}

// quiet drops what fasthttp would log: every line of it is a client's doing, and the doors count those.
type quiet struct{}

func (quiet) Printf(string, ...any) {}

// headerReceived gives the beginning of a body its own time once the header is here; what follows is paced. A body that is too large for any door is not
// waited for: route finds its length in the raw header.
func (d *Doors) headerReceived(h *fasthttp.RequestHeader) fasthttp.RequestConfig {
	d.expectation(h)
	if h.ContentLength() > d.cfg.Limits.BodyBytes {
		h.SetContentLength(0)
	}
	return fasthttp.RequestConfig{ReadTimeout: min(d.cfg.Limits.ReadTimeout, d.cfg.Limits.BodyPatience)}
}

// badRequest answers what fasthttp could not read as a request.
func (d *Doors) badRequest(ctx *fasthttp.RequestCtx, err error) {
	status, reason, field, msg := fasthttp.StatusBadRequest, reasonMalformed, "", "cannot be read as an HTTP request"
	var small *fasthttp.ErrSmallBuffer
	var netErr net.Error
	switch {
	case errors.As(err, &small):
		status, reason, field, msg = fasthttp.StatusRequestHeaderFieldsTooLarge, reasonTooLarge, "header", "is too large"
	case errors.Is(err, fasthttp.ErrDuplicateContentLength):
		field, msg = "Content-Length", "appears twice"
	case errors.As(err, &netErr) && netErr.Timeout():
		status, reason, msg = fasthttp.StatusRequestTimeout, reasonTimeout, "the request did not arrive in time"
	}
	d.refuse(0, doorHTTP, reason, 1)
	d.fail(ctx, status, field, msg)
	ctx.SetConnectionClose()
}

// handle is every request's first function.
func (d *Doors) handle(ctx *fasthttp.RequestCtx) {
	start := time.Now()
	w := d.works.Get().(*work)
	events := d.guarded(ctx, w)
	expectBody(ctx, false)
	if w.unread {
		d.answerNow(ctx)
	} else if ctx.Request.IsBodyStream() && !w.bodyRead {
		d.discardBody(ctx)
	}
	if events > 0 {
		total := time.Since(start)
		d.cfg.Stage.ObserveBusy(total, total-w.waited, events)
	}
	if d.crowded() {
		restShortly(ctx)
	}
	if w.held > 0 {
		d.room.give(&w.holder, w.held)
	}
	if w.spoilt {
		return
	}
	w.release()
	d.works.Put(w)
}

// guarded finds the door. A request that makes it panic is answered 500 and ends with its connection: one sender who has
// found a mistake of ours must not close the doors for all. Where the lanes have events in hand the process ends all the
// same, because nobody knows what state they are in.
func (d *Doors) guarded(ctx *fasthttp.RequestCtx, w *work) (events int) {
	defer func() {
		p := recover()
		if p == nil {
			return
		}
		if w.handed {
			panic(p)
		}
		w.spoilt, events = true, 0
		d.logPanic(p)
		d.refuse(0, doorHTTP, reasonPanic, 1)
		ctx.Response.Reset()
		ctx.Response.Header.SetNoDefaultContentType(true)
		ctx.SetConnectionClose()
		d.fail(ctx, fasthttp.StatusInternalServerError, "", "the request could not be processed")
	}()
	return d.route(ctx, w)
}

// logPanic says where a panic came from that was survived, once a second at the most.
func (d *Doors) logPanic(p any) {
	now := time.Now().Unix()
	if last := d.lastPanic.Load(); last != now && d.lastPanic.CompareAndSwap(last, now) {
		d.log.Error("a request made a door panic", "panic", p, "stack", string(debug.Stack()))
	}
}

// unheard says whether the rest of a body is on its way that nobody asked for, and whose request was refused: its sender
// gets the answer now, not when he has sent it all.
func unheard(ctx *fasthttp.RequestCtx) bool {
	n := ctx.Request.Header.ContentLength()
	return ctx.Response.StatusCode() >= fasthttp.StatusBadRequest && (n < 0 && n != -2 || n > shortBody)
}

// discardBody reads what nobody asked for, when it is short, so that the connection can be used again.
func (d *Doors) discardBody(ctx *fasthttp.RequestCtx) {
	n := ctx.Request.Header.ContentLength()
	if n == 0 || n == -2 {
		return
	}
	if unheard(ctx) {
		d.answerNow(ctx)
		return
	}
	var buf [1024]byte
	for range shortBody/len(buf) + 1 {
		if _, err := ctx.RequestBodyStream().Read(buf[:]); errors.Is(err, io.EOF) {
			return
		} else if err != nil {
			break // what follows is not known to be a request
		}
	}
	ctx.SetConnectionClose()
}

// route finds the door. It returns how many events the request brought.
func (d *Doors) route(ctx *fasthttp.RequestCtx, w *work) int {
	if len(ctx.RequestURI()) > d.cfg.Limits.URLBytes {
		d.refuse(0, doorHTTP, reasonTooLarge, 1)
		d.fail(ctx, fasthttp.StatusRequestURITooLong, "url", "is too long")
		return 0
	}
	m, ok := d.conforms(ctx)
	if !ok {
		return 0
	}
	if m.length > d.cfg.Limits.BodyBytes {
		w.announced = true
		ctx.SetConnectionClose()
	}
	if d.ips != nil && !d.ips.take(w.addrText(limited(d.clientAddr(ctx))), 1, d.now()) {
		d.refuse(0, doorHTTP, reasonRate, 1)
		d.retryLater(ctx, fasthttp.StatusTooManyRequests, "too many requests from this address")
		return 0
	}
	path := ctx.URI().PathOriginal()
	switch string(path) {
	case "/i", "/p":
		return d.pixel(ctx, w)
	case "/c":
		return d.click(ctx, w)
	case "/ad":
		return d.ad(ctx, w)
	case "/conversion", "/postback", "/conversion.gif":
		return d.conversion(ctx, w, string(path) == "/conversion.gif")
	case "/v1/events":
		return d.events(ctx, w)
	case "/v1/stream":
		return d.stream(ctx, w)
	case "/v1/event-types":
		return d.eventTypes(ctx, w)
	}
	if ctx.IsConnect() || string(ctx.RequestURI()) == "*" {
		d.method(ctx, doorHTTP, fasthttp.MethodGet, fasthttp.MethodHead, fasthttp.MethodPost)
		return 0
	}
	if first, ok := w.segments(path); ok {
		switch string(first) {
		case "i", "p":
			return d.pixel(ctx, w)
		case "c":
			return d.click(ctx, w)
		}
	} else if bytes.HasPrefix(path, []byte("/c/")) || bytes.HasPrefix(path, []byte("/i/")) || bytes.HasPrefix(path, []byte("/p/")) {
		d.refuse(0, doorHTTP, reasonMalformed, 1)
		d.fail(ctx, fasthttp.StatusBadRequest, "path", "expected /c/{campaign}/{affiliate}")
		return 0
	}
	d.refuse(0, doorHTTP, reasonNotFound, 1)
	d.fail(ctx, fasthttp.StatusNotFound, "path", "no such door")
	return 0
}

// method checks the request's method and answers 405 or OPTIONS itself. HEAD and OPTIONS never count.
func (d *Doors) method(ctx *fasthttp.RequestCtx, door string, allowed ...string) bool {
	m := ctx.Method()
	if slices.Contains(allowed, string(m)) {
		return true
	}
	allow := "OPTIONS, " + strings.Join(allowed, ", ")
	ctx.Response.Header.Set("Allow", allow)
	if string(m) == fasthttp.MethodOptions {
		h := &ctx.Response.Header
		h.Set("Access-Control-Allow-Origin", "*")
		h.Set("Access-Control-Allow-Methods", allow)
		h.Set("Access-Control-Allow-Headers", "Content-Type, Content-Encoding, Authorization, X-API-Key, Idempotency-Key")
		h.Set("Access-Control-Max-Age", "86400")
		ctx.SetStatusCode(fasthttp.StatusNoContent)
		return false
	}
	d.refuse(0, door, reasonMethod, 1)
	d.fail(ctx, fasthttp.StatusMethodNotAllowed, "method", "is not one of "+allow)
	return false
}

// segments splits a path /door/{campaign}/{affiliate} and decodes its names into w.names.
func (w *work) segments(path []byte) (first []byte, ok bool) {
	w.names = w.names[:0]
	if len(path) == 0 || path[0] != '/' {
		return nil, false
	}
	rest := path[1:]
	for len(w.names) < 4 {
		segment, more, found := bytes.Cut(rest, []byte{'/'})
		text, good := w.pathDecode(segment)
		if !good || len(text) == 0 || string(text) == "." || string(text) == ".." {
			return nil, false
		}
		w.names = append(w.names, text)
		if !found {
			break
		}
		rest = more
	}
	if len(w.names) != 3 {
		return nil, false
	}
	first = w.names[0]
	return first, true
}

// pathDecode decodes one segment of a path into the arena. A slash, a backslash or a control character in a name is
// refused.
func (w *work) pathDecode(segment []byte) ([]byte, bool) {
	at := len(w.arena)
	for i := 0; i < len(segment); i++ {
		c := segment[i]
		if c == '%' {
			if i+2 >= len(segment) {
				return nil, false
			}
			hi, ok0 := hexDigit(segment[i+1])
			lo, ok1 := hexDigit(segment[i+2])
			if !ok0 || !ok1 {
				return nil, false
			}
			c = hi<<4 | lo
			i += 2
		}
		if c < 0x20 || c == 0x7f || c == '/' || c == '\\' {
			return nil, false
		}
		w.arena = append(w.arena, c)
	}
	return w.arena[at:len(w.arena):len(w.arena)], true
}
