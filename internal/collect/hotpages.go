package collect

import (
	"bytes"
	"slices"
	"strconv"
	"time"

	"github.com/valyala/fasthttp"
)

// hotPages are the answers of hot requests. fasthttp itself writes them, once a second because of their date, so that
// they are what it would answer.
type hotPages struct {
	d      *Doors
	second int64
	image  [2][]byte // [1]: with Connection: close
	empty  [2][]byte
	head   [2][]byte // of an answer to events, up to the length of its body
	tail   [2][]byte // the rest of the header
	buf    []byte
}

func (p *hotPages) make(d *Doors) {
	p.d = d
	p.refresh(time.Now())
}

// refresh takes over the date.
func (p *hotPages) refresh(now time.Time) {
	if now.Unix() == p.second {
		return
	}
	p.second = now.Unix()
	for i, last := range [...]bool{false, true} {
		p.image[i] = render("/i", last, p.d.answerPixel)
		p.empty[i] = render("/i?img=0", last, p.d.answerPixel)
		const body = "0123456789"
		page := render("/v1/events", last, func(ctx *fasthttp.RequestCtx) { answerJSON(ctx, fasthttp.StatusOK, []byte(body)) })
		head, tail, _ := bytes.Cut(bytes.TrimSuffix(page, []byte(body)), []byte("Content-Length: 10\r\n"))
		p.head[i] = append(slices.Clip(head), "Content-Length: "...)
		p.tail[i] = append([]byte("\r\n"), tail...)
	}
}

func at(last bool) int {
	if last {
		return 1
	}
	return 0
}

func (p *hotPages) pixel(noImage, last bool) []byte {
	if noImage {
		return p.empty[at(last)]
	}
	return p.image[at(last)]
}

// events returns the answer with that body. It is valid until the next call.
func (p *hotPages) events(body []byte, last bool) []byte {
	p.buf = append(p.buf[:0], p.head[at(last)]...)
	p.buf = strconv.AppendInt(p.buf, int64(len(body)), 10)
	p.buf = append(p.buf, p.tail[at(last)]...)
	p.buf = append(p.buf, body...)
	return p.buf
}

// render returns what fasthttp would send for what answer does.
func render(uri string, last bool, answer func(*fasthttp.RequestCtx)) []byte {
	var ctx fasthttp.RequestCtx
	var req fasthttp.Request
	req.Header.SetRequestURI(uri)
	ctx.Init(&req, nil, quiet{})
	ctx.Response.Header.SetNoDefaultContentType(true)
	answer(&ctx)
	if last {
		ctx.SetConnectionClose()
	}
	var out bytes.Buffer
	_, _ = ctx.Response.WriteTo(&out) // never fails on a buffer
	return out.Bytes()
}
