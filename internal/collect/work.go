package collect

import (
	"context"
	"net/netip"
	"time"

	"milliard/internal/event"
	"milliard/internal/journal"
	"milliard/internal/token"
)

// work is the memory of one request. It is taken from a pool, belongs to the request's goroutine, and everything that
// aliases it (events, answers) is finished before it goes back.
type work struct {
	scan     scanner
	item     item
	claims   token.Claims
	events   []event.Event
	tickets  []journal.Ticket
	outcomes []outcome
	arena    []byte // encoded sub-ids, truncated addresses, decoded names
	body     []byte
	plain    []byte // decompressed body
	answer   []byte
	names    [][]byte
	text     []byte
	batch    batchReader
	subs     subCache
	facts    clickFacts
	waited   time.Duration
	bodyRead bool

	announced bool // the body is too large for any door, and fasthttp was told that there is none
	unread    bool // the body was refused before its end: the answer comes first
}

// outcome is what became of one item of a request: an event of work.events, or a problem.
type outcome struct {
	event   int32
	problem *problem
}

func newWork() *work { return &work{} }

// Bounds above which a request's memory is not kept.
const (
	keepBytes  = 1 << 20
	keepEvents = 12_000 // a full columnar batch, as append rounds it up
)

// release makes the memory of a finished request ready for the pool: what is large, and what still points to it, goes.
func (w *work) release() {
	w.item.reset()
	w.scan.start(nil)
	w.subs.reset()
	clear(w.events)
	clear(w.outcomes)
	w.events, w.tickets, w.outcomes = w.events[:0], w.tickets[:0], w.outcomes[:0]
	if cap(w.events) > keepEvents {
		w.events, w.tickets, w.outcomes = nil, nil, nil
	}
	for _, b := range []*[]byte{&w.arena, &w.body, &w.plain, &w.answer, &w.text} {
		if cap(*b) > keepBytes {
			*b = nil
		}
		*b = (*b)[:0]
	}
	w.names = w.names[:0]
	w.facts = clickFacts{}
	w.waited, w.bodyRead, w.announced, w.unread = 0, false, false, false
}

// next returns the memory of one more event.
func (w *work) next() *event.Event {
	if len(w.events) < cap(w.events) {
		w.events = w.events[:len(w.events)+1]
	} else {
		w.events = append(w.events, event.Event{})
	}
	return &w.events[len(w.events)-1]
}

// accept notes that the last event of w.events is the next item's.
func (w *work) accept() {
	w.outcomes = append(w.outcomes, outcome{event: int32(len(w.events) - 1)})
}

// reject notes what is wrong with the next item.
func (w *work) reject(p *problem) { w.outcomes = append(w.outcomes, outcome{problem: p}) }

// add resolves w.item into an event and notes the outcome.
func (w *work) add(d *Doors, o *origin) {
	if p := d.resolve(w, o, &w.item, w.next()); p != nil {
		w.events = w.events[:len(w.events)-1]
		w.reject(p)
		return
	}
	w.accept()
}

// submit hands the events to the lanes and waits until they are durable.
func (w *work) submit(d *Doors, o *origin) error {
	if len(w.events) == 0 {
		return nil
	}
	var err error
	if w.tickets, err = d.cfg.Lanes.AddAll(w.tickets[:0], w.events, o.version); err != nil {
		return err
	}
	start := time.Now()
	defer func() { w.waited += time.Since(start) }()
	ctx := d.waits.get(waitDurable, d.cfg.MaxWait)
	for i := range w.tickets {
		if err := w.tickets[i].Wait(ctx); err != nil {
			return err
		}
	}
	return nil
}

// submitOne is submit for a single event.
func (w *work) submitOne(d *Doors, o *origin, e *event.Event, kind int, wait time.Duration) (journal.Ticket, error) {
	ticket, err := d.cfg.Lanes.Add(e, o.version)
	if err != nil {
		return ticket, err
	}
	start := time.Now()
	err = ticket.Wait(d.waits.get(kind, wait))
	w.waited += time.Since(start)
	return ticket, err
}

// verdict waits for what the grid decided.
func (w *work) verdict(ctx context.Context, d *Doors, t journal.Ticket) string {
	if d.cfg.Verdicts == nil {
		return "pending"
	}
	start := time.Now()
	defer func() { w.waited += time.Since(start) }()
	lane, seq, row := t.Position()
	class, err := d.cfg.Verdicts.Wait(ctx, lane, seq, row)
	if err != nil {
		return "pending"
	}
	return class.String()
}

func (w *work) addrText(addr netip.Addr) []byte {
	w.text = addr.AppendTo(w.text[:0])
	return w.text
}
