package journal

import (
	"errors"
	"strconv"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/prometheus/client_golang/prometheus"

	"milliard/internal/stage"
)

// Stats is what a lane's producer has done since it started. Quantiles are those of the last 10 to 20 seconds.
type Stats struct {
	Lane          int   `json:"lane"`
	Events        int64 `json:"events"` // durable
	Batches       int64 `json:"batches"`
	Bytes         int64 `json:"bytes"`
	Refused       int64 `json:"refused"` // events that found the queue full
	Unknown       int64 `json:"unknown"` // attempts without an answer
	Full          int64 `json:"full"`    // batches refused for want of room
	PendingEvents int64 `json:"pending_events"`
	PendingBytes  int64 `json:"pending_bytes"`

	LastSeq     uint64    `json:"last_seq"`     // sequence of the last durable batch of this process
	LastDurable time.Time `json:"last_durable"` // when it was acknowledged; zero before the first

	Wait      Quantiles `json:"wait"`       // from a batch's first event to its first attempt
	Append    Quantiles `json:"append"`     // from the first attempt to the acknowledgement: mostly the fsync
	BatchRows Quantiles `json:"batch_rows"` // events, not microseconds

	Working   time.Duration `json:"working_ns"`   // spent encoding and sealing
	Appending time.Duration `json:"appending_ns"` // spent with a batch in flight: over Elapsed, the lane's utilisation
	Elapsed   time.Duration `json:"elapsed_ns"`
}

// Quantiles of a duration in microseconds.
type Quantiles struct {
	N    int64 `json:"n"`
	P50  int64 `json:"p50"`
	P99  int64 `json:"p99"`
	P999 int64 `json:"p999"`
	Max  int64 `json:"max"`
}

// Metrics are the Prometheus metrics of all producers of a process.
type Metrics struct {
	events, batches, bytes, refused, failures *prometheus.CounterVec
	wait, append                              *prometheus.HistogramVec
	rows                                      *prometheus.HistogramVec
}

