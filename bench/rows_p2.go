package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"milliard/internal/server"
)

// rowP2 sends a billion events whose ids the doors mint, waits until SQL has them all, and verifies log against
// counters. It is run once, whole.
func rowP2(ctx context.Context, h *harness) error {
	took := &series{name: "P2 " + number(float64(h.opt.billion)) + " events with minted ids, until in SQL", unit: "min", less: true, once: true, goal: "10 min", floor: "20 min"}
	check := &series{name: "P2 verify of these: archive and journal against every cell and row", unit: "s", less: true, once: true}
	rss := &series{name: "P2 memory of the server, peak", unit: "GiB", less: true, once: true, goal: "4 GiB", floor: "6 GiB"}
	disk := &series{name: "P2 disk, peak", unit: "GB", less: true, once: true, goal: "40 GB"}
	if err := h.idle(ctx); err != nil {
		return err
	}
	l := h.mix("columnar")
	l.IDs, l.Duplicates, l.Events, l.Span = false, 0, h.opt.billion, 2*time.Hour
	err := h.with(ctx, setup{name: "p2"}, h.size(), func(srv *subject) error {
		l.Addr, l.Key = srv.doors, srv.key
		watch := h.watch(ctx, srv)
		x, err := h.drive(ctx, l)
		w := watch()
		if err != nil {
			return err
		}
		at, err := srv.settleAndCheck(ctx, x)
		if err != nil {
			return err
		}
		if x.Events != h.opt.billion {
			return fmt.Errorf("%d events were sent, not %d", x.Events, h.opt.billion)
		}
		_, peak := memoryOf(srv.pid())
		took.ours = []float64{at.Sub(time.Unix(0, x.Began)).Minutes()}
		took.put("events_per_second", int64(float64(x.Events)/at.Sub(time.Unix(0, x.Began)).Seconds()))
		took.put("duplicate_window", "ids minted by the doors: for the life of their token, remembered as bits")
		rss.ours = []float64{float64(peak) / (1 << 30)}
		disk.ours = []float64{float64(max(w.disk, diskOf(srv.dir))) / 1e9}
		for k, v := range srv.bytesPerEvent(x.Events) {
			disk.put(k, v)
		}
		cpu := srv.cpu()
		if err := srv.stop(); err != nil {
			return err
		}
		v, err := h.verify(ctx, srv)
		if err != nil {
			return err
		}
		took.put("verify", v.line)
		h.say("  %s", v.line)
		check.ours = []float64{v.took.Seconds()}
		check.put("cpu_ns_per_event", float64(v.cpu.Nanoseconds())/float64(x.Events))
		check.put("memory_peak_gib", float64(v.peak)/(1<<30))
		return errors.Join(h.record(took), h.record(check), h.record(rss), h.record(disk), h.recordGrowth(w, cpu))
	})
	if err == nil {
		err = h.profileLoad(ctx, "P2", setup{}, h.size(), l)
	}
	if err != nil || !h.opt.parts {
		return err
	}
	return h.p2Parts(ctx, l)
}

// p2Parts measures a hundredth of the billion with parts switched off.
func (h *harness) p2Parts(ctx context.Context, l load) error {
	l.Events = max(h.opt.billion/100, 500_000)
	var parts []turn
	for _, v := range []struct {
		name  string
		setup setup
	}{
		{"everything on", setup{name: "p2-part"}},
		{"without fsync", setup{name: "p2-part", noSync: true}},
		{"without dedupe", setup{name: "p2-part", noDedupe: true}},
	} {
		s := &series{name: "P2 " + number(float64(l.Events)) + " events, " + v.name, unit: "events/s"}
		parts = append(parts, variant(s, func(ctx context.Context, _ int) (float64, error) {
			return h.throughput(ctx, s, v.setup, h.size(), l)
		}))
	}
	s := &series{name: "P2 " + number(float64(l.Events)) + " events, without HTTP", unit: "events/s"}
	return h.compare(ctx, append(parts, variant(s, func(ctx context.Context, _ int) (float64, error) { return h.direct(ctx, s, server.Parts{}, l) })))
}

// verified is what the product's own check said, and what it cost.
type verified struct {
	line string // its last one
	took time.Duration
	cpu  time.Duration
	peak int64 // bytes
}

