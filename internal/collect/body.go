package collect

import (
	"bytes"
	"errors"
	"io"
	"sync"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/valyala/fasthttp"
)

// maxRatio is how much larger than its wire form a body may become. Logs compress 20 to 50 times; a bomb 1,000.
const maxRatio = 200

var (
	errTooLarge = errors.New("body is too large")
	errCoding   = errors.New("content encoding")
)

// readBody reads a request's body into w.body, and when it is compressed its text into w.plain, which it returns. plain
// bounds the text. The problem says which status to answer.
func (d *Doors) readBody(ctx *fasthttp.RequestCtx, w *work, plain int) ([]byte, int, *problem) {
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
	var err error
	expectBody(ctx, true)
	w.body, err = readLimited(w.body[:0], ctx.RequestBodyStream(), limit)
	expectBody(ctx, false)
	if errors.Is(err, errTooLarge) {
		w.unread = true
		return nil, fasthttp.StatusRequestEntityTooLarge, tooLarge(ctx)
	}
	if err != nil || endedEarly(ctx) || length >= 0 && len(w.body) != length {
		ctx.SetConnectionClose()
		return nil, fasthttp.StatusBadRequest, &problem{field: "body", msg: "did not arrive whole", reason: reasonMalformed}
	}
	switch {
	case len(coding) == 0 || isCoding(coding, "identity"):
		return w.body, 0, nil
	case isCoding(coding, "gzip") || isCoding(coding, "x-gzip"):
		w.plain, err = d.pools.gunzip(w.plain[:0], w.body, plain)
	case isCoding(coding, "zstd"):
		w.plain, err = d.pools.unzstd(w.plain[:0], w.body, plain)
	default:
		return nil, fasthttp.StatusUnsupportedMediaType, &problem{
			field: "Content-Encoding", msg: "is not one of gzip, zstd, identity", reason: reasonMediaType,
		}
	}
	if errors.Is(err, errTooLarge) || err == nil && len(w.plain) > 4096 && len(w.plain) > maxRatio*len(w.body) {
		return nil, fasthttp.StatusRequestEntityTooLarge, tooLarge(ctx)
	}
	if err != nil {
		return nil, fasthttp.StatusBadRequest, &problem{
			field: "Content-Encoding", msg: "the body is not what it says", reason: reasonMalformed,
		}
	}
	return w.plain, 0, nil
}

// isCoding compares content codings, whose case does not matter.
func isCoding(text []byte, coding string) bool { return bytes.EqualFold(text, []byte(coding)) }

// tooLarge is the problem of a body that was not read to its end: the connection cannot be used again.
func tooLarge(ctx *fasthttp.RequestCtx) *problem {
	ctx.SetConnectionClose()
	return &problem{field: "body", msg: "is too large", reason: reasonTooLarge}
}

// readLimited appends r to dst, up to limit bytes.
func readLimited(dst []byte, r io.Reader, limit int) ([]byte, error) {
	if r == nil {
		return dst, nil
	}
	for {
		if len(dst) == cap(dst) {
			dst = append(dst, 0)[:len(dst)]
		}
		free := dst[len(dst):cap(dst)]
		if room := limit + 1 - len(dst); len(free) > room {
			free = free[:room]
		}
		n, err := r.Read(free)
		dst = dst[:len(dst)+n]
		if len(dst) > limit {
			return dst, errTooLarge
		}
		if errors.Is(err, io.EOF) {
			return dst, nil
		}
		if err != nil {
			return dst, err
		}
	}
}

// pools hold decompressors; both kinds are expensive to make and safe to reset.
type pools struct {
	gzip sync.Pool
	zstd sync.Pool
}

func (p *pools) gunzip(dst, src []byte, limit int) ([]byte, error) {
	z, ok := p.gzip.Get().(*gzip.Reader)
	if !ok {
		z = new(gzip.Reader)
	}
	defer p.gzip.Put(z)
	if err := z.Reset(bytes.NewReader(src)); err != nil {
		return dst, errCoding
	}
	return decoded(readLimited(dst, z, limit))
}

func (p *pools) unzstd(dst, src []byte, limit int) ([]byte, error) {
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
	return decoded(readLimited(dst, z, limit))
}

// maxPlain bounds the memory of one decompressor whatever a frame's header claims.
const maxPlain = 8 << 20

func decoded(b []byte, err error) ([]byte, error) {
	if err == nil || errors.Is(err, errTooLarge) {
		return b, err
	}
	return b, errCoding
}
