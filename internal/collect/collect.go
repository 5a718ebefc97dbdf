// Package collect is the doors: the HTTP entrances for events. A door parses a request, authenticates it, resolves its
// names against the catalog in force, hands events to the lanes and answers when they are durable.
//
// Goroutines: the event loops of package loop, one per two cores, which serve what comes by the hundred thousand (hot.go); one
// per connection that they hand over, owned by fasthttp; one here that flushes tallies every second. A request's memory
// (work) belongs to its goroutine and goes back to a pool when the answer is built; a loop's belongs to the loop. The catalog is read through one
// atomic pointer per request. What the package must not do: count, judge, keep state of events, or query anything.
package collect

import (
	"context"
	"errors"
	"fmt"
	"html/template"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/valyala/fasthttp"

	"milliard/internal/catalog"
	"milliard/internal/collect/loop"
	"milliard/internal/control"
	"milliard/internal/event"
	"milliard/internal/journal"
	"milliard/internal/stage"
)

// Lanes takes events and tallies. Nothing blocks; the bytes are copied before it returns.
type Lanes interface {
	Add(e *event.Event, catalog uint64) (journal.Ticket, error)
	AddAll(dst []journal.Ticket, events []event.Event, catalog uint64) ([]journal.Ticket, error)
	AddLoad(x *journal.Load, catalog uint64) error
	AddTallies(t []journal.Tally) error
	// Hold takes an event that can be withdrawn; the event is the caller's, who waits.
	Hold(e *event.Event, catalog uint64) (journal.Held, error)
	// Limping says whether the event's lane is known to be in trouble, and which lane that is.
	Limping(e *event.Event) (lane int, limps bool)
}

// Verdicts knows what the grid decided about the row of a batch, and waits for it.
type Verdicts interface {
	Wait(ctx context.Context, lane int, seq uint64, row uint32) (event.Class, error)
}

// Minter makes ids.
type Minter interface {
	New(unixMilli int64) event.MintedID
}

// Config is what the doors need. Only Catalog, Lanes, Minter and IPKey must be given.
type Config struct {
	Listen  []string // addresses; default ":8080"
	Catalog func() *control.View
	Lanes   Lanes
	Minter  Minter
	IPKey   func(day int64) [32]byte // key of the address hashes of a day (unix day)

	Spool         Spool                          // nil: a click that its lane does not take is at risk
	Verdicts      Verdicts                       // nil: wait=verdict answers "pending"
	RegisterType  RegisterType                   // nil: POST /v1/event-types answers 503
	Country       func(netip.Addr) event.Country // nil: unknown
	CountryHeader string                         // header with two letters; from Trusted only, if there are any
	Trusted       []netip.Prefix                 // proxies whose X-Forwarded-For and country header are believed
	BaseURL       string                         // scheme and host of minted links; default the request's own
	Clock         func() time.Time               // default time.Now
	Log           *slog.Logger                   // default: discard
	Registry      prometheus.Registerer          // nil: metrics are kept but not shown
	Stage         *stage.Recorder                // nil: not measured

	TagLife     time.Duration // life of a minted tag; default 24 h
	MaxWait     time.Duration // for durability, then 503; default 2 s
	ClickWait   time.Duration // a click waits this long for its lane; default 500 ms
	VerdictWait time.Duration // default 250 ms

	Loops int // event loops in front of fasthttp; 0: one per processor where the system has them, negative: none

	Limits Limits
}

// RegisterType makes a custom event type, or finds it.
type RegisterType func(ctx context.Context, actor string, tenant event.TenantID, key, name string) (*catalog.EventType, error)