// verify runs the product's own check of log against counters on the directory of a stopped server.
func (h *harness) verify(ctx context.Context, srv *subject) (*verified, error) {
	scratch, err := h.dir("scratch")
	if err != nil {
		return nil, err
	}
	defer h.drop(scratch)
	began := time.Now()
	var out, errs bytes.Buffer
	//nolint:gosec // the arguments are ours
	cmd := exec.CommandContext(ctx, h.binary, "verify", "--data", srv.dir, "--scratch", scratch, "--quiet")
	cmd.Stdout, cmd.Stderr = &out, &errs
	err = cmd.Run()
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	v := &verified{took: time.Since(began)}
	v.line = fmt.Sprintf("%s (%.0f s)", lines[len(lines)-1], v.took.Seconds())
	if err != nil {
		return nil, fmt.Errorf("verify: %w: %s: %.600s", err, v.line, bytes.TrimSpace(errs.Bytes()))
	}
	v.cpu = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	if usage, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
		v.peak = usage.Maxrss << 10
	}
	return v, nil
}

// watched is what a long run looked like while it went on.
type watched struct {
	disk   int64
	points []point
}

// point is how much CPU the server had used when it had taken so many events.
type point struct {
	events int64
	cpu    time.Duration
}

// watch samples a run once a second, and more often in its first seconds. The returned function ends it.
func (h *harness) watch(ctx context.Context, srv *subject) func() watched {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan watched, 1)
	go func() {
		w := watched{points: []point{{0, srv.cpu()}}}
		const often, early = 100 * time.Millisecond, 100
		tick := time.NewTicker(often)
		defer tick.Stop()
		for n := 0; ; n++ {
			select {
			case <-ctx.Done():
				done <- w
				return
			case <-tick.C:
			}
			if n == early {
				tick.Reset(time.Second)
			}
			if events, err := srv.taken(ctx); err == nil {
				w.points = append(w.points, point{events, srv.cpu()})
			}
			if n > early && n%5 == 0 {
				w.disk = max(w.disk, diskOf(srv.dir))
			}
		}
	}()
	return func() watched {
		cancel()
		return <-done
	}
}

// taken reads how many events are durable.
func (s *subject) taken(ctx context.Context) (int64, error) {
	text, err := s.get(ctx, "/metrics")
	if err != nil {
		return 0, err
	}
	var total float64
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "milliard_journal_events_total{"); ok {
			_, value, _ := strings.Cut(rest, "} ")
			v, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			if err != nil {
				return 0, err
			}
			total += v
		}
	}
	return int64(total), nil
}

// recordGrowth is the other half of P10: what an event cost in each tenth of the run, and up to each power of ten.
func (h *harness) recordGrowth(w watched, end time.Duration) error {
	s := &series{name: "P10 CPU of the server per event, by tenths of P2", unit: "ns/event", less: true, once: true, goal: "±10 %", floor: "±30 %"}
	begin := w.points[0]
	for from := begin; ; {
		to, ok := w.after(from.events + h.opt.billion/10)
		if !ok {
			break
		}
		s.ours = append(s.ours, from.cost(to))
		from = to
	}
	if len(s.ours) == 0 {
		return nil // too short to be cut into parts
	}
	s.put("by_tenths", s.ours)
	decades := map[string]float64{}
	for n := int64(1_000_000); n < h.opt.billion; n *= 10 {
		if to, ok := w.after(n); ok {
			decades[fmt.Sprintf("until %.0e", float64(n))] = begin.cost(to)
		}
	}
	s.put("by_decades", decades)
	s.put("whole", float64((end-begin.cpu).Nanoseconds())/float64(h.opt.billion))
	return h.record(s)
}

// after returns the first point at which so many events had been taken.
func (w *watched) after(events int64) (point, bool) {
	i := slices.IndexFunc(w.points, func(p point) bool { return p.events >= events })
	if i < 0 {
		return point{}, false
	}
	return w.points[i], true
}

// cost is the CPU time per event, in nanoseconds, between two points.
func (p point) cost(to point) float64 {
	return float64((to.cpu - p.cpu).Nanoseconds()) / float64(to.events-p.events)
}
