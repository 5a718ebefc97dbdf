package journal

import (
	"context"
	"fmt"
	"slices"

	"milliard/internal/event"
	"milliard/internal/planted"
	"milliard/internal/route"
)

// lockedRows is how many rows AddLoad puts into a lane before it lets others have its lock.
const lockedRows = 256

// fewRows is how many rows are not worth a further attempt to fill a batch to its last byte.
const fewRows = 32

// Load is what one request brings: rows by columns, and events beside them that were made one by one. It is reused; its
// owner is the request's goroutine.
type Load struct {
	Columns event.Columns
	Rows    []uint32 // which rows of Columns are to be taken
	Events  []event.Event
	Tickets []Ticket // of Events, appended to by AddLoad

	batches []*pending // that hold rows of Columns
	sorted  []uint32   // Rows by lane and group
	keys    []uint8    // of each of Rows: twice the lane, plus one for a sale
	lanes   []uint8    // of Events
	hashed  []byte     // of the id that is being hashed
	each    int64      // what a row is charged against the queue limit
}

// Reset empties the load and keeps its own memory.
func (x *Load) Reset() {
	x.Columns.Reset()
	clear(x.batches)
	x.Rows, x.Events, x.Tickets, x.batches = x.Rows[:0], nil, nil, x.batches[:0]
}

// Wait waits until everything is durable; see Ticket.Wait.
func (x *Load) Wait(ctx context.Context) error {
	for _, of := range x.batches {
		if err := (Ticket{of: of}).Wait(ctx); err != nil {
			return err
		}
	}
	for i := range x.Tickets {
		if err := x.Tickets[i].Wait(ctx); err != nil {
			return err
		}
	}
	return nil
}

// AddLoad takes all rows and events of a request or, with an error, none; see AddAll.
func (l *Lanes) AddLoad(x *Load, catalog uint64) error {
	x.batches = x.batches[:0]
	if len(x.Rows) == 0 {
		var err error
		x.Tickets, err = l.AddAll(x.Tickets[:0], x.Events, catalog)
		return err
	}
	var count, sales [MaxLanes]int // rows, and those among them that are sales
	var events [MaxLanes]int
	var size [MaxLanes]int64
	if err := l.sortEvents(x, &events, &size); err != nil {
		return err
	}
	text, longest := x.Columns.Text(x.Rows)
	if 64+longest > MaxEventBytes {
		return fmt.Errorf("%w: up to %d bytes", ErrTooLarge, 64+longest)
	}
	x.each = 64 + (text+int64(len(x.Rows))-1)/int64(len(x.Rows))
	l.sortRows(x, &count, &sales)
	for lane, p := range l.producers {
		size[lane] += int64(count[lane]) * x.each
		if err := p.fits(count[lane]+events[lane], size[lane]); err != nil {
			return err
		}
	}
	for lane, p := range l.producers {
		if count[lane]+events[lane] == 0 {
			continue
		}
		if err := p.reserveOpen(count[lane]+events[lane], size[lane]); err != nil {
			for undo, q := range l.producers[:lane] {
				q.release(count[undo]+events[undo], size[undo])
			}
			return err
		}
	}
	rows := x.sorted
	for lane, p := range l.producers {
		plain := count[lane] - sales[lane]
		p.addRows(x, rows[:plain], false, catalog)
		p.addRows(x, rows[plain:count[lane]], true, catalog)
		rows = rows[count[lane]:]
		if events[lane] > 0 {
			p.addReserved(x.Tickets, x.Events, x.lanes, catalog)
		}
	}
	return nil
}

// sortEvents finds the lanes of the events and adds up what they are charged.
func (l *Lanes) sortEvents(x *Load, count *[MaxLanes]int, size *[MaxLanes]int64) error {
	x.lanes = x.lanes[:0]
	for i := range x.Events {
		n := eventBytes(&x.Events[i])
		if n > MaxEventBytes {
			return fmt.Errorf("event %d: %w: %d bytes", i, ErrTooLarge, n)
		}
		lane := l.laneOf(&x.Events[i])
		x.lanes = append(x.lanes, uint8(lane))
		count[lane]++
		size[lane] += n
	}
	x.Tickets = append(x.Tickets[:0], make([]Ticket, len(x.Events))...)
	return nil
}

