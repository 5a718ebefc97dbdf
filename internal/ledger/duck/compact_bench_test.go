package duck

import (
	"math"
	"math/rand/v2"
	"sort"
	"syscall"
	"testing"
	"time"

	"milliard/internal/event"
	"milliard/internal/ledger"
	"milliard/internal/ledger/ledgertest"
)

// BenchmarkCompact counts what compaction costs an event, merges included, in a quarter of an hour of 1,000 events a second
// for 10,000 campaigns, flushed every five seconds and compacted every fifteen.
func BenchmarkCompact(b *testing.B) {
	const campaigns, perSecond, between = 10_000, 1_000, 5
	weights, sum := make([]float64, campaigns), 0.0
	for i := range weights {
		sum += math.Pow(float64(i+1), -0.99)
		weights[i] = sum
	}
	for name, every := range map[string]time.Duration{"rolled up every 15 s": 15 * time.Second, "rolled up every 15 min": 15 * time.Minute} {
		b.Run(name, func(b *testing.B) {
			var used time.Duration
			events, longest := 0, time.Duration(0)
			for b.Loop() {
				r := rand.New(rand.NewPCG(1, 2))
				l := openTest(b)
				l.opt.RollEvery = every
				epoch, at := acquire(b, l, 0)
				compact := func() {
					before := processTime()
					for range 20 {
						began := time.Now()
						if err := l.Compact(b.Context()); err != nil {
							b.Fatal(err)
						}
						longest = max(longest, time.Since(began))
						if len(l.roll.lanes) == 0 {
							break
						}
					}
					used += processTime() - before
				}
				for second := 0; second < 900; second += between {
					grown := map[ledger.Key]ledger.Value{}
					for i := range between * perSecond {
						c := uint32(sort.SearchFloat64s(weights, r.Float64()*sum))
						k := ledger.Key{
							Bucket: ledgertest.BaseMinute/15*15 + int32((second+i/perSecond)/60), Tenant: 1, Type: event.Impression, Class: event.Valid,
							Campaign: event.CampaignID(c + 1), Affiliate: event.AffiliateID((c*97+r.Uint32N(10)*61)%10_000 + 1),
						}
						v := grown[k]
						v.N, v.Events = v.N+event.One, v.Events+1
						grown[k] = v
					}
					g := &ledger.Generation{
						Epoch: epoch, From: at, To: ledgertest.Next(at, 1, int64(ledgertest.BaseMinute/15*15)*60_000+int64(second+between)*1000),
					}
					for k, v := range grown {
						g.Cells = append(g.Cells, ledger.Cell{Key: k, Value: v})
					}
					if err := l.Flush(b.Context(), g); err != nil {
						b.Fatal(err)
					}
					at, events = g.To, events+between*perSecond
					if second%15 == 0 {
						compact()
					}
				}
				for range 3 { // until everything is merged
					rest(b, l, 30*time.Minute)
					compact()
				}
				_ = l.Close()
			}
			b.ReportMetric(float64(used.Nanoseconds())/float64(events), "cpu-ns/event")
			b.ReportMetric(longest.Seconds(), "longest-s")
			b.ReportMetric(0, "ns/op")
		})
	}
}

func processTime() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
