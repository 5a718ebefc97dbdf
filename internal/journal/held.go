package journal

import (
	"errors"
	"fmt"
	"time"

	"milliard/internal/crash"
	"milliard/internal/event"
)

// Limits of a set of held events: with them it fits behind any batch that is not itself at its hard limit.
const (
	maxHeldRows  = 256
	maxHeldBytes = MaxEventBytes
)

// Held is one event that a lane has taken and gives back on request, until the bytes of its batch are fixed. The event's
// memory is the caller's, who waits: it is read when the batch is frozen, and never again after Wait has told the outcome
// or Withdraw has returned.
type Held struct {
	Ticket
	p *Producer
}

// heldSet is the held events that will stand in one batch.
type heldSet struct {
	of      *pending
	events  []*event.Event // nil: withdrawn
	left    int            // not withdrawn
	charged int64          // of those left
	opened  time.Time
	catalog uint64
}

// Hold takes one event that can be withdrawn; see Held.
func (l *Lanes) Hold(e *event.Event, catalog uint64) (Held, error) {
	return l.producers[l.laneOf(e)].Hold(e, catalog)
}

// Limping says whether the event's lane is known not to make anything durable now, and which lane that is.
func (l *Lanes) Limping(e *event.Event) (lane int, limps bool) {
	lane = l.laneOf(e)
	return lane, l.producers[lane].Limping()
}

// stuckAfter is how long a batch may be on its way before the lane says that it does not commit.
const stuckAfter = 2 * time.Second

// Commits returns nil, or which lanes make nothing durable although they take events, and why.
func (l *Lanes) Commits() error {
	var errs []error
	for i, p := range l.producers {
		if p.Health() != nil { // it takes none, and says why there
			continue
		}
		if p.jammed.Load() {
			errs = append(errs, fmt.Errorf("lane %d: %w", i, ErrFull))
		}
		if since := p.flying.Load(); p.hangs(since, stuckAfter) {
			errs = append(errs, fmt.Errorf("lane %d: no answer since %s", i, since.UTC().Format(time.RFC3339)))
		}
	}
	return errors.Join(errs...)
}

// Wake tells a lane that its backlog has grown.
func (l *Lanes) Wake(lane int) { l.producers[lane].signal() }

// Hold takes one event that can be withdrawn; see Held.
func (p *Producer) Hold(e *event.Event, catalog uint64) (Held, error) {
	n := eventBytes(e)
	if n > MaxEventBytes {
		return Held{}, ErrTooLarge
	}
	if err := p.reserve(1, n); err != nil {
		return Held{}, err
	}
	p.mu.Lock()
	if err := p.stopped; err != nil {
		p.mu.Unlock()
		p.release(1, n)
		return Held{}, err
	}
	s, wake := p.setLocked(n)
	s.events = append(s.events, e)
	s.left++
	s.charged += n
	s.catalog = max(s.catalog, catalog)
	h := Held{Ticket: Ticket{of: s.of, group: uint16(len(s.events) - 1)}, p: p}
	p.mu.Unlock()
	if wake {
		p.signal()
	}
	return h, nil
}

// setLocked returns the set that one more event of n bytes goes to, and whether it is new.
func (p *Producer) setLocked(n int64) (s *heldSet, made bool) {
	if k := len(p.held); k > 0 {
		if s := p.held[k-1]; len(s.events) < maxHeldRows && s.charged+n <= maxHeldBytes {
			return s, false
		}
	}
	s = &heldSet{of: newPending(p.opt.Lane), opened: p.opt.Now()}
	p.held = append(p.held, s)
	return s, true
}

// Withdraw takes the event back. True: it stands in no batch and never will. False: its batch is frozen, and what became
// of it is what Wait says. It is called once, by who holds it.
func (h Held) Withdraw() bool {
	p := h.p
	p.mu.Lock()
	for _, s := range p.held {
		if s.of != h.of {
			continue
		}
		n := eventBytes(s.events[h.group])
		s.events[h.group] = nil
		s.left--
		s.charged -= n
		p.mu.Unlock()
		p.release(1, n)
		return true
	}
	p.mu.Unlock()
	select {
	case <-h.of.done:
		return h.of.unsent || errors.Is(h.of.err, ErrFull) && !errors.Is(h.of.err, ErrUnknown)
	default:
		return false
	}
}

// Limping says whether the lane is known not to make anything durable now: it has stopped, the journal is full, or the
// batch in flight has been on its way for too long.
func (p *Producer) Limping() bool {
	if p.jammed.Load() || crash.Fail(crash.LaneLimping) != nil {
		return true
	}
	return p.hangs(p.flying.Load(), p.opt.LimpAfter) || p.Health() != nil
}

// hangs says whether a batch that was sent then has been on its way for longer than d. A step of the system's clock is not
// time; with a clock that knows no other, a batch that was sent at a time that has not come yet may hang.
func (p *Producer) hangs(sent *time.Time, d time.Duration) bool {
	if sent == nil {
		return false
	}
	age := p.opt.Now().Sub(*sent)
	return age > d || age < 0
}

// holds says whether held events wait.
func (p *Producer) holds() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.held) > 0 && p.held[0].left == 0 { // all were withdrawn: nobody waits
		p.held = p.held[1:]
	}
	return len(p.held) > 0
}

// join puts held events, the oldest first, behind the rows of a batch whose bytes are about to be fixed: at least one
// set, and more until the batch has its size. From here on they cannot be withdrawn.
func (p *Producer) join(f *frozen) {
	for p.holds() && p.joinSet(f) && len(f.msg) < TargetBatchBytes {
	}
}

// joinSet puts the oldest set into the batch if it fits. The lock is held while its events are copied: they are few, and
// their memory is not ours.
func (p *Producer) joinSet(f *frozen) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	s, b := p.held[0], &p.joined
	if s.left == 0 { // withdrawn a moment ago
		return true
	}
	b.reset(p.opt.Lane)
	tickets := make([]Ticket, len(s.events))
	for i, e := range s.events {
		if e != nil {
			tickets[i], _ = b.add(e, s.catalog) // the limits of a set are far below those of a batch
		}
	}
	if f.head.Events > 0 && len(f.msg)+b.bytes() > MaxBatchBytes {
		p.heldFirst = true
		return false
	}
	first := make([]uint32, len(b.groups))
	row := f.head.Events
	for i, g := range b.groups {
		first[i] = row
		row += uint32(g.rows.Len())
		f.msg = AppendBlock(f.msg, g.rows.Block())
	}
	s.of.first = make([]uint32, len(s.events))
	for i := range tickets {
		if s.events[i] != nil {
			s.of.first[i] = first[tickets[i].group] + tickets[i].row
		}
	}
	f.head.Events += uint32(b.events)
	f.head.Received = min(f.head.Received, s.opened.UnixMilli())
	f.head.Catalog = max(f.head.Catalog, b.catalog)
	f.charged += s.charged
	f.held = append(f.held, s.of)
	p.held = p.held[1:]
	clear(s.events) // the memory is its owner's again
	return true
}

// heldAlone makes a batch of held events, when nothing else is there for them to join.
func (p *Producer) heldAlone() *frozen {
	now := p.opt.Now()
	f := &frozen{head: Header{Kind: KindEvents, Received: now.UnixMilli()}, opened: now, msg: AppendHeader(p.buffer())}
	p.join(f)
	if len(f.held) == 0 { // withdrawn meanwhile
		p.bufs = append(p.bufs, f.msg[:0])
		return nil
	}
	p.first, p.heldFirst = false, false
	return f
}
