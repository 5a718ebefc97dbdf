package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"testing"
	"time"
)

func cores() int { return runtime.NumCPU() }

// rowMicro runs the micro-benchmarks of this package.
func rowMicro(_ context.Context, h *harness) error {
	testing.Init()
	if err := flag.Set("test.benchtime", "300ms"); err != nil {
		return err
	}
	for _, m := range micros() {
		s := &series{name: "micro " + m.name, unit: "ns/" + m.per, less: true}
		for range h.opt.rounds {
			r := testing.Benchmark(m.run)
			if r.N == 0 {
				return errors.New(s.name + " failed")
			}
			s.ours = append(s.ours, float64(r.T.Nanoseconds())/float64(r.N)/float64(m.units))
			s.put("allocs_per_op", r.AllocsPerOp())
			s.put("bytes_per_op", r.AllocedBytesPerOp())
		}
		if err := h.record(s); err != nil {
			return err
		}
	}
	return nil
}

var foldLine = regexp.MustCompile(`BenchmarkFoldMany/(\S+)\s+.*?([\d.]+) ns/event`)

// rowP6 runs the grid's own benchmark: folding batches that were encoded before, generations closed as the flusher does.
func rowP6(ctx context.Context, h *harness) error {
	ids := int64(40_000_000)
	if h.opt.quick {
		ids = 300_000
	}
	test := filepath.Join(h.work, "grid.test")
	if _, err := output(ctx, "go", "test", "-c", "-o", test, "./internal/grid"); err != nil {
		return err
	}
	const rows = 3000
	run := func(ids int64, more ...string) (string, error) {
		return output(ctx, append([]string{
			"env", "MILLIARD_BENCH_CELLS=100000", test, "-test.run", "^$", "-test.bench", "^BenchmarkFoldMany$",
			"-test.benchtime", strconv.FormatInt(ids/rows, 10) + "x", "-test.cpu", "1",
		}, more...)...)
	}
	all := map[string]*series{}
	order := []string{"minted", "foreign"}
	for _, space := range order {
		all[space] = &series{
			name: fmt.Sprintf("P6 fold (count core), %s ids, one core", space), unit: "ns/event", less: true, goal: "150 ns", floor: "250 ns",
			detail: map[string]any{"ids": ids, "cells": 100_000},
		}
	}
	for range h.opt.rounds {
		if err := h.idle(ctx); err != nil {
			return err
		}
		out, err := run(ids)
		if err != nil {
			return err
		}
		found := foldLine.FindAllStringSubmatch(out, -1)
		if len(found) != len(order) {
			return fmt.Errorf("benchmark: %.500q", out)
		}
		for _, m := range found {
			v, err := strconv.ParseFloat(m[2], 64)
			if err != nil || all[m[1]] == nil {
				return fmt.Errorf("benchmark: %q: %w", m[0], err)
			}
			all[m[1]].ours = append(all[m[1]].ours, v)
		}
	}
	if h.opt.profile {
		profile := filepath.Join(h.profiles, "P6.cpu.pprof")
		allocs := filepath.Join(h.profiles, "P6.allocs.pprof")
		if _, err := run(ids/4, "-test.cpuprofile", profile, "-test.memprofile", allocs); err != nil {
			return err
		}
		h.say("profile: %s", profile)
	}
	for _, space := range order {
		if err := h.record(all[space]); err != nil {
			return err
		}
	}
	return nil
}

