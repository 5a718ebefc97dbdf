package main

import (
	"context"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// redis counts with pipelined INCR, the public generator redis-benchmark sending. It knows no event: no id, no duplicate,
// no authentication, no column; that is what people compare with. It counts over fewKeys counters, as people measure it, and
// over manyKeys, as many as a run of P1 has live cells.
type redis struct {
	*process
	port  string
	bench string
	cli   string
	fsync string
	rate  float64     // of the last run
	depth map[int]int // the best pipeline, by the number of keys
}

const (
	fewKeys  = 1000
	manyKeys = 100_000
)

// redisDepths are the pipelines that are tried; what is measured is the best.
func redisDepths() []int { return []int{16, 32, 64, 128, 256} }

func (h *harness) redis(ctx context.Context, fsync string) (*redis, error) {
	port, err := h.port(ctx, 1) // or another one: two may run at once
	if err != nil {
		return nil, err
	}
	r := &redis{port: strconv.Itoa(port), fsync: fsync, depth: map[int]int{}}
	binary, err := need("redis-server", "redis-server")
	if err == nil {
		r.bench, err = need("redis-benchmark", "redis-tools")
	}
	if err == nil {
		r.cli, err = need("redis-cli", "redis-tools")
	}
	if err != nil {
		return nil, err
	}
	dir, err := h.dir("redis")
	if err != nil {
		return nil, err
	}
	argv := []string{
		binary, "--port", r.port, "--bind", "127.0.0.1", "--dir", dir, "--save", "", "--appendonly", "yes",
		"--appendfsync", fsync, "--daemonize", "no",
	}
	h.say("redis: %s", strings.Join(argv[1:], " "))
	if r.process, err = launch("redis", filepath.Join(dir, "log"), argv); err != nil {
		return nil, err
	}
	return r, r.listening(ctx, "127.0.0.1:"+r.port)
}

var rps = regexp.MustCompile(`([\d.]+) requests per second`)

// fill empties the server and makes most of the keys, so that what is measured is counting and not making them.
func (r *redis) fill(ctx context.Context, keys int) error {
	if _, err := output(ctx, r.cli, "-p", r.port, "flushall"); err != nil {
		return err
	}
	_, err := output(ctx, r.bench, "-p", r.port, "-q", "-n", strconv.Itoa(4*keys), "-c", "50", "-P", "64", "-r", strconv.Itoa(keys), "INCR", "hits:__rand_int__")
	return err
}

// sum returns the sum of all counters.
func (r *redis) sum(ctx context.Context) (int64, error) {
	text, err := output(ctx, r.cli, "-p", r.port, "eval",
		"local s=0 for _,k in ipairs(redis.call('keys','hits:*')) do s=s+redis.call('get',k) end return s", "0")
	if err != nil {
		return 0, err
	}
	sum, err := strconv.ParseInt(strings.TrimSpace(text), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("redis: sum %.40q", text)
	}
	return sum, nil
}

// pipeline is how the generator asks.
type pipeline struct{ conns, depth, keys int }

// argv is the generator and its arguments.
func (r *redis) argv(n int64, p pipeline) []string {
	return []string{
		r.bench, "-p", r.port, "-q", "-n", strconv.FormatInt(n, 10), "-c", strconv.Itoa(p.conns), "-P", strconv.Itoa(p.depth),
		"-r", strconv.Itoa(p.keys), "INCR", "hits:__rand_int__",
	}
}

// incr sends n pipelined INCRs and returns how many were answered in a second, after it has checked their sum.
func (r *redis) incr(ctx context.Context, n int64, p pipeline) (float64, error) {
	before, err := r.sum(ctx)
	if err != nil {
		return 0, err
	}
	out, err := output(ctx, r.argv(n, p)...)
	if err != nil {
		return 0, err
	}
	all := rps.FindAllStringSubmatch(out, -1)
	if len(all) == 0 {
		return 0, fmt.Errorf("redis-benchmark: %.300q", out)
	}
	v, err := strconv.ParseFloat(all[len(all)-1][1], 64)
	if err != nil {
		return 0, fmt.Errorf("redis-benchmark: %w", err)
	}
	if v <= 0 {
		return 0, fmt.Errorf("redis-benchmark: %.300q", out)
	}
	after, err := r.sum(ctx)
	if err != nil {
		return 0, err
	}
	// The generator sends whole pipelines: a little more than it was told.
	if sum := after - before; sum < n || sum > n+int64(p.conns*p.depth) {
		return 0, fmt.Errorf("redis: %d INCRs make a sum of %d", n, sum)
	}
	return v, nil
}

// lasting measures a run that takes that long at least: the generator can only be told a number, which is guessed from the
// last run, and the run is repeated with more when that was too few.
func (r *redis) lasting(ctx context.Context, least time.Duration, p pipeline) (v float64, n int64, err error) {
	n = int64(20_000)
	for {
		n = max(n, int64(1.15*r.rate*least.Seconds()))
		if v, err = r.incr(ctx, n, p); err != nil {
			return 0, 0, err
		}
		r.rate = v
		if float64(n)/v >= least.Seconds() {
			return v, n, nil
		}
	}
}

// run is how long a published run takes at least: two seconds.
func (r *redis) run(h *harness) time.Duration { return h.opt.span * 2 / 5 }

// pipelined measures the best depth, which a short search finds before the first run.
func (r *redis) pipelined(ctx context.Context, h *harness, keys int) (float64, error) {
	if err := r.fill(ctx, keys); err != nil {
		return 0, err
	}
	p := pipeline{conns: 50, keys: keys, depth: r.depth[keys]}
	fresh := p.depth == 0
	if fresh {
		var best float64
		for _, depth := range slices.Repeat(redisDepths(), 2) { // one that was disturbed gets a second chance
			v, _, err := r.lasting(ctx, r.run(h)/4, pipeline{conns: p.conns, depth: depth, keys: keys})
			if err != nil {
				return 0, err
			}
			if v > best {
				best, p.depth = v, depth
			}
		}
		r.rate, r.depth[keys] = best, p.depth
		h.say("  redis, AOF %s, %d keys: best of depths %v is %d", r.fsync, keys, redisDepths(), p.depth)
	}
	return r.measure(ctx, h, p, fresh)
}

// single sends one INCR per request.
func (r *redis) single(ctx context.Context, h *harness, round int) (float64, error) {
	if err := r.fill(ctx, fewKeys); err != nil {
		return 0, err
	}
	return r.measure(ctx, h, pipeline{conns: 64, depth: 1, keys: fewKeys}, round == 0)
}

// measure is a run that is published. It says how it was made.
func (r *redis) measure(ctx context.Context, h *harness, p pipeline, tell bool) (float64, error) {
	v, n, err := r.lasting(ctx, r.run(h), p)
	if err != nil {
		return 0, err
	}
	if tell {
		h.say("  redis-benchmark %s", strings.Join(r.argv(n, p)[1:], " "))
	}
	h.say("  redis, AOF %s, %d keys: depth %d, %.2f s: %s INCR/s", r.fsync, p.keys, p.depth, float64(n)/v, number(v))
	return v, nil
}
