package duck

import (
	"errors"
	"os"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are what an operator can see of the ledger. All of them work without a registry.
type metrics struct {
	registry prometheus.Registerer
	all      []prometheus.Collector

	flushSeconds   prometheus.Histogram
	flushRows      *prometheus.CounterVec
	flushErrors    *prometheus.CounterVec
	compactSeconds prometheus.Histogram
	compactRows    *prometheus.CounterVec
	durableSeconds prometheus.Histogram
	adhocSeconds   prometheus.Histogram
}

func newMetrics(registry prometheus.Registerer, path string) (*metrics, error) {
	seconds := func(name, help string) prometheus.Histogram {
		return prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "milliard_ledger_" + name, Help: help,
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		})
	}
	counter := func(name, help, label string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "milliard_ledger_" + name, Help: help}, []string{label})
	}
	m := &metrics{
		registry:       registry,
		flushSeconds:   seconds("flush_seconds", "Time of one flush, waiting for the writer included."),
		flushRows:      counter("flush_rows_total", "Rows written by flushes.", "table"),
		flushErrors:    counter("flush_errors_total", "Flushes that were not written.", "reason"),
		compactSeconds: seconds("compact_seconds", "Time of one compaction step, during which a flush waits."),
		compactRows:    counter("compact_rows_total", "Rows read by compaction.", "table"),
		durableSeconds: seconds("checkpoint_seconds", "Time of one checkpoint, during which a flush waits."),
		adhocSeconds:   seconds("sql_seconds", "Time of one user's statement."),
	}
	wal := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "milliard_ledger_wal_bytes", Help: "Size of the write-ahead log that the next checkpoint folds in.",
	}, func() float64 { return fileBytes(path + ".wal") })
	file := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "milliard_ledger_file_bytes", Help: "Size of the database file.",
	}, func() float64 { return fileBytes(path) })
	m.all = []prometheus.Collector{
		m.flushSeconds, m.flushRows, m.flushErrors, m.compactSeconds, m.compactRows, m.durableSeconds, m.adhocSeconds,
		wal, file,
	}
	if registry == nil {
		return m, nil
	}
	for i, c := range m.all {
		if err := registry.Register(c); err != nil {
			m.all = m.all[:i]
			m.unregister()
			return nil, errors.Join(errors.New("register metrics"), err)
		}
	}
	return m, nil
}

func (m *metrics) unregister() {
	if m == nil || m.registry == nil {
		return
	}
	for _, c := range m.all {
		m.registry.Unregister(c)
	}
}

func fileBytes(path string) float64 {
	info, err := os.Stat(path)
	if err != nil {
		return 0 // not there: nothing to fold in
	}
	return float64(info.Size())
}
