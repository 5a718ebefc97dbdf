package grid

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"milliard/internal/event"
	"milliard/internal/journal"
)

// BenchmarkFold measures dedupe, judge and count of one event in process: 94 % impressions, 5 % clicks, 1 % conversions,
// 1,000 campaigns (Zipf), 10,000 affiliates, distinct ids, a flush every 64 batches.
func BenchmarkFold(b *testing.B) {
	for name, space := range map[string]event.Space{"minted": event.Minted, "foreign": event.Foreign} {
		b.Run(name, func(b *testing.B) {
			const rows = 3000
			opt := testOptions()
			opt.MaxHashes, opt.SealedBatches = 64<<20, 1<<30
			s, w := NewState(opt), newWriter("bench")
			s.Count()
			rnd := rand.New(rand.NewPCG(1, 2))
			zipf := rand.NewZipf(rnd, 1.1, 1, 999)
			var counter uint64
			events := make([]event.Event, rows)
			next := func() journal.Message {
				for i := range events {
					counter++
					e := event.Event{
						Space: space, Type: event.Impression, Time: w.stamp, Tenant: 1, Campaign: event.CampaignID(zipf.Uint64() + 1),
						Affiliate: event.AffiliateID(rnd.Uint32N(10_000) + 1), N: event.One, Country: event.ParseCountry("DE"),
						Device: event.DeviceMobile,
					}
					switch p := rnd.Uint32N(100); {
					case p == 0:
						e.Type = event.Conversion
					case p < 6:
						e.Type = event.Click
					}
					if space == event.Minted {
						e.ID = event.NewMintedID(w.stamp, uint16(counter), 5, counter/event.Slots)
					} else {
						e.Foreign = binary.LittleEndian.AppendUint64(make([]byte, 0, 16), rnd.Uint64())
						e.Foreign = binary.LittleEndian.AppendUint64(e.Foreign, counter)
					}
					events[i] = e
				}
				return w.batch(journal.KindEvents, events)
			}
			b.ReportAllocs()
			n := 0
			for b.Loop() {
				b.StopTimer()
				m := next()
				b.StartTimer()
				if err := s.Fold(&m); err != nil {
					b.Fatal(err)
				}
				if n++; n%64 == 0 {
					s.close() // the flusher spells it out
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/rows, "ns/event")
		})
	}
}
