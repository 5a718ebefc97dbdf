package server

import (
	"context"
	"net/http"

	"milliard/internal/dash"
)

// startDashboard registers the dashboard and starts the ticker behind its live stream.
func (s *Server) startDashboard(ctx context.Context, mux *http.ServeMux) error {
	d, err := dash.New(dash.Config{
		Catalog: s.snapshot, Live: s.live, Simulated: s.cfg.Simulated, Version: s.cfg.Version, Now: s.cfg.Clock, Log: s.log,
	})
	if err != nil {
		return err
	}
	d.Register(mux)
	s.dash = d
	s.onStop(d.Stop)
	return d.Start(ctx)
}

// live is what the dashboard's stream shows once a second.
func (s *Server) live(ctx context.Context, since int64) (dash.LiveSnapshot, error) {
	r, err := s.reports.Recent(ctx, since)
	if err != nil {
		return dash.LiveSnapshot{}, err
	}
	out := dash.LiveSnapshot{AsOf: r.AsOf, Lag: r.Lag, Partial: r.Partial, Position: r.Position}
	for _, c := range r.Cells {
		out.Points = append(out.Points, dash.LivePoint{
			Tenant: c.Tenant, Minute: c.Minute, Type: c.Type, Class: c.Class, N: c.N, Events: c.Events,
		})
	}
	return out, nil
}
