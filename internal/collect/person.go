package collect

import (
	"bytes"
	"net/netip"
	"slices"
	"sync/atomic"

	"github.com/valyala/fasthttp"

	"milliard/internal/event"
)

// maxHops bounds how many addresses of an X-Forwarded-For chain are looked at.
const maxHops = 32

// clientAddr returns the address of the client: the peer's, or, when the peer is a proxy that we trust, the rightmost
// hop of X-Forwarded-For that is not one.
func (d *Doors) clientAddr(ctx *fasthttp.RequestCtx) netip.Addr {
	peer := peerAddr(ctx)
	if len(d.cfg.Trusted) == 0 || !d.trusted(peer) {
		return peer
	}
	return d.forwarded(peer, ctx.Request.Header.PeekAll("X-Forwarded-For"))
}

// forwarded follows the lines of X-Forwarded-For from a proxy that we trust.
func (d *Doors) forwarded(peer netip.Addr, lines [][]byte) netip.Addr {
	hops := 0
	for _, line := range slices.Backward(lines) {
		for rest := line; ; {
			cutAt := bytes.LastIndexByte(rest, ',')
			hop, ok := hopAddr(bytes.TrimSpace(rest[cutAt+1:]))
			if !ok {
				return peer // a broken chain says nothing; what we know is who connected
			}
			if hops++; !d.trusted(hop) || hops >= maxHops {
				return hop
			}
			peer = hop
			if cutAt < 0 {
				break
			}
			rest = rest[:cutAt]
		}
	}
	return peer
}

func peerAddr(ctx *fasthttp.RequestCtx) netip.Addr {
	addr, _ := netip.AddrFromSlice(ctx.RemoteIP())
	return addr.Unmap()
}

func (d *Doors) trusted(addr netip.Addr) bool {
	for _, p := range d.cfg.Trusted {
		if p.Contains(addr) {
			return true
		}
	}
	return false
}

// hopAddr reads one hop: an address, with a port or in brackets if need be.
func hopAddr(text []byte) (netip.Addr, bool) {
	if addr, ok := toAddr(text); ok {
		return addr, true
	}
	if len(text) > 64 {
		return netip.Addr{}, false
	}
	if ap, err := netip.ParseAddrPort(string(text)); err == nil {
		return ap.Addr().WithZone("").Unmap(), true
	}
	if n := len(text); n > 2 && text[0] == '[' && text[n-1] == ']' {
		return toAddr(text[1 : n-1])
	}
	return netip.Addr{}, false
}

// dayKey is the key with which one day's addresses are hashed.
type dayKey struct {
	day int64
	key [32]byte
}

// addrHasher remembers the key of the last day asked for.
type addrHasher struct {
	key  func(day int64) [32]byte
	last atomic.Pointer[dayKey]
}

func dayOf(ms int64) int64 { return ms / 86_400_000 }

// hash returns the keyed hash of a full address on a day; never 0 for an address.
func (h *addrHasher) hash(addr netip.Addr, day int64) uint64 {
	k := h.last.Load()
	if k == nil || k.day != day {
		k = &dayKey{day: day, key: h.key(day)}
		h.last.Store(k)
	}
	return sip([16]byte(k.key[:16]), addr.As16()) | 1
}

// setAddr puts the truncated address and its hash into e. The full address goes no further.
func (w *work) setAddr(d *Doors, e *event.Event, addr netip.Addr, day int64) {
	if !addr.IsValid() {
		return
	}
	at := len(w.arena)
	w.arena = appendTruncated(w.arena, addr)
	e.IP = w.arena[at:len(w.arena):len(w.arena)]
	e.IPHash = d.addrs.hash(addr, day)
}

// appendTruncated appends what is kept of an address.
func appendTruncated(dst []byte, addr netip.Addr) []byte {
	if addr.Is4() {
		a := addr.As4()
		return append(dst, a[:3]...)
	}
	a := addr.As16()
	return append(dst, a[:6]...)
}

// hostOf returns the host of a URL, or the text itself when it is only a host.
func hostOf(text []byte) []byte {
	if i := bytes.Index(text, []byte("://")); i >= 0 {
		text = text[i+3:]
	}
	if i := bytes.IndexAny(text, "/?#"); i >= 0 {
		text = text[:i]
	}
	if i := bytes.LastIndexByte(text, '@'); i >= 0 {
		text = text[i+1:]
	}
	return text
}

// asker is what a browser's own request says of its user.
type asker struct {
	addr    netip.Addr // where it comes from, behind proxies
	ua      []byte
	referer []byte
	country []byte // as a proxy has found it
	gpc     []byte // Sec-GPC
}

// fromProxy says whether the country header of a peer is believed.
func (d *Doors) fromProxy(peer netip.Addr) bool {
	return d.cfg.CountryHeader != "" && (len(d.cfg.Trusted) == 0 || d.trusted(peer))
}

// person fills in what a browser's own request says of its user.
func (d *Doors) person(ctx *fasthttp.RequestCtx, w *work, e *event.Event) {
	h := &ctx.Request.Header
	a := asker{addr: d.clientAddr(ctx), ua: h.UserAgent(), referer: h.Referer(), gpc: h.Peek("Sec-Gpc")}
	if d.fromProxy(peerAddr(ctx)) {
		a.country = h.Peek(d.cfg.CountryHeader)
	}
	d.personOf(&a, w, e)
}

// personOf is person, whatever has read the request. With Sec-GPC the personal fields stay empty, and the signal itself
// is kept.
func (d *Doors) personOf(a *asker, w *work, e *event.Event) {
	ua := cut(a.ua, maxUA)
	e.Device = d.devices.of(ua)
	if len(a.country) > 0 {
		e.Country, _ = toCountry(a.country)
	}
	if e.Country == 0 && d.cfg.Country != nil && a.addr.IsValid() {
		e.Country = d.cfg.Country(a.addr)
	}
	if len(a.referer) > 0 {
		e.Referrer = cut(hostOf(a.referer), maxReferrer)
	}
	if string(a.gpc) == "1" {
		e.Flags |= event.FlagPrivacySignal
		return
	}
	e.UA = ua
	w.setAddr(d, e, a.addr, dayOf(e.Time))
}
