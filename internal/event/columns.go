package event

import (
	"math"

	"milliard/internal/columnar"
)

// Columns are events of one id space, column by column, on their way from a request into builders. Nothing of them is
// copied before a Builder takes them, and no Event is made of them. Their owner is one goroutine at a time.
type Columns struct {
	Space  Space
	Import ImportID // Imported only
	N      int      // rows
	One    [NumCols]uint64
	U      [NumCols][]uint64         // nil: every row has the value in One
	S      [NumStrs]columnar.Strings // without an index: empty in every row
	places [NumStrs][]uint32         // of an entry in the dictionary of target, plus one; 0: not known
	target *Builder
	epoch  uint64 // of target when places were noted
}

// Reset empties c. The memory of its columns is somebody else's.
func (c *Columns) Reset() { *c = Columns{places: c.places} }

// Value returns row i of an integer column.
func (c *Columns) Value(col Col, i int) uint64 {
	if u := c.U[col]; u != nil {
		return u[i]
	}
	return c.One[col]
}

// IDAt returns the minted id, or the row of an import, of row i.
func (c *Columns) IDAt(i int) MintedID { return MintedID{c.Value(ColIDHi, i), c.Value(ColIDLo, i)} }

// Row copies row i into e, every field of it. The byte slices alias c.
func (c *Columns) Row(i int, e *Event) {
	*e = Event{
		Space: c.Space, Import: c.Import, ID: c.IDAt(i), Type: Type(c.Value(ColType, i)), Time: int64(c.Value(ColTime, i)),
		Tenant: TenantID(c.Value(ColTenant, i)), Advertiser: AdvertiserID(c.Value(ColAdvertiser, i)),
		Campaign: CampaignID(c.Value(ColCampaign, i)), Banner: BannerID(c.Value(ColBanner, i)),
		Affiliate: AffiliateID(c.Value(ColAffiliate, i)), Goal: GoalID(c.Value(ColGoal, i)),
		Revenue: PriceID(c.Value(ColRevenue, i)), Payout: PriceID(c.Value(ColPayout, i)),
		N: Micros(unzigzag(c.Value(ColN, i))), Amount: Micros(unzigzag(c.Value(ColAmount, i))),
		Flags: Flags(c.Value(ColFlags, i)), Country: Country(c.Value(ColCountry, i)), Device: Device(c.Value(ColDevice, i)),
		Click:     MintedID{c.Value(ColClickHi, i), c.Value(ColClickLo, i)},
		ClickTime: int64(c.Value(ColClickTime, i)), IPHash: c.Value(ColIPHash, i),
		Foreign: c.S[StrForeign].Row(i), Source: c.S[StrSource].Row(i), Order: c.S[StrOrder].Row(i), Subs: c.S[StrSubs].Row(i),
		Ref: c.S[StrRef].Row(i), Referrer: c.S[StrReferrer].Row(i), IP: c.S[StrIP].Row(i), UA: c.S[StrUA].Row(i),
		Visitor: c.S[StrVisitor].Row(i),
	}
}

// Route copies into e what decides about the slot of row i.
func (c *Columns) Route(i int, e *Event) {
	e.Space, e.Import, e.ID = c.Space, c.Import, c.IDAt(i)
	e.Type, e.Tenant = Type(c.Value(ColType, i)), TenantID(c.Value(ColTenant, i))
	e.Advertiser = AdvertiserID(c.Value(ColAdvertiser, i))
	e.Click = MintedID{c.Value(ColClickHi, i), c.Value(ColClickLo, i)}
	e.Foreign, e.Source, e.Order = c.S[StrForeign].Row(i), c.S[StrSource].Row(i), c.S[StrOrder].Row(i)
}

// Text returns the bytes of all strings of some rows, and a bound of those of any one row.
func (c *Columns) Text(rows []uint32) (all int64, most int) {
	for s := range c.S {
		col := &c.S[s]
		if len(col.Index) == 0 {
			continue
		}
		longest := 0
		for _, r := range rows {
			n := len(col.Dict[col.Index[r]])
			all += int64(n)
			longest = max(longest, n)
		}
		most += longest
	}
	return all, most
}

