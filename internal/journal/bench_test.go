package journal_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"milliard/internal/event"
	"milliard/internal/journal"
	"milliard/internal/journal/jet"
	"milliard/internal/route"
)

// nowhere is a stream that acknowledges everything and keeps nothing, so that the producer alone is measured.
type nowhere struct{}

func (nowhere) Name() string { return "nowhere" }
func (nowhere) Append(_ context.Context, last uint64, _ []byte) (uint64, error) {
	return last + 1, nil
}

func (nowhere) Read(context.Context, uint64) (journal.Reader, error) { return nil, journal.ErrGap }
func (nowhere) Get(context.Context, uint64) (journal.Message, error) {
	return journal.Message{}, journal.ErrGap
}
func (nowhere) State(context.Context) (journal.State, error) { return journal.State{}, nil }
func (nowhere) Trim(context.Context, uint64) error           { return nil }

// request returns n events as a door resolves them from one request.
func request(n int) []event.Event {
	es := make([]event.Event, n)
	for i := range es {
		es[i] = event.Event{
			Space: event.Minted, ID: event.NewMintedID(1_760_000_000_000+int64(i/50), uint16(i*7), 5, uint64(i)),
			Type: event.Type(1 + i%2), Time: 1_760_000_000_000 + int64(i/50), Tenant: 1,
			Advertiser: event.AdvertiserID(i % 20), Campaign: event.CampaignID(i % 100), Banner: event.BannerID(i % 300),
			Affiliate: event.AffiliateID(i % 1000), Revenue: 3, Payout: 4, N: event.One,
			Country: event.ParseCountry("DE"), Device: event.Device(i % 3), Subs: fmt.Appendf(nil, "sub1=%d", i%50),
			IP: []byte{10, 1, byte(i)}, IPHash: uint64(i) * 0x9e3779b97f4a7c15,
			UA: fmt.Appendf(nil, "Mozilla/5.0 (X11; Linux x86_64) %d", i%64),
		}
	}
	return es
}

func start(b *testing.B, streams ...journal.Stream) *journal.Lanes {
	b.Helper()
	l, err := journal.NewLanes(route.Router{Seed: 1}, streams, nil, journal.ProducerOptions{})
	if err != nil {
		b.Fatal(err)
	}
	if err := l.Start(b.Context()); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := l.Stop(ctx); err != nil {
			b.Error(err)
		}
	})
	return l
}

// BenchmarkAddAll is the cost of a whole request on all cores: add, encode, seal, wait. A request of 2,500 events.
func BenchmarkAddAll(b *testing.B) {
	for _, lanes := range []int{1, 4} {
		b.Run(fmt.Sprintf("%d lanes", lanes), func(b *testing.B) {
			streams := make([]journal.Stream, lanes)
			for i := range streams {
				streams[i] = nowhere{}
			}
			l := start(b, streams...)
			benchAddAll(b, l, 2500)
		})
	}
}

func benchAddAll(b *testing.B, l *journal.Lanes, n int) {
	b.Helper()
	events := request(n)
	var tickets []journal.Ticket
	b.ReportAllocs()
	for b.Loop() {
		var err error
		if tickets, err = l.AddAll(tickets[:0], events, 1); err != nil {
			b.Fatal(err)
		}
		for _, t := range tickets {
			if err := t.Wait(b.Context()); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/event")
}

// BenchmarkDurable is the same against the real engine, with many requests at once.
func BenchmarkDurable(b *testing.B) {
	j, err := jet.Open(b.Context(), jet.Options{Dir: b.TempDir(), MaxBytes: 16 << 30})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := j.Close(context.Background()); err != nil {
			b.Error(err)
		}
	})
	s, err := j.Stream("lane-0")
	if err != nil {
		b.Fatal(err)
	}
	l := start(b, s)
	const n = 1000
	events := request(n)
	b.SetParallelism(16)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		var tickets []journal.Ticket
		for pb.Next() {
			var err error
			if tickets, err = l.AddAll(tickets[:0], events, 1); err != nil {
				b.Error(err)
				return
			}
			for _, t := range tickets {
				if err := t.Wait(b.Context()); err != nil {
					b.Error(err)
					return
				}
			}
		}
	})
	b.ReportMetric(float64(b.N)*n/b.Elapsed().Seconds(), "events/s")
	st := l.Stats()[0]
	b.ReportMetric(float64(st.Bytes)/float64(st.Events), "B/event")
	b.ReportMetric(float64(st.Append.P50), "append-p50-µs")
	b.ReportMetric(float64(st.Append.P99), "append-p99-µs")
}
