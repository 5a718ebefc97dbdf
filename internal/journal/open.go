package journal

import (
	"slices"
	"time"

	"milliard/internal/event"
	"milliard/internal/planted"
)

// MaxEventBytes is the most that one event's strings may hold in bytes. It is far below MaxBatchBytes, so that an
// event always fits into an empty batch.
const MaxEventBytes = 64 << 10

// Limits of one batch. With them it cannot pass MaxBatchBytes whatever comes: a batch is closed when it would hold more
// than TargetBatchBytes, its numbers alone may not push it beyond twice that, the last event's strings may add
// MaxEventBytes, and nine string columns may each grow an index of two bytes per row.
const (
	maxGroups = 32
	maxRows   = 8192
)

// eventBytes is what an event is charged against the queue limit in bytes: its strings and a flat rest.
func eventBytes(e *event.Event) int64 {
	return int64(64 + len(e.Foreign) + len(e.Source) + len(e.Order) + len(e.Subs) + len(e.Ref) + len(e.Referrer) +
		len(e.IP) + len(e.UA) + len(e.Visitor))
}

// group is a block under construction. Rows are grouped by what makes their columns alike: the id space, whether they
// are sales (only those have order ids and clicks), and the import.
type group struct {
	space event.Space
	sale  bool
	imp   event.ImportID
	rows  event.Builder
}

// batch is the open batch of a lane: it grows under the lane's lock, and belongs to the lane's goroutine once it is
// taken from there. Its memory is used again and again.
type batch struct {
	groups  []*group // in use, in the order of their first event
	spare   []*group
	recent  *group // of the last event
	recentI uint16

	of      *pending
	events  int
	charged int64     // against the queue limit, in bytes
	size    int       // upper bound of the encoded body in bytes, without recent
	opened  time.Time // when the first event came
	catalog uint64
}

// reset makes b an empty batch of a lane.
func (b *batch) reset(lane int) {
	b.spare = append(b.spare, b.groups...)
	*b = batch{groups: b.groups[:0], spare: b.spare, of: newPending(lane)}
}

// add takes one event and returns its ticket, or says that the event belongs into a new batch.
func (b *batch) add(e *event.Event, catalog uint64) (Ticket, bool) {
	if g := b.recent; g == nil || g.space != e.Space || g.sale != e.Sale() || g.imp != e.Import {
		if !b.choose(e.Space, e.Sale(), e.Import) {
			return Ticket{}, false
		}
	}
	t := Ticket{of: b.of, row: uint32(b.recent.rows.Len()), group: b.recentI}
	if !b.recent.rows.TryAppend(e, 2*TargetBatchBytes-b.size) {
		return Ticket{}, false
	}
	b.events++
	if !planted.Is(planted.RuleOutsideLog) || b.catalog == 0 {
		b.catalog = max(b.catalog, catalog)
	}
	return t, true
}

// choose makes a group the recent one; false when there is no room for one more group.
func (b *batch) choose(space event.Space, sale bool, imp event.ImportID) bool {
	at := slices.IndexFunc(b.groups, func(g *group) bool { return g.space == space && g.sale == sale && g.imp == imp })
	if at < 0 && len(b.groups) == maxGroups {
		return false
	}
	if b.recent != nil {
		b.size += blockBytes(b.recent)
	}
	if at >= 0 {
		b.recent, b.recentI = b.groups[at], uint16(at)
		b.size -= blockBytes(b.recent)
		return true
	}
	var g *group
	if n := len(b.spare); n > 0 {
		g, b.spare = b.spare[n-1], b.spare[:n-1]
	} else {
		g = new(group)
	}
	g.space, g.sale, g.imp = space, sale, imp
	g.rows.Start(space, imp)
	b.recent, b.recentI = g, uint16(len(b.groups))
	b.groups = append(b.groups, g)
	return true
}

// blockBytes is an upper bound of a group's block with its length prefix.
func blockBytes(g *group) int { return 8 + g.rows.Size() }

// bytes is an upper bound of the encoded message.
func (b *batch) bytes() int {
	n := headerBytes + b.size
	if b.recent != nil {
		n += blockBytes(b.recent)
	}
	return n
}

// full says whether the batch has reached its target size.
func (b *batch) full() bool { return b.bytes() >= TargetBatchBytes || b.events >= maxRows }

// encode appends the message, header still blank, to dst and tells the waiters their rows.
func (b *batch) encode(dst []byte) []byte {
	dst = AppendHeader(dst)
	b.of.first = make([]uint32, len(b.groups))
	row := 0
	for i, g := range b.groups {
		b.of.first[i] = uint32(row)
		if g.rows.Len() == 0 { // its first event had no room
			continue
		}
		row += g.rows.Len()
		dst = AppendBlock(dst, g.rows.Pack())
	}
	return dst
}

// AppendClosed appends the body of a KindClosed batch: the incarnation that has ended.
func AppendClosed(dst []byte, ended Incarnation) []byte { return append(dst, ended[:]...) }

// ParseClosed reads the body of a KindClosed batch.
func ParseClosed(body []byte) (ended Incarnation, err error) {
	if len(body) != len(ended) {
		return ended, badBody("closed", len(body))
	}
	copy(ended[:], body)
	return ended, nil
}
