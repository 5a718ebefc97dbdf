package main

import (
	"context"
	"fmt"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
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
}

const (
	fewKeys  = 1000
	manyKeys = 100_000
)

// redisDepths are the pipelines that are tried; the best counts.
func redisDepths() []int { return []int{16, 32, 64, 128, 256} }

func (h *harness) redis(ctx context.Context, fsync string) (*redis, error) {
	r := &redis{port: strconv.Itoa(h.opt.ports + 1), fsync: fsync}
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

// incr sends n pipelined INCRs and returns how many were answered in a second, after it has checked their sum.
func (r *redis) incr(ctx context.Context, n int64, conns, depth, keys int) (float64, error) {
	before, err := r.sum(ctx)
	if err != nil {
		return 0, err
	}
	out, err := output(ctx, r.bench, "-p", r.port, "-q", "-n", strconv.FormatInt(n, 10), "-c", strconv.Itoa(conns),
		"-P", strconv.Itoa(depth), "-r", strconv.Itoa(keys), "INCR", "hits:__rand_int__")
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
	after, err := r.sum(ctx)
	if err != nil {
		return 0, err
	}
	// The generator sends whole pipelines: a little more than it was told.
	if sum := after - before; sum < n || sum > n+int64(conns*depth) {
		return 0, fmt.Errorf("redis: %d INCRs make a sum of %d", n, sum)
	}
	return v, nil
}

// best tries every depth.
func (r *redis) best(ctx context.Context, h *harness, keys int) (float64, error) {
	if err := r.fill(ctx, keys); err != nil {
		return 0, err
	}
	n := int64(200_000)
	if !h.opt.quick {
		n = int64(h.opt.span.Seconds() * 250_000) // a third of a run or more at each depth
	}
	if r.fsync == "always" {
		n /= 4
	}
	var best float64
	at := 0
	for _, depth := range redisDepths() {
		v, err := r.incr(ctx, n, 50, depth, keys)
		if err != nil {
			return 0, err
		}
		if v > best {
			best, at = v, depth
		}
	}
	h.say("  redis, AOF %s, %d keys: best of depths %v is %d: %s INCR/s", r.fsync, keys, redisDepths(), at, number(best))
	return best, nil
}

// single sends one INCR per request.
func (r *redis) single(ctx context.Context, h *harness) (float64, error) {
	n := int64(20_000)
	if !h.opt.quick {
		n = int64(h.opt.span.Seconds() * 40_000)
	}
	if err := r.fill(ctx, fewKeys); err != nil {
		return 0, err
	}
	return r.incr(ctx, n, 64, 1, fewKeys)
}
