package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"time"
)

// rowP2b measures the flood in two ways: with P3's generator at P3's own rate, and with an open loop at P4's: a client
// that keeps a schedule cannot offer as much as P3's beside the server on the same cores.
func rowP2b(ctx context.Context, h *harness) error {
	return errors.Join(h.closedFlood(ctx), h.openFlood(ctx))
}

// floodConns is how many connections each of the two generators has.
const floodConns = 128

// closedFlood compares the p99 of good pixels on half of the connections: beside as many connections with good ones, and
// beside as many with forged ones.
func (h *harness) closedFlood(ctx context.Context) error {
	tokens, err := h.anyTokens(ctx) // signed by a key that the server does not have
	if err != nil {
		return err
	}
	flood := &series{
		name: "P2b p99 of good pixels at half of P3's rate, as many forged beside them, wrk", unit: "ms", less: true,
		peer: "as many good ones beside them", goal: "unchanged", floor: "2 ×",
	}
	most := &series{name: "P2b p99 of good pixels, forged beside them as fast as 128 connections can ask, wrk", unit: "ms", less: true}
	wait, err := h.floodWait(ctx, tokens)
	if err == nil {
		err = h.alternate(ctx, flood, func(ctx context.Context, _ int) (float64, error) {
			x, err := h.twoSides(ctx, flood, tokens, "flood", wait)
			wait = x.wait(wait)
			return x.p99, err
		}, func(ctx context.Context, _ int) (float64, error) {
			x, err := h.twoSides(ctx, flood, "", "alone", 0)
			return x.p99, err
		})
	}
	if err == nil {
		err = h.halfForged(flood)
	}
	if err == nil {
		err = h.alternate(ctx, most, func(ctx context.Context, _ int) (float64, error) {
			x, err := h.twoSides(ctx, most, tokens, "flood", 0)
			return x.p99, err
		}, nil)
	}
	if err == nil && h.opt.profile {
		err = h.profileFlood(ctx, tokens, wait)
	}
	mac := &series{
		name: "P2b CPU of the server per forged pixel, its request and answer included", unit: "ns", less: true,
		peer: "the same, not even text of a token: no MAC", goal: "one MAC more",
	}
	unreadable := tokens + "-unreadable"
	if err == nil {
		err = spoil(tokens, unreadable)
	}
	if err == nil {
		err = h.alternate(ctx, mac,
			func(ctx context.Context, _ int) (float64, error) { return h.onlyForged(ctx, mac, tokens) },
			func(ctx context.Context, _ int) (float64, error) { return h.onlyForged(ctx, &series{}, unreadable) })
	}
	if err = errors.Join(err, h.dropTokens(tokens)); err != nil {
		return err
	}
	return errors.Join(h.record(flood), h.record(most), h.record(mac))
}

// profileFlood takes profiles in a run that is not measured.
func (h *harness) profileFlood(ctx context.Context, forged string, wait time.Duration) error {
	st := setup{name: "profile", profile: true}
	return h.withTokens(ctx, st, h.enoughTokens(h.opt.span, 0), wrkThreads, func(srv *subject, tokens string) error {
		return srv.profiledBeside(ctx, "P2b", max(h.opt.span-time.Second, time.Second), func() error {
			_, err := h.wrk(ctx, srv.doors, tokens, floodConns)
			return err
		}, func() error {
			_, err := h.wrkWaiting(ctx, srv.doors, forged, floodConns, wait)
			return err
		})
	})
}

// floodWait finds out how long a connection with forged pixels must wait between two, so that there are as many of them as
// good ones. They are answered at once, without the disk: left alone they are nine in ten.
func (h *harness) floodWait(ctx context.Context, tokens string) (time.Duration, error) {
	wait := cycle(max(h.pixels, 2000) / 2)
	for range 3 {
		x, err := h.twoSides(ctx, &series{}, tokens, "flood", wait)
		if err != nil {
			return 0, err
		}
		wait = x.wait(wait)
	}
	h.say("  forged pixels wait for %s at first", wait)
	return wait, nil
}

// cycle is the time of one request of one connection, when all of a generator's make so many a second.
func cycle(rate float64) time.Duration {
	return time.Duration(float64(floodConns) / rate * float64(time.Second))
}

