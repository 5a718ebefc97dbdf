package journal

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"milliard/internal/event"
	"milliard/internal/route"
)

// MaxLanes is the most lanes of one process.
const MaxLanes = 64

// lockedEvents is how many events AddAll puts into a lane before it lets others have its lock.
const lockedEvents = 512

// Lanes are all producers of this process. An event goes to the lane that carries its slot.
type Lanes struct {
	router    route.Router
	producers []*Producer
	scratch   sync.Pool // *[]uint8: the lane of each event of an AddAll
}

// NewLanes returns one producer per stream; base gives all of them their settings but Lane, Stream, Previous and Backlog;
// previous and backlogs, which may be shorter, are by lane the ended incarnations and what waits outside.
func NewLanes(
	router route.Router, streams []Stream, previous [][]Incarnation, base ProducerOptions, backlogs ...Backlog,
) (*Lanes, error) {
	if len(streams) == 0 || len(streams) > MaxLanes {
		return nil, fmt.Errorf("lanes: %d streams", len(streams))
	}
	l := &Lanes{router: router, scratch: sync.Pool{New: func() any { return new([]uint8) }}}
	for i, s := range streams {
		opt := base
		opt.Lane, opt.Stream, opt.Previous = i, s, nil
		if i < len(previous) {
			opt.Previous = previous[i]
		}
		if i < len(backlogs) {
			opt.Backlog = backlogs[i]
		}
		l.producers = append(l.producers, NewProducer(opt))
	}
	return l, nil
}

// Start starts every lane, or none.
func (l *Lanes) Start(ctx context.Context) error {
	for _, p := range l.producers {
		if err := p.Start(ctx); err != nil {
			return errors.Join(err, l.Stop(ctx))
		}
	}
	return nil
}

