package count

import (
	"math/bits"

	"milliard/internal/event"
	"milliard/internal/ledger"
)

// packed is a Detail in whole words, so that two are compared without gaps and without a call: this is the one look-up
// that every event costs.
type packed [6]uint64

func pack(k *Detail) packed {
	c := &k.Cell
	return packed{
		uint64(uint32(c.Bucket))<<32 | uint64(c.Campaign),
		uint64(c.Banner)<<32 | uint64(c.Affiliate),
		uint64(c.Revenue)<<32 | uint64(c.Payout),
		uint64(c.Tenant)<<48 | uint64(c.Type)<<32 | uint64(c.Goal)<<16 | uint64(c.Class)<<8 | uint64(k.Device),
		uint64(uint32(k.Quarter))<<32 | uint64(k.Sub1),
		uint64(k.Country),
	}
}

func (p *packed) unpack() Detail {
	return Detail{
		Cell: ledger.Key{
			Bucket: int32(p[0] >> 32), Tenant: event.TenantID(p[3] >> 48), Type: event.Type(p[3] >> 32), Goal: event.GoalID(p[3] >> 16),
			Class: event.Class(p[3] >> 8), Campaign: event.CampaignID(p[0]), Banner: event.BannerID(p[1] >> 32),
			Affiliate: event.AffiliateID(p[1]), Revenue: event.PriceID(p[2] >> 32), Payout: event.PriceID(p[2]),
		},
		Quarter: int32(p[4] >> 32), Sub1: uint32(p[4]), Country: event.Country(p[5]), Device: event.Device(p[3]),
	}
}

// hash mixes the words in three multiplications; keys are ours, so speed matters more than resistance.
func (p *packed) hash() uint64 {
	h0, l0 := bits.Mul64(p[0]^0x9e3779b97f4a7c15, p[1]^0xe7037ed1a0b428db)
	h1, l1 := bits.Mul64(p[2]^0x8ebc6af09c88c6e3, p[3]^0x589965cc75374cc3)
	h2, l2 := bits.Mul64(p[4]^0xa0761d6478bd642f, p[5]^0x1d8e4e27c47d124f)
	return h0 ^ l0 ^ bits.RotateLeft64(h1^l1, 29) ^ bits.RotateLeft64(h2^l2, 47)
}

// detailRow is a key beside its sum: an event that finds its detail touches nothing else.
type detailRow struct {
	key packed
	sum ledger.Value
}

// detailTable is Table for details alone.
type detailTable struct {
	rows  []detailRow // in the order in which they first appeared
	index []uint64    // high half: of the hash; low half: position in rows + 1; 0 is empty
}

func (t *detailTable) reserve(n int) {
	size := 64
	for size < 2*n {
		size *= 2
	}
	t.rows, t.index = make([]detailRow, 0, n), make([]uint64, size)
}

// add is Table.Add. It returns where the sum is, which is new when it is the last.
func (t *detailTable) add(k *packed, v ledger.Value) int {
	if 2*(len(t.rows)+1) > len(t.index) {
		t.grow()
	}
	h := k.hash()
	mask := uint64(len(t.index) - 1)
	i := h & mask
	for ; t.index[i] != 0; i = (i + 1) & mask {
		if t.index[i]>>32 != h>>32 {
			continue
		}
		at := int(uint32(t.index[i])) - 1
		if row := &t.rows[at]; row.key == *k {
			if add(&row.sum, v) {
				return at
			}
			break
		}
	}
	t.rows = append(t.rows, detailRow{*k, v})
	t.index[i] = h>>32<<32 | uint64(len(t.rows))
	return len(t.rows) - 1
}

func (t *detailTable) grow() {
	t.index = make([]uint64, max(64, 2*len(t.index)))
	mask := uint64(len(t.index) - 1)
	for n := range t.rows {
		k := &t.rows[n].key
		h := k.hash()
		i := h & mask
		for t.index[i] != 0 && (t.index[i]>>32 != h>>32 || t.rows[uint32(t.index[i])-1].key != *k) {
			i = (i + 1) & mask
		}
		t.index[i] = h>>32<<32 | uint64(n+1)
	}
}
