package grid

import (
	"encoding/hex"
	"slices"
	"strconv"
	"strings"

	"milliard/internal/count"
	"milliard/internal/event"
	"milliard/internal/journal"
	"milliard/internal/ledger"
)

// gathering is a generation that grows: what has been counted since the last one was closed. The owner fills it; once
// closed it never changes, and the flusher spells it out.
type gathering struct {
	from    ledger.Position
	to      ledger.Position // set when it is closed
	events  int64           // events of folded batches: the left side of the conservation check
	details *count.Details
	earlier []*count.Details // of earlier budget days within this generation
	clicks  ledger.Rows[ledger.ClickRow]
	sales   ledger.Rows[ledger.SaleRow]
	tallies []journal.Tally
	text    *strings.Builder // of the ids and sub-ids of the rows: one piece of memory for many
}

func newGathering(from ledger.Position, details *count.Details) *gathering {
	return &gathering{from: from, details: details}
}

// textRoom is how much text of rows is kept in one piece.
const textRoom = 64 << 10

// keep copies a text of a row. What has been handed out never changes: a piece is only appended to, as long as it has room.
func (g *gathering) keep(b []byte) string {
	if len(b) == 0 {
		return ""
	}
	if g.text == nil || g.text.Cap()-g.text.Len() < len(b) {
		g.text = &strings.Builder{}
		g.text.Grow(max(textRoom, len(b)))
	}
	at := g.text.Len()
	_, _ = g.text.Write(b) // it never fails
	return g.text.String()[at:]
}

// eventID is EventID with its text kept.
func (g *gathering) eventID(e *event.Event) string {
	if e.Space == event.Foreign || e.Space == event.Imported && len(e.Foreign) > 0 {
		return g.keep(e.Foreign)
	}
	return EventID(e)
}

// addRow keeps clicks and conversions as rows, whatever their verdict.
func (g *gathering) addRow(seq uint64, row uint32, e *event.Event, class event.Class, received int64) {
	switch e.Type {
	case event.Click:
		g.clicks.Append(ledger.ClickRow{
			Seq: seq, Row: row, ClickID: e.Click, EventID: g.eventID(e), Time: e.Time, Received: received, Tenant: e.Tenant,
			Campaign: e.Campaign, Banner: e.Banner, Affiliate: e.Affiliate, Class: class, Country: e.Country,
			Device: e.Device, Subs: g.keep(e.Subs),
		})
	case event.Conversion:
		g.sales.Append(ledger.SaleRow{
			Seq: seq, Row: row, EventID: g.eventID(e), Order: g.keep(e.Order), ClickID: e.Click, ClickTime: e.ClickTime,
			Time: e.Time, Received: received, Tenant: e.Tenant, Advertiser: e.Advertiser, Campaign: e.Campaign,
			Banner: e.Banner, Affiliate: e.Affiliate, Goal: e.Goal, Class: class, Revenue: e.Revenue, Payout: e.Payout,
			N: e.N, Amount: e.Amount, Subs: g.keep(e.Subs),
		})
	default: // impressions and custom types are counted only
	}
}

// EventID spells an event's id as its sender would: a UUID, the foreign id, or import/row.
func EventID(e *event.Event) string {
	switch e.Space {
	case event.Minted:
		return e.ID.String()
	case event.Imported:
		if len(e.Foreign) > 0 {
			return string(e.Foreign)
		}
		return hex.EncodeToString(e.Import[:]) + "/" + strconv.FormatUint(e.ID.Lo, 10)
	default:
		return string(e.Foreign)
	}
}

// nextDay puts the details aside and starts new ones, because the budgets start anew.
func (g *gathering) nextDay() {
	if g.details.Len() > 0 {
		g.earlier = append(g.earlier, g.details)
		g.details = count.NewDetails(0)
	}
}

// rows is how much work a flush of this generation has.
func (g *gathering) rows() int {
	n := g.details.Len() + g.clicks.Len() + g.sales.Len() + len(g.tallies)
	for _, d := range g.earlier {
		n += d.Len()
	}
	return n
}

// clone copies what the owner would go on changing.
func (g *gathering) clone(to ledger.Position) *gathering {
	out := *g
	out.to = to
	out.details = g.details.Clone()
	out.earlier = slices.Clone(g.earlier)
	out.clicks, out.sales, out.tallies = g.clicks.Clone(), g.sales.Clone(), slices.Clip(g.tallies)
	return &out
}

// generation spells a closed gathering out for the ledger.
func (g *gathering) generation(lane int, epoch uint64) *ledger.Generation {
	out := &ledger.Generation{
		Lane: lane, Epoch: epoch, From: g.from, To: g.to, Clicks: g.clicks, Sales: g.sales, Tallies: g.tallies,
	}
	for _, d := range append(slices.Clip(g.earlier), g.details) {
		out.Cells = joined(out.Cells, d.Cells())
		out.Moved = joined(out.Moved, d.Moved())
		out.Rollups = joined(out.Rollups, d.Rollups())
	}
	return out
}

// joined is append without a copy of b, which nobody else has, when there is nothing before it.
func joined[T any](a, b []T) []T {
	if len(a) == 0 {
		return b
	}
	return append(a, b...)
}

// live spells out what a live read adds to the ledger: the minute cells, one for each detail.
func (g *gathering) live(lane int) *ledger.Generation {
	out := &ledger.Generation{Lane: lane, From: g.from, To: g.to}
	for _, d := range append(slices.Clip(g.earlier), g.details) {
		out.Cells = d.AppendCells(out.Cells)
	}
	return out
}

// close ends the open gathering at the state's position and opens the next. It returns nil when nothing was folded
// since the last one.
func (s *State) close() *gathering {
	if !s.counting || s.open.from.Seq == s.pos.Seq {
		return nil
	}
	g := s.open
	g.to = s.pos
	g.to.Flush = g.from.Flush + 1
	s.pos.Flush = g.to.Flush
	s.open = newGathering(s.pos, g.details.Next())
	return g
}

// peek returns a copy of the open gathering; nil when nothing was folded.
func (s *State) peek() *gathering {
	if !s.counting || s.open.from.Seq == s.pos.Seq {
		return nil
	}
	to := s.pos
	to.Flush = s.open.from.Flush + 1
	return s.open.clone(to)
}

// Swap closes the open generation and spells it out.
func (s *State) Swap(epoch uint64) *ledger.Generation {
	g := s.close()
	if g == nil {
		return nil
	}
	return g.generation(s.opt.Lane, epoch)
}

// sub1 cuts the value of sub1 out of the query-encoded sub-ids. It stays encoded: the budget counts distinct bytes.
func sub1(subs []byte) []byte {
	const name = "sub1="
	if len(subs) < len(name) || string(subs[:len(name)]) != name {
		return nil
	}
	v := subs[len(name):]
	for i, c := range v {
		if c == '&' {
			return v[:i]
		}
	}
	return v
}
