package client

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Errors of the client.
var (
	// ErrStopped: the client has been stopped and takes no more events.
	ErrStopped = errors.New("client stopped")
	// ErrUnauthorized: the server does not know the key, or the key lacks the right.
	ErrUnauthorized = errors.New("not authorised")
	// ErrRefused: the server refuses the request as a whole; a retry would not help.
	ErrRefused = errors.New("request refused")
)

// Options of a client. URL and Key must be given.
type Options struct {
	URL    string // of the doors, such as http://127.0.0.1:8080
	Key    string // API key with the right ingest, or backfill for an import
	Import string // 32 hex digits: the events are of this import; each has an ID or a Row
	Source string // of ids that the client makes; default "client"

	HTTP       *http.Client  // default: one with timeouts
	MaxEvents  int           // per batch; default 2,000
	MaxBytes   int           // per batch, encoded; default 96 KiB
	MaxDelay   time.Duration // an event waits at most this long for its batch to fill; default 50 ms
	MaxPending int           // events taken and not yet answered; default 100,000
	Senders    int           // requests in flight; default 2
	MinBackoff time.Duration // default 100 ms
	MaxBackoff time.Duration // default 60 s
	GiveUp     time.Duration // after this long a batch is reported as failed; default: never before Stop

	// OnReject is told of every event that the server refused, and of every event of a batch that was given up (with the
	// error in Error and an empty Field). It is called by the senders and must not block.
	OnReject func(Rejection)
}

// Rejection is an event that was not accepted.
type Rejection struct {
	Event Event
	Field string // what the server found wrong; empty: see Error
	Error string
}

func (o *Options) setDefaults() {
	for _, x := range []struct {
		v   *int
		def int
	}{{&o.MaxEvents, 2000}, {&o.MaxBytes, 96 << 10}, {&o.MaxPending, 100_000}, {&o.Senders, 2}} {
		if *x.v <= 0 {
			*x.v = x.def
		}
	}
	for _, x := range []struct {
		v   *time.Duration
		def time.Duration
	}{{&o.MaxDelay, 50 * time.Millisecond}, {&o.MinBackoff, 100 * time.Millisecond}, {&o.MaxBackoff, time.Minute}} {
		if *x.v <= 0 {
			*x.v = x.def
		}
	}
	if o.Source == "" {
		o.Source = "client"
	}
	if o.HTTP == nil {
		o.HTTP = &http.Client{
			Timeout:   30 * time.Second,
			Transport: &http.Transport{MaxIdleConnsPerHost: o.Senders, IdleConnTimeout: 50 * time.Second},
		}
	}
}

// Client batches events and sends them. All methods are safe for concurrent use.
type Client struct {
	opt      Options
	endpoint string
	prefix   string // of ids
	counter  atomic.Uint64
	stats    counters

	room    chan struct{} // one token per pending event
	queue   chan []Event  // full batches
	stop    chan struct{} // closed by Stop: flush, then end
	give    context.CancelFunc
	ctx     context.Context // of requests; ended when Stop runs out of time
	senders sync.WaitGroup

	mu      sync.Mutex
	open    []Event
	opened  time.Time
	size    int
	started bool
	stopped bool
	wake    chan struct{} // has room for one: something was put into open
	idle    *sync.Cond    // pending fell to zero; uses mu
	pending int
}

// New checks the options. It connects to nothing.
func New(opt Options) (*Client, error) {
	opt.setDefaults()
	u, err := url.Parse(opt.URL)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("client: URL %q is not http://host or https://host", opt.URL)
	}
	if opt.Key == "" {
		return nil, errors.New("client: an API key is required")
	}
	var name [8]byte
	if _, err := rand.Read(name[:]); err != nil {
		return nil, fmt.Errorf("client: random name: %w", err)
	}
	c := &Client{
		opt: opt, endpoint: strings.TrimSuffix(opt.URL, "/") + "/v1/events?answers=errors",
		prefix: hex.EncodeToString(name[:]) + "-", room: make(chan struct{}, opt.MaxPending),
		queue: make(chan []Event, opt.Senders), stop: make(chan struct{}), wake: make(chan struct{}, 1),
	}
	c.idle = sync.NewCond(&c.mu)
	c.ctx, c.give = context.WithCancel(context.Background())
	return c, nil
}