// Stop stops all lanes at once and waits for all; see Producer.Stop.
func (l *Lanes) Stop(ctx context.Context) error {
	errs := make([]error, len(l.producers))
	var wg sync.WaitGroup
	for i, p := range l.producers {
		wg.Go(func() { errs[i] = p.Stop(ctx) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// Len returns the number of lanes.
func (l *Lanes) Len() int { return len(l.producers) }

// Stats returns the statistics of every lane.
func (l *Lanes) Stats() []Stats {
	all := make([]Stats, len(l.producers))
	for i, p := range l.producers {
		all[i] = p.Stats()
	}
	return all
}

// Health returns why a lane takes no events, or nil.
func (l *Lanes) Health() error {
	var errs []error
	for _, p := range l.producers {
		errs = append(errs, p.Health())
	}
	return errors.Join(errs...)
}

func (l *Lanes) laneOf(e *event.Event) int {
	if len(l.producers) == 1 {
		return 0
	}
	return route.Lane(l.router.Slot(e), len(l.producers))
}

// Add takes one event into its lane; see Producer.Add.
func (l *Lanes) Add(e *event.Event, catalog uint64) (Ticket, error) {
	return l.producers[l.laneOf(e)].Add(e, catalog)
}

// AddTallies takes door tallies. They have no slot; the first lane carries them.
func (l *Lanes) AddTallies(ts []Tally) error { return l.producers[0].AddTallies(ts) }

// AddAll takes many events and appends one ticket each to dst, in order. It takes all of them or, with an error, none.
// Only a lane that fails in the same moment breaks that: its tickets then say ErrStopped.
func (l *Lanes) AddAll(dst []Ticket, events []event.Event, catalog uint64) ([]Ticket, error) {
	if len(l.producers) == 1 {
		return l.producers[0].AddAll(dst, events, catalog)
	}
	scratch := l.scratch.Get().(*[]uint8)
	defer l.scratch.Put(scratch)
	lanes := (*scratch)[:0]
	var count [MaxLanes]int
	var size [MaxLanes]int64
	for i := range events {
		n := eventBytes(&events[i])
		if n > MaxEventBytes {
			return dst, fmt.Errorf("event %d: %w: %d bytes", i, ErrTooLarge, n)
		}
		lane := l.laneOf(&events[i])
		lanes = append(lanes, uint8(lane))
		count[lane]++
		size[lane] += n
	}
	*scratch = lanes
	for lane, p := range l.producers {
		if err := p.fits(count[lane], size[lane]); err != nil {
			return dst, err
		}
	}
	for lane, p := range l.producers {
		if count[lane] == 0 {
			continue
		}
		if err := p.reserveOpen(count[lane], size[lane]); err != nil {
			for undo, q := range l.producers[:lane] {
				q.release(count[undo], size[undo])
			}
			return dst, err
		}
	}
	base := len(dst)
	dst = append(dst, make([]Ticket, len(events))...)
	for lane, p := range l.producers {
		if count[lane] > 0 {
			p.addReserved(dst[base:], events, lanes, catalog)
		}
	}
	return dst, nil
}

// AddAll takes many events of this lane; see Lanes.AddAll.
func (p *Producer) AddAll(dst []Ticket, events []event.Event, catalog uint64) ([]Ticket, error) {
	size := int64(0)
	for i := range events {
		n := eventBytes(&events[i])
		if n > MaxEventBytes {
			return dst, fmt.Errorf("event %d: %w: %d bytes", i, ErrTooLarge, n)
		}
		size += n
	}
	if err := p.fits(len(events), size); err != nil {
		return dst, err
	}
	if err := p.reserveOpen(len(events), size); err != nil {
		return dst, err
	}
	base := len(dst)
	dst = append(dst, make([]Ticket, len(events))...)
	p.addReserved(dst[base:], events, nil, catalog)
	return dst, nil
}

// fits says whether the queue, were it empty, has room for so much. A single event always may wait for its turn.
func (p *Producer) fits(events int, size int64) error {
	if events > 1 && (events > p.opt.MaxPendingEvents || size > p.opt.MaxPendingBytes) {
		p.stats.refused(events)
		return fmt.Errorf("lane %d: %d events, %d bytes: %w", p.opt.Lane, events, size, ErrNeverFits)
	}
	return nil
}

// reserveOpen reserves unless the lane has stopped.
func (p *Producer) reserveOpen(events int, size int64) error {
	if err := p.Health(); err != nil {
		return err
	}
	return p.reserve(events, size)
}

// Health returns why the lane takes no events, or nil.
func (p *Producer) Health() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stopped
}

// addReserved adds those events whose lane is p's (all, without lanes) and writes their tickets at the same index.
func (p *Producer) addReserved(tickets []Ticket, events []event.Event, lanes []uint8, catalog uint64) {
	for len(events) > 0 {
		n := min(len(events), lockedEvents)
		var mine []uint8
		if lanes != nil {
			mine, lanes = lanes[:n], lanes[n:]
		}
		if p.addSome(tickets[:n], events[:n], mine, catalog) {
			p.signal()
		}
		tickets, events = tickets[n:], events[n:]
	}
}

func (p *Producer) addSome(tickets []Ticket, events []event.Event, lanes []uint8, catalog uint64) (wake bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopped != nil {
		p.failSome(tickets, events, lanes)
		return false
	}
	for i := range events {
		if lanes != nil && int(lanes[i]) != p.opt.Lane {
			continue
		}
		t, w := p.addLocked(&events[i], eventBytes(&events[i]), catalog)
		tickets[i] = t
		wake = wake || w
	}
	return wake
}

// failSome gives events that came too late tickets that say so.
func (p *Producer) failSome(tickets []Ticket, events []event.Event, lanes []uint8) {
	dead := newPending(p.opt.Lane)
	dead.finish(0, p.stopped)
	for i := range events {
		if lanes == nil || int(lanes[i]) == p.opt.Lane {
			tickets[i] = Ticket{of: dead}
			p.release(1, eventBytes(&events[i]))
		}
	}
}
