// Package load sends events to a server at a fixed rate and measures the answers. The loop is open: every request has a
// time at which it is meant to be sent, whatever became of those before it, and its latency counts from that time, so a
// server that stalls cannot hide the requests it kept waiting (coordinated omission). One goroutine keeps the schedule, a
// bounded number of workers own one connection each; all have ended when Run returns. It talks to the server over HTTP
// only.
package load

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Doors that can be loaded.
const (
	DoorEvents = "events" // POST /v1/events, columnar batches
	DoorStream = "stream" // POST /v1/stream, NDJSON
	DoorPixel  = "pixel"  // GET /i/{campaign}/{affiliate}
	DoorClick  = "click"  // GET /c/{campaign}/{affiliate}
)

// Options say what to send.
type Options struct {
	Server string // base URL of the doors
	Admin  string // base URL of the admin API; only needed with Create
	Key    string // API key

	AdminToken string // of the admin API, where it asks for one

	Tenant string // key of the tenant; empty: the default tenant
	Create bool   // create the campaigns and affiliates first

	Door        string
	Rate        float64       // events per second
	Duration    time.Duration // of the sending
	Connections int           // default 64
	Batch       int           // events per request at the doors events and stream; default 1,000
	Timeout     time.Duration // of one request; default 10 s

	Mix        Mix
	Campaigns  int     // default 1,000
	Affiliates int     // default 10,000
	Zipf       float64 // skew of both, above 1; 0 is even
	Duplicates float64 // share of events that repeat an earlier one
	Forgeries  float64 // share of events with a forged token
	Seed       uint64  // of everything random

	Progress io.Writer // nil: none
}

// Mix is how many events of each type there are in proportion. The doors pixel and click have one type only.
type Mix struct{ Impression, Click, Conversion float64 }

func (m Mix) sum() float64 { return m.Impression + m.Click + m.Conversion }

func (o *Options) check() error {
	for _, d := range []struct {
		v        *int
		standard int
	}{{&o.Connections, 64}, {&o.Batch, 1000}, {&o.Campaigns, 1000}, {&o.Affiliates, 10_000}} {
		if *d.v <= 0 {
			*d.v = d.standard
		}
	}
	if o.Timeout <= 0 {
		o.Timeout = 10 * time.Second
	}
	if o.Mix.sum() == 0 {
		o.Mix = Mix{94, 5, 1}
	}
	switch o.Door {
	case DoorEvents, DoorStream:
	case DoorPixel, DoorClick:
		o.Batch = 1
	default:
		return fmt.Errorf("door: %q is not events, stream, pixel or click", o.Door)
	}
	if _, err := url.Parse(o.Server); err != nil {
		return fmt.Errorf("server: %w", err)
	}
	switch {
	case o.Batch > maxBatch:
		return fmt.Errorf("batch: is above %d, which is what every server takes", maxBatch)
	case o.Rate <= 0 || o.Rate > 1e8:
		return errors.New("rate: is not between 0 and 100,000,000")
	case o.Duration <= 0:
		return errors.New("duration: is required")
	case o.Zipf != 0 && o.Zipf <= 1:
		return errors.New("zipf: is above 1, or 0 for an even spread")
	case o.Mix.Impression < 0 || o.Mix.Click < 0 || o.Mix.Conversion < 0:
		return errors.New("mix: is negative")
	case o.Duplicates < 0 || o.Forgeries < 0 || o.Duplicates+o.Forgeries > 1:
		return errors.New("duplicates and forgeries: are shares from 0 to 1")
	}
	return nil
}

// maxBatch is the most events of one request.
const maxBatch = 2500

// job is one request that is due.
type job struct {
	due    time.Time
	events int
}

// run is one Run on its way.
type run struct {
	o     *Options
	names *names
	queue chan job
	tally *tally
	left  context.Context // ends when no more time is left for what is still waiting
}

// Bounds of what waits for a free connection. Beyond it the generator itself is the bottleneck, and says so.
const (
	maxWaiting = 1 << 16
	drain      = 10 * time.Second // how long what is due at the end may take
)

// Run sends load. It returns what it measured also when it was interrupted.
func Run(ctx context.Context, o Options) (*Result, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	r := &run{o: &o, names: newNames(&o), queue: make(chan job, maxWaiting), tally: newTally()}
	if o.Create {
		if err := create(ctx, &o, r.names); err != nil {
			return nil, err
		}
	}
	left, cancel := context.WithTimeout(ctx, o.Duration+drain)
	defer cancel()
	r.left = left
	work, err := r.worker()
	if err != nil {
		return nil, err
	}
	start := time.Now()
	var workers sync.WaitGroup
	for i := range o.Connections {
		workers.Go(func() { work(newTraffic(&o, r.names, uint64(i)), newMeter()) })
	}
	shown, stop := context.WithCancel(ctx)
	var showing sync.WaitGroup
	showing.Go(func() { r.progress(shown, start) })
	r.schedule(ctx, start)
	close(r.queue)
	workers.Wait()
	for j := range r.queue { // workers whose connection died left it
		r.tally.unsent(j.events)
	}
	stop()
	showing.Wait()
	return r.tally.result(&o, time.Since(start)), nil
}

// schedule hands out requests at their times until the duration is over.
func (r *run) schedule(ctx context.Context, start time.Time) {
	every := float64(r.o.Batch) / r.o.Rate * float64(time.Second)
	end := start.Add(r.o.Duration)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for i := 1; ; i++ {
		due := start.Add(time.Duration(float64(i) * every)) // a batch is due when its last event is
		if due.After(end) {
			return
		}
		if wait := time.Until(due); wait > 0 {
			timer.Reset(wait)
			select {
			case <-timer.C:
			case <-ctx.Done():
				return
			}
		} else if ctx.Err() != nil {
			return
		}
		select {
		case r.queue <- job{due: due, events: r.o.Batch}:
		default:
			r.tally.unsent(r.o.Batch)
		}
	}
}

// worker returns what one connection does with the queue.
func (r *run) worker() (func(*traffic, *meter), error) {
	if r.o.Door == DoorStream {
		return r.streams, nil
	}
	c, err := newCaller(r.o)
	if err != nil {
		return nil, err
	}
	if r.o.Door == DoorEvents {
		return func(t *traffic, m *meter) { r.batches(c, t, m) }, nil
	}
	return func(t *traffic, m *meter) { r.singles(c, t, m) }, nil
}

// meter is what one worker measures; it owns it until it hands it to the tally.
type meter struct {
	latency *hdrhistogram.Histogram // from the time a request was due
	service *hdrhistogram.Histogram // from the time it was sent
	answers map[string]int64        // events by what became of them
	status  map[string]int64        // requests by HTTP status
	events  int64                   // sent
	asked   int64                   // requests sent
	forged  int64                   // events sent with a forged token
	repeats int64                   // events that repeat an earlier one
}

// The histograms hold microseconds up to a minute with three digits.
const longest = int64(time.Minute / time.Microsecond)

func newMeter() *meter {
	return &meter{
		latency: hdrhistogram.New(1, longest, 3), service: hdrhistogram.New(1, longest, 3),
		answers: map[string]int64{}, status: map[string]int64{},
	}
}

func record(h *hdrhistogram.Histogram, d time.Duration) {
	// A value in range is always recorded; longer ones count as the longest.
	_ = h.RecordValue(min(max(d.Microseconds(), 1), longest))
}

func (m *meter) answered(due, sent, now time.Time) {
	record(m.latency, now.Sub(due))
	record(m.service, now.Sub(sent))
}
