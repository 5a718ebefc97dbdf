// Package ops is what operators look at: metrics, health, readiness with reasons, the status of every stage, profiles,
// and the rules of the admin listener. It serves the admin side only.
//
// Ops owns one goroutine, which ticks the stage recorders once a second and looks now and then since when something is wrong.
// Nothing here decides anything about an event,
// and nothing here writes.
package ops

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/pprof"
	"runtime"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"milliard/internal/stage"
)

const (
	tickInterval = time.Second
	lookEvery    = 5 // ticks: so old may a trouble be before its beginning is noted
)

// Config is what Ops shows. Registry and Ready are required.
type Config struct {
	Registry *prometheus.Registry
	Stages   *stage.Set
	Ready    func() Ready
	Lanes    func() []Lane // nil: the status has no lanes
	Version  string
	Mode     string // "embedded", "demo"
	CPUs     int    // that the program may use
	Now      func() time.Time
	Log      *slog.Logger
}

// Ops serves the operators' endpoints.
type Ops struct {
	cfg     Config
	started time.Time
	metrics http.Handler
	since   onset

	mu     sync.Mutex
	cancel context.CancelFunc // nil when not running
	done   chan struct{}
}

// New registers the metrics of the process, of Go and of the stages on the registry.
func New(cfg Config) (*Ops, error) {
	if cfg.Registry == nil || cfg.Ready == nil {
		return nil, errors.New("ops: registry and readiness are required")
	}
	if cfg.Stages == nil {
		cfg.Stages = &stage.Set{}
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	o := &Ops{cfg: cfg, started: cfg.Now()}
	build := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "milliard_build_info", Help: "Always 1; the labels say what runs.",
		ConstLabels: prometheus.Labels{"version": cfg.Version, "mode": cfg.Mode, "go": runtime.Version()},
	}, func() float64 { return 1 })
	for _, c := range []prometheus.Collector{
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		build, newCollector(o),
	} {
		if err := cfg.Registry.Register(c); err != nil {
			return nil, errors.Join(errors.New("register metrics"), err)
		}
	}
	// One scrape may not hold memory for many: three at a time, ten seconds each.
	o.metrics = promhttp.HandlerFor(cfg.Registry, promhttp.HandlerOpts{
		Registry: cfg.Registry, MaxRequestsInFlight: 3, Timeout: 10 * time.Second,
		ErrorLog: slog.NewLogLogger(cfg.Log.Handler(), slog.LevelWarn),
	})
	return o, nil
}

// Register adds the routes to the admin mux.
func (o *Ops) Register(mux *http.ServeMux) {
	mux.Handle("GET /metrics", o.metrics)
	mux.HandleFunc("GET /healthz", o.healthz)
	mux.HandleFunc("GET /readyz", o.readyz)
	mux.HandleFunc("GET /v1/status", o.status)
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
}

// Start begins to tick the stage recorders.
func (o *Ops) Start(context.Context) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.cancel != nil {
		return errors.New("ops: started twice")
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	o.cancel, o.done = cancel, done
	go func() {
		defer close(done)
		o.tick(ctx)
	}()
	return nil
}

func (o *Ops) tick(ctx context.Context) {
	t := time.NewTicker(tickInterval)
	defer t.Stop()
	for i := 0; ; i++ {
		o.cfg.Stages.Tick(o.cfg.Now())
		if i%lookEvery == lookEvery-1 {
			o.readyNow("all")
		}
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

// Stop ends the ticking and waits for it. It is safe before Start and more than once.
func (o *Ops) Stop(ctx context.Context) error {
	o.mu.Lock()
	cancel, done := o.cancel, o.done
	o.mu.Unlock()
	if cancel == nil {
		return nil
	}
	cancel()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// healthz says that the process answers, nothing more: restarting it would not mend what readyz complains about.
func (o *Ops) healthz(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write([]byte("ok\n")) // the prober has gone; nothing to do
}
