package journal

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"milliard/internal/event"
	"milliard/internal/stage"
)

// ProducerOptions are what a lane's producer needs. Everything but Stream has a default.
type ProducerOptions struct {
	Lane             int
	Stream           Stream
	Previous         []Incarnation    // have ended and are to be closed, besides the one that wrote the last batch
	MaxPendingEvents int              // taken and not yet durable; default 200,000
	MaxPendingBytes  int64            // the same in bytes of strings; default 32 MiB
	AppendTimeout    time.Duration    // of one attempt; default 5 s
	TickEvery        time.Duration    // idle time after which log time is moved; default 1 min
	Now              func() time.Time // default time.Now
	Random           io.Reader        // names incarnations; default crypto/rand
	LimpAfter        time.Duration    // a batch in flight for longer makes the lane limp; default 250 ms
	Backlog          Backlog          // nil: none
	Room             func() error     // why the disk has no room for another batch now, which is then refused; nil: not asked
	Log              *slog.Logger
	Metrics          *Metrics   // nil: none
	Stages           *stage.Set // nil: the append stage is not measured
}

// Resends of a batch whose outcome is unknown wait between these.
const (
	minBackoff = 10 * time.Millisecond
	maxBackoff = time.Second
)

// Producer turns the events of one lane into batches and says when they are durable. A batch goes
//
//	open → frozen (its bytes are fixed) → in flight → acknowledged → next
//
// with one batch in flight, while the next grows. Adders touch only the open batch, under mu, and never wait for
// encoding or I/O. The goroutine run owns everything below "owned by run"; the goroutine attempt owns a frozen batch
// from the moment it is sent to it until its result comes back.
type Producer struct {
	opt   ProducerOptions
	log   *slog.Logger
	stats *recorder

	pendingEvents atomic.Int64
	reached       atomic.Uint64 // sequence of the last batch that this process stored
	pendingBytes  atomic.Int64

	mu      sync.Mutex
	open    *batch     // grows
	full    []*batch   // have reached their size and wait for run, oldest first
	held    []*heldSet // can be withdrawn; the last one grows
	spare   []*batch   // memory for the next ones
	tallies map[tallyKey]int64
	stopped error // set once: nothing is taken any more
	broken  error // why run gave up

	wake   chan struct{}             // has room for one: there is something new under mu
	ending chan struct{}             // closed by Stop
	ended  chan struct{}             // closed by run
	begun  bool                      // guarded by mu
	flying atomic.Pointer[time.Time] // when the batch in flight was sent; nil: none is
	jammed atomic.Bool               // refused, for everybody
	ender  sync.Once
	cancel context.CancelFunc // ends the attempts

	// Owned by run.
	name    Incarnation
	counter uint64 // of the last acknowledged batch of name
	prev    Hash   // its hash
	last    uint64 // the stream's last sequence
	closing []Incarnation
	ticked  int64 // unix ms when the last control record that was stored was sealed
	first   bool  // nothing has been written since the start
	refused bool  // the last attempt found the journal full
	cramped bool  // it was not made, because the disk has no room
	bufs    [][]byte
	said    fullLog

	joined    batch     // scratch of join
	heldFirst bool      // held events did not fit behind a batch: the next one is theirs
	drained   bool      // the last batch was the backlog's: now it is the lane's turn
	strict    int       // batches of the backlog that go before everything else
	probed    time.Time // when one was sent
	again     []byte    // see planted.SpoolTwice
}

// frozen is a batch whose bytes are fixed but for header and checksum, which seal writes.
type frozen struct {
	head    Header
	msg     []byte
	hash    Hash
	spooled bool       // of the backlog: its bytes and its place are fixed
	of      *pending   // KindEvents, as the next four; nil if all its events were held
	held    []*pending // held events that have joined it
	charged int64      // against the queue limit
	opened  time.Time  // when its first event came
	waited  time.Duration
	tallied []Tally // KindTallies: put back if they are not stored
	closes  bool    // KindClosed: of the first in closing
	sealed  int64   // unix ms when its bytes were fixed
	sent    time.Time
	unknown bool // an attempt had no answer: it may be stored
	cramped bool // no attempt was made, because the disk has no room
}