// Start begins to send. It does not wait for the server.
func (c *Client) Start(context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.started || c.stopped {
		return errors.New("client: started before")
	}
	c.started = true
	c.senders.Go(c.batch)
	for range c.opt.Senders {
		c.senders.Go(func() {
			for events := range c.queue {
				c.deliver(events)
			}
		})
	}
	return nil
}

// Send takes one event, without waiting for the server, and gives it an id if it has none. It waits while MaxPending
// events are under way. The event's strings and Subs must not be changed afterwards.
func (c *Client) Send(ctx context.Context, e *Event) error {
	select {
	case <-c.stop:
		return ErrStopped
	default:
	}
	select {
	case c.room <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	case <-c.stop:
		return ErrStopped
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stopped {
		<-c.room
		return ErrStopped
	}
	if len(c.open) == 0 {
		c.opened = time.Now()
	}
	c.open = append(c.open, *e)
	c.name(&c.open[len(c.open)-1])
	c.size += sizeOf(e)
	c.pending++
	select {
	case c.wake <- struct{}{}:
	default:
	}
	return nil
}

// name gives an event an id, unless something else already makes it unique.
func (c *Client) name(e *Event) {
	if e.ID != "" || e.Token != "" || c.opt.Import != "" {
		return
	}
	e.ID = c.prefix + strconv.FormatUint(c.counter.Add(1), 36)
	if e.Source == "" {
		e.Source = c.opt.Source
	}
}

// sizeOf guesses an event's share of a batch in bytes, on the high side for repeated values.
func sizeOf(e *Event) int {
	n := 24 + len(e.ID) + len(e.OrderID) + len(e.ClickID) + len(e.Token) + len(e.IP) + len(e.Visitor)
	for _, s := range e.Subs {
		n += len(s) + 2
	}
	return n + (len(e.UA)+len(e.Referrer))/2
}

// Flush waits until everything that was sent before has been answered.
func (c *Client) Flush(ctx context.Context) error {
	end := context.AfterFunc(ctx, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.idle.Broadcast()
	})
	defer end()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.opened = time.Time{} // overdue: the batcher takes it at once
	select {
	case c.wake <- struct{}{}:
	default:
	}
	for c.pending > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		c.idle.Wait()
	}
	return nil
}

// Stop takes no more events, sends what is left, and waits for the answers until ctx ends; what is unanswered then is
// reported to OnReject.
func (c *Client) Stop(ctx context.Context) error {
	c.mu.Lock()
	first, started := !c.stopped, c.started
	c.stopped = true
	c.mu.Unlock()
	if first {
		close(c.stop)
	}
	if !started {
		c.give()
		return nil
	}
	done := make(chan struct{})
	go func() {
		c.senders.Wait()
		close(done)
	}()
	select {
	case <-done:
		c.give()
		return nil
	case <-ctx.Done():
		c.give()
		<-done
		return ctx.Err()
	}
}

// batch cuts the open events into batches: when they are enough, or when the first has waited long enough.
func (c *Client) batch() {
	defer close(c.queue)
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		events, wait := c.cut(false)
		if events != nil {
			c.queue <- events // the senders never stop before the queue is closed
			continue
		}
		timer.Reset(wait)
		select {
		case <-c.wake:
		case <-timer.C:
		case <-c.stop:
			for {
				events, _ := c.cut(true)
				if events == nil {
					return
				}
				c.queue <- events
			}
		}
	}
}

// cut takes one batch off the open events, or says how long to wait.
func (c *Client) cut(all bool) (events []Event, wait time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.open) == 0 {
		return nil, time.Hour
	}
	if wait = c.opt.MaxDelay - time.Since(c.opened); wait > 0 && !all && len(c.open) < c.opt.MaxEvents && c.size < c.opt.MaxBytes {
		return nil, wait
	}
	n, size := 0, 0
	for n < len(c.open) && n < c.opt.MaxEvents && size < c.opt.MaxBytes {
		size += sizeOf(&c.open[n])
		n++
	}
	events = c.open[:n:n]
	c.open = append([]Event(nil), c.open[n:]...)
	c.size -= size
	return events, 0
}

// answered gives back the room of events whose fate is known.
func (c *Client) answered(n int) {
	for range n {
		<-c.room
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pending -= n
	if c.pending == 0 {
		c.idle.Broadcast()
	}
}
