package grid

import (
	"github.com/prometheus/client_golang/prometheus"

	"milliard/internal/event"
)

// Metrics of all lanes of a process.
type Metrics struct {
	Events       *prometheus.CounterVec // by lane and class
	Batches      *prometheus.CounterVec
	Dropped      *prometheus.CounterVec // batches that had been folded before
	FlushErrors  *prometheus.CounterVec
	KeepErrors   *prometheus.CounterVec
	Backpressure *prometheus.CounterVec
	Halted       *prometheus.GaugeVec
	Trimmed      *prometheus.GaugeVec
}

// NewMetrics registers the grid's metrics.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		v := prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "milliard", Subsystem: "grid", Name: name, Help: help}, labels)
		reg.MustRegister(v)
		return v
	}
	gauge := func(name, help string) *prometheus.GaugeVec {
		v := prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: "milliard", Subsystem: "grid", Name: name, Help: help}, []string{"lane"})
		reg.MustRegister(v)
		return v
	}
	return &Metrics{
		Events:       counter("events_total", "Events folded, by verdict.", "lane", "class"),
		Batches:      counter("batches_total", "Batches folded.", "lane"),
		Dropped:      counter("repeated_batches_total", "Batches dropped because their incarnation's mark had passed them.", "lane"),
		FlushErrors:  counter("flush_errors_total", "Flush attempts that failed and were repeated.", "lane"),
		KeepErrors:   counter("keep_errors_total", "Images, segments or trims that failed and were repeated.", "lane"),
		Backpressure: counter("backpressure_total", "Times the owner stopped reading because too much was unflushed.", "lane"),
		Halted:       gauge("halted", "1 when the lane has stopped for good."),
		Trimmed:      gauge("trimmed_below", "Journal sequence below which messages were deleted."),
	}
}

func (m *Metrics) folded(lane string, info *FoldedInfo) {
	m.Batches.WithLabelValues(lane).Inc()
	if info.Dropped {
		m.Dropped.WithLabelValues(lane).Inc()
		return
	}
	var counts [event.Undecided + 1]int
	for _, v := range info.Verdicts {
		if int(v) < len(counts) {
			counts[v]++
		}
	}
	for c, n := range counts {
		if n > 0 {
			m.Events.WithLabelValues(lane, event.Class(c).String()).Add(float64(n))
		}
	}
}