// result is what became of a frozen batch.
type result struct {
	f   *frozen
	seq uint64
	err error
}

// NewProducer returns a producer that Start makes ready.
func NewProducer(opt ProducerOptions) *Producer {
	if opt.MaxPendingEvents == 0 {
		opt.MaxPendingEvents = 200_000
	}
	if opt.MaxPendingBytes == 0 {
		opt.MaxPendingBytes = 32 << 20
	}
	if opt.AppendTimeout == 0 {
		opt.AppendTimeout = 5 * time.Second
	}
	if opt.LimpAfter == 0 {
		opt.LimpAfter = 250 * time.Millisecond
	}
	if opt.TickEvery == 0 {
		opt.TickEvery = time.Minute
	}
	if opt.Now == nil {
		opt.Now = time.Now
	}
	if opt.Random == nil {
		opt.Random = rand.Reader
	}
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	p := &Producer{
		opt: opt, log: opt.Log.With("lane", opt.Lane), stats: newRecorder(opt.Lane, opt.Now, opt.Metrics, appendStage(&opt)),
		open: new(batch), tallies: make(map[tallyKey]int64),
		wake: make(chan struct{}, 1), ending: make(chan struct{}), ended: make(chan struct{}),
	}
	p.open.reset(opt.Lane)
	return p
}

func appendStage(opt *ProducerOptions) *stage.Recorder {
	if opt.Stages == nil {
		return nil
	}
	return opt.Stages.New(stage.Append, fmt.Sprintf("lane-%d", opt.Lane), 1)
}

// Start finds the end of the stream, takes a new name and begins to write. It does not wait for a first answer, so a
// full journal does not keep the process from starting.
func (p *Producer) Start(ctx context.Context) error {
	if err := p.begin(ctx); err != nil {
		return fmt.Errorf("start lane %d: %w", p.opt.Lane, err)
	}
	life, cancel := context.WithCancel(context.Background())
	p.cancel = cancel
	go p.run(life)
	return nil
}

// begin makes the lane ready to write.
func (p *Producer) begin(ctx context.Context) error {
	st, err := p.opt.Stream.State(ctx)
	if err != nil {
		return err
	}
	p.last, p.first = st.Last, true
	if st.Last == 0 {
		p.ticked = p.opt.Now().UnixMilli() // there is no log time yet: the first message makes it
	}
	p.closing = append(p.closing, p.opt.Previous...)
	p.strict = p.waiting()
	if st.Last > 0 {
		p.findPrevious(ctx)
	}
	if err := p.rename(); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.begun || p.stopped != nil {
		return fmt.Errorf("start twice: %w", ErrStopped)
	}
	p.begun = true
	return nil
}

// maxLookBack is how many batches of a backlog are passed over to find the last process. Behind more of them its
// incarnation stays open: a few bytes of every image.
const maxLookBack = 256

// findPrevious puts the incarnation that wrote the last batch on the list of those to close.
func (p *Producer) findPrevious(ctx context.Context) {
	for seq := p.last; seq > 0 && p.last-seq < maxLookBack; seq-- {
		m, err := p.opt.Stream.Get(ctx, seq)
		if err != nil {
			p.log.Warn("last batch is unreadable; its incarnation stays open", "seq", seq, "err", err)
			return
		}
		h, _, err := Open(m.Data)
		if err != nil {
			p.log.Warn("last batch is damaged; its incarnation stays open", "seq", seq, "err", err)
			return
		}
		if h.Spooled { // it ends when all of it is stored, not with the process that drained it
			continue
		}
		if !slices.Contains(p.closing, h.Incarnation) {
			p.closing = append(p.closing, h.Incarnation)
		}
		return
	}
}

// rename begins a new incarnation. The old one is closed later if it has stored anything.
func (p *Producer) rename() error {
	if p.counter > 0 {
		p.closing = append(p.closing, p.name)
	}
	p.counter, p.prev = 0, Hash{}
	if _, err := io.ReadFull(p.opt.Random, p.name[:]); err != nil {
		return fmt.Errorf("name an incarnation: %w", err)
	}
	return nil
}