// NewMetrics registers the metrics.
func NewMetrics(r prometheus.Registerer) (*Metrics, error) {
	lane := []string{"lane"}
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "milliard_journal_" + name, Help: help}, append(lane, labels...))
	}
	histogram := func(name, help string, buckets []float64) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "milliard_journal_" + name, Help: help, Buckets: buckets}, lane)
	}
	seconds := prometheus.ExponentialBuckets(0.0001, 2, 16)
	m := &Metrics{
		events:   counter("events_total", "Events made durable."),
		batches:  counter("batches_total", "Batches made durable, by kind.", "kind"),
		bytes:    counter("bytes_total", "Bytes made durable."),
		refused:  counter("refused_events_total", "Events that found the queue full."),
		failures: counter("append_failures_total", "Attempts to append that failed, by outcome.", "outcome"),
		wait:     histogram("wait_seconds", "From a batch's first event to its first attempt.", seconds),
		append:   histogram("append_seconds", "From a batch's first attempt to its acknowledgement.", seconds),
		rows:     histogram("batch_events", "Events per batch.", prometheus.ExponentialBuckets(1, 2, 14)),
	}
	for _, c := range []prometheus.Collector{m.events, m.batches, m.bytes, m.refused, m.failures, m.wait, m.append, m.rows} {
		if err := r.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// recorder keeps one lane's statistics. It is written once per batch.
type recorder struct {
	lane  string
	m     *Metrics
	now   func() time.Time
	stage *stage.Recorder

	mu      sync.Mutex
	s       Stats
	began   time.Time
	turned  time.Time // when the windows were last turned
	wait    *window
	appends *window
	rows    *window
}

// window is a histogram of the present and the last stretch of time.
type window struct{ now, before *hdrhistogram.Histogram }

const (
	windowLength = 10 * time.Second
	maxMicros    = 600_000_000
)

func newWindow() *window {
	return &window{now: hdrhistogram.New(1, maxMicros, 2), before: hdrhistogram.New(1, maxMicros, 2)}
}

func (w *window) record(v int64) {
	// Out of range is impossible after the clamp.
	_ = w.now.RecordValue(min(max(v, 1), maxMicros))
}

func (w *window) turn() {
	w.now, w.before = w.before, w.now
	w.now.Reset()
}

func (w *window) quantiles() Quantiles {
	h := hdrhistogram.New(1, maxMicros, 2)
	h.Merge(w.now)
	h.Merge(w.before)
	return Quantiles{
		N: h.TotalCount(), P50: h.ValueAtQuantile(50), P99: h.ValueAtQuantile(99), P999: h.ValueAtQuantile(99.9), Max: h.Max(),
	}
}

func newRecorder(lane int, now func() time.Time, m *Metrics, st *stage.Recorder) *recorder {
	t := now()
	return &recorder{
		lane: strconv.Itoa(lane), m: m, stage: st, now: now, s: Stats{Lane: lane}, began: t, turned: t,
		wait: newWindow(), appends: newWindow(), rows: newWindow(),
	}
}

func (r *recorder) turnLocked() {
	if t := r.now(); t.Sub(r.turned) >= windowLength || t.Before(r.turned) {
		r.turned = t
		r.wait.turn()
		r.appends.turn()
		r.rows.turn()
	}
}

// stored counts an acknowledged batch.
func (r *recorder) stored(f *frozen, seq uint64) {
	took := time.Since(f.sent)
	r.stage.Observe(took, int(f.head.Events))
	r.mu.Lock()
	defer r.mu.Unlock()
	r.turnLocked()
	r.s.Batches++
	r.s.Events += int64(f.head.Events)
	r.s.Bytes += int64(len(f.msg))
	r.s.LastSeq, r.s.LastDurable = seq, r.now()
	r.s.Appending += took
	r.appends.record(took.Microseconds())
	if f.of != nil {
		r.wait.record(f.waited.Microseconds())
		r.rows.record(int64(f.head.Events))
	}
	if r.m == nil {
		return
	}
	r.m.events.WithLabelValues(r.lane).Add(float64(f.head.Events))
	r.m.batches.WithLabelValues(r.lane, f.head.Kind.String()).Inc()
	r.m.bytes.WithLabelValues(r.lane).Add(float64(len(f.msg)))
	r.m.append.WithLabelValues(r.lane).Observe(took.Seconds())
	if f.of != nil {
		r.m.wait.WithLabelValues(r.lane).Observe(f.waited.Seconds())
		r.m.rows.WithLabelValues(r.lane).Observe(float64(f.head.Events))
	}
}

// worked counts time spent on a batch's bytes.
func (r *recorder) worked(d time.Duration) {
	r.mu.Lock()
	r.s.Working += d
	r.mu.Unlock()
}

// refused counts events that found the queue full.
func (r *recorder) refused(events int) {
	r.mu.Lock()
	r.s.Refused += int64(events)
	r.mu.Unlock()
	if r.m != nil {
		r.m.refused.WithLabelValues(r.lane).Add(float64(events))
	}
}

// failed counts an attempt that stored nothing we know of.
func (r *recorder) failed(err error) {
	outcome := "stopped"
	r.mu.Lock()
	switch {
	case errors.Is(err, ErrUnknown):
		outcome = "unknown"
		r.s.Unknown++
	case errors.Is(err, ErrFull):
		outcome = "full"
		r.s.Full++
	case errors.Is(err, ErrConflict):
		outcome = "conflict"
	}
	r.mu.Unlock()
	if r.m != nil {
		r.m.failures.WithLabelValues(r.lane, outcome).Inc()
	}
}

// Stats returns what the lane has done so far.
func (p *Producer) Stats() Stats {
	r := p.stats
	r.mu.Lock()
	defer r.mu.Unlock()
	r.turnLocked()
	s := r.s
	s.Wait, s.Append, s.BatchRows = r.wait.quantiles(), r.appends.quantiles(), r.rows.quantiles()
	s.Elapsed = r.now().Sub(r.began)
	s.PendingEvents, s.PendingBytes = p.pendingEvents.Load(), p.pendingBytes.Load()
	return s
}

// String returns the kind as it is written in metrics and listings.
func (k Kind) String() string {
	switch k {
	case KindEvents:
		return "events"
	case KindTallies:
		return "tallies"
	case KindClosed:
		return "closed"
	case KindTick:
		return "tick"
	}
	return "kind_" + strconv.Itoa(int(k))
}