// wait is how long forged pixels would have had to wait to be as many as the good ones.
func (x *sides) wait(now time.Duration) time.Duration {
	if x.good == 0 || x.beside == 0 {
		return now
	}
	return max(50*time.Microsecond, now+cycle(x.good)-cycle(x.beside))
}

// halfForged says whether about half of the pixels were forged ones, in the middle of the runs.
func (h *harness) halfForged(flood *series) error {
	shares, _ := flood.detail["flood_forged_percent"].([]float64)
	if m := median(shares); m < 40 || m > 60 {
		return h.strict(fmt.Errorf("%.0f %% of the pixels were forged, not half of them", m))
	}
	return nil
}

// spoil copies tokens with a last character that no token has, so that they are refused before any MAC.
func spoil(tokens, to string) error {
	for i := range wrkThreads {
		text, err := os.ReadFile(fmt.Sprintf("%s.%d", tokens, i))
		if err != nil {
			return err
		}
		for at := tokenChars - 1; at < len(text); at += tokenLine {
			text[at] = '!'
		}
		if err := os.WriteFile(fmt.Sprintf("%s.%d", to, i), text, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// onlyForged returns what one forged pixel costs a server that is sent nothing else.
func (h *harness) onlyForged(ctx context.Context, s *series, tokens string) (ns float64, err error) {
	err = h.with(ctx, setup{name: "p2b-forged"}, h.size(), func(srv *subject) error {
		before := srv.cpu()
		x, err := h.wrk(ctx, srv.doors, tokens, floodConns)
		if err != nil {
			return err
		}
		ns = float64((srv.cpu() - before).Nanoseconds()) / float64(x.requests)
		s.put("rate", int64(x.rate))
		return h.checkSides(ctx, srv, 0, x.requests, true)
	})
	return ns, err
}

// sides is what two generators have seen.
type sides struct {
	p99          float64 // of the good pixels of the first, in milliseconds
	good, beside float64 // a second
}

// twoSides runs two generators at once. The second asks with forged tokens, each connection after a pause, or, when there
// are none, with good ones.
func (h *harness) twoSides(ctx context.Context, s *series, forged, what string, wait time.Duration) (out sides, err error) {
	count, shards := h.enoughTokens(h.opt.span, 0), wrkThreads // of one side, which may get all there is
	if forged == "" {
		count, shards = 2*count, 2*shards
	}
	err = h.withTokens(ctx, setup{name: "p2b-wrk"}, count, shards, func(srv *subject, tokens string) error {
		beside := forged
		if beside == "" {
			beside = tokens + "-b"
			for i := range wrkThreads {
				if err := os.Rename(fmt.Sprintf("%s.%d", tokens, wrkThreads+i), fmt.Sprintf("%s.%d", beside, i)); err != nil {
					return err
				}
			}
		}
		var other *wrkResult
		done := make(chan error, 1)
		go func() {
			var err error
			other, err = h.wrkWaiting(ctx, srv.doors, beside, floodConns, wait)
			done <- err
		}()
		x, err := h.wrk(ctx, srv.doors, tokens, floodConns)
		if err = errors.Join(err, <-done); err != nil {
			return err
		}
		d, err := time.ParseDuration(x.p99)
		if err != nil {
			return fmt.Errorf("wrk's p99: %w", err)
		}
		if s.detail["wrk"] == nil {
			h.say("  wrk %s\n  wrk %s", x.argv, other.argv)
			s.put("wrk", x.argv)
		}
		out = sides{p99: float64(d.Microseconds()) / 1000, good: x.rate, beside: other.rate}
		slowest, _ := s.detail[what+"_slowest"].([]string) // of each run
		s.put(what+"_slowest", append(slowest, x.slowest))
		rates, _ := s.detail[what+"_rates"].([][2]int64)
		s.put(what+"_rates", append(rates, [2]int64{int64(x.rate), int64(other.rate)}))
		if forged != "" {
			shares, _ := s.detail[what+"_forged_percent"].([]float64)
			s.put(what+"_forged_percent", append(shares, math.Round(100*other.rate/(x.rate+other.rate))))
		}
		return h.checkSides(ctx, srv, x.requests, other.requests, forged != "")
	})
	return out, err
}

// checkSides checks what two generators were answered. Each may have been cut off on every connection at the end.
func (h *harness) checkSides(ctx context.Context, srv *subject, mine, others int64, forged bool) error {
	if err := srv.tallied(ctx); err != nil {
		return err
	}
	c, err := srv.count(ctx)
	if err != nil {
		return err
	}
	good, bad := mine, others
	if !forged {
		good, bad = mine+others, 0
	}
	valid := c.events["valid"]["impression"]
	if valid < good || valid > good+2*floodConns || valid != c.total || c.forged < bad || c.forged > bad+floodConns {
		return fmt.Errorf("totals: wrk had %d good and %d forged answers; counted %d of %d and %d", good, bad, valid, c.total, c.forged)
	}
	h.say("  exact: %s good and %s forged pixels", number(float64(good)), number(float64(bad)))
	return nil
}

// openFlood compares good pixels in P4's open loop with the same beside as many forged ones. Forgers have connections of
// their own: good pixels that queue behind forged ones on one connection would measure how many connections the client has.
func (h *harness) openFlood(ctx context.Context) error {
	const conns = 256          // of either kind
	span := 3 * h.opt.span / 2 // a tail needs longer than a rate: what the host does to the cores changes every few seconds
	rate := float64(pixelRate)
	if h.opt.quick {
		rate = 2_000
	}
	flood := &series{
		name: fmt.Sprintf("P2b p99 of good pixels, open loop of %.0f/s, beside as many forged ones", rate), unit: "ms", less: true,
		peer: "the same without the flood", goal: "unchanged", floor: "2 ×",
	}
	twice := &series{
		name: fmt.Sprintf("P2b p99 of good pixels, open loop of %.0f/s, beside as many forged ones, against good ones", rate), unit: "ms", less: true,
		peer: "as many good ones beside them",
	}
	run := func(pixels, forgers int, s *series) (p99 float64, err error) {
		all := rate * float64(pixels+forgers) / conns
		err = h.withTokens(ctx, setup{name: "p2b"}, int64(all*span.Seconds()*1.05)+1000, 1, func(srv *subject, tokens string) error {
			before := srv.cpu()
			x, err := h.drive(ctx, load{
				Mode: "pixel", Addr: srv.doors, Span: span, Conns: pixels + forgers, Rate: all, Forged: forgers, Tokens: tokens,
				Campaigns: 1, Affiliates: 1,
			})
			if err != nil {
				return err
			}
			p99 = x.Latency.P99
			s.put("p99.9_ms", x.Latency.P999)
			s.put("max_ms", x.Latency.Max)
			s.put("cpu_percent", 100*((srv.cpu()-before).Seconds()+x.CPU)/x.seconds()/float64(cores()))
			return h.checkPixels(ctx, srv, x)
		})
		return p99, err
	}
	err := h.alternate(ctx, flood,
		func(context.Context, int) (float64, error) { return run(conns, conns, flood) },
		func(context.Context, int) (float64, error) {
			p99, err := run(2*conns, 0, twice)
			if err != nil {
				return 0, err
			}
			twice.peers = append(twice.peers, p99)
			return run(conns, 0, &series{})
		})
	if err != nil {
		return err
	}
	twice.ours = flood.ours
	return errors.Join(h.record(flood), h.record(twice))
}

// checkPixels checks the totals of pixels: the client does not know the campaigns of its tokens.
func (h *harness) checkPixels(ctx context.Context, srv *subject, x *sent) error {
	if err := srv.tallied(ctx); err != nil {
		return err
	}
	c, err := srv.count(ctx)
	if err != nil {
		return err
	}
	if n := c.events["valid"]["impression"]; n != x.Events || x.Unknown == 0 && c.total != n || c.forged != x.Forged {
		return fmt.Errorf("totals: sent %d good and %d forged; counted %d of %d and %d", x.Events, x.Forged, n, c.total, c.forged)
	}
	h.say("  exact: %s good and %s forged pixels", number(float64(x.Events)), number(float64(x.Forged)))
	return nil
}

// tallied waits until what the doors refused is in SQL: tallies go out once a second, and then they are flushed.
func (srv *subject) tallied(ctx context.Context) error {
	for range 2 {
		select {
		case <-time.After(1100 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
		if _, err := srv.settled(ctx, time.Minute); err != nil {
			return err
		}
	}
	return nil
}
