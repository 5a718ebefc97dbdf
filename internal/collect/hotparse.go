package collect

import (
	"bytes"
	"encoding/binary"
)

// hotKind says which of the requests that come by the hundred thousand a request is.
type hotKind uint8

const (
	hotNone   hotKind = iota
	hotPixel          // GET /i?… or /p?…
	hotEvents         // POST /v1/events with a small body
)

// hotRequest is a request as it stands in memory. Its parts alias what was read.
type hotRequest struct {
	kind  hotKind
	query []byte
	body  []byte

	host, ua, referer, forwarded, country, gpc, auth, apiKey, media []byte

	length     int // of the body, -1 when it is not announced
	errorsOnly bool
	seen       uint32
}

// The headers that mean something to a hot request. Each may stand in it once.
const (
	seenHost uint32 = 1 << iota
	seenUA
	seenReferer
	seenForwarded
	seenCountry
	seenGPC
	seenAuth
	seenKey
	seenType
	seenLength
	seenConnection
)

// The parts of first lines.
const (
	hotDoor    = "POST /v1/events"
	hotErrors  = "?answers=errors"
	hotVersion = " HTTP/1.1\r\n"
	hotPath    = "GET /i?"
)

// parse reads one request at the beginning of b and returns its length. It returns 0 for everything that is not
// beyond doubt a hot request, whole, in the form that browsers and clients write: what is unusual has its meaning in one
// place, which is fasthttp and the doors behind it. It decides nothing and changes nothing.
func (r *hotRequest) parse(b []byte, d *Doors) int {
	*r = hotRequest{length: -1}
	at := r.firstLine(b, d.cfg.Limits.URLBytes)
	if at == 0 {
		return 0
	}
	for {
		line := bytes.IndexByte(b[at:], '\n')
		if line < 1 || b[at+line-1] != '\r' {
			return 0
		}
		if line == 1 {
			at += 2
			break
		}
		if !r.header(b[at:at+line-1], d.cfg.CountryHeader) {
			return 0
		}
		at += line + 1
	}
	if at >= d.cfg.Limits.HeaderBytes || r.seen&seenHost == 0 || !plainHost(r.host) {
		return 0
	}
	if r.kind == hotPixel {
		if r.length >= 0 {
			return 0
		}
		return at
	}
	if r.length <= 0 || r.length > min(d.cfg.Limits.BodyBytes, d.cfg.Limits.JSONBytes, len(b)-at) {
		return 0
	}
	r.body = b[at : at+r.length : at+r.length]
	return at + r.length
}

func (r *hotRequest) firstLine(b []byte, limit int) int {
	if len(b) > len(hotPath) && string(b[:5]) == "GET /" && (b[5] == 'i' || b[5] == 'p') && b[6] == '?' {
		end := bytes.IndexByte(b, '\r')
		if end < len(hotPath)+len(hotVersion)-2 || len(b) < end+2 || string(b[end-len(hotVersion)+2:end+2]) != hotVersion {
			return 0
		}
		uri := b[4 : end-len(hotVersion)+2]
		if len(uri) > limit || !plainText(uri) || bytes.IndexByte(uri, ' ') >= 0 || bytes.IndexByte(uri, '#') >= 0 ||
			bytes.Contains(uri, []byte("://")) { // which makes fasthttp look for a host in it
			return 0
		}
		r.kind, r.query = hotPixel, uri[3:]
		return end + 2
	}
	rest, ok := bytes.CutPrefix(b, []byte(hotDoor))
	if !ok || limit < len(hotDoor)+len(hotErrors) {
		return 0
	}
	rest, r.errorsOnly = bytes.CutPrefix(rest, []byte(hotErrors))
	if rest, ok = bytes.CutPrefix(rest, []byte(hotVersion)); !ok {
		return 0
	}
	r.kind = hotEvents
	return len(b) - len(rest)
}

