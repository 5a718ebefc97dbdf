package main

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// pixelRate is what P4 sends.
const pixelRate = 35_000

// rowP4 is one long open loop. Its values are those of the whole run; the fifths of its time are their spread.
func rowP4(ctx context.Context, h *harness) error {
	rate := float64(pixelRate)
	if h.opt.quick {
		rate = 2_000
	}
	names := []string{"p50", "p99", "p99.9", "p99.99"}
	goals := map[string][2]string{"p99.9": {"10 ms", "20 ms"}, "p99.99": {"25 ms", ""}}
	all := make([]*series, len(names))
	for i, q := range names {
		all[i] = &series{
			name: fmt.Sprintf("P4 open loop, %.0f pixels/s, %s", rate, q), unit: "ms", less: true, once: true, goal: goals[q][0], floor: goals[q][1],
		}
	}
	used := &series{name: "P4 CPU, server and client, of all cores", unit: "%", less: true, once: true, goal: "70 %"}
	if err := h.idle(ctx); err != nil {
		return err
	}
	if err := h.diskAlone(ctx); err != nil {
		return err
	}
	count := int64(rate*h.opt.open.Seconds()*1.01) + 1000
	err := h.withTokens(ctx, setup{name: "p4"}, count, 1, func(srv *subject, tokens string) error {
		before := srv.cpu()
		end := srv.reading(ctx)
		x, err := h.drive(ctx, load{
			Mode: "pixel", Addr: srv.doors, Span: h.opt.open, Conns: 256, Rate: rate, Tokens: tokens, Campaigns: 1, Affiliates: 1,
		})
		reads, readErr := end()
		if err != nil {
			return err
		}
		if readErr != nil {
			return readErr
		}
		server := srv.cpu() - before
		if err := h.checkPixels(ctx, srv, x); err != nil {
			return err
		}
		for _, w := range x.Windows {
			for i, v := range []float64{w.P50, w.P99, w.P999, w.P9999} {
				all[i].fifths = append(all[i].fifths, v)
			}
		}
		for i, v := range []float64{x.Latency.P50, x.Latency.P99, x.Latency.P999, x.Latency.P9999} {
			all[i].ours = []float64{v}
			all[i].put("max_ms", x.Latency.Max)
			all[i].put("reads", reads)
			all[i].put("unknown", x.Unknown)
		}
		used.ours = append(used.ours, 100*(server.Seconds()+x.CPU)/x.seconds()/float64(cores()))
		used.put("server", 100*server.Seconds()/x.seconds()/float64(cores()))
		used.put("client", 100*x.CPU/x.seconds()/float64(cores()))
		used.put("achieved_per_second", int64(float64(x.Events)/x.seconds()))
		return nil
	})
	if err != nil {
		return err
	}
	for _, s := range append(all, used) {
		if err := h.record(s); err != nil {
			return err
		}
	}
	return h.profileOpen(ctx, rate)
}

// diskAlone measures the disk while nothing else of ours works: nobody's durable answer comes sooner than an fsync that stands
// still, and all that came due meanwhile has to be caught up with.
func (h *harness) diskAlone(ctx context.Context) error {
	n := 30_000 // of a journal's size; with the pause between them three quarters of a minute
	if h.opt.quick {
		n = 1_000
	}
	took, err := fsyncs(ctx, h.work, n, 8<<10, time.Millisecond)
	if err != nil {
		return err
	}
	s := &series{name: "P4 the disk alone, the longest fsync of " + number(float64(n)), unit: "ms", less: true, once: true}
	s.ours = []float64{slices.Max(took)}
	for fifth := range slices.Chunk(took, n/5) {
		s.fifths = append(s.fifths, slices.Max(fifth))
	}
	for _, q := range []float64{0.5, 0.99, 0.999} {
		s.put(fmt.Sprintf("p%g_ms", 100*q), quantile(took, q))
	}
	return h.record(s)
}

func (h *harness) profileOpen(ctx context.Context, rate float64) error {
	if !h.opt.profile {
		return nil
	}
	span := 6 * time.Second
	if h.opt.quick {
		span = 2 * time.Second
	}
	return h.withTokens(ctx, setup{name: "profile", profile: true}, int64(rate*span.Seconds()*1.05)+1000, 1, func(srv *subject, tokens string) error {
		return srv.profiledBeside(ctx, "P4", span-time.Second, func() error {
			_, err := h.drive(ctx, load{
				Mode: "pixel", Addr: srv.doors, Span: span, Conns: 256, Rate: rate, Tokens: tokens, Campaigns: 1, Affiliates: 1,
			})
			return err
		})
	})
}
