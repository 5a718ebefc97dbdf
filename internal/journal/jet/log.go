package jet

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/prometheus/client_golang/prometheus"
)

// serverLog passes the server's log on. Damage and write errors show only there, so warnings and errors are counted.
type serverLog struct {
	log     *slog.Logger
	metrics *metrics
	fatal   atomic.Pointer[string] // why the server gave up while it started
}

func (l *serverLog) Noticef(format string, v ...any) { l.write(slog.LevelDebug, format, v) }
func (l *serverLog) Warnf(format string, v ...any) {
	l.metrics.lines.WithLabelValues("warn").Inc()
	l.write(slog.LevelWarn, format, v)
}

func (l *serverLog) Errorf(format string, v ...any) {
	l.metrics.lines.WithLabelValues("error").Inc()
	l.write(slog.LevelError, format, v)
}

// Fatalf does not exit: the process is ours.
func (l *serverLog) Fatalf(format string, v ...any) {
	l.Errorf(format, v...)
	why := fmt.Sprintf(format, v...)
	l.fatal.Store(&why)
}

func (l *serverLog) Debugf(string, ...any) {}
func (l *serverLog) Tracef(string, ...any) {}

func (l *serverLog) write(level slog.Level, format string, v []any) {
	l.log.Log(context.Background(), level, "nats-server", "line", fmt.Sprintf(format, v...))
}

var _ server.Logger = (*serverLog)(nil)

// metrics of the engine. They work unregistered too.
type metrics struct {
	lines *prometheus.CounterVec // of the server's log, by level
	reads *prometheus.CounterVec // messages read, by stream
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	counter := func(name, help, label string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "milliard_jet_" + name, Help: help}, []string{label})
	}
	m := &metrics{
		lines: counter("log_lines_total", "Warnings and errors of the embedded nats-server.", "level"),
		reads: counter("read_messages_total", "Messages read back.", "stream"),
	}
	if r == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.lines, m.reads} {
		if err := r.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}
