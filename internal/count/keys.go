package count

import "milliard/internal/event"

// part says where a column of a block stands in a key.
type part struct {
	col   event.Col
	word  uint8
	shift uint8
	mask  uint64
}

// PackRows makes keys of the rows of a block from row at on, as far as the block tells: Complete adds the rest. Column by
// column it costs a fraction of what Pack does row by row.
func PackRows(keys []Key, b *event.Block, at int) {
	var base Key
	var varying [10]part
	n := 0
	for _, p := range [...]part{
		{event.ColCampaign, 0, 0, 1<<32 - 1},
		{event.ColBanner, 1, 32, 1<<32 - 1},
		{event.ColAffiliate, 1, 0, 1<<32 - 1},
		{event.ColRevenue, 2, 32, 1<<32 - 1},
		{event.ColPayout, 2, 0, 1<<32 - 1},
		{event.ColTenant, 3, 48, 1<<16 - 1},
		{event.ColType, 3, 32, 1<<16 - 1},
		{event.ColGoal, 3, 16, 1<<16 - 1},
		{event.ColDevice, 3, 0, 1<<8 - 1},
		{event.ColCountry, 5, 0, 1<<16 - 1},
	} {
		if b.Const[p.col] {
			base[p.word] |= b.U[p.col][at] & p.mask << p.shift
			continue
		}
		varying[n] = p
		n++
	}
	for i := range keys {
		keys[i] = base
	}
	for _, p := range varying[:n] {
		for i, v := range b.U[p.col][at : at+len(keys)] {
			keys[i][p.word] |= v & p.mask << p.shift
		}
	}
}

// Complete adds what the owner decides about an event to the key of its row.
func (p *Key) Complete(bucket, quarter int32, sub1 uint32, class event.Class) {
	p[0] |= uint64(uint32(bucket)) << 32
	p[3] |= uint64(class) << 8
	p[4] = uint64(uint32(quarter))<<32 | uint64(sub1)
}
