package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// Limits of tier T10.
const (
	maxGrowth   = 300 << 20       // bytes by which the program may grow from its first seconds to the end
	maxAnswer   = 3 * time.Second // for anything: a door waits 2 s and then says 503
	maxRedirect = time.Second     // a click waits half a second for the journal
)

// runSlow is tier T10: a disk whose syncs take long, and a ledger that stands still. Memory stays bounded, answers come in
// time or are 503, and a redirect does not notice the ledger.
func runSlow(ctx context.Context, b *bench, r *result) error {
	if why := canTrace(); why != "" {
		r.Skipped = why
		return nil
	}
	binary, err := b.program(ctx)
	if err != nil {
		return err
	}
	span := 8 * time.Second
	if !b.opt.quick {
		span = 5 * time.Minute
	}
	if b.opt.cycles > 0 {
		span = time.Duration(b.opt.cycles) * time.Second
	}
	var parts []part
	for _, group := range slowCases() {
		for _, c := range group {
			parts = append(parts, part{c.name, 1, 1, true})
		}
	}
	parts = append(parts, part{besideFrozen, 1, 1, true})
	want := b.plan(r, parts)
	room := func() bool { return !b.expired() && (b.until.IsZero() || time.Now().Add(span).Before(b.until)) }
	if want[besideFrozen] > 0 && room() {
		if err := b.besideFrozenLedger(ctx, binary, span, r); err != nil {
			return fmt.Errorf("%s: %w", besideFrozen, err)
		}
	}
	for _, group := range slowCases() {
		var wg sync.WaitGroup
		errs := make([]error, len(group))
		own := make([]*result, len(group))
		for i, c := range group {
			if own[i] = newResult(b, tier{name: r.Tier}); want[c.name] > 0 && room() {
				wg.Go(func() { errs[i] = b.slowCase(ctx, binary, c, span, own[i]) })
			}
		}
		wg.Wait()
		for _, o := range own {
			r.merge(o)
		}
		if err := errors.Join(errs...); err != nil {
			return err
		}
	}
	return nil
}

// slowCase is one way of being slow.
type slowCase struct {
	name, what string
	ledger     bool
}

// slowCases are measured one after the other, but for two: what they do is wait for their disks.
func slowCases() [][]slowCase {
	return [][]slowCase{
		{{"usual", "delay_enter=1:when=65535", false}},
		{{"ledger stalled", "delay_enter=20000000", true}},
		{{"fsync +50 ms", "delay_enter=50000", false}},
		{{"fsync +200 ms", "delay_enter=200000", false}, {"fsync +500 ms", "delay_enter=500000", false}},
		{{"ledger +300 ms", "delay_enter=300000", true}},
	}
}

func (b *bench) slowCase(ctx context.Context, binary string, c slowCase, span time.Duration, r *result) error {
	m, err := b.slow(ctx, binary, c, span, r)
	if err != nil {
		return fmt.Errorf("%s: %w", c.name, err)
	}
	r.N++
	r.Done[c.name]++
	b.say("  %-15s redirect p50 %s p99 %s, others answered 2xx p99 %s, slowest %s; %d answered 2xx/302, %d refused; %d MB, grown by %d MB",
		c.name, m.redirect(0.5), m.redirect(0.99), at(m.others, 0.99), at(m.all, 1), m.good, m.refused, m.rss>>20, m.growth>>20)
	r.Parts[c.name+", redirect p99 µs"] = int(m.redirect(0.99).Microseconds())
	r.Parts[c.name+", growth MB"] = int(m.growth >> 20)
	if m.growth > maxGrowth {
		r.Wrong++
		r.note("wrong: %s: the program grew by %d MB", c.name, m.growth>>20)
	}
	switch text := fmt.Sprintf("%s: the slowest answer took %s, the slowest redirect %s", c.name, at(m.all, 1), m.redirect(1)); {
	case at(m.all, 1) <= maxAnswer && m.redirect(1) <= maxRedirect:
	case at(m.all, 1)-m.stall <= maxAnswer && m.redirect(1)-m.stall <= maxRedirect:
		r.late("%s; this program itself stood still for %s", text, m.stall)
	default:
		r.Wrong++
		r.note("wrong: %s", text)
	}
	if m.good == 0 {
		r.Wrong++
		r.note("wrong: %s: nothing was answered well", c.name)
	}
	return nil
}

