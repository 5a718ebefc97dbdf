package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// load is what a client process does. It reaches the process as JSON in one argument.
type load struct {
	Mode       string        `json:"mode"` // see drivers
	Addr       string        `json:"addr"`
	Key        string        `json:"key"`
	Span       time.Duration `json:"span"`   // stop making new requests after this
	Events     int64         `json:"events"` // or after this many; 0: no bound
	Conns      int           `json:"conns"`
	Batch      int           `json:"batch"`
	Campaigns  int           `json:"campaigns"`
	Affiliates int           `json:"affiliates"`
	Types      int           `json:"types"`
	Pairs      int           `json:"pairs"`
	Duplicates float64       `json:"duplicates"`
	IDs        bool          `json:"ids"`
	Rate       float64       `json:"rate"`   // of an open loop, per second; 0: closed
	Forged     int           `json:"forged"` // how many of the connections forge their tokens
	Tokens     string        `json:"tokens"` // file of signed tokens, 72 characters and a newline each
	Expect     string        `json:"expect"` // file with the counters that must be read
	Cut        bool          `json:"cut"`    // the server will be killed: broken connections are expected
}

// drivers do the work of one connection until the run is over.
func drivers() map[string]func(context.Context, *loadRun, int) (*sent, error) {
	return map[string]func(context.Context, *loadRun, int) (*sent, error){
		"columnar": driveColumnar, "counters": driveCounters, "ndjson": driveNDJSON, "stream": driveStream, "single": driveSingle,
		"pixel": drivePixel, "read": driveRead, "memget": driveMemget, "upsert": driveUpsert,
	}
}

// loadRun is what the connections of a client process share.
type loadRun struct {
	load
	names  *names
	zipf   []uint32
	tokens []byte
	start  time.Time
	end    time.Time
	left   atomic.Int64 // events that may still be made
	conns  []*conn      // of an open loop, made before it begins
	pixels []*pixels
	good   *histograms
	expect *expected
}

// take reserves up to n events of the budget; 0 means that the run is over.
func (r *loadRun) take(n int) int {
	if !time.Now().Before(r.end) {
		return 0
	}
	if r.Events == 0 {
		return n
	}
	granted := max(0, min(n, n+int(r.left.Add(int64(-n)))))
	r.left.Add(int64(n - granted))
	return granted
}

// histograms collects latencies of all connections, by fifths of the time.
// histogram is of microseconds.
type histogram = hdrhistogram.Histogram

type histograms struct {
	mu      sync.Mutex
	all     *histogram
	windows [5]*histogram
}

const longestMicros = 60_000_000

func newHistogram() *hdrhistogram.Histogram { return hdrhistogram.New(1, longestMicros, 3) }

func newHistograms() *histograms {
	h := &histograms{all: newHistogram()}
	for i := range h.windows {
		h.windows[i] = newHistogram()
	}
	return h
}

func note(h *hdrhistogram.Histogram, d time.Duration) {
	_ = h.RecordValue(min(max(d.Microseconds(), 1), longestMicros)) // in range after the clamp
}

func latencyOf(h *hdrhistogram.Histogram) latency {
	if h.TotalCount() == 0 {
		return latency{}
	}
	at := func(q float64) float64 { return float64(h.ValueAtQuantile(q)) / 1000 }
	return latency{N: h.TotalCount(), P50: at(50), P99: at(99), P999: at(99.9), P9999: at(99.99), Max: float64(h.Max()) / 1000}
}

// childClient is a load generator: a process of its own, that makes its events while it sends them.
func childClient(ctx context.Context, args []string, out io.Writer) error {
	var l load
	f := flag.NewFlagSet("client", flag.ContinueOnError)
	text := f.String("load", "", "what to do, as JSON")
	if err := f.Parse(args); err != nil {
		return err
	}
	if err := json.Unmarshal([]byte(*text), &l); err != nil {
		return fmt.Errorf("load: %w", err)
	}
	s, err := l.run(ctx)
	if err != nil {
		return err
	}
	return json.NewEncoder(out).Encode(s)
}

// run drives all connections to the end and adds up what they did.
func (l *load) run(ctx context.Context) (*sent, error) {
	drive := drivers()[l.Mode]
	if drive == nil {
		return nil, fmt.Errorf("there is no mode %q", l.Mode)
	}
	r := &loadRun{load: *l, good: newHistograms()}
	r.names = newNames(&catalogSize{l.Campaigns, l.Affiliates, l.Types})
	r.zipf = zipfTable(max(1, l.Campaigns))
	var err error
	if l.Tokens != "" {
		if r.tokens, err = mapFile(l.Tokens); err != nil {
			return nil, err
		}
	}
	if l.Expect != "" {
		if r.expect, err = readExpected(l.Expect); err != nil {
			return nil, err
		}
	}
	workers := l.Conns
	if l.Mode == "pixel" {
		if r.pixels, err = openPixels(r); err != nil {
			return nil, err
		}
		workers = len(r.pixels)
	} else if l.Rate > 0 { // connecting is no part of a schedule: whoever came late would charge it to the answers
		for range l.Conns {
			c, err := dial(ctx, l.Addr)
			if err != nil {
				return nil, err
			}
			defer c.close()
			r.conns = append(r.conns, c)
		}
	}
	r.left.Store(l.Events)
	r.start = time.Now()
	r.end = r.start.Add(l.Span)
	all := &sent{Valid: map[string]int64{}, Duplicate: map[string]int64{}, Began: r.start.UnixNano()}
	var mu sync.Mutex
	var failures []error
	var running sync.WaitGroup
	for i := range workers {
		running.Go(func() {
			s, err := drive(ctx, r, i)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				failures = append(failures, fmt.Errorf("connection %d: %w", i, err))
			}
			all.take(s)
		})
	}
	running.Wait()
	if err := errors.Join(failures...); err != nil {
		return nil, err
	}
	all.Ended = time.Now().UnixNano()
	all.Latency = latencyOf(r.good.all)
	for _, w := range r.good.windows {
		all.Windows = append(all.Windows, latencyOf(w))
	}
	if used, err := cpuOf(os.Getpid()); err == nil {
		all.CPU = used.Seconds()
	}
	return all, nil
}

// take adds what one connection did.
func (s *sent) take(x *sent) {
	if x == nil {
		return
	}
	for k, n := range x.Valid {
		s.Valid[k] += n
	}
	for k, n := range x.Duplicate {
		s.Duplicate[k] += n
	}
	s.Events += x.Events
	s.Forged += x.Forged
	s.Weighted += x.Weighted
	s.Amount += x.Amount
	s.Requests += x.Requests
	s.Overloaded += x.Overloaded
	s.Unknown += x.Unknown
	s.Bytes += x.Bytes
	s.Late += x.Late
	s.Refused += x.Refused
	s.Durable += x.Durable
	s.Most += x.Most
	if s.Wrong == "" {
		s.Wrong = x.Wrong
	}
}

// drive starts a client process and returns what it did.
func (h *harness) drive(ctx context.Context, l load) (*sent, error) {
	text, err := json.Marshal(l)
	if err != nil {
		return nil, err
	}
	out, err := output(ctx, h.self, "client", "-load", string(text))
	if err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	s := &sent{}
	if err := json.Unmarshal([]byte(out), s); err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	if s.Wrong != "" {
		return s, fmt.Errorf("client: an answer was wrong: %s", s.Wrong)
	}
	return s, nil
}