// Limits bound what one client can ask for (FAULTS 6.1). Zero values mean the defaults.
type Limits struct {
	HeaderBytes   int // 24 KB
	URLBytes      int // 16 KB
	BodyBytes     int // compressed or not, as it is on the wire: 512 KB
	JSONBytes     int // decompressed JSON: 512 KB
	ColumnarBytes int // decompressed columnar batch: 128 KB
	Events        int // per JSON request: 2,500
	Rows          int // per columnar batch: 8,192
	LineBytes     int // per line of a stream: 32 KB
	Conns         int // connections in all: 10,000
	ConnsPerIP    int // 0: no limit of its own
	Streams       int // open streams: 256
	BodyMemory    int // bytes of bodies under way, as they came and decompressed: 256 MB
	BodyRate      int // bytes a second below which a body is given up: 16 KB; negative: any

	HeaderTimeout time.Duration // 5 s
	ReadTimeout   time.Duration // 15 s for the body
	BodyPatience  time.Duration // 5 s before BodyRate counts
	WriteTimeout  time.Duration // 15 s
	IdleTimeout   time.Duration // 60 s

	KeyRate, KeyBurst float64 // events per second per API key; 0: no limit
	IPRate, IPBurst   float64 // requests per second per address; 0: no limit
}

func (l *Limits) setDefaults() {
	for _, x := range []struct {
		v   *int
		def int
	}{
		{&l.HeaderBytes, 24 << 10},
		{&l.URLBytes, 16 << 10},
		{&l.BodyBytes, 512 << 10},
		{&l.JSONBytes, 512 << 10},
		{&l.ColumnarBytes, 128 << 10},
		{&l.Events, 2500},
		{&l.Rows, 8192},
		{&l.LineBytes, maxEvent},
		{&l.Conns, 10_000},
		{&l.Streams, 256},
		{&l.BodyMemory, 256 << 20},
	} {
		if *x.v <= 0 {
			*x.v = x.def
		}
	}
	if l.BodyRate == 0 {
		l.BodyRate = 16 << 10
	}
	for _, x := range []struct {
		v   *time.Duration
		def time.Duration
	}{
		{&l.HeaderTimeout, 5 * time.Second},
		{&l.ReadTimeout, 15 * time.Second},
		{&l.BodyPatience, 5 * time.Second},
		{&l.WriteTimeout, 15 * time.Second},
		{&l.IdleTimeout, time.Minute},
	} {
		if *x.v <= 0 {
			*x.v = x.def
		}
	}
}

// Doors is the HTTP server of the doors.
type Doors struct {
	cfg     Config
	log     *slog.Logger
	metrics *metrics
	tallies tallies
	devices *devices
	addrs   addrHasher
	keys    *limiter
	ips     *limiter
	works   sync.Pool
	pools   pools
	room    *room // memory for bodies
	streams *room // places for streams
	tagPage *template.Template
	waits   deadlines
	server  *fasthttp.Server
	fatal   chan error
	minter  *doorMinter

	lastPanic    atomic.Int64  // unix time of the last one that was logged
	turnedAway   atomic.Int64  // connections beyond the limit of all
	turnedAwayIP atomic.Int64  // and beyond that of one address
	closing      chan struct{} // closed when Stop begins

	mu        sync.Mutex
	listeners []net.Listener
	loops     *loop.Loops // nil where fasthttp serves alone
	handed    *handedOver // from loops to fasthttp
	serving   sync.WaitGroup
	started   bool
	stopped   bool
	flusher   chan struct{} // closed when the flusher has ended
}

