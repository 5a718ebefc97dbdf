package collect

import (
	"bytes"
	"strconv"

	"github.com/valyala/fasthttp"
)

// This file is what RFC 9110 and 9112 ask for and fasthttp leaves open: it reads past what smuggling is made of, knows one
// spelling of "close", takes any Host or none, and answers every version as if it were its own. What two servers in a row
// might read differently is refused. Requests that the event loops answer are none of these by their form.

// message is what a request's header says about itself.
type message struct {
	length int  // the announced length of its body
	last   bool // its sender wants the connection closed behind the answer
}

func malformed(field, msg string) *problem {
	return &problem{field: field, msg: msg, reason: reasonMalformed}
}

// readMessage reads a raw header, without the first line, up to and with the empty line.
func readMessage(raw []byte, http11 bool) (m message, p *problem) {
	hosts, lengths, codings := 0, 0, 0
	for len(raw) > 0 {
		end := bytes.IndexByte(raw, '\n')
		if end < 1 || raw[end-1] != '\r' {
			return m, malformed("header", "a line does not end with CR LF")
		}
		line := raw[:end-1]
		raw = raw[end+1:]
		if len(line) == 0 {
			break
		}
		if line[0] <= ' ' {
			return m, malformed("header", "a line goes on in the next")
		}
		colon := bytes.IndexByte(line, ':')
		if colon < 1 {
			return m, malformed("header", "a line has no name")
		}
		name := line[:colon]
		if name[colon-1] <= ' ' || bytes.IndexByte(name, ' ') >= 0 {
			return m, malformed(clip(bytes.TrimSpace(name)), "a space in the name of a header")
		}
		switch {
		case hasName(name, "Host"):
			hosts++
			if !validHost(bytes.TrimSpace(line[colon+1:])) {
				return m, malformed("Host", "is not a host")
			}
		case hasName(name, "Connection"):
			m.last = m.last || hasToken(line[colon+1:], "close")
		case hasName(name, "Content-Length"):
			lengths++
			m.length, _ = strconv.Atoi(string(bytes.TrimSpace(line[colon+1:]))) // fasthttp has checked it, if it is the only one
		case hasName(name, "Transfer-Encoding"):
			codings++
			if !bytes.EqualFold(bytes.TrimSpace(line[colon+1:]), []byte("chunked")) {
				return m, malformed("Transfer-Encoding", "is not chunked")
			}
		}
	}
	switch {
	case codings > 1:
		return m, malformed("Transfer-Encoding", "appears twice")
	case codings > 0 && lengths > 0:
		return m, malformed("Content-Length", "must not stand beside Transfer-Encoding")
	case codings > 0 && !http11:
		return m, malformed("Transfer-Encoding", "is not known to HTTP/1.0")
	case hosts > 1:
		return m, malformed("Host", "appears twice")
	case hosts == 0 && http11:
		return m, malformed("Host", "is missing")
	}
	return m, nil
}

// hasName compares a header's name without its case.
func hasName(name []byte, want string) bool {
	return len(name) == len(want) && name[0]|0x20 == want[0]|0x20 && bytes.EqualFold(name, []byte(want))
}

// hasToken says whether a list of tokens holds one, whatever its case.
func hasToken(list []byte, token string) bool {
	for t := range bytes.SplitSeq(list, []byte{','}) {
		if bytes.EqualFold(bytes.TrimSpace(t), []byte(token)) {
			return true
		}
	}
	return false
}

// validHost says whether b may stand in Host: a name, an address, a port, or nothing.
func validHost(b []byte) bool {
	for _, c := range b {
		if l := c | 0x20; l >= 'a' && l <= 'z' || c >= '0' && c <= '9' {
			continue
		}
		if bytes.IndexByte([]byte("-.:[]_~%!$&'()*+,;="), c) < 0 {
			return false
		}
	}
	return true
}

// expectation makes what fasthttp knows of Expect what is meant: the case does not matter, HTTP/1.0 does not know it, and
// nobody is asked to send a body that is too large.
func (d *Doors) expectation(h *fasthttp.RequestHeader) {
	if h.ContentLength() == -2 {
		return // there is no body
	}
	e := h.Peek(fasthttp.HeaderExpect)
	switch {
	case len(e) == 0:
	case h.ContentLength() > d.cfg.Limits.BodyBytes, h.Protocol()[7] == '0', !bytes.EqualFold(e, []byte("100-continue")):
		h.Del(fasthttp.HeaderExpect)
	default:
		h.Set(fasthttp.HeaderExpect, "100-continue")
	}
}

// conforms checks a request as a message, whatever door it is for. It answers what is wrong, and closes the connection
// then: nobody knows where the next request would begin.
func (d *Doors) conforms(ctx *fasthttp.RequestCtx) (message, bool) {
	h := &ctx.Request.Header
	protocol := h.Protocol() // HTTP/ and two digits with a point between
	if protocol[5] != '1' {
		ctx.SetConnectionClose()
		d.refuseRequest(ctx, 0, doorHTTP, fasthttp.StatusHTTPVersionNotSupported, malformed("version", "is not HTTP/1.1 or HTTP/1.0"))
		return message{}, false
	}
	m, p := readMessage(h.RawHeaders(), protocol[7] != '0')
	if p == nil {
		p = d.targetOf(ctx)
	}
	if p != nil {
		ctx.SetConnectionClose()
		d.refuseRequest(ctx, 0, doorHTTP, fasthttp.StatusBadRequest, p)
		return m, false
	}
	if m.last {
		ctx.SetConnectionClose()
	}
	return m, true
}

// targetOf checks a target that is not simply a path.
func (d *Doors) targetOf(ctx *fasthttp.RequestCtx) *problem {
	target := ctx.RequestURI()
	if len(target) > 0 && target[0] == '/' || ctx.IsConnect() {
		return nil
	}
	if len(target) == 1 && target[0] == '*' {
		if ctx.IsOptions() {
			return nil
		}
		return malformed("url", "is for OPTIONS only")
	}
	u := ctx.URI()
	if s := u.Scheme(); !bytes.Contains(target, []byte("://")) || string(s) != "http" && string(s) != "https" || len(u.Host()) == 0 {
		return malformed("url", "is neither a path nor an http URL")
	}
	return nil
}
