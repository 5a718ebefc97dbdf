package grid

import (
	"encoding/base32"
	"encoding/binary"
	"math/rand/v2"
	"syscall"
	"testing"

	"milliard/internal/archive"
	"milliard/internal/event"
	"milliard/internal/journal"
)

// BenchmarkSeal seals segments of busy lanes: 250 batches of 4,000 events with foreign ids.
func BenchmarkSeal(b *testing.B) {
	const rows, batches = 4000, 250
	w := newWriter("bench")
	rnd := rand.New(rand.NewPCG(1, 2))
	zipf := rand.NewZipf(rnd, 1.1, 1, 999)
	list := make([]archive.Batch, batches)
	bytes := 0
	var counter uint64
	for i := range list {
		events := make([]event.Event, rows)
		for n := range events {
			counter++
			campaign := zipf.Uint64()
			e := &events[n]
			*e = event.Event{
				Space: event.Foreign, Type: event.Impression, Time: w.stamp, Tenant: 1, Campaign: event.CampaignID(campaign + 1),
				Affiliate: event.AffiliateID((campaign*97+rnd.Uint64N(100)*61)%10_000 + 1), N: event.One,
			}
			if rnd.Uint32N(20) == 0 {
				e.Type = event.Click
			}
			var id [10]byte
			binary.BigEndian.PutUint64(id[2:], counter)
			e.Foreign = []byte("k3v9x" + base32.StdEncoding.EncodeToString(id[:])[5:])
		}
		w.stamp++
		m := w.batch(journal.KindEvents, events)
		verdicts := make([]byte, rows)
		for n := range verdicts {
			verdicts[n] = byte(event.Valid)
		}
		list[i] = archive.Batch{Seq: uint64(i + 1), Stamp: m.Stamp, LogTime: w.stamp, Verdicts: verdicts, Message: m.Data, Hash: journal.HashOf(m.Data)}
		bytes += len(m.Data)
	}
	a, err := archive.Open(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	var before, after syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &before)
	for b.Loop() {
		if _, err := a.Seal(0, list); err != nil {
			b.Fatal(err)
		}
	}
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &after)
	cpu := after.Utime.Nano() + after.Stime.Nano() - before.Utime.Nano() - before.Stime.Nano()
	b.ReportMetric(float64(cpu)/float64(b.N*rows*batches), "cpu-ns/event")
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*rows*batches), "ns/event")
	b.ReportMetric(float64(bytes)/float64(rows*batches), "B/event")
}
