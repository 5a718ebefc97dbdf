package grid

import (
	"encoding/binary"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"

	"milliard/internal/event"
	"milliard/internal/journal"
)

// BenchmarkFoldMany folds distinct ids over a bounded number of live cells; row P6 of bench runs it with -benchtime as
// the number of batches and the number of cells in MILLIARD_BENCH_CELLS. One id in a hundred is a repeat.
func BenchmarkFoldMany(b *testing.B) {
	cells := uint64(100_000)
	if n, err := strconv.ParseUint(os.Getenv("MILLIARD_BENCH_CELLS"), 10, 32); err == nil && n > 0 {
		cells = n
	}
	for _, c := range []struct {
		name  string
		space event.Space
	}{{"minted", event.Minted}, {"foreign", event.Foreign}} {
		b.Run(c.name, func(b *testing.B) { benchFoldMany(b, c.space, cells) })
	}
}

func benchFoldMany(b *testing.B, space event.Space, cells uint64) {
	b.Helper()
	const rows = 3000
	opt := testOptions()
	opt.MaxHashes, opt.SealedBatches = 64<<20, 1<<30
	s, w := NewState(opt), newWriter("bench")
	s.Count()
	rnd := rand.New(rand.NewPCG(1, 2))
	drawn := make([]uint16, 1<<16) // campaigns: a draw takes half as long as a fold
	for zipf, i := rand.NewZipf(rnd, 1.1, 1, 999), 0; i < len(drawn); i++ {
		drawn[i] = uint16(zipf.Uint64())
	}
	pairs := max(1, cells/1000)
	events := make([]event.Event, rows)
	ids := make([][16]byte, rows)
	var counter, folded uint64
	next := func() journal.Message {
		for i := range events {
			if rnd.Uint32N(100) != 0 { // otherwise the last id once more
				counter++
			}
			campaign := uint64(drawn[rnd.Uint32N(uint32(len(drawn)))])
			e := event.Event{
				Space: space, Type: event.Impression, Time: w.stamp, Tenant: 1, Campaign: event.CampaignID(campaign + 1),
				Affiliate: event.AffiliateID((campaign*97+rnd.Uint64N(pairs)*61)%10_000 + 1), N: event.One,
			}
			switch counter % 100 {
			case 0:
				e.Type = event.Conversion
			case 1, 2, 3, 4, 5:
				e.Type = event.Click
			}
			if space == event.Minted {
				e.ID = event.NewMintedID(w.stamp, uint16(counter), 5, counter/event.Slots)
			} else {
				binary.BigEndian.PutUint64(ids[i][:], 0x6d696c6c69617264)
				binary.BigEndian.PutUint64(ids[i][8:], counter)
				e.Foreign = ids[i][:]
			}
			events[i] = e
		}
		w.stamp++
		return w.batch(journal.KindEvents, events)
	}
	valid := uint64(0)
	audit := func() {
		for _, v := range s.foldedInfo.Verdicts {
			if event.Class(v) == event.Valid {
				valid++
			}
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		audit()
		m := next()
		b.StartTimer()
		if err := s.Fold(&m); err != nil {
			b.Fatal(err)
		}
		if folded += rows; folded%(500*rows) == 0 { // about a second of traffic
			s.close() // the flusher spells it out
			s.unsealed.drop(s.pos.Seq)
		}
	}
	b.StopTimer()
	if audit(); valid != counter {
		b.Fatalf("%d events are valid, %d ids were made", valid, counter)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(folded), "ns/event")
}
