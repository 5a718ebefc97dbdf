package server

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"milliard/internal/verify"
)

// The scrubber reads the untrimmed journal and every archive segment again, slowly, so that a rotten bit is found while
// there is another copy, and not by the crash that turns it into loss.
const (
	scrubFirst = time.Minute     // after the start
	scrubAgain = 5 * time.Minute // after damage: what was mended must not stay accused
)

// scrubber holds what the last reading of the log found.
type scrubber struct {
	findings prometheus.Gauge
	runs     *prometheus.CounterVec // by result
	ended    prometheus.Gauge
	seconds  prometheus.Gauge

	mu  sync.Mutex
	err error
}

func newScrubber(reg prometheus.Registerer) *scrubber {
	opts := func(name, help string) prometheus.GaugeOpts {
		return prometheus.GaugeOpts{Namespace: "milliard", Subsystem: "scrub", Name: name, Help: help}
	}
	s := &scrubber{
		findings: prometheus.NewGauge(opts("findings", "Damage found by the last reading of journal and archive.")),
		ended:    prometheus.NewGauge(opts("last_end_timestamp_seconds", "When the last reading ended.")),
		seconds:  prometheus.NewGauge(opts("last_seconds", "How long the last reading took.")),
		runs: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: "milliard", Subsystem: "scrub", Name: "runs_total", Help: "Readings of journal and archive, by result.",
		}, []string{"result"}),
	}
	reg.MustRegister(s.findings, s.ended, s.seconds, s.runs)
	return s
}

// damage returns why the log is not sound, nil when it is or has not been read yet.
func (s *scrubber) damage() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

func (s *scrubber) took(r *verify.Result, now time.Time) (result string) {
	s.findings.Set(float64(int64(len(r.Findings)) + r.More))
	s.ended.Set(float64(now.Unix()))
	s.seconds.Set(float64(r.Took) / 1000)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = nil
	if r.OK {
		return "sound"
	}
	f := r.Findings[0]
	s.err = fmt.Errorf("%d findings, the first: %s lane %d: %s", int64(len(r.Findings))+r.More, f.Check, f.Lane, f.Text)
	return "damaged"
}

// scrub reads the log now and then until ctx ends. Damage of a lane's journal halts the lane; damage of the archive or an
// image is an alarm, because what was counted from it stays right.
func (s *Server) scrub(ctx context.Context) {
	wait := min(scrubFirst, s.cfg.ScrubEvery)
	for {
		t := time.NewTimer(wait)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return
		}
		wait = s.cfg.ScrubEvery
		r, err := s.scrubOnce(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			s.scrubber.runs.WithLabelValues("error").Inc()
			s.log.Warn("the log could not be read through", "err", err)
			wait = min(wait, scrubAgain)
			continue
		}
		s.scrubber.runs.WithLabelValues(s.scrubber.took(r, s.cfg.Clock())).Inc()
		for _, f := range r.Findings {
			s.log.Error("the log is damaged: see docs/runbook.md", "check", f.Check, "lane", f.Lane, "finding", f.Text)
			if f.Journal() {
				s.grid.Halt(f.Lane, fmt.Errorf("scrub: %s", f.Text))
			}
		}
		if !r.OK {
			wait = min(wait, scrubAgain)
		}
	}
}

func (s *Server) scrubOnce(ctx context.Context) (*verify.Result, error) {
	opt := s.verifyOptions(nil)
	opt.BytesPerSecond, opt.Busy = int64(s.cfg.ScrubRate), nil
	control, err := s.journal.Stream("control")
	if err != nil {
		return nil, err
	}
	opt.Control = control
	return verify.Scrub(ctx, opt)
}
