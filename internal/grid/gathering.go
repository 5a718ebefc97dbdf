package grid

import (
	"encoding/hex"
	"strconv"

	"milliard/internal/count"
	"milliard/internal/event"
	"milliard/internal/journal"
	"milliard/internal/ledger"
)

// gathering is the open generation: what has been counted since the last one was handed to the flusher.
type gathering struct {
	from     ledger.Position
	events   int64 // events of folded batches: the left side of the conservation check
	cells    count.Table
	occurred count.Table
	rollups  count.Rollups
	spelled  []ledger.RollupCell // rollups of an earlier budget day within this generation
	clicks   []ledger.ClickRow
	sales    []ledger.SaleRow
	tallies  []journal.Tally
}

func newGathering(from ledger.Position) *gathering { return &gathering{from: from} }

// count adds the event to every table it belongs into.
func (g *gathering) count(k *ledger.Key, e *event.Event, class event.Class, bucket int32, values *[3]uint32) {
	*k = ledger.Key{
		Bucket: bucket, Tenant: e.Tenant, Type: e.Type, Goal: e.Goal, Class: class, Campaign: e.Campaign,
		Banner: e.Banner, Affiliate: e.Affiliate, Revenue: e.Revenue, Payout: e.Payout,
	}
	v := ledger.Value{N: e.N, Amount: e.Amount, Events: 1}
	g.cells.Add(k, v)
	k.Bucket = bucket - bucket%quarter
	g.rollups.Add(k, ledger.DimCountry, values[0], v)
	g.rollups.Add(k, ledger.DimDevice, values[1], v)
	g.rollups.Add(k, ledger.DimSub1, values[2], v)
	occurred := int32(e.Time / minuteMillis)
	k.Bucket = occurred - occurred%quarter
	g.occurred.Add(k, v)
}

// addRow keeps clicks and conversions as rows, whatever their verdict.
func (g *gathering) addRow(seq uint64, row uint32, e *event.Event, class event.Class, received int64) {
	switch e.Type {
	case event.Click:
		g.clicks = append(g.clicks, ledger.ClickRow{
			Seq: seq, Row: row, ClickID: e.Click, EventID: EventID(e), Time: e.Time, Received: received, Tenant: e.Tenant,
			Campaign: e.Campaign, Banner: e.Banner, Affiliate: e.Affiliate, Class: class, Country: e.Country,
			Device: e.Device, Subs: string(e.Subs),
		})
	case event.Conversion:
		g.sales = append(g.sales, ledger.SaleRow{
			Seq: seq, Row: row, EventID: EventID(e), Order: string(e.Order), ClickID: e.Click, ClickTime: e.ClickTime,
			Time: e.Time, Received: received, Tenant: e.Tenant, Advertiser: e.Advertiser, Campaign: e.Campaign,
			Banner: e.Banner, Affiliate: e.Affiliate, Goal: e.Goal, Class: class, Revenue: e.Revenue, Payout: e.Payout,
			N: e.N, Amount: e.Amount, Subs: string(e.Subs),
		})
	}
}

// EventID spells an event's id as its sender would: a UUID, the foreign id, or import/row.
func EventID(e *event.Event) string {
	switch e.Space {
	case event.Minted:
		return e.ID.String()
	case event.Imported:
		return hex.EncodeToString(e.Import[:]) + "/" + strconv.FormatUint(e.ID.Lo, 10)
	default:
		return string(e.Foreign)
	}
}

func (g *gathering) spellRollups(b *count.Budgets) {
	g.spelled = append(g.spelled, g.rollups.Cells(b.Name)...)
	g.rollups = count.Rollups{}
}

// rows is how much memory-relevant work a flush of this generation has.
func (g *gathering) rows() int {
	return g.cells.Len() + g.occurred.Len() + g.rollups.Len() + len(g.spelled) + len(g.clicks) + len(g.sales) + len(g.tallies)
}

// generation spells the gathering out for the ledger. The cells alias the gathering's, which must not change any more,
// unless copied is set.
func (g *gathering) generation(s *State, epoch uint64, copied bool) *ledger.Generation {
	to := s.pos
	to.Flush = g.from.Flush + 1
	out := &ledger.Generation{
		Lane: s.opt.Lane, Epoch: epoch, From: g.from, To: to,
		Cells: g.cells.Cells(), Occurred: g.occurred.Cells(),
		Rollups: append(g.spelled[:len(g.spelled):len(g.spelled)], g.rollups.Cells(s.budgets.Name)...),
		Clicks:  g.clicks, Sales: g.sales, Tallies: g.tallies,
	}
	if copied {
		out.Cells = append([]ledger.Cell(nil), out.Cells...)
		out.Occurred = append([]ledger.Cell(nil), out.Occurred...)
	}
	return out
}

// Swap closes the open generation and opens the next. It returns nil when nothing was folded since the last one.
func (s *State) Swap(epoch uint64) *ledger.Generation {
	if s.open == nil || s.open.from.Seq == s.pos.Seq {
		return nil
	}
	g := s.open.generation(s, epoch, false)
	s.pos.Flush = g.To.Flush
	s.open = newGathering(s.pos)
	return g
}

// Peek returns a copy of the open generation; nil when nothing was folded.
func (s *State) Peek() *ledger.Generation {
	if s.open == nil || s.open.from.Seq == s.pos.Seq {
		return nil
	}
	return s.open.generation(s, 0, true)
}

func countryName(c event.Country) []byte {
	if c == 0 {
		return []byte("unknown")
	}
	return []byte{byte(c >> 8), byte(c)}
}

func deviceName(d event.Device) []byte { return []byte(d.String()) }

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
