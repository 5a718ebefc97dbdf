package collect

import (
	"net/netip"
	"sync"

	"milliard/internal/event"
)

// room bounds the bytes of bodies that the doors hold at a time, as they came and decompressed. A body takes its announced
// length before the first byte of it is read; one that announces none, and what comes out of a decompressor, takes more as
// it grows. Nobody waits for room: who gets none is refused at once, so that the bodies that are here can go on.
//
// The whole is shared, so that a sender who stalls in the middle of many bodies keeps nobody else out. Short bodies take
// none: the connection holds them already.
type room struct {
	total, own, group, address, strangers int64 // the most that each may hold

	mu   sync.Mutex
	used int64
	by   map[account]int64 // what each holds, those with nothing left out
}

// newRoom divides the memory for bodies: a quarter for one key, half for all keys of a tenant, a thirty-second for one
// address without a key (a postback that is posted), an eighth for all of those.
func newRoom(total int64) *room {
	return &room{
		total: total, own: total / 4, group: total / 2, address: total / 32, strangers: total / 8, by: make(map[account]int64),
	}
}

// newPlaces divides the places for streams: half for one key.
func newPlaces(n int64) *room {
	return &room{total: n, own: (n + 1) / 2, group: n, by: make(map[account]int64)}
}

// account is what bytes are booked under: a key, a tenant, an address, or, with none of them, all addresses.
type account struct {
	key    [32]byte
	addr   netip.Addr
	tenant event.TenantID
}

// holder is who takes room: a key of a tenant, or an address without one.
type holder struct{ own, group account }

func keyHolder(o *origin) holder {
	return holder{own: account{key: o.keyHash}, group: account{tenant: o.tenant}}
}

func addressHolder(addr netip.Addr) holder { return holder{own: account{addr: addr}} }

// fit is what take says.
type fit uint8

const (
	fits     fit = iota
	fitsNot      // the holder has its share in use
	fitsNone     // others have what is left
)

// take takes n bytes for a holder, or nothing.
func (r *room) take(h *holder, n int64) fit {
	most, groupMost := r.own, r.group
	if h.own.addr.IsValid() {
		most, groupMost = r.address, r.strangers
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	own, group := r.by[h.own]+n, r.by[h.group]+n
	switch {
	case r.used+n > r.total:
		return fitsNone
	case own > most:
		return fitsNot
	case group > groupMost:
		return fitsNone
	}
	r.by[h.own], r.by[h.group] = own, group
	r.used += n
	return fits
}

// give gives n bytes back.
func (r *room) give(h *holder, n int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.giveLocked(h.own, n)
	r.giveLocked(h.group, n)
	r.used -= n
}

func (r *room) giveLocked(a account, n int64) {
	if left := r.by[a] - n; left > 0 {
		r.by[a] = left
		return
	}
	delete(r.by, a)
}

// bytes returns how much is taken.
func (r *room) bytes() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.used
}