// Stop takes no more events, waits until what was taken is durable, and ends. When ctx ends first, what is left gets
// ErrUnknown if it may have been stored and ErrStopped if not. It may be called again and before Start.
func (p *Producer) Stop(ctx context.Context) error {
	p.mu.Lock()
	begun := p.begun
	if p.stopped == nil {
		p.stopped = fmt.Errorf("lane %d is closed: %w", p.opt.Lane, ErrStopped)
	}
	p.mu.Unlock()
	if !begun {
		return nil
	}
	p.ender.Do(func() { close(p.ending) })
	select {
	case <-p.ended:
		return nil
	case <-ctx.Done():
	}
	p.cancel()
	<-p.ended
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.broken != nil {
		return fmt.Errorf("stop lane %d: %w: %w", p.opt.Lane, ctx.Err(), p.broken)
	}
	return nil
}

// reserve takes room in the queue, before any lock.
func (p *Producer) reserve(events int, bytes int64) error {
	if p.pendingEvents.Add(int64(events)) <= int64(p.opt.MaxPendingEvents) {
		if p.pendingBytes.Add(bytes) <= p.opt.MaxPendingBytes {
			return nil
		}
		p.pendingBytes.Add(-bytes)
	}
	p.pendingEvents.Add(-int64(events))
	p.stats.refused(events)
	return fmt.Errorf("lane %d: %w", p.opt.Lane, ErrOverloaded)
}

func (p *Producer) release(events int, bytes int64) {
	p.pendingEvents.Add(-int64(events))
	p.pendingBytes.Add(-bytes)
}

// Add takes one event. It copies what it keeps and waits for no I/O.
func (p *Producer) Add(e *event.Event, catalog uint64) (Ticket, error) {
	n := eventBytes(e)
	if n > MaxEventBytes {
		return Ticket{}, fmt.Errorf("%w: %d bytes", ErrTooLarge, n)
	}
	if err := p.reserve(1, n); err != nil {
		return Ticket{}, err
	}
	p.mu.Lock()
	if err := p.stopped; err != nil {
		p.mu.Unlock()
		p.release(1, n)
		return Ticket{}, err
	}
	t, wake := p.addLocked(e, n, catalog)
	p.mu.Unlock()
	if wake {
		p.signal()
	}
	return t, nil
}

// addLocked puts one event into the open batch and says whether run must be told.
func (p *Producer) addLocked(e *event.Event, n int64, catalog uint64) (t Ticket, wake bool) {
	t, ok := p.open.add(e, catalog)
	if !ok {
		p.rollLocked()
		wake = true
		t, _ = p.open.add(e, catalog)
	}
	p.open.charged += n
	if p.open.events == 1 {
		p.open.opened = p.opt.Now()
		wake = true
	}
	if p.open.full() {
		p.rollLocked()
		wake = true
	}
	return t, wake
}

// rollLocked puts the open batch on the queue of full ones and opens another.
func (p *Producer) rollLocked() {
	p.full = append(p.full, p.open)
	if n := len(p.spare); n > 0 {
		p.open, p.spare = p.spare[n-1], p.spare[:n-1]
	} else {
		p.open = new(batch)
	}
	p.open.reset(p.opt.Lane)
}

// signal tells run that something is there. One token is enough for any number of reasons.
func (p *Producer) signal() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// AddTallies takes counts of what a door refused. They are summed until they are written with the next batches.
func (p *Producer) AddTallies(ts []Tally) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopped != nil {
		return p.stopped
	}
	over := false
	for _, t := range ts {
		k := tallyKey{t.Minute, t.Tenant, t.Door, t.Reason}
		if len(t.Door) > maxDoorBytes || len(t.Reason) > maxDoorBytes {
			return fmt.Errorf("tally of door %.40q, reason %.40q: name too long", t.Door, t.Reason)
		}
		if _, ok := p.tallies[k]; !ok && len(p.tallies) >= maxTallies {
			over = true
			continue
		}
		p.tallies[k] += t.N
	}
	p.signal()
	if over {
		return fmt.Errorf("tallies: %w", ErrOverloaded)
	}
	return nil
}
