package verify

import (
	"context"
	"fmt"
	"math"

	"milliard/internal/event"
	"milliard/internal/journal"
	"milliard/internal/ledger"
)

// generationEvents is about how many events a generation of Fold holds.
const generationEvents = 50_000

// Fold spells a lane's log out as generations that a new ledger can be written from: the recorded verdicts, nothing
// judged again. It yields them in order; Epoch is left to the caller. It fails at the first thing that is not as it must
// be, because a ledger must not be made of half a log.
func Fold(ctx context.Context, opt Options, lane int, stream string, yield func(g *ledger.Generation) error) error {
	l := &opt.Lanes[lane]
	f := &folder{lane: l, chain: newChain(l.Gaps...), yield: yield, cells: map[cellKey]*sum{}}
	f.counter = newCounter(l.Number, true, f.add)
	f.counter.click, f.counter.sale = f.click, f.sale
	f.at.Stream = stream
	sealed, err := opt.Archive.Last(l.Number)
	if err != nil {
		return err
	}
	last := sealed
	if l.Stream != nil {
		st, err := l.Stream.State(ctx)
		if err != nil {
			return err
		}
		last = max(last, st.Last)
	}
	w := &walker{lane: l, archive: opt.Archive, pace: newPace(&Options{}), each: f.batch}
	if w.unsealed, err = verdictsOf(ctx, l, last); err != nil {
		return err
	}
	var bad error
	w.bad = func(check string, first, last uint64, err error) {
		if bad == nil {
			bad = fmt.Errorf("%s: sequences %d to %d: %w", check, first, last, err)
		}
	}
	if err := w.walk(ctx, 1, last); err != nil {
		return err
	}
	if bad != nil {
		return bad
	}
	return f.end()
}

// folder gathers one generation.
type folder struct {
	lane    *Lane
	chain   *chain
	counter *counter
	yield   func(g *ledger.Generation) error

	at     ledger.Position // of the generation before
	to     ledger.Position
	events int
	cells  map[cellKey]*sum
	g      ledger.Generation
}

// add adds to a cell. The ledger keeps by the events' own time only what differs from the minute cells, and by value only
// what has one.
func (f *folder) add(k *cellKey, v *sum) {
	if k.table >= tableDim && k.value == restOf(ledger.Dimension(k.table-tableDim)) {
		return
	}
	f.plus(k, v)
	if k.table == tableCells {
		same, less := *k, v.negative()
		same.table, same.Bucket = tableOccurred, floor(k.Bucket, quarter)
		f.plus(&same, &less)
	}
}

func (f *folder) plus(k *cellKey, v *sum) {
	if old := f.cells[*k]; old != nil {
		old.add(v)
		return
	}
	first := *v
	f.cells[*k] = &first
}

func (f *folder) batch(b *batch) error {
	if b.seq != f.to.Seq+1 {
		if journal.Behind(f.lane.Gaps, f.to.Seq+1) != b.seq {
			return fmt.Errorf("sequence %d follows %d", b.seq, f.to.Seq)
		}
		f.chain.tear()
	}
	repeat, problem := f.chain.follow(b)
	if problem != "" {
		return fmt.Errorf("sequence %d: %s", b.seq, problem)
	}
	if !b.judged {
		return fmt.Errorf("sequence %d: its verdicts are recorded nowhere", b.seq)
	}
	f.to.Seq, f.to.Hash, f.to.LogTime = b.seq, b.hash, b.logTime
	switch {
	case repeat:
	case b.header.Kind == journal.KindEvents:
		rows, err := f.counter.batch(b)
		if err != nil {
			return fmt.Errorf("sequence %d: %w", b.seq, err)
		}
		f.events += rows
	case b.header.Kind == journal.KindTallies:
		list, err := journal.DecodeTallies(b.body)
		if err != nil {
			return fmt.Errorf("sequence %d: %w", b.seq, err)
		}
		f.g.Tallies = append(f.g.Tallies, list...)
	}
	if f.events >= generationEvents {
		return f.end()
	}
	return nil
}

// end yields what has been gathered.
func (f *folder) end() error {
	if f.to.Seq == f.at.Seq {
		return nil
	}
	f.to.Stream, f.to.Flush = f.at.Stream, f.at.Flush+1
	f.g.Lane, f.g.From, f.g.To = f.lane.Number, f.at, f.to
	for k, s := range f.cells {
		if k.table == tableOccurred && *s == (sum{}) {
			continue
		}
		for _, v := range s.values() {
			switch {
			case k.table == tableCells:
				f.g.Cells = append(f.g.Cells, ledger.Cell{Key: k.Key, Value: v})
			case k.table == tableOccurred:
				f.g.Moved = append(f.g.Moved, ledger.Cell{Key: k.Key, Value: v})
			default:
				f.g.Rollups = append(f.g.Rollups, ledger.RollupCell{Dim: ledger.Dimension(k.table - tableDim), DimValue: k.value, Key: k.Key, Value: v})
			}
		}
	}
	g := f.g
	f.g = ledger.Generation{}
	clear(f.cells)
	f.at, f.events = f.to, 0
	return f.yield(&g)
}

// values spells a sum out in as many deltas as it needs to fit 64 bits.
func (s *sum) values() []ledger.Value {
	var out []ledger.Value
	rest := *s
	for {
		n, amount := clip(rest.n), clip(rest.amount)
		events, _ := rest.events.int64()
		out = append(out, ledger.Value{N: event.Micros(n), Amount: event.Micros(amount), Events: events})
		rest.n.add(wideOf(n).negative())
		rest.amount.add(wideOf(amount).negative())
		rest.events = wide{}
		if rest == (sum{}) {
			return out
		}
	}
}

// clip returns the part of w that fits 63 bits.
func clip(w wide) int64 {
	if v, ok := w.int64(); ok && v != math.MinInt64 {
		return v
	}
	if w.hi < 0 {
		return -math.MaxInt64
	}
	return math.MaxInt64
}

func (w wide) negative() wide {
	out := wide{^w.hi, ^w.lo}
	out.add(wide{0, 1})
	return out
}

func (f *folder) click(seq uint64, row uint32, e *event.Event, class event.Class, received int64) {
	f.g.Clicks.Append(ledger.ClickRow{
		Seq: seq, Row: row, ClickID: e.Click, EventID: eventID(e), Time: e.Time, Received: received, Tenant: e.Tenant,
		Campaign: e.Campaign, Banner: e.Banner, Affiliate: e.Affiliate, Class: class, Country: e.Country, Device: e.Device,
		Subs: string(e.Subs),
	})
}

func (f *folder) sale(seq uint64, row uint32, e *event.Event, class event.Class, received int64) {
	f.g.Sales.Append(ledger.SaleRow{
		Seq: seq, Row: row, EventID: eventID(e), Order: string(e.Order), ClickID: e.Click, ClickTime: e.ClickTime,
		Time: e.Time, Received: received, Tenant: e.Tenant, Advertiser: e.Advertiser, Campaign: e.Campaign, Banner: e.Banner,
		Affiliate: e.Affiliate, Goal: e.Goal, Class: class, Revenue: e.Revenue, Payout: e.Payout, N: e.N, Amount: e.Amount,
		Subs: string(e.Subs),
	})
}
