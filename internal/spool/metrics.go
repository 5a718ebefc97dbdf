package spool

import "github.com/prometheus/client_golang/prometheus"

// metrics of all lanes of a process.
type metrics struct {
	written, drained, failures prometheus.Counter
}

func newMetrics() *metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "milliard_spool_" + name, Help: help})
	}
	return &metrics{
		written:  counter("events_total", "Clicks made durable in the spool because their lane limped."),
		drained:  counter("drained_events_total", "Spooled clicks that were appended to the journal; after a restart some are counted again."),
		failures: counter("failures_total", "Failed writes and syncs of the spool; each ends a file."),
	}
}

func (m *metrics) register(r prometheus.Registerer, s *Spool) error {
	if r == nil {
		return nil
	}
	gauge := func(name, help string, f func(Status) float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "milliard_spool_" + name, Help: help}, func() float64 {
			sum := 0.0
			for _, st := range s.Status() {
				sum += f(st)
			}
			return sum
		})
	}
	for _, c := range []prometheus.Collector{
		m.written, m.drained, m.failures,
		gauge("waiting_events", "Clicks that wait in the spool for the journal.", func(s Status) float64 { return float64(s.Events) }),
		gauge("reserve_bytes", "Room on the disk that the spool has taken in advance.", func(s Status) float64 { return float64(s.Reserve) }),
		gauge("bytes", "Bytes of spool files.", func(s Status) float64 { return float64(s.Bytes) }),
		gauge("damaged_files", "Spool files that wait for a repair.", func(s Status) float64 { return float64(len(s.Damaged)) }),
	} {
		if err := r.Register(c); err != nil {
			return err
		}
	}
	return nil
}
