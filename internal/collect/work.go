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
	columns  byColumns
	load     journal.Load // its Rows are those that columns has resolved
	whole    bool         // all rows of a columnar batch are in load.Rows, and outcomes is empty
	singly   bool         // columnar batches are resolved row by row
	one      event.Event  // a row of load
	subs     subCache
	facts    clickFacts
	waited   time.Duration
	bodyRead bool
	holder   holder // whose share of the memory for bodies the request uses
	held     int64  // how much of it

	handed bool // the lanes have the request's events in hand
	spoilt bool // a panic left it in a state that nobody knows

	announced bool // the body is too large for any door, and fasthttp was told that there is none
	unread    bool // the body was refused before its end: the answer comes first
}

// outcome is what became of one item of a request: an event of work.events, a row of work.load, or a problem.
type outcome struct {
	event   int32 // inLoad: the row of the item's number
	problem *problem
}

const inLoad = -1

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
	w.load.Reset()
	w.columns.release()
	w.whole, w.singly, w.one = false, false, event.Event{}
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
	w.holder, w.held, w.handed, w.spoilt = holder{}, 0, false, false
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

// items returns how many items the request had.
func (w *work) items() int {
	if w.whole {
		return w.load.Columns.N
	}
	return len(w.outcomes)
}

// accepted returns how many of them were accepted.
func (w *work) accepted() int { return len(w.load.Rows) + len(w.events) }

// event returns the event of item i, as far as its id goes.
func (w *work) event(x *outcome, i int) *event.Event {
	if x.event != inLoad {
		return &w.events[x.event]
	}
	w.one = event.Event{}
	w.load.Columns.Route(i, &w.one)
	return &w.one
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
	if len(w.load.Rows) > 0 {
		return w.submitLoad(d, o)
	}
	if len(w.events) == 0 {
		return nil
	}
	var err error
	w.handed = true
	w.tickets, err = d.cfg.Lanes.AddAll(w.tickets[:0], w.events, o.version)
	w.handed = false
	if err != nil {
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

// submitLoad is submit for rows of a columnar batch and the events beside them.
func (w *work) submitLoad(d *Doors, o *origin) error {
	w.load.Events, w.load.Tickets = w.events, w.tickets[:0]
	w.handed = true
	err := d.cfg.Lanes.AddLoad(&w.load, o.version)
	w.handed = false
	w.tickets = w.load.Tickets
	if err != nil {
		return err
	}
	start := time.Now()
	defer func() { w.waited += time.Since(start) }()
	return w.load.Wait(d.waits.get(waitDurable, d.cfg.MaxWait))
}

// submitOne is submit for a single event.
func (w *work) submitOne(d *Doors, o *origin, e *event.Event, kind int, wait time.Duration) (journal.Ticket, error) {
	w.handed = true
	ticket, err := d.cfg.Lanes.Add(e, o.version)
	w.handed = false
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
