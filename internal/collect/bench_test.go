package collect

import (
	"fmt"
	"strings"
	"testing"

	"milliard/client"
)

// The budget of an event in JSON, from text to resolved event, is 800 ns (DESIGN 10).

func benchLine(i int) string {
	return fmt.Sprintf(`{"id":"0123456789abcdef-%d","type":"click","time":"2026-04-01T11:59:%02d.125Z","campaign":"summer","affiliate":"ann","amount":0.55,"ip":"192.0.2.%d","sub1":"s%d"}`,
		i, i%60, i%250, i%7)
}

func BenchmarkJSONEvent(b *testing.B) {
	x := newBench(b)
	const events = 500
	var sb strings.Builder
	for i := range events {
		sb.WriteString(benchLine(i))
		sb.WriteByte('\n')
	}
	body := []byte(sb.String())
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		x.w.release()
		if p := x.d.parse(x.w, &x.o, formatNDJSON, body); p != nil || len(x.w.events) != events {
			b.Fatalf("%v, %d events, %+v", p, len(x.w.events), x.w.outcomes[0].problem)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/events, "ns/event")
}

func BenchmarkScanOnly(b *testing.B) {
	var s scanner
	var it item
	line := []byte(benchLine(1))
	b.SetBytes(int64(len(line)))
	b.ReportAllocs()
	for b.Loop() {
		it.reset()
		s.start(line)
		if p := s.object(&it, nil, shapeEvent, 1); p != nil {
			b.Fatal(p)
		}
	}
}

func BenchmarkColumnarBatch(b *testing.B) {
	x := newBench(b)
	const events = 2000
	var builder client.Builder
	for i := range events {
		builder.Add(&client.Event{
			ID: fmt.Sprintf("0123456789abcdef-%d", i), Source: "bench", Type: "click", Time: startTime(), Campaign: "summer", Affiliate: "ann",
			IP: fmt.Sprintf("192.0.2.%d", i%250), Subs: []string{fmt.Sprintf("s%d", i%7)},
		})
	}
	body := builder.Encode(nil)
	b.ReportAllocs()
	for b.Loop() {
		x.w.release()
		if p := x.d.parse(x.w, &x.o, formatColumnar, body); p != nil || x.w.accepted() != events {
			b.Fatalf("%v, %d events", p, len(x.w.events))
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/events, "ns/event")
}

func BenchmarkLanding(b *testing.B) {
	x := newBench(b)
	c, ok := x.o.view.Campaign([]byte("summer"))
	if !ok {
		b.Fatal("no campaign")
	}
	e := x.w.next()
	e.Campaign = c.ID
	facts := clickFacts{e: e, campaign: c, it: &x.w.item, clickID: []byte(strings.Repeat("x", 80)), now: startTime()}
	var out []byte
	b.ReportAllocs()
	for b.Loop() {
		out = appendLanding(out[:0], c.Landings[0].URL, &facts)
	}
}

// TestNoAllocationPerEvent: in steady state an event costs no memory, in either format.
func TestNoAllocationPerEvent(t *testing.T) {
	x := newBench(t)
	const events = 200
	var lines []byte
	var builder client.Builder
	for i := range events {
		lines = append(append(lines, benchLine(i)...), '\n')
		builder.Add(&client.Event{
			ID: fmt.Sprintf("e%d", i), Type: "click", Campaign: "summer", Affiliate: "ann", IP: "192.0.2.1", UA: "Mozilla/5.0", Subs: []string{"x"},
		})
	}
	for name, in := range map[string]struct {
		f    format
		body []byte
	}{"json": {formatNDJSON, lines}, "columnar": {formatColumnar, builder.Encode(nil)}} {
		n := testing.AllocsPerRun(20, func() {
			x.w.release()
			if p := x.d.parse(x.w, &x.o, in.f, in.body); p != nil || x.w.accepted() != events {
				t.Fatalf("%s: %v, %d events", name, p, len(x.w.events))
			}
		})
		if n > 5 {
			t.Errorf("%s: %v allocations for %d events", name, n, events)
		}
	}
}
