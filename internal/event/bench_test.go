package event_test

import (
	"fmt"
	"testing"

	"milliard/internal/event"
)

// traffic returns n events of the usual kind: signed clicks and impressions of some campaigns, a few hundred networks
// and user agents, distinct visitors.
func traffic(n int) []event.Event {
	es := make([]event.Event, n)
	for i := range es {
		es[i] = event.Event{
			Space: event.Minted, ID: event.NewMintedID(1_760_000_000_000+int64(i/50), uint16(i*7), 5, uint64(i)),
			Type: event.Type(1 + i%2), Time: 1_760_000_000_000 + int64(i/50), Tenant: 1, Advertiser: uint32T(i % 20),
			Campaign: event.CampaignID(i % 100), Banner: event.BannerID(i % 300), Affiliate: event.AffiliateID(i % 1000),
			Revenue: 3, Payout: 4, N: event.One, Country: event.ParseCountry("DE"), Device: event.Device(i % 3),
			Subs: fmt.Appendf(nil, "sub1=%d", i%50), IP: []byte{10, 1, byte(i)}, IPHash: uint64(i) * 0x9e3779b97f4a7c15,
			UA: fmt.Appendf(nil, "Mozilla/5.0 (X11; Linux x86_64) %d", i%64),
		}
	}
	return es
}

func uint32T(i int) event.AdvertiserID { return event.AdvertiserID(i) }

func BenchmarkAppend(b *testing.B) {
	es := traffic(3000)
	var rows event.Builder
	rows.Start(event.Minted, event.ImportID{})
	i := 0
	b.ReportAllocs()
	for b.Loop() {
		if i == len(es) {
			i = 0
			rows.Start(event.Minted, event.ImportID{})
		}
		rows.Append(&es[i])
		i++
	}
}

func BenchmarkEncode(b *testing.B) {
	es := traffic(3000)
	var rows event.Builder
	rows.Start(event.Minted, event.ImportID{})
	for i := range es {
		rows.Append(&es[i])
	}
	var buf []byte
	b.ReportAllocs()
	for b.Loop() {
		buf = rows.Block().AppendMain(buf[:0])
		buf = rows.Block().AppendPersonal(buf)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(es)), "ns/event")
	b.ReportMetric(float64(len(buf))/float64(len(es)), "B/event")
}

func BenchmarkDecode(b *testing.B) {
	es := traffic(3000)
	var rows event.Builder
	rows.Start(event.Minted, event.ImportID{})
	for i := range es {
		rows.Append(&es[i])
	}
	block := rows.Block()
	main, personal := block.AppendMain(nil), block.AppendPersonal(nil)
	var got event.Block
	b.ReportAllocs()
	for b.Loop() {
		if err := got.Decode(main, personal); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(es)), "ns/event")
}
