package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"
)

// rowP8 measures restarts: after an orderly stop, and after kill -9 at full speed.
func rowP8(ctx context.Context, h *harness) error {
	clean := &series{name: "P8 doors ready after a clean stop", unit: "s", less: true, goal: "2 s", floor: "5 s"}
	killed := &series{name: "P8 doors ready after kill -9 at full speed", unit: "s", less: true, goal: "10 s", floor: "30 s"}
	caught := &series{name: "P8 grid caught up after kill -9 at full speed", unit: "s", less: true, goal: "30 s", floor: "120 s"}
	for round := range h.opt.rounds {
		if err := h.idle(ctx); err != nil {
			return err
		}
		if err := h.restarts(ctx, clean, killed, caught, false); err != nil {
			return fmt.Errorf("round %d: %w", round+1, err)
		}
	}
	if h.opt.profile { // of what a killed server does before its grid has caught up, in a round that is not measured
		if err := h.restarts(ctx, &series{}, &series{}, &series{}, true); err != nil {
			return fmt.Errorf("profile: %w", err)
		}
	}
	return errors.Join(h.record(clean), h.record(killed), h.record(caught))
}

// restarts measures one round. With profile, the last of its servers is watched from its first answer on.
func (h *harness) restarts(ctx context.Context, clean, killed, caught *series, profile bool) error {
	own, err := h.fresh(ctx, setup{name: "p8"}, h.size())
	if err != nil {
		return err
	}
	srv, err := h.start(ctx, setup{name: "p8", data: own.data, key: own.key})
	if err != nil {
		return err
	}
	key := own.key
	first := h.mix("columnar")
	first.Addr, first.Key = srv.doors, key
	before, err := h.drive(ctx, first)
	if err = errors.Join(err, srv.stop()); err != nil {
		return err
	}
	if srv, err = h.again(ctx, srv, clean, nil, false); err != nil {
		return err
	}
	// At full speed the power goes. What was answered must be counted, once; what was not may be.
	cut := h.mix("columnar")
	cut.Addr, cut.Key, cut.Cut, cut.Duplicates, cut.Span = srv.doors, key, true, 0, 3*h.opt.span
	done := make(chan error, 1)
	var at *sent
	go func() {
		var err error
		at, err = h.drive(ctx, cut)
		done <- err
	}()
	select {
	case <-time.After(h.opt.span):
	case <-ctx.Done():
	}
	if err := errors.Join(srv.kill(), <-done); err != nil {
		return err
	}
	if srv, err = h.again(ctx, srv, killed, caught, profile); err != nil {
		return err
	}
	_, err = srv.settled(ctx, 5*time.Minute)
	var c *counted
	if err == nil {
		c, err = srv.count(ctx)
	}
	if err == nil {
		counted := sum(c.events["valid"]) - sum(before.Valid)
		if counted < at.Durable || counted > at.Most || sum(c.events["duplicate"]) != sum(before.Duplicate) {
			err = fmt.Errorf("totals: %d were answered and %d sent before the kill; %d were counted", at.Durable, at.Most, counted)
		} else {
			h.say("  exact: %s answered, %s counted, %s sent before the kill", number(float64(at.Durable)), number(float64(counted)), number(float64(at.Most)))
		}
	}
	err = errors.Join(err, srv.stop())
	h.drop(filepath.Dir(srv.dir))
	return err
}

// again starts a server on the data of the last one and measures until its doors serve and, with caught, until its grid
// counts what was in the journal.
func (h *harness) again(ctx context.Context, srv *subject, ready, caught *series, profile bool) (*subject, error) {
	began := time.Now()
	next, err := h.start(ctx, setup{name: srv.setup.name, data: srv.dir, profile: profile})
	if err != nil {
		return nil, err
	}
	next.key = srv.key
	if profile {
		if err := next.profiled(ctx, "P8", h.opt.span); err != nil {
			return nil, errors.Join(err, next.stop())
		}
	}
	for {
		s, err := next.status(ctx)
		if err != nil {
			return nil, errors.Join(err, next.stop())
		}
		if s.Ready.Doors.Ready && ready != nil {
			ready.ours = append(ready.ours, time.Since(began).Seconds())
			ready = nil
		}
		if ready == nil && (caught == nil || s.Ready.Grid.Ready) {
			break
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(ctx.Err(), next.stop())
		case <-time.After(10 * time.Millisecond):
		}
	}
	if caught == nil {
		return next, nil
	}
	at, err := next.settled(ctx, 10*time.Minute)
	if err != nil {
		return nil, errors.Join(err, next.stop())
	}
	caught.ours = append(caught.ours, at.Sub(began).Seconds())
	return next, nil
}