type measured struct {
	redirects, others, all []time.Duration
	good, refused          int
	rss, growth            int64
	stall                  time.Duration // for so long this program did not get a processor
}

func (m *measured) redirect(q float64) time.Duration { return at(m.redirects, q) }

// at returns a quantile of sorted durations.
func at(sorted []time.Duration, q float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))].Round(10 * time.Microsecond)
}

func (b *bench) slow(ctx context.Context, binary string, c slowCase, span time.Duration, r *result) (*measured, error) {
	name := strings.NewReplacer(" ", "", "+", "").Replace(c.name) // ids begin with it, and stand in URLs
	a, err := b.newArena(ctx, name, binary, b.opt.seed, "--journal-bytes", "4294967296",
		"--window-ids", "16777216", // what is sent again may be minutes old
		"--dirty-cells", "100000") // what is not flushed yet is bounded by rows: the bound must be met to be shown
	if err != nil {
		return nil, err
	}
	a.d = newDriver(a.p, a.log, name, 48, b.opt.seed) // more than a slow disk can serve
	a.d.pause = 20 * time.Millisecond
	m := &measured{}
	if err = a.conclude(ctx, r, a.slow(ctx, c, span, m, r)); err == nil {
		err = m.read(a.logPath)
	}
	if err != nil {
		return nil, err
	}
	return m, a.gone(name)
}

func (a *arena) slow(ctx context.Context, c slowCase, span time.Duration, m *measured, r *result) error {
	if err := a.start(ctx); err != nil { // the catalog, at the usual speed
		return err
	}
	if err := a.p.stop(); err != nil {
		return err
	}
	var paths []string
	if c.ledger {
		path := filepath.Join(a.p.data, "ledger.duckdb")
		paths = append(paths, path, path+".wal")
	}
	a.p.inject(filepath.Join(filepath.Dir(a.p.data), "strace.out"), "fsync,fdatasync", c.what, paths...) // time is measured at the clients
	if err := a.p.spawn(); err != nil {
		return err
	}
	if err := a.p.await(ctx, a.p.patience(), "/readyz"); err != nil {
		return err
	}
	base := int64(0)
	watched, cancel := context.WithCancel(ctx)
	stall := startStall(watched)
	flying, err := a.load(ctx, func() error {
		began := time.Now()
		for time.Since(began) < span && pause(ctx, 100*time.Millisecond) {
			if exited(a.p) {
				return errors.New("the program ended by itself\n" + a.p.tail())
			}
			now := a.p.rss()
			if time.Since(began) < span/4 || base == 0 {
				base = max(base, now)
			}
			m.rss = max(m.rss, now)
		}
		m.growth = max(0, m.rss-base)
		return a.p.kill()
	})
	cancel()
	m.stall = stall.longestOnce()
	r.Flying += int(flying)
	a.p.wrap = nil
	return err
}

// read takes the times from the clients' log.
func (m *measured) read(path string) error {
	truth, err := readClientLog(path)
	if err != nil {
		return err
	}
	for _, x := range truth.answers {
		took := time.Duration(x.at-x.sent) * time.Microsecond
		m.all = append(m.all, took)
		switch {
		case x.status == 302, x.status == redirectAtRisk:
			m.good++
			m.redirects = append(m.redirects, took)
		case x.status/100 == 2:
			m.good++
			m.others = append(m.others, took)
		default:
			m.refused++
		}
	}
	slices.Sort(m.all)
	slices.Sort(m.redirects)
	slices.Sort(m.others)
	return nil
}

// rss returns the program's resident bytes.
func (p *process) rss() int64 {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", p.pid()))
	if err != nil {
		return 0
	}
	var size, resident int64
	if _, err := fmt.Sscan(string(b), &size, &resident); err != nil {
		return 0
	}
	return resident * int64(os.Getpagesize())
}