// header reads one line. It returns false for what changes the meaning of a request in a way that is not for here.
func (r *hotRequest) header(line []byte, country string) bool {
	colon := bytes.IndexByte(line, ':')
	if colon < 1 || colon+1 >= len(line) {
		return false
	}
	name, value := line[:colon], line[colon+1:]
	if value[0] == ' ' {
		value = value[1:]
	}
	if n := len(value); n == 0 || value[0] <= ' ' || value[n-1] == ' ' || !plainText(value) || !plainName(name) {
		return false
	}
	if len(country) > 0 && len(name) == len(country) && bytes.EqualFold(name, []byte(country)) {
		return r.once(seenCountry, &r.country, value)
	}
	switch len(name) {
	case 4:
		if isName(name, "host") {
			return r.once(seenHost, &r.host, value)
		}
	case 6:
		return !isName(name, "expect")
	case 7:
		switch {
		case isName(name, "referer"):
			return r.once(seenReferer, &r.referer, value)
		case isName(name, "sec-gpc"):
			return r.once(seenGPC, &r.gpc, value)
		case isName(name, "trailer"):
			return false
		}
	case 9:
		if isName(name, "x-api-key") {
			return r.once(seenKey, &r.apiKey, value)
		}
	case 10:
		switch {
		case isName(name, "user-agent"):
			return r.once(seenUA, &r.ua, value)
		case isName(name, "connection"):
			var v []byte
			return r.once(seenConnection, &v, value) && bytes.EqualFold(value, []byte("keep-alive"))
		}
	case 12:
		if isName(name, "content-type") {
			return r.once(seenType, &r.media, value)
		}
	case 13:
		if isName(name, "authorization") {
			return r.once(seenAuth, &r.auth, value)
		}
	case 14:
		if isName(name, "content-length") {
			return r.bodyLength(value)
		}
	case 15:
		switch {
		case isName(name, "x-forwarded-for"):
			return r.once(seenForwarded, &r.forwarded, value)
		case isName(name, "milliard-import"):
			return false
		}
	case 16:
		return !isName(name, "content-encoding")
	case 17:
		return !isName(name, "transfer-encoding")
	}
	return true
}

func (r *hotRequest) once(bit uint32, into *[]byte, value []byte) bool {
	if r.seen&bit != 0 {
		return false
	}
	r.seen |= bit
	*into = value
	return true
}

func (r *hotRequest) bodyLength(value []byte) bool {
	if r.seen&seenLength != 0 || len(value) > 6 || value[0] == '0' {
		return false
	}
	r.seen |= seenLength
	r.length = 0
	for _, c := range value {
		if c < '0' || c > '9' {
			return false
		}
		r.length = 10*r.length + int(c-'0')
	}
	return true
}

// isName compares a header's name, which plainName has checked, with a lower-case one of the same length.
func isName(name []byte, lower string) bool {
	for i := range len(lower) {
		if name[i]|0x20 != lower[i] {
			return false
		}
	}
	return true
}

// plainName says whether b is made of letters, digits and hyphens.
func plainName(b []byte) bool {
	for _, c := range b {
		if l := c | 0x20; (l < 'a' || l > 'z') && (c < '0' || c > '9') && c != '-' {
			return false
		}
	}
	return true
}

// plainHost says whether b is a name or an IPv4 address, with a port if need be.
func plainHost(b []byte) bool {
	name, port, colon := bytes.Cut(b, []byte{':'})
	if len(name) == 0 || colon && len(port) == 0 {
		return false
	}
	for _, c := range name {
		if l := c | 0x20; (l < 'a' || l > 'z') && (c < '0' || c > '9') && c != '-' && c != '.' {
			return false
		}
	}
	for _, c := range port {
		if c < '0' || c > '9' {
			return false
		}
	}
	return true
}

// plainText says whether b is printable ASCII and spaces. It looks at eight bytes at once: most of a request is text.
func plainText(b []byte) bool {
	const ones, highs = 0x0101010101010101, 0x8080808080808080
	for len(b) >= 8 {
		x := binary.LittleEndian.Uint64(b)
		low := (x - 0x20*ones) &^ x // a byte below 0x20 borrows; a borrow reaches only bytes behind such a one
		del := x ^ 0x7f*ones
		if (x|low|(del-ones)&^del)&highs != 0 {
			return false
		}
		b = b[8:]
	}
	for _, c := range b {
		if c < 0x20 || c >= 0x7f {
			return false
		}
	}
	return true
}

// tagQuery returns the token of a query that is nothing but tk= and text with nothing to decode.
func tagQuery(query []byte) ([]byte, bool) {
	token, ok := bytes.CutPrefix(query, []byte("tk="))
	return token, ok && bytes.IndexByte(token, '&') < 0 && bytes.IndexByte(token, '%') < 0 && bytes.IndexByte(token, '+') < 0
}
