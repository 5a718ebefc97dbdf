package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"time"

	"milliard/internal/server"
)

// tokens signs tags for a server's data directory, which must not be open, and returns their file.
func (h *harness) tokens(ctx context.Context, data string, count int64, shards int) (string, error) {
	h.dirs++
	o := order{
		Data: data, Out: filepath.Join(h.work, "tokens-"+strconv.Itoa(h.dirs)), Count: count, Shards: shards,
		Campaigns: h.opt.campaign, Affiliates: 10_000, Pairs: h.opt.pairs, Minter: uint32(h.dirs),
	}
	text, err := json.Marshal(o)
	if err != nil {
		return "", err
	}
	_, err = output(ctx, h.self, "mint", string(text))
	return o.Out, err
}

// withTokens runs f against a server that knows a catalog and whose keys have signed fresh tokens.
func (h *harness) withTokens(ctx context.Context, s setup, count int64, shards int, f func(*subject, string) error) error {
	made, err := h.start(ctx, setup{name: s.name})
	if err != nil {
		return err
	}
	if err := errors.Join(made.fill(ctx, h.size()), made.stop()); err != nil {
		return err
	}
	tokens, err := h.tokens(ctx, made.dir, count, shards)
	if err != nil {
		return err
	}
	s.data = made.dir
	return errors.Join(h.with(ctx, s, nil, func(srv *subject) error { return f(srv, tokens) }), h.dropTokens(tokens))
}

func (h *harness) dropTokens(tokens string) error {
	all, err := filepath.Glob(tokens + "*")
	for _, f := range all {
		h.drop(f)
	}
	return err
}

// pixelsPerSecond is an upper estimate of what wrk can ask for, so that no token is used twice.
const pixelsPerSecond = 350_000

// pixels measures pixels with wrk. Each answer must be counted once; a request that was cut off at the end may be.
func (h *harness) wrkPixels(ctx context.Context, s *series, st setup, conns int) (float64, error) {
	var rate float64
	count := int64(h.opt.span.Seconds()*pixelsPerSecond) + 10_000
	err := h.withTokens(ctx, st, count, wrkThreads, func(srv *subject, tokens string) error {
		before := srv.cpu()
		x, err := h.wrk(ctx, srv.doors, tokens, conns)
		if err != nil {
			return err
		}
		used := srv.cpu() - before
		if _, err := srv.settled(ctx, time.Minute); err != nil {
			return err
		}
		c, err := srv.count(ctx)
		if err != nil {
			return err
		}
		valid := c.events["valid"]["impression"]
		if st.noDedupe {
			valid = c.total
		}
		if valid < x.requests || valid > x.requests+int64(conns) || valid != c.total || c.forged != 0 {
			return fmt.Errorf("totals: wrk had %d answers on %d connections; counted %d valid of %d, %d forged", x.requests, conns, valid, c.total, c.forged)
		}
		h.say("  exact: %s answers, %s counted, %d cut off at the end", number(float64(x.requests)), number(float64(valid)), valid-x.requests)
		rate = x.rate
		s.put("p99", x.p99)
		s.put("server_ns_per_event", int64(float64(used.Nanoseconds())/float64(x.requests)))
		return nil
	})
	return rate, err
}

func rowP3(ctx context.Context, h *harness) error {
	nginx, addr, err := h.nginx(ctx)
	if err != nil {
		return err
	}
	tokens, err := h.anyTokens(ctx)
	if err != nil {
		return errors.Join(err, nginx.stop())
	}
	for _, conns := range []int{64, 256, 512} {
		s := &series{
			name: fmt.Sprintf("P3 signed pixels, wrk, %d connections", conns), unit: "requests/s", peer: "nginx empty_gif, buffered log",
			goal: "1.0 ×", floor: "0.6 ×",
		}
		err := h.alternate(ctx, s, func(ctx context.Context, _ int) (float64, error) {
			return h.wrkPixels(ctx, s, setup{name: "p3"}, conns)
		}, func(ctx context.Context, _ int) (float64, error) {
			x, err := h.wrk(ctx, addr, tokens, conns)
			if err != nil {
				return 0, err
			}
			s.put("peer_p99", x.p99)
			return x.rate, nil
		})
		if err == nil {
			err = h.record(s)
		}
		if err != nil {
			return errors.Join(err, nginx.stop())
		}
		h.pixels = max(h.pixels, median(s.ours))
	}
	if err := errors.Join(nginx.stop(), h.profilePixels(ctx)); err != nil || !h.opt.parts {
		return err
	}
	for _, v := range []setup{{name: "without fsync", noSync: true}, {name: "without dedupe", noDedupe: true}} {
		s := &series{name: "P3 " + v.name + ", 256 connections", unit: "requests/s"}
		v.name = "p3-part"
		err := h.alternate(ctx, s, func(ctx context.Context, _ int) (float64, error) { return h.wrkPixels(ctx, s, v, 256) }, nil)
		if err == nil {
			err = h.record(s)
		}
		if err != nil {
			return err
		}
	}
	l := h.mix("")
	l.Conns, l.Batch, l.IDs, l.Duplicates = 256, 1, false, 0
	s := &series{name: "P3 without HTTP, 256 waiting for one event each", unit: "events/s"}
	err = h.alternate(ctx, s, func(ctx context.Context, _ int) (float64, error) { return h.direct(ctx, s, server.Parts{}, l) }, nil)
	if err != nil {
		return err
	}
	return h.record(s)
}

// anyTokens are tokens for nginx, which does not read them.
func (h *harness) anyTokens(ctx context.Context) (string, error) {
	srv, err := h.start(ctx, setup{name: "tokens"})
	if err != nil {
		return "", err
	}
	if err := errors.Join(srv.fill(ctx, h.size()), srv.stop()); err != nil {
		return "", err
	}
	tokens, err := h.tokens(ctx, srv.dir, 200_000, wrkThreads)
	h.drop(filepath.Dir(srv.dir))
	return tokens, err
}

func (h *harness) profilePixels(ctx context.Context) error {
	if !h.opt.profile {
		return nil
	}
	count := int64(max(h.opt.span, 3*time.Second).Seconds() * pixelsPerSecond)
	return h.withTokens(ctx, setup{name: "profile", profile: true}, count, wrkThreads, func(srv *subject, tokens string) error {
		done := make(chan error, 1)
		go func() {
			_, err := h.wrk(ctx, srv.doors, tokens, 256)
			done <- err
		}()
		err := srv.profiled(ctx, "P3", max(h.opt.span-time.Second, time.Second))
		return errors.Join(err, <-done)
	})
}
