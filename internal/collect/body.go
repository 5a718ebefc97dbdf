package collect

import (
	"bytes"
	"errors"
	"io"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/valyala/fasthttp"
)

// maxRatio is how much larger than its wire form a body may become. Logs compress 20 to 50 times; a bomb 1,000.
const maxRatio = 200

var (
	errTooLarge = errors.New("body is too large")
	errCoding   = errors.New("content encoding")
	errShare    = errors.New("too many of this sender's bodies are under way")
	errRoom     = errors.New("too many bodies are under way")
)

// readBody reads a request's body into w.body, and when it is compressed its text into w.plain, which it returns. plain
// bounds the text, h is whose share of the memory for bodies is used. The problem says which status to answer.
func (d *Doors) readBody(ctx *fasthttp.RequestCtx, w *work, h holder, plain int) ([]byte, int, *problem) {
	w.bodyRead = true
	limit := d.cfg.Limits.BodyBytes
	coding := ctx.Request.Header.ContentEncoding()
	if len(coding) == 0 || isCoding(coding, "identity") {
		limit = plain
	}
	length := ctx.Request.Header.ContentLength()
	if w.announced || length > limit {
		w.unread = true
		return nil, fasthttp.StatusRequestEntityTooLarge, tooLarge(ctx)
	}
	in := bodyReader{room: d.room, w: w, limit: limit, length: length}
	w.holder = h
	err := in.begin()
	if err == nil {
		expectBody(ctx, true)
		w.body, err = in.read(w.body[:0], d.paced(ctx))
		expectBody(ctx, false)
	}
	if err == nil && (endedEarly(ctx) || length >= 0 && len(w.body) != length) {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return d.noBody(ctx, w, err)
	}
	unpack := d.pools.gunzip
	switch {
	case len(coding) == 0 || isCoding(coding, "identity"):
		return w.body, 0, nil
	case isCoding(coding, "gzip") || isCoding(coding, "x-gzip"):
	case isCoding(coding, "zstd"):
		unpack = d.pools.unzstd
	default:
		return nil, fasthttp.StatusUnsupportedMediaType, &problem{
			field: "Content-Encoding", msg: "is not one of gzip, zstd, identity", reason: reasonMediaType,
		}
	}
	in = bodyReader{room: d.room, w: w, limit: plain, length: -1}
	if w.plain, err = unpack(w.plain[:0], w.body, &in); err == nil && len(w.plain) > 4096 && len(w.plain) > maxRatio*len(w.body) {
		err = errTooLarge
	}
	if err != nil {
		return d.noText(ctx, err)
	}
	return w.plain, 0, nil
}

// noBody says why a body was not read to its end. The connection cannot be used again.
func (d *Doors) noBody(ctx *fasthttp.RequestCtx, w *work, err error) ([]byte, int, *problem) {
	switch {
	case errors.Is(err, errTooLarge):
		w.unread = true
		return nil, fasthttp.StatusRequestEntityTooLarge, tooLarge(ctx)
	case errors.Is(err, errShare), errors.Is(err, errRoom):
		w.unread = true
		return noRoom(ctx, err)
	case cameLate(ctx):
		ctx.SetConnectionClose()
		return nil, fasthttp.StatusRequestTimeout, &problem{field: "body", msg: "did not arrive in time", reason: reasonTimeout}
	}
	ctx.SetConnectionClose()
	return nil, fasthttp.StatusBadRequest, &problem{field: "body", msg: "did not arrive whole", reason: reasonMalformed}
}

// noText says why a body that is here could not be decompressed.
func (d *Doors) noText(ctx *fasthttp.RequestCtx, err error) ([]byte, int, *problem) {
	switch {
	case errors.Is(err, errTooLarge):
		return nil, fasthttp.StatusRequestEntityTooLarge, tooLarge(ctx)
	case errors.Is(err, errShare), errors.Is(err, errRoom):
		return noRoom(ctx, err)
	}
	return nil, fasthttp.StatusBadRequest, &problem{
		field: "Content-Encoding", msg: "the body is not what it says", reason: reasonMalformed,
	}
}

// noRoom answers a body that was not taken for want of memory: 429 when its sender holds too much, 503 when all do.
func noRoom(ctx *fasthttp.RequestCtx, err error) ([]byte, int, *problem) {
	ctx.Response.Header.Set("Retry-After", "1")
	status := fasthttp.StatusServiceUnavailable
	if errors.Is(err, errShare) {
		status = fasthttp.StatusTooManyRequests
	}
	return nil, status, &problem{field: "body", msg: err.Error() + "; nothing of the request was taken", reason: reasonNoRoom}
}

// isCoding compares content codings, whose case does not matter.
func isCoding(text []byte, coding string) bool { return bytes.EqualFold(text, []byte(coding)) }

// tooLarge is the problem of a body that was not read to its end: the connection cannot be used again.
func tooLarge(ctx *fasthttp.RequestCtx) *problem {
	ctx.SetConnectionClose()
	return &problem{field: "body", msg: "is too large", reason: reasonTooLarge}
}

