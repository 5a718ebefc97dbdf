package event

import "milliard/internal/columnar"

// Builder collects events of one id space into a block. It copies every byte it keeps, so a caller may reuse its
// event at once. A Builder has one owner and is reused after Reset.
type Builder struct {
	block Block
	dicts [NumStrs]map[string]uint64
	bytes []byte // arena of dictionary entries
	size  int    // estimate of the encoded size in bytes
}

// plainStr says which string columns are different in almost every row, so that a dictionary would only cost.
func plainStr(s Str) bool { return s == StrForeign || s == StrOrder || s == StrVisitor }

// Start empties the builder and sets what all rows share.
func (b *Builder) Start(space Space, imp ImportID) {
	b.block.Space, b.block.Import, b.block.N = space, imp, 0
	for c := range b.block.U {
		b.block.U[c] = b.block.U[c][:0]
	}
	for s := range b.block.S {
		b.block.S[s].Reset()
		clear(b.dicts[s])
	}
	b.bytes, b.size = b.bytes[:0], 64
}

// Len returns the number of rows.
func (b *Builder) Len() int { return b.block.N }

// Size returns an estimate, on the high side, of the encoded bytes.
func (b *Builder) Size() int { return b.size }

// Append adds one event. Its space must be the builder's.
func (b *Builder) Append(e *Event) {
	u := &b.block.U
	for c, v := range [NumCols]uint64{
		ColIDHi: e.ID.Hi, ColIDLo: e.ID.Lo, ColType: uint64(e.Type), ColTime: uint64(e.Time),
		ColTenant: uint64(e.Tenant), ColAdvertiser: uint64(e.Advertiser), ColCampaign: uint64(e.Campaign),
		ColBanner: uint64(e.Banner), ColAffiliate: uint64(e.Affiliate), ColGoal: uint64(e.Goal),
		ColRevenue: uint64(e.Revenue), ColPayout: uint64(e.Payout),
		ColN: zigzag(int64(e.N)), ColAmount: zigzag(int64(e.Amount)), ColFlags: uint64(e.Flags),
		ColCountry: uint64(e.Country), ColDevice: uint64(e.Device),
		ColClickHi: e.Click.Hi, ColClickLo: e.Click.Lo, ColClickTime: uint64(e.ClickTime), ColIPHash: e.IPHash,
	} {
		u[c] = append(u[c], v)
	}
	for s, v := range [NumStrs][]byte{
		StrForeign: e.Foreign, StrSource: e.Source, StrOrder: e.Order, StrSubs: e.Subs, StrRef: e.Ref,
		StrReferrer: e.Referrer, StrIP: e.IP, StrUA: e.UA, StrVisitor: e.Visitor,
	} {
		b.appendString(Str(s), v)
	}
	b.block.N++
	b.size += 48
}

// appendString puts v of the next row into column s. A column stays absent until its first non-empty value.
func (b *Builder) appendString(s Str, v []byte) {
	col := &b.block.S[s]
	if len(v) == 0 && len(col.Dict) == 0 {
		return
	}
	if len(col.Dict) == 0 && b.block.N > 0 { // earlier rows were empty
		col.Dict = append(col.Dict, nil)
		for range b.block.N {
			col.Index = append(col.Index, 0)
		}
		if b.dicts[s] == nil {
			b.dicts[s] = make(map[string]uint64)
		}
		b.dicts[s][""] = 0
	}
	if plainStr(s) && len(v) > 0 {
		b.addEntry(col, v)
		return
	}
	if b.dicts[s] == nil {
		b.dicts[s] = make(map[string]uint64)
	}
	if i, ok := b.dicts[s][string(v)]; ok {
		col.Index = append(col.Index, i)
		return
	}
	entry := b.addEntry(col, v)
	b.dicts[s][string(entry)] = uint64(len(col.Dict) - 1)
}

func (b *Builder) addEntry(col *columnar.Strings, v []byte) []byte {
	// The arena may move when it grows: entries already handed out keep the old memory alive, which is fine.
	start := len(b.bytes)
	b.bytes = append(b.bytes, v...)
	entry := b.bytes[start:len(b.bytes):len(b.bytes)]
	col.Index = append(col.Index, uint64(len(col.Dict)))
	col.Dict = append(col.Dict, entry)
	b.size += len(v) + 2
	return entry
}

// Block returns the block built so far. It is valid until the next Start or Append.
func (b *Builder) Block() *Block { return &b.block }
