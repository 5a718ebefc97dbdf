package count

import (
	"math/rand/v2"
	"testing"

	"milliard/internal/event"
)

// TestRowsArePackedAsOneByOne compares with Pack, for blocks in which columns are constant, vary, or hold more bits than
// their type has.
func TestRowsArePackedAsOneByOne(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	for range 300 {
		b := event.Block{N: 100}
		for c := range b.U {
			b.U[c] = make([]uint64, b.N)
			b.Const[c] = rnd.IntN(2) == 0
			bits := rnd.IntN(65)
			one := rnd.Uint64() >> bits
			for i := range b.U[c] {
				if b.U[c][i] = one; !b.Const[c] {
					b.U[c][i] = rnd.Uint64() >> bits
				}
			}
		}
		at := rnd.IntN(b.N)
		keys := make([]Key, 1+rnd.IntN(b.N-at))
		for i := range keys {
			keys[i] = Key{1, 2, 3, 4, 5, 6} // of an earlier group
		}
		PackRows(keys, &b, at)
		for n := range keys {
			i := at + n
			u := func(c event.Col) uint64 { return b.U[c][i] }
			bucket, quarter, sub, class := int32(rnd.Uint32()), int32(rnd.Uint32()), rnd.Uint32(), event.Class(rnd.Uint32())
			keys[n].Complete(bucket, quarter, sub, class)
			want := Pack(bucket, event.CampaignID(u(event.ColCampaign)), event.BannerID(u(event.ColBanner)),
				event.AffiliateID(u(event.ColAffiliate)), event.PriceID(u(event.ColRevenue)), event.PriceID(u(event.ColPayout)),
				event.TenantID(u(event.ColTenant)), event.Type(u(event.ColType)), event.GoalID(u(event.ColGoal)), class,
				event.Device(u(event.ColDevice)), quarter, sub, event.Country(u(event.ColCountry)))
			if keys[n] != want {
				t.Fatalf("row %d: %x, not %x", i, keys[n], want)
			}
		}
	}
}