// bodyReader reads one body into memory that it has taken room for. Memory grows with what has arrived, whatever was
// announced.
type bodyReader struct {
	room   *room
	w      *work
	limit  int
	length int // announced; below zero when the sender does not say
	taken  int
}

// shortBody is the length up to which fasthttp has read a body before a door sees it.
const shortBody = 8 << 10

// firstRoom is what a body of unknown length takes first; then it takes as much again whenever that is full.
const firstRoom = 16 << 10

// begin takes room for the body. Nothing of it has been read.
func (b *bodyReader) begin() error {
	if b.length >= 0 {
		if b.length > shortBody {
			return b.take(b.length)
		}
		b.taken = b.length
		return nil
	}
	return b.take(min(firstRoom, b.limit))
}

func (b *bodyReader) take(n int) error {
	if n <= 0 {
		return nil
	}
	switch b.room.take(&b.w.holder, int64(n)) {
	case fitsNot:
		return errShare
	case fitsNone:
		return errRoom
	case fits:
	}
	b.taken += n
	b.w.held += int64(n)
	return nil
}

// read appends r to dst.
func (b *bodyReader) read(dst []byte, r io.Reader) ([]byte, error) {
	if r == nil {
		return dst, nil
	}
	most := b.limit
	if b.length >= 0 {
		most = min(most, b.length)
	}
	for {
		if len(dst) == cap(dst) {
			dst = slices.Grow(dst, min(max(len(dst), 4096), most+1-len(dst)))
		}
		free := dst[len(dst):cap(dst)]
		if left := most + 1 - len(dst); len(free) > left {
			free = free[:left]
		}
		n, err := r.Read(free)
		dst = dst[:len(dst)+n]
		if len(dst) > most {
			return dst, errTooLarge
		}
		if len(dst) > b.taken {
			if err := b.take(min(max(b.taken, firstRoom), b.limit-b.taken)); err != nil {
				return dst, err
			}
		}
		if errors.Is(err, io.EOF) {
			return dst, nil
		}
		if err != nil {
			return dst, err
		}
	}
}

// paced returns the body's stream with a time limit that moves with what has arrived: a sender gets the patience of the
// limits and a second more for each BodyRate bytes, but no longer than ReadTimeout in all.
func (d *Doors) paced(ctx *fasthttp.RequestCtx) io.Reader {
	r := ctx.RequestBodyStream()
	conn, ok := ctx.LocalAddr().(*bodyConn)
	if n := ctx.Request.Header.ContentLength(); r == nil || !ok || n >= 0 && n <= shortBody {
		return r
	}
	return &pacedBody{r: r, conn: conn, limits: &d.cfg.Limits, began: time.Now()}
}

type pacedBody struct {
	r      io.Reader
	conn   net.Conn
	limits *Limits
	began  time.Time
	n      int // bytes that have arrived
	set    int // of them when the deadline was last set
}

// paceStep is after how many bytes the deadline is moved.
const paceStep = 8 << 10

func (p *pacedBody) Read(b []byte) (int, error) {
	if p.set == 0 || p.n-p.set >= paceStep {
		p.set = max(p.n, 1)
		end := p.limits.ReadTimeout
		if rate := p.limits.BodyRate; rate > 0 {
			end = min(end, p.limits.BodyPatience+time.Duration(p.n)*time.Second/time.Duration(rate))
		}
		if err := p.conn.SetReadDeadline(p.began.Add(end)); err != nil {
			return 0, err
		}
	}
	n, err := p.r.Read(b)
	p.n += n
	return n, err
}

// pools hold decompressors; both kinds are expensive to make and safe to reset.
type pools struct {
	gzip sync.Pool
	zstd sync.Pool
}

func (p *pools) gunzip(dst, src []byte, in *bodyReader) ([]byte, error) {
	z, ok := p.gzip.Get().(*gzip.Reader)
	if !ok {
		z = new(gzip.Reader)
	}
	defer p.gzip.Put(z)
	if err := z.Reset(bytes.NewReader(src)); err != nil {
		return dst, errCoding
	}
	return decoded(in.read(dst, z))
}

func (p *pools) unzstd(dst, src []byte, in *bodyReader) ([]byte, error) {
	z, ok := p.zstd.Get().(*zstd.Decoder)
	if !ok {
		var err error
		z, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxPlain),
			zstd.WithDecoderMaxWindow(maxPlain), zstd.WithDecoderLowmem(true))
		if err != nil {
			return dst, err
		}
	}
	defer p.zstd.Put(z)
	if err := z.Reset(bytes.NewReader(src)); err != nil {
		return dst, errCoding
	}
	return decoded(in.read(dst, z))
}

// maxPlain bounds the memory of one decompressor whatever a frame's header claims.
const maxPlain = 8 << 20

func decoded(b []byte, err error) ([]byte, error) {
	if err == nil || errors.Is(err, errTooLarge) || errors.Is(err, errShare) || errors.Is(err, errRoom) {
		return b, err
	}
	return b, errCoding
}
