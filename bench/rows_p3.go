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
	own, err := h.fresh(ctx, s, h.size())
	if err != nil {
		return err
	}
	tokens, err := h.tokens(ctx, own.data, count, shards)
	if err != nil {
		return err
	}
	return errors.Join(h.withData(ctx, s, own, func(srv *subject) error { return f(srv, tokens) }), h.dropTokens(tokens))
}

func (h *harness) dropTokens(tokens string) error {
	all, err := filepath.Glob(tokens + "*")
	for _, f := range all {
		h.drop(f)
	}
	return err
}

// pixelsPerSecond is how many tokens wrk gets for every second of a run while nobody knows how fast this machine is. No
// token may be used twice.
const pixelsPerSecond = 350_000

// enoughTokens is how many tokens wrk needs for a run of such a length, as far as is known.
func (h *harness) enoughTokens(span time.Duration, perSecond float64) int64 {
	return int64(span.Seconds()*max(h.tokensPerSecond(), perSecond)) + 10_000
}

func (h *harness) tokensPerSecond() float64 {
	if h.pixels == 0 {
		return pixelsPerSecond
	}
	return 2 * h.pixels
}

// errTokens says that a generator was faster than there were tokens for.
var errTokens = errors.New("wrk has used every token: more are needed")

// wrkPixels measures pixels with wrk. A machine that is faster than there were tokens for gets more of them.
func (h *harness) wrkPixels(ctx context.Context, s *series, st setup, conns int) (rate float64, err error) {
	for range 4 {
		had, _ := s.detail["tokens_per_second"].(float64)
		if rate, err = h.wrkFresh(ctx, s, st, conns, h.enoughTokens(h.opt.span, had)); !errors.Is(err, errTokens) {
			return rate, err
		}
		s.put("tokens_per_second", 2*max(h.tokensPerSecond(), had))
		h.say("  wrk has used every token; once more, with twice as many")
	}
	return rate, err
}

// wrkFresh measures one run with so many tokens. Each answer must be counted once; a request that was cut off at the end
// may be.
func (h *harness) wrkFresh(ctx context.Context, s *series, st setup, conns int, count int64) (float64, error) {
	var rate float64
	err := h.withTokens(ctx, st, count, wrkThreads, func(srv *subject, tokens string) error {
		before := srv.cpu()
		x, err := h.wrk(ctx, srv.doors, tokens, conns)
		if err != nil {
			return err
		}
		if x.again {
			return errTokens
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
		rate, h.pixels = x.rate, max(h.pixels, x.rate)
		if s.detail["wrk"] == nil {
			h.say("  wrk %s", x.argv)
			s.put("wrk", x.argv)
		}
		s.put("p99", x.p99)
		s.put("server_ns_per_event", int64(float64(used.Nanoseconds())/float64(x.requests)))
		return nil
	})
	return rate, err
}

func rowP3(ctx context.Context, h *harness) error {
	tokens, err := h.anyTokens(ctx)
	if err != nil {
		return err
	}
	if err := h.besideNginx(ctx, tokens); err != nil {
		return err
	}
	if err := h.profilePixels(ctx); err != nil || !h.opt.parts {
		return err
	}
	defer h.shorter()()
	var parts []turn
	for _, v := range []struct {
		name  string
		setup setup
	}{{"everything on, beside the parts", setup{}}, {"without fsync", setup{noSync: true}}, {"without dedupe", setup{noDedupe: true}}} {
		s := &series{name: "P3 " + v.name + ", 256 connections", unit: "requests/s"}
		v.setup.name = "p3-part"
		parts = append(parts, variant(s, func(ctx context.Context, _ int) (float64, error) { return h.wrkPixels(ctx, s, v.setup, 256) }))
	}
	l := h.mix("")
	l.Conns, l.Batch, l.IDs, l.Duplicates = 256, 1, false, 0
	s := &series{name: "P3 without HTTP, 256 waiting for one event each", unit: "events/s"}
	return h.compare(ctx, append(parts, variant(s, func(ctx context.Context, _ int) (float64, error) { return h.direct(ctx, s, server.Parts{}, l) })))
}

// besideNginx measures ours, nginx as it listens by default, and nginx with reuseport, in turn.
func (h *harness) besideNginx(ctx context.Context, tokens string) (err error) {
	shared, sharedAddr, err := h.nginx(ctx, false)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, shared.stop()) }()
	dealt, dealtAddr, err := h.nginx(ctx, true)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dealt.stop()) }()
	peer := func(addr string, conns int, s *series) turn {
		return turn{s, func(ctx context.Context, _ int) (float64, error) {
			x, err := h.wrk(ctx, addr, tokens, conns)
			if err != nil {
				return 0, err
			}
			s.put("peer_p99", x.p99)
			return x.rate, nil
		}, &s.peers}
	}
	const leastConns = 64 // where nginx with reuseport may differ; with more it did not
	for _, conns := range []int{leastConns, 256, 512} {
		s := &series{
			name: fmt.Sprintf("P3 signed pixels, wrk, %d connections", conns), unit: "requests/s", peer: "nginx empty_gif, buffered log",
			goal: "1.0 ×", floor: "0.6 ×",
		}
		reuse := s.against(s.name+", against nginx with reuseport", "nginx empty_gif, buffered log, listen … reuseport")
		ours := turn{s, func(ctx context.Context, _ int) (float64, error) {
			return h.wrkPixels(ctx, s, setup{name: "p3"}, conns)
		}, &s.ours}
		turns := []turn{ours, peer(sharedAddr, conns, s)}
		if conns == leastConns {
			turns = append(turns, peer(dealtAddr, conns, reuse))
		}
		if err := h.takeTurns(ctx, turns...); err != nil {
			return err
		}
		if err := h.record(s); err != nil {
			return err
		}
		if conns == leastConns {
			if err := h.record(reuse.sharing(s)); err != nil {
				return err
			}
		}
	}
	return nil
}

// anyTokens are tokens for nginx, which does not read them. No server that is measured has the keys that signed them.
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
	count := h.enoughTokens(max(h.opt.span, 3*time.Second), 0)
	return h.withTokens(ctx, setup{name: "profile", profile: true}, count, wrkThreads, func(srv *subject, tokens string) error {
		return srv.profiledBeside(ctx, "P3", max(h.opt.span-time.Second, time.Second), func() error {
			_, err := h.wrk(ctx, srv.doors, tokens, 256)
			return err
		})
	})
}
