package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"milliard/internal/api"
	"milliard/internal/catalog"
	"milliard/internal/collect/loop"
	"milliard/internal/ops"
	"milliard/internal/outage"
	"milliard/internal/report"
)

// startBackground starts what only keeps up: the catalog's projection into SQL and the ledger's compaction.
func (s *Server) startBackground(ctx context.Context) error {
	ctx, s.background = context.WithCancel(context.WithoutCancel(ctx))
	s.onStop(func(context.Context) error {
		s.background()
		s.wg.Wait()
		return nil
	})
	s.wg.Go(func() {
		if err := s.control.Project(ctx, s.ledger); err != nil && ctx.Err() == nil {
			s.log.Error("control records are not projected any more: see docs/runbook.md", "err", err)
		}
	})
	s.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Namespace: "milliard", Subsystem: "catalog", Name: "unprojected_records",
		Help: "Control records in force that the ledger's tables do not show yet.",
	}, func() float64 { return float64(s.control.Projection().Behind) }))
	s.wg.Go(func() { s.compact(ctx) })
	s.scrubber = newScrubber(s.registry)
	s.wg.Go(func() { s.scrub(ctx) })
	s.wg.Go(func() { s.checkLedger(ctx) })
	return nil
}

// checkpointEvery bounds the ledger's write-ahead log where nothing is trimmed and so nobody else asks for a checkpoint.
const checkpointEvery = time.Minute

func (s *Server) compact(ctx context.Context) {
	tick := time.NewTicker(s.cfg.CompactEvery)
	defer tick.Stop()
	checkpoint := time.NewTicker(checkpointEvery)
	defer checkpoint.Stop()
	var failing outage.Outage
	for {
		select {
		case <-tick.C:
			err := s.ledger.Compact(ctx)
			if err == nil {
				failing.Worked(time.Now())
			} else if n, say := failing.Failed(time.Now()); say && ctx.Err() == nil {
				s.log.Warn("compaction failed, it goes on next time", "attempts", n, "err", err)
			}
		case <-checkpoint.C:
			if _, err := s.ledger.Durable(ctx); err != nil && ctx.Err() == nil {
				s.log.Warn("checkpoint failed, it goes on next time", "err", err)
			}
		case <-ctx.Done():
			return
		}
	}
}

// adminBodies is what bodies of the admin side may hold together: the largest catalog twice.
const adminBodies = 2 * catalog.MaxDocument

// startAdmin opens the admin listener and registers every route of that side.
func (s *Server) startAdmin(ctx context.Context) error {
	s.reports = report.New(report.Config{
		Reader: s.ledger, Live: s.grid, Now: s.cfg.Clock, Halted: s.grid.Halted, Settled: s.lanes.Settled, Feed: s.feed,
	})
	var err error
	s.ops, err = ops.New(ops.Config{
		Registry: s.registry, Stages: &s.stages, Ready: s.ready, Lanes: s.laneStatus, Version: s.cfg.Version,
		Mode: s.cfg.Mode, CPUs: loop.Processors, Now: s.cfg.Clock, Log: s.log,
	})
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	if err := s.routes(ctx, mux); err != nil {
		return err
	}
	if err := s.ops.Start(ctx); err != nil {
		return err
	}
	s.onStop(s.ops.Stop)
	var lc net.ListenConfig
	at, err := lc.Listen(ctx, "tcp", s.cfg.Admin)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	s.adminAt = limitListener(at, adminConns)
	policy := ops.AdminPolicy{Addr: s.adminAt.Addr().String(), Token: s.cfg.AdminToken, TLS: s.cfg.AdminCert != "", Hosts: s.cfg.AdminHosts}
	s.admin = &http.Server{
		Handler: policy.Guard(api.Bodies(mux, adminBodies)), ReadHeaderTimeout: 5 * time.Second, ReadTimeout: time.Minute,
		IdleTimeout: time.Minute, MaxHeaderBytes: 24 << 10,
	}
	s.onStop(func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		if err := s.admin.Shutdown(ctx); err != nil {
			return s.admin.Close() // long answers are cut; nothing is lost by it
		}
		return nil
	})
	s.onStop(s.dash.Stop) // before the listener: it ends the streams that would hold the shutdown up
	go func() {
		var err error
		if s.cfg.AdminCert != "" {
			err = s.admin.ServeTLS(s.adminAt, s.cfg.AdminCert, s.cfg.AdminKey)
		} else {
			err = s.admin.Serve(s.adminAt)
		}
		if !errors.Is(err, http.ErrServerClosed) {
			s.adminErr <- fmt.Errorf("admin: %w", err)
		}
	}()
	return nil
}

// laneStatus is what the status page shows of the lanes.
func (s *Server) laneStatus() []ops.Lane {
	stats := s.lanes.Stats()
	var out []ops.Lane
	for i, l := range s.grid.Status() {
		o := ops.Lane{
			Lane: l.Lane, State: ops.LaneCounting, Journal: stats[i].LastSeq, Folded: l.Folded.Seq, Flushed: l.Committed.Seq,
			Sealed: l.Sealed, Queued: stats[i].PendingEvents, QueueSize: int64(s.cfg.QueueEvents), Dirty: int64(l.OpenRows),
		}
		switch {
		case l.Halted != nil:
			o.State, o.Reason = ops.LaneHalted, l.Halted.Error()
		case !l.CaughtUp:
			o.State = ops.LaneCatchingUp
		}
		if o.Folded < o.Journal && l.Folded.LogTime > 0 {
			o.LagMillis = max(0, s.cfg.Clock().UnixMilli()-l.Folded.LogTime)
		}
		out = append(out, o)
	}
	return out
}

// routes registers every route of the admin side.
func (s *Server) routes(ctx context.Context, mux *http.ServeMux) error {
	s.ops.Register(mux)
	(&api.Report{Service: s.reports, Catalog: s.snapshot, SQL: s.ledger}).Register(mux)
	(&api.Journal{Streams: s.streams, Archive: s.archive}).Register(mux)
	(&api.Catalog{Control: s.control}).Register(mux)
	(&api.Verify{Run: s.verify, Recount: s.recount}).Register(mux)
	(&api.Backup{Run: s.backup}).Register(mux)
	return s.startDashboard(ctx, mux)
}

func (s *Server) snapshot() *catalog.Snapshot { return s.control.Current().Snapshot }
