package load

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Result is what was measured. Its JSON form is for scripts.
type Result struct {
	Door     string  `json:"door"`
	Wanted   float64 `json:"rate_wanted"`   // events per second
	Achieved float64 `json:"rate_achieved"` // events answered per second
	Seconds  float64 `json:"seconds"`

	Due      int64 `json:"due"`    // events that should have been sent
	Sent     int64 `json:"sent"`   // events sent
	Unsent   int64 `json:"unsent"` // events that found no connection in time: the generator or its limits, not the server
	Requests int64 `json:"requests"`
	Forged   int64 `json:"forged"` // of the events sent
	Repeated int64 `json:"repeated"`

	Answers map[string]int64 `json:"answers"` // events by class
	Status  map[string]int64 `json:"status"`  // requests by HTTP status

	Latency Percentiles `json:"latency_ms"` // from the time a request was due
	Service Percentiles `json:"service_ms"` // from the time it was sent: what a closed loop would have seen
}

// Percentiles are in milliseconds.
type Percentiles struct {
	P50  float64 `json:"p50"`
	P90  float64 `json:"p90"`
	P99  float64 `json:"p99"`
	P999 float64 `json:"p99.9"`
	Max  float64 `json:"max"`
}

func percentiles(h *hdrhistogram.Histogram) Percentiles {
	at := func(q float64) float64 { return float64(h.ValueAtQuantile(q)) / 1000 }
	if h.TotalCount() == 0 {
		return Percentiles{}
	}
	return Percentiles{at(50), at(90), at(99), at(99.9), float64(h.Max()) / 1000}
}

// tally adds up what the workers measured.
type tally struct {
	missed atomic.Int64 // events that were not sent

	mu  sync.Mutex
	all *meter
}

func newTally() *tally { return &tally{all: newMeter()} }

func (t *tally) unsent(events int) { t.missed.Add(int64(events)) }

// add takes over a worker's meter.
func (t *tally) add(m *meter) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.all.latency.Merge(m.latency)
	t.all.service.Merge(m.service)
	t.all.events += m.events
	t.all.asked += m.asked
	t.all.forged += m.forged
	t.all.repeats += m.repeats
	for k, n := range m.answers {
		t.all.answers[k] += n
	}
	for k, n := range m.status {
		t.all.status[k] += n
	}
}

func (t *tally) result(o *Options, took time.Duration) *Result {
	t.mu.Lock()
	defer t.mu.Unlock()
	m := t.all
	answered := int64(0)
	for class, n := range m.answers {
		if class != "unknown" {
			answered += n
		}
	}
	r := &Result{
		Door: o.Door, Wanted: o.Rate, Seconds: took.Seconds(), Sent: m.events, Unsent: t.missed.Load(), Requests: m.asked,
		Forged: m.forged, Repeated: m.repeats, Answers: m.answers, Status: m.status,
		Latency: percentiles(m.latency), Service: percentiles(m.service),
	}
	r.Due = r.Sent + r.Unsent
	if took > 0 {
		r.Achieved = float64(answered) / took.Seconds()
	}
	return r
}

// Write writes the result for people.
func (r *Result) Write(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "door %s: %.0f events/s wanted, %.0f answered, in %.1f s\n", r.Door, r.Wanted, r.Achieved, r.Seconds)
	fmt.Fprintf(&b, "events: %d due, %d sent, %d not sent, %d of them forged, %d repeated, in %d requests\n",
		r.Due, r.Sent, r.Unsent, r.Forged, r.Repeated, r.Requests)
	for _, list := range []struct {
		title string
		m     map[string]int64
	}{{"events by answer", r.Answers}, {"requests by status", r.Status}} {
		fmt.Fprintf(&b, "%s:", list.title)
		for _, k := range slices.Sorted(maps.Keys(list.m)) {
			fmt.Fprintf(&b, "  %s %d", k, list.m[k])
		}
		b.WriteByte('\n')
	}
	for _, p := range []struct {
		title string
		p     Percentiles
	}{{"latency from the due time", r.Latency}, {"latency from sending", r.Service}} {
		fmt.Fprintf(&b, "%-26s p50 %.2f  p90 %.2f  p99 %.2f  p99.9 %.2f  max %.2f ms\n",
			p.title, p.p.P50, p.p.P90, p.p.P99, p.p.P999, p.p.Max)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// progress says every few seconds how far the run is.
func (r *run) progress(ctx context.Context, start time.Time) {
	if r.o.Progress == nil {
		return
	}
	tick := time.NewTicker(5 * time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			fmt.Fprintf(r.o.Progress, "%3.0f s  waiting %d requests, not sent %d events\n",
				time.Since(start).Seconds(), len(r.queue), r.tally.missed.Load())
		}
	}
}
