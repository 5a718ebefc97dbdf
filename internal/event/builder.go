package event

import "math"

// Builder collects events of one id space into a block. It copies every byte it keeps, so a caller may reuse its
// event at once. A Builder has one owner and is reused after Start; once it has grown it allocates nothing.
type Builder struct {
	block Block
	n     int               // rows
	cols  [NumCols][]uint64 // all of the same length, at least n; block.U is cut from them
	base  [NumCols]uint64   // the first row
	span  [NumCols]uint64   // the largest xor with base that the column's present width can hold
	width int               // bytes per row of all columns and indexes together, an upper bound

	// Most columns are equal in all rows of a block. Only those that are not are written row by row; the others are
	// filled when somebody looks, and what an earlier block has left there is often right already.
	varying  [NumCols]uint8 // the first many of these are columns whose rows differ
	many     int
	filled   [NumCols]int // rows of the column that hold filledBy
	filledBy [NumCols]uint64

	text     [NumStrs]texts
	strBytes int    // encoded size of all dictionary entries
	epoch    uint64 // grows with every Start
}

// fixedBytes is an upper bound of what a block takes whatever its rows: versions, counts, bases, widths, import id.
const fixedBytes = 400

// plainStr says which string columns are different in almost every row, so that a dictionary would only cost.
func plainStr(s Str) bool { return s == StrForeign || s == StrOrder || s == StrVisitor }

// Start empties the builder and sets what all rows share.
func (b *Builder) Start(space Space, imp ImportID) {
	b.block.Space, b.block.Import, b.block.N = space, imp, 0
	for s := range b.text {
		b.text[s].reset()
	}
	b.n, b.width, b.strBytes = 0, 0, 0
	b.epoch++
}

// Len returns the number of rows.
func (b *Builder) Len() int { return b.n }

// Size returns an upper bound of the encoded bytes of both parts.
func (b *Builder) Size() int { return fixedBytes + b.n*b.width + b.strBytes }

// Append adds one event. Its space must be the builder's.
func (b *Builder) Append(e *Event) { b.TryAppend(e, math.MaxInt) }

// TryAppend adds one event unless its numbers would make Size, without its strings, pass limit: a value far from the
// others widens its whole column, so one event can cost a byte and more for every row. It says whether it was added.
func (b *Builder) TryAppend(e *Event, limit int) bool {
	n := b.n
	if n == len(b.cols[0]) {
		b.grow(n + 1)
	}
	v := [NumCols]uint64{
		ColIDHi: e.ID.Hi, ColIDLo: e.ID.Lo, ColType: uint64(e.Type), ColTime: uint64(e.Time),
		ColTenant: uint64(e.Tenant), ColAdvertiser: uint64(e.Advertiser), ColCampaign: uint64(e.Campaign),
		ColBanner: uint64(e.Banner), ColAffiliate: uint64(e.Affiliate), ColGoal: uint64(e.Goal),
		ColRevenue: uint64(e.Revenue), ColPayout: uint64(e.Payout),
		ColN: zigzag(int64(e.N)), ColAmount: zigzag(int64(e.Amount)), ColFlags: uint64(e.Flags),
		ColCountry: uint64(e.Country), ColDevice: uint64(e.Device),
		ColClickHi: e.Click.Hi, ColClickLo: e.Click.Lo, ColClickTime: uint64(e.ClickTime), ColIPHash: e.IPHash,
	}
	if n == 0 {
		b.base, b.span, b.many = v, [NumCols]uint64{}, 0
	}
	wide := false
	for c := range v {
		wide = wide || v[c]^b.base[c] > b.span[c]
	}
	if wide && !b.widenTo(&v, limit) || fixedBytes+(n+1)*b.width+b.strBytes > limit {
		return false
	}
	for _, c := range b.varying[:b.many] {
		b.cols[c][n] = v[c]
	}
	b.appendString(StrForeign, e.Foreign)
	b.appendString(StrSource, e.Source)
	b.appendString(StrOrder, e.Order)
	b.appendString(StrSubs, e.Subs)
	b.appendString(StrRef, e.Ref)
	b.appendString(StrReferrer, e.Referrer)
	b.appendString(StrIP, e.IP)
	b.appendString(StrUA, e.UA)
	b.appendString(StrVisitor, e.Visitor)
	b.n = n + 1
	return true
}

// widenTo is widen for one row.
func (b *Builder) widenTo(v *[NumCols]uint64, limit int) bool {
	var differ [NumCols]uint64
	for c := range v {
		differ[c] = v[c] ^ b.base[c]
	}
	return b.widen(&differ, 1, limit)
}

// widen makes room in the column widths for so many rows that differ from the first in the given bits, unless the block
// would then pass limit. All values of a column that differ from its first only in the low k bits lie within 2^k of each
// other, so the width it reckons with is never less than the one AppendUints takes.
func (b *Builder) widen(differ *[NumCols]uint64, rows, limit int) bool {
	width, span := b.width, b.span
	for c, d := range differ {
		if d > span[c] {
			was := widthOf(span[c])
			switch {
			case d < 1<<8:
				span[c] = 1<<8 - 1
			case d < 1<<16:
				span[c] = 1<<16 - 1
			case d < 1<<32:
				span[c] = 1<<32 - 1
			default:
				span[c] = math.MaxUint64
			}
			width += widthOf(span[c]) - was
		}
	}
	if fixedBytes+(b.n+rows)*width+b.strBytes > limit {
		return false
	}
	for c := range span {
		if span[c] != 0 && b.span[c] == 0 { // the rows so far were equal
			b.fill(c)
			b.filled[c] = 0 // from here on they are written row by row
			b.varying[b.many] = uint8(c)
			b.many++
		}
	}
	b.width, b.span = width, span
	return true
}

// fill writes the one value of a column into all its rows, unless it stands there.
func (b *Builder) fill(c int) {
	from := b.filled[c]
	if b.filledBy[c] != b.base[c] {
		from = 0
	}
	for i := from; i < b.n; i++ {
		b.cols[c][i] = b.base[c]
	}
	b.filled[c], b.filledBy[c] = max(from, b.n), b.base[c]
}

func widthOf(span uint64) int {
	switch {
	case span == 0:
		return 0
	case span < 1<<8:
		return 1
	case span < 1<<16:
		return 2
	case span < 1<<32:
		return 4
	}
	return 8
}

// grow makes room for rows, at least twice what there are. The columns share one allocation.
func (b *Builder) grow(rows int) {
	room := max(256, 2*b.n, rows)
	all := make([]uint64, room*int(NumCols))
	for c := range b.cols {
		col := all[c*room : (c+1)*room : (c+1)*room]
		copy(col, b.cols[c])
		b.cols[c] = col
	}
}

// Block returns the block built so far. It is valid until the next Start or Append.
func (b *Builder) Block() *Block {
	b.Pack()
	for s := range b.text {
		b.text[s].read(&b.block.S[s], b.n)
	}
	return &b.block
}

// Pack is Block for who only encodes it: its strings cannot be looked at.
func (b *Builder) Pack() *Block {
	b.block.N, b.block.packed = b.n, &b.text
	for c := range b.cols {
		b.block.Const[c] = b.span[c] == 0
		if b.block.Const[c] {
			b.fill(c)
		}
		b.block.U[c] = b.cols[c][:b.n]
	}
	return &b.block
}