// sortRows puts the rows in the order of their lanes, in each of which the sales come last, and counts them.
func (l *Lanes) sortRows(x *Load, count, sales *[MaxLanes]int) {
	types := x.Columns.U[event.ColType]
	if len(l.producers) == 1 && types == nil {
		x.sorted, count[0] = append(x.sorted[:0], x.Rows...), len(x.Rows)
		if x.Columns.One[event.ColType] == uint64(event.Conversion) {
			sales[0] = count[0]
		}
		return
	}
	x.keys = slices.Grow(x.keys[:0], len(x.Rows))[:len(x.Rows)]
	var starts [2*MaxLanes + 1]int
	var e event.Event
	for i, r := range x.Rows {
		key := uint8(0)
		if len(l.producers) > 1 {
			x.Columns.Route(int(r), &e)
			var slot uint16
			slot, x.hashed = l.router.SlotWith(x.hashed, &e)
			key = 2 * uint8(route.Lane(slot, len(l.producers)))
		}
		if event.Type(x.Columns.Value(event.ColType, int(r))) == event.Conversion {
			key++
		}
		x.keys[i] = key
		starts[key+1]++
	}
	for lane := range l.producers {
		sales[lane] = starts[2*lane+2]
		count[lane] = starts[2*lane+1] + sales[lane]
	}
	for k := 1; k < len(starts); k++ {
		starts[k] += starts[k-1]
	}
	x.sorted = slices.Grow(x.sorted[:0], len(x.Rows))[:len(x.Rows)]
	for i, r := range x.Rows {
		k := x.keys[i]
		x.sorted[starts[k]] = r
		starts[k]++
	}
}

// addRows adds reserved rows of a load, all of them sales or none.
func (p *Producer) addRows(x *Load, rows []uint32, sale bool, catalog uint64) {
	for len(rows) > 0 {
		n, wake := p.addSomeRows(x, rows[:min(len(rows), lockedRows)], sale, catalog)
		if wake {
			p.signal()
		}
		rows = rows[n:]
	}
}

// addSomeRows adds as many rows as the open batch has room for, or makes another batch the open one.
func (p *Producer) addSomeRows(x *Load, rows []uint32, sale bool, catalog uint64) (n int, wake bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopped != nil {
		dead := newPending(p.opt.Lane)
		dead.finish(0, p.stopped)
		x.batches = append(x.batches, dead)
		p.release(len(rows), int64(len(rows))*x.each)
		return len(rows), false
	}
	n = p.open.addRows(&x.Columns, rows, sale, catalog)
	if n == 0 {
		p.rollLocked()
		return 0, true
	}
	if k := len(x.batches); k == 0 || x.batches[k-1] != p.open.of {
		x.batches = append(x.batches, p.open.of)
	}
	p.open.charged += int64(n) * x.each
	if p.open.events == n {
		p.open.opened = p.opt.Now()
		wake = true
	}
	if p.open.full() {
		p.rollLocked()
		wake = true
	}
	return n, wake
}

// addRows takes the first of rows, as many as there is room for, and says how many. An empty batch takes at least one.
func (b *batch) addRows(c *event.Columns, rows []uint32, sale bool, catalog uint64) int {
	if g := b.recent; g == nil || g.space != c.Space || g.sale != sale || g.imp != c.Import {
		if !b.choose(c.Space, sale, c.Import) {
			return 0
		}
	}
	n := min(len(rows), maxRows-b.events)
	limit := TargetBatchBytes - headerBytes - 8 - b.size
	for !b.recent.rows.TryRows(c, rows[:n], limit) {
		switch {
		case n > fewRows || n > 1 && b.events == 0:
			n /= 2
		case b.events > 0:
			return 0
		case limit == 2*TargetBatchBytes:
			return 0 // cannot happen: an event is far smaller
		default:
			limit = 2 * TargetBatchBytes
		}
	}
	b.events += n
	if !planted.Is(planted.RuleOutsideLog) || b.catalog == 0 {
		b.catalog = max(b.catalog, catalog)
	}
	return n
}
