package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
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
		before := srv.cpu()
		line, seconds, err := h.verify(ctx, srv)
		if err != nil {
			return err
		}
		took.put("verify", line)
		h.say("  %s", line)
		check.ours = []float64{seconds}
		check.put("cpu_ns_per_event", float64((srv.cpu()-before).Nanoseconds())/float64(x.Events))
		_, after := memoryOf(srv.pid())
		check.put("memory_peak_gib", float64(after)/(1<<30))
		return errors.Join(h.record(took), h.record(check), h.record(rss), h.record(disk), h.recordGrowth(w, srv.cpu()))
	})
	if err != nil || !h.opt.parts {
		return err
	}
	return h.p2Parts(ctx, l)
}

// p2Parts measures a hundredth of the billion with parts switched off.
func (h *harness) p2Parts(ctx context.Context, l load) error {
	l.Events = max(h.opt.billion/100, 500_000)
	for _, v := range []struct {
		name  string
		setup setup
	}{
		{"everything on", setup{name: "p2-part"}},
		{"without fsync", setup{name: "p2-part", noSync: true}},
		{"without dedupe", setup{name: "p2-part", noDedupe: true}},
	} {
		s := &series{name: "P2 " + number(float64(l.Events)) + " events, " + v.name, unit: "events/s"}
		err := h.alternate(ctx, s, func(ctx context.Context, _ int) (float64, error) {
			return h.throughput(ctx, s, v.setup, h.size(), l)
		}, nil)
		if err == nil {
			err = h.record(s)
		}
		if err != nil {
			return err
		}
	}
	s := &series{name: "P2 " + number(float64(l.Events)) + " events, without HTTP", unit: "events/s"}
	err := h.alternate(ctx, s, func(ctx context.Context, _ int) (float64, error) { return h.direct(ctx, s, server.Parts{}, l) }, nil)
	if err != nil {
		return err
	}
	return h.record(s)
}

// verify runs the product's own check of log against counters, if the binary has it, and returns its last line and how
// long it took.
func (h *harness) verify(ctx context.Context, srv *subject) (line string, seconds float64, err error) {
	help, err := exec.CommandContext(ctx, h.binary, "--help").Output()
	if err != nil {
		return "", 0, err
	}
	if !strings.Contains(string(help), "\n  verify") {
		return "this binary has no command verify; totals were compared through SQL", 0, nil
	}
	began := time.Now()
	out, err := output(ctx, h.binary, "verify", "--admin", srv.base)
	if err != nil {
		return "", 0, err
	}
	seconds = time.Since(began).Seconds()
	lines := strings.Split(strings.TrimSpace(out), "\n")
	return fmt.Sprintf("%s (%.0f s)", lines[len(lines)-1], seconds), seconds, nil
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

// watch samples a run once a second. The returned function ends it.
func (h *harness) watch(ctx context.Context, srv *subject) func() watched {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan watched, 1)
	go func() {
		var w watched
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for n := 0; ; n++ {
			select {
			case <-ctx.Done():
				done <- w
				return
			case <-tick.C:
			}
			if events, err := srv.taken(ctx); err == nil {
				w.points = append(w.points, point{events, srv.cpu()})
			}
			if n%5 == 0 {
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

// recordGrowth is the other half of P10: what an event cost in each tenth of the run, beside the first.
func (h *harness) recordGrowth(w watched, end time.Duration) error {
	if len(w.points) < 2 {
		return nil // too short to be cut into parts
	}
	s := &series{name: "P10 CPU of the server per event, by tenths of P2", unit: "ns/event", less: true, once: true, goal: "±10 %", floor: "±30 %"}
	last := w.points[0]
	for _, p := range w.points[1:] {
		if p.events-last.events >= h.opt.billion/10 {
			s.ours = append(s.ours, float64((p.cpu-last.cpu).Nanoseconds())/float64(p.events-last.events))
			last = p
		}
	}
	if len(s.ours) == 0 {
		return nil
	}
	s.put("by_tenths", s.ours)
	s.put("whole", float64(end.Nanoseconds())/float64(h.opt.billion))
	return h.record(s)
}