// New checks the configuration. It opens nothing.
func New(cfg Config) (*Doors, error) {
	if cfg.Catalog == nil || cfg.Lanes == nil || cfg.Minter == nil || cfg.IPKey == nil {
		return nil, errors.New("doors: catalog, lanes, minter and address key are required")
	}
	if len(cfg.Listen) == 0 {
		cfg.Listen = []string{":8080"}
	}
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	for _, x := range []struct {
		v   *time.Duration
		def time.Duration
	}{
		{&cfg.TagLife, 24 * time.Hour},
		{&cfg.MaxWait, 2 * time.Second},
		{&cfg.ClickWait, 500 * time.Millisecond},
		{&cfg.VerdictWait, 250 * time.Millisecond},
	} {
		if *x.v <= 0 {
			*x.v = x.def
		}
	}
	cfg.Limits.setDefaults()
	d := &Doors{
		cfg:     cfg,
		log:     cfg.Log,
		metrics: newMetrics(cfg.Registry),
		devices: newDevices(deviceGeneration),
		addrs:   addrHasher{key: cfg.IPKey},
		tagPage: tagHTML(),
		room:    newRoom(int64(cfg.Limits.BodyMemory)),
		streams: newPlaces(int64(cfg.Limits.Streams)),
		keys:    newLimiter(cfg.Limits.KeyRate, cfg.Limits.KeyBurst),
		ips:     newLimiter(cfg.Limits.IPRate, cfg.Limits.IPBurst),
		fatal:   make(chan error, 1),
		closing: make(chan struct{}),
		flusher: make(chan struct{}),
	}
	d.works.New = func() any { return newWork() }
	d.minter = &doorMinter{Minter: cfg.Minter}
	d.cfg.Minter = d.minter
	d.server = d.newServer()
	if err := d.watchConnections(cfg.Registry); err != nil {
		return nil, fmt.Errorf("doors: %w", err)
	}
	return d, nil
}

func (d *Doors) now() time.Time { return d.cfg.Clock() }

// Start listens on every address and serves until Stop. An address that is taken is an error, and nothing is left open.
func (d *Doors) Start(ctx context.Context) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.started || d.stopped {
		return errors.New("doors: started before")
	}
	var lc net.ListenConfig
	for _, addr := range d.cfg.Listen {
		l, err := lc.Listen(ctx, "tcp", addr)
		if err != nil {
			for _, open := range d.listeners {
				_ = open.Close() // nothing has been served on it
			}
			d.listeners = nil
			return fmt.Errorf("doors: %w", err)
		}
		d.listeners = append(d.listeners, l)
	}
	d.started = true
	if err := d.serve(); err != nil {
		for _, open := range d.listeners {
			err = errors.Join(err, open.Close())
		}
		d.listeners, d.started = nil, false
		return err
	}
	go d.flushTallies()
	return nil
}

// Failed yields an error when a listener stops by itself.
func (d *Doors) Failed() <-chan error { return d.fatal }

// Addr returns the first address that is listened on; nil before Start.
func (d *Doors) Addr() net.Addr {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.listeners) == 0 {
		return nil
	}
	return d.listeners[0].Addr()
}

func (d *Doors) open() []net.Listener {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.listeners
}

// Stop stops accepting, finishes the requests in flight and flushes the tallies. The lanes must still be running.
func (d *Doors) Stop(ctx context.Context) error {
	d.mu.Lock()
	first := !d.stopped
	d.stopped = true
	started := d.started
	d.mu.Unlock()
	if first {
		close(d.closing)
	}
	if !started {
		return nil
	}
	for _, l := range d.open() {
		_ = l.Close() // a server that has not come to serve it yet would not; closing twice is harmless
	}
	var err error
	if d.loops != nil {
		err = d.loops.Stop(ctx) // first, because what it hands over is still served
	}
	if shut := d.server.ShutdownWithContext(ctx); !errors.Is(shut, net.ErrClosed) {
		err = errors.Join(err, shut)
	}
	if d.handed != nil {
		_ = d.handed.Close() // a server that had not come to serve it has not closed it
	}
	d.serving.Wait()
	select {
	case <-d.flusher:
	case <-ctx.Done():
		return fmt.Errorf("doors: %w", ctx.Err())
	}
	if first {
		d.flushOnce() // what the last requests refused
	}
	if err != nil {
		return fmt.Errorf("doors: %w", err)
	}
	return nil
}

// flushTallies hands what was refused to the lanes once a second, so that it is counted durably too.
func (d *Doors) flushTallies() {
	defer close(d.flusher)
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			d.flushOnce()
		case <-d.closing:
			return
		}
	}
}

func (d *Doors) flushOnce() {
	list := d.tallies.take()
	if len(list) == 0 {
		return
	}
	if err := d.cfg.Lanes.AddTallies(list); err != nil {
		d.metrics.tallyLost.Inc()
		d.tallies.putBack(list)
	}
}
