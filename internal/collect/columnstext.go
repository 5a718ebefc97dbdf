package collect

import (
	"math"

	"milliard/client"
	"milliard/internal/columnar"
	"milliard/internal/event"
)

// subs encodes the sub-ids of each row, equal ones once. Whoever asks w.subs finds out whether they come to too much.
func (r *byColumns) subs(w *work) {
	found := false
	for f := client.FieldSub1; int(f) < client.NumStringFields; f++ {
		s := r.texts(f, func(text []byte) bool { return len(text) <= maxSub })
		found = found || len(s.Index) > 0
	}
	if !found {
		return
	}
	if cap(r.subIndex) < r.out.N {
		r.subIndex = make([]uint64, r.out.N)
	}
	index, dict := r.subIndex[:r.out.N], append(r.dict[event.StrSubs][:0], nil)
	for i := range index {
		if index[i] = 0; r.slow[i] || w.subs.full() {
			continue
		}
		w.subs.row(r.batch, i)
		if _, ok := w.subs.find(); !ok {
			text, ok := r.encodeSubs(w, i)
			if !ok {
				r.mark(i)
			}
			if len(text) == 0 {
				continue
			}
			w.subs.put(text, len(dict))
			dict = append(dict, text)
		}
		index[i] = uint64(w.subs.place)
	}
	r.dict[event.StrSubs] = dict
	r.out.S[event.StrSubs] = columnar.Strings{Dict: dict, Index: index}
}

// encodeSubs encodes the sub-ids of a row into the arena, as resolveSubs does, if they are not too long together.
func (r *byColumns) encodeSubs(w *work, i int) ([]byte, bool) {
	at := len(w.arena)
	for f := client.FieldSub1; int(f) < client.NumStringFields; f++ {
		text := r.batch.Strings[f].Row(i)
		if len(text) == 0 {
			continue
		}
		if len(w.arena) > at {
			w.arena = append(w.arena, '&')
		}
		w.arena = append(w.arena, stringField(f).name()...)
		w.arena = append(w.arena, '=')
		w.arena = appendQueryEscape(w.arena, text)
	}
	if len(w.arena)-at > maxSubsSize {
		w.arena = w.arena[:at]
		return nil, false
	}
	return w.arena[at:len(w.arena):len(w.arena)], true
}

// persons resolves address, user agent, visitor, country, device and referrer.
func (d *Doors) persons(r *byColumns) {
	d.addresses(r)
	if s := &r.batch.Strings[client.FieldUA]; len(s.Index) > 0 {
		dict := r.dict[event.StrUA][:0]
		for _, text := range s.Dict {
			dict = append(dict, cut(text, maxUA))
		}
		r.dict[event.StrUA] = dict
		r.out.S[event.StrUA] = columnar.Strings{Dict: dict, Index: s.Index}
		r.put(event.ColDevice, s, r.entries(s, func(text []byte) uint64 { return uint64(d.devices.of(cut(text, maxUA))) }))
	}
	r.out.S[event.StrVisitor] = *r.texts(client.FieldVisitor, func(text []byte) bool { return len(text) <= maxVisitor })
	r.override(client.FieldCountry, event.ColCountry, func(text []byte) uint64 {
		c, msg := toCountry(text)
		if msg != "" {
			return badEntry
		}
		return uint64(c)
	})
	r.override(client.FieldDevice, event.ColDevice, func(text []byte) uint64 { return uint64(toDevice(text)) })
	if s := &r.batch.Strings[client.FieldReferrer]; len(s.Index) > 0 {
		dict := r.dict[event.StrReferrer][:0]
		for _, text := range s.Dict {
			dict = append(dict, cut(hostOf(text), maxReferrer))
		}
		r.dict[event.StrReferrer] = dict
		r.out.S[event.StrReferrer] = columnar.Strings{Dict: dict, Index: s.Index}
	}
}

// override replaces an integer column where a row has a text of its own.
func (r *byColumns) override(f client.Field, c event.Col, of func(text []byte) uint64) {
	s := &r.batch.Strings[f]
	if len(s.Index) == 0 {
		return
	}
	ids := r.entries(s, of)
	to, fresh := r.out.U[c], r.out.U[c] == nil
	if fresh {
		to = r.buffer(c)
	}
	for i, e := range s.Index {
		switch {
		case len(s.Dict[e]) > 0:
			if to[i] = ids[e]; ids[e] == badEntry {
				r.mark(i)
			}
		case fresh:
			to[i] = r.out.One[c]
		}
	}
}

// addresses truncates and hashes the addresses. A hash is of an address on the day of its event.
func (d *Doors) addresses(r *byColumns) {
	s := &r.batch.Strings[client.FieldIP]
	if len(s.Index) == 0 {
		return
	}
	r.addrs, r.days, r.hashes = r.addrs[:0], r.days[:0], r.hashes[:0]
	dict, short := r.dict[event.StrIP][:0], r.short[:0]
	for _, text := range s.Dict {
		addr, _ := toAddr(text) // of nothing: none
		at := len(short)
		if addr.IsValid() {
			short = appendTruncated(short, addr)
		}
		dict = append(dict, short[at:len(short):len(short)])
		r.addrs, r.days, r.hashes = append(r.addrs, addr), append(r.days, math.MinInt64), append(r.hashes, 0)
	}
	r.dict[event.StrIP], r.short = dict, short
	r.out.S[event.StrIP] = columnar.Strings{Dict: dict, Index: s.Index}
	hashes := r.buffer(event.ColIPHash)
	for i, e := range s.Index {
		if hashes[i] = 0; r.slow[i] {
			continue
		}
		if !r.addrs[e].IsValid() {
			if len(s.Dict[e]) > 0 {
				r.mark(i)
			}
			continue
		}
		if day := dayOf(int64(r.out.Value(event.ColTime, i))); r.days[e] != day {
			r.days[e], r.hashes[e] = day, d.addrs.hash(r.addrs[e], day)
		}
		hashes[i] = r.hashes[e]
	}
	if d.cfg.Country != nil {
		r.put(event.ColCountry, s, r.countries(d))
	}
}

// countries finds the countries of the addresses.
func (r *byColumns) countries(d *Doors) []uint64 {
	r.ids = r.ids[:0]
	for _, addr := range r.addrs {
		c := event.Country(0)
		if addr.IsValid() {
			c = d.cfg.Country(addr)
		}
		r.ids = append(r.ids, uint64(c))
	}
	return r.ids
}