// rowP9 measures in a process of its own, so that nothing else moves its memory.
func rowP9(ctx context.Context, h *harness) error {
	ids := "20000000"
	if h.opt.quick {
		ids = "1000000"
	}
	all := map[string]*series{}
	order := []string{"foreign id", "minted id", "cell", "foreign id, as the window says"}
	for _, what := range order {
		all[what] = &series{name: "P9 memory per " + what, unit: "B", less: true, detail: map[string]any{"ids": ids}}
	}
	for _, what := range []string{"foreign id", "minted id"} {
		all[what].goal, all[what].floor = "12 B", "20 B"
	}
	all["cell"].goal, all["cell"].floor = "100 B", "200 B"
	for range h.opt.rounds {
		if err := h.idle(ctx); err != nil {
			return err
		}
		out, err := output(ctx, h.self, "memory", ids)
		if err != nil {
			return err
		}
		var v map[string]float64
		if err := json.Unmarshal([]byte(out), &v); err != nil {
			return fmt.Errorf("memory: %w", err)
		}
		for _, what := range order {
			all[what].ours = append(all[what].ours, v[what])
		}
	}
	if h.opt.profile {
		if _, err := output(ctx, h.self, "memory", ids, filepath.Join(h.profiles, "P9")); err != nil {
			return err
		}
	}
	for _, what := range order {
		if err := h.record(all[what]); err != nil {
			return err
		}
	}
	return nil
}

// p10Point is one size at which the CPU per event is measured.
type p10Point struct {
	name      string
	lanes     int
	campaigns int
	events    int64 // 0: as many as there are in the time
	longer    int   // how much longer a run is than one of another row
}

func (p *p10Point) setup() setup { return setup{name: "p10", lanes: p.lanes, alone: true} }

func (p *p10Point) size() *catalogSize {
	return &catalogSize{campaigns: p.campaigns, affiliates: 10_000}
}

// rowP10 measures what an event costs the server at other sizes. Nobody reads meanwhile: a report over a hundred times as
// many campaigns is another question. A hundred million events and a billion are measured by P2 while it runs.
func rowP10(ctx context.Context, h *harness) error {
	// What is paid once, first look-ups and memory that grows, must not weigh more because a run is short: with 100,000
	// campaigns that is much.
	points := []p10Point{
		{"10 campaigns", 1, 10, 0, 2},
		{"1,000 campaigns", 1, 1000, 0, 2},
		{"100,000 campaigns", 1, 100_000, 0, 3},
		{"2 lanes", 2, 1000, 0, 2},
		{"4 lanes", 4, 1000, 0, 2},
		{"1,000,000 events", 1, 1000, 1_000_000, 1},
		{"10,000,000 events", 1, 1000, 10_000_000, 1},
	}
	if h.opt.quick {
		points[2].campaigns, points[2].name = 5_000, "5,000 campaigns"
	}
	cost := make([]*series, len(points))
	for i, p := range points {
		cost[i] = &series{name: "P10 CPU of the server per event, " + p.name, unit: "ns/event", less: true, goal: "±10 %", floor: "±30 %"}
	}
	for range h.opt.rounds { // every point in every round, so that a drift meets all
		for i, p := range points {
			if err := h.idle(ctx); err != nil {
				return err
			}
			l := h.mix("columnar")
			l.Campaigns, l.Events = p.campaigns, p.events
			if h.opt.quick {
				l.Events /= 20
			} else {
				l.Span = time.Duration(p.longer) * h.opt.span
			}
			if _, err := h.throughput(ctx, cost[i], p.setup(), p.size(), l); err != nil {
				return fmt.Errorf("%s: %w", p.name, err)
			}
			ns, _ := cost[i].detail["server_ns_per_event"].(int64)
			cost[i].ours = append(cost[i].ours, float64(ns))
		}
	}
	base := median(cost[1].ours)
	for _, s := range cost {
		if base > 0 {
			s.put("percent_of_1,000_campaigns_1_lane", fmt.Sprintf("%+.0f %%", 100*(median(s.ours)/base-1)))
		}
		if err := h.record(s); err != nil {
			return err
		}
	}
	for _, p := range []p10Point{points[2], points[4]} {
		l := h.mix("columnar")
		l.Campaigns = p.campaigns
		if err := h.profileLoad(ctx, "P10 "+p.name, p.setup(), p.size(), l); err != nil {
			return err
		}
	}
	return nil
}
