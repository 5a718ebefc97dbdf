package count

import (
	"math/rand/v2"
	"testing"

	"milliard/internal/event"
	"milliard/internal/ledger"
)

// BenchmarkDetails adds events to 100,000 live details, campaigns by Zipf.
func BenchmarkDetails(b *testing.B) {
	rnd := rand.New(rand.NewPCG(1, 2))
	zipf := rand.NewZipf(rnd, 1.1, 1, 999)
	keys := make([]Detail, 1<<18)
	for i := range keys {
		campaign := zipf.Uint64()
		keys[i] = Detail{
			Cell: ledger.Key{
				Bucket: 28_333_333, Tenant: 1, Type: event.Impression, Class: event.Valid, Campaign: event.CampaignID(campaign + 1),
				Affiliate: event.AffiliateID((campaign*97+rnd.Uint64N(100)*61)%10_000 + 1),
			},
			Quarter: 28_333_320,
		}
	}
	budgets, d := NewBudgets(), NewDetails(100_000)
	n := 0
	b.ReportAllocs()
	for b.Loop() {
		d.Add(&keys[n&(len(keys)-1)], ledger.Value{N: event.One, Events: 1}, budgets)
		n++
	}
	b.ReportMetric(float64(d.Len()), "details")
}

// BenchmarkSpell spells a generation of 100,000 details out that have no dimensions.
func BenchmarkSpell(b *testing.B) {
	budgets, d := NewBudgets(), NewDetails(0)
	for i := range 100_000 {
		d.Add(&Detail{
			Cell: ledger.Key{
				Bucket: 28_333_333, Tenant: 1, Type: event.Impression, Class: event.Valid, Campaign: event.CampaignID(i%1000 + 1),
				Affiliate: event.AffiliateID(i/1000 + 1),
			},
			Quarter: 28_333_320,
		}, ledger.Value{N: event.One, Events: 1}, budgets)
	}
	b.ReportAllocs()
	for b.Loop() {
		if len(d.Cells()) != 100_000 || len(d.Moved())+len(d.Rollups()) != 0 {
			b.Fatal("rows are missing")
		}
	}
}

// BenchmarkNewDetails adds details that are all new, of 100,000 campaigns that have been seen before, to a table that had
// room for them and to one that had not.
func BenchmarkNewDetails(b *testing.B) {
	const many = 1 << 18
	rnd := rand.New(rand.NewPCG(1, 2))
	keys, values := make([]Key, many), make([]ledger.Value, many)
	for i := range keys {
		keys[i] = Pack(28_333_333, event.CampaignID(rnd.Uint64N(100_000)+1), 0, event.AffiliateID(i%10_000+1), 0, 0, 1, event.Impression, 0,
			event.Valid, 0, 28_333_320, 0, 0)
		values[i] = ledger.Value{N: event.One, Events: 1}
	}
	budgets, d := NewBudgets(), NewDetails(many)
	d.AddAll(keys, values, budgets)
	for name, room := range map[string]int{"room": many, "none": 0} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				d = NewDetails(room)
				d.AddAll(keys, values, budgets)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/many, "ns/detail")
		})
	}
}
