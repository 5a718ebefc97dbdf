package journal_test

import (
	"context"
	"sync/atomic"
	"testing"

	"milliard/internal/journal"
	"milliard/internal/journal/mem"
)

// BenchmarkClicks compares a click that joins the open batch with one that can be withdrawn until its batch is frozen.
func BenchmarkClicks(b *testing.B) {
	type taken interface{ Wait(context.Context) error }
	for name, take := range map[string]func(p *journal.Producer, i uint64) (taken, error){
		"added": func(p *journal.Producer, i uint64) (taken, error) { return p.Add(click(i), 1) },
		"held":  func(p *journal.Producer, i uint64) (taken, error) { return p.Hold(click(i), 1) },
	} {
		b.Run(name, func(b *testing.B) {
			s, err := mem.Open(mem.Options{}).Mem("lane-0")
			if err != nil {
				b.Fatal(err)
			}
			p := journal.NewProducer(journal.ProducerOptions{Stream: s})
			if err := p.Start(context.Background()); err != nil {
				b.Fatal(err)
			}
			var n atomic.Uint64
			b.SetParallelism(64)
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					t, err := take(p, n.Add(1))
					if err == nil {
						err = t.Wait(context.Background())
					}
					if err != nil {
						b.Error(err)
						return
					}
				}
			})
			b.StopTimer()
			if err := p.Stop(context.Background()); err != nil {
				b.Fatal(err)
			}
		})
	}
}