// TryRows adds rows of c unless they would make Size pass limit. It says whether they were added: all or none. It is
// TryAppend by columns. The space of c must be the builder's.
func (b *Builder) TryRows(c *Columns, rows []uint32, limit int) bool {
	if len(rows) == 0 {
		return true
	}
	if need := b.n + len(rows); need > len(b.cols[0]) {
		b.grow(need)
	}
	if b.n == 0 {
		b.span, b.many = [NumCols]uint64{}, 0
		for col := range b.base {
			b.base[col] = c.Value(Col(col), int(rows[0]))
		}
	}
	var differ [NumCols]uint64 // in which bits some row differs from the first
	wide := false
	for col := range differ {
		d := c.One[col] ^ b.base[col]
		if u := c.U[col]; u != nil {
			d = differing(u, rows, b.base[col])
		}
		differ[col] = d
		wide = wide || d > b.span[col]
	}
	text, index := b.needs(c, rows)
	if limit != math.MaxInt {
		limit -= text + index*(b.n+len(rows))
	}
	if wide && !b.widen(&differ, len(rows), limit) || fixedBytes+(b.n+len(rows))*b.width+b.strBytes > limit {
		return false
	}
	for _, col := range b.varying[:b.many] {
		to := b.cols[col][b.n : b.n+len(rows)]
		if u := c.U[col]; u != nil {
			for i, r := range rows {
				to[i] = u[r]
			}
			continue
		}
		for i := range to {
			to[i] = c.One[col]
		}
	}
	for s := range c.S {
		b.appendStrings(c, Str(s), rows)
	}
	b.n += len(rows)
	return true
}

func differing(u []uint64, rows []uint32, base uint64) (d uint64) {
	for _, r := range rows {
		d |= u[r] ^ base
	}
	return d
}

// needs returns bounds of what the strings of some rows add: bytes to the dictionaries, and bytes to every index.
func (b *Builder) needs(c *Columns, rows []uint32) (text, index int) {
	if c.target != b || c.epoch != b.epoch {
		c.target, c.epoch = b, b.epoch
		for s := range c.places {
			if !plainStr(Str(s)) {
				c.places[s] = cleared(c.places[s], len(c.S[s].Dict))
			}
		}
	}
	for s := range c.S {
		col, places := &c.S[s], c.places[s]
		if len(col.Index) == 0 {
			continue
		}
		fresh := 2 // the empty entry, twice for safety
		if plainStr(Str(s)) {
			for _, r := range rows {
				text += len(col.Dict[col.Index[r]])
			}
			text += 3 * len(rows)
			fresh += len(rows)
		} else {
			for _, r := range rows {
				if e := col.Index[r]; places[e] == 0 {
					text += len(col.Dict[e]) + 3
					fresh++
				}
			}
		}
		have := b.text[s].entries
		index += widthOf(uint64(have+fresh)) - widthOf(uint64(max(have, 1)-1))
	}
	return text, index
}

// cleared returns n zeros, in p's memory if it has room.
func cleared(p []uint32, n int) []uint32 {
	if cap(p) < n {
		return make([]uint32, n, n+n/2)
	}
	p = p[:n]
	clear(p)
	return p
}

// appendStrings puts the texts of rows into column s.
func (b *Builder) appendStrings(c *Columns, s Str, rows []uint32) {
	from, to := &c.S[s], &b.text[s]
	if len(from.Index) == 0 {
		if to.entries > 0 {
			for i := range rows {
				b.appendPresent(s, nil, b.n+i)
			}
		}
		return
	}
	if plainStr(s) {
		done := b.appendPlain(from, to, rows)
		for i, r := range rows[done:] {
			i += done
			if v := from.Dict[from.Index[r]]; len(v) > 0 || to.entries > 0 {
				b.appendPresent(s, v, b.n+i)
			}
		}
		return
	}
	places := c.places[s]
	for i, r := range rows {
		e := from.Index[r]
		switch v := from.Dict[e]; {
		case places[e] != 0:
			to.put(b.n+i, int(places[e]-1))
		case len(v) > 0 || to.entries > 0:
			places[e] = uint32(b.appendPresent(s, v, b.n+i) + 1)
		}
	}
}

// appendPlain puts texts of rows into a column in which so far every row has an entry of its own, and says how many: it
// ends at a text that is empty or long.
func (b *Builder) appendPlain(from *columnar.Strings, to *texts, rows []uint32) int {
	if to.ragged || to.entries != b.n {
		return 0
	}
	sizes, text := to.sizes, to.bytes
	for _, r := range rows {
		v := from.Dict[from.Index[r]]
		if len(v) == 0 || len(v) >= 1<<7 {
			break
		}
		sizes = append(sizes, byte(len(v)))
		text = append(text, v...)
	}
	done := len(sizes) - len(to.sizes)
	b.strBytes += len(text) - len(to.bytes) + done
	b.width += indexWidth(to.entries+done) - indexWidth(to.entries)
	to.sizes, to.bytes, to.entries = sizes, text, to.entries+done
	return done
}
