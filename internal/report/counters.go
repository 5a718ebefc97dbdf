package report

import (
	"context"
	"fmt"
	"math/big"
	"strings"
	"time"

	"milliard/internal/catalog"
	"milliard/internal/event"
	"milliard/internal/ledger"
)

// CounterKey asks for one counter, in words. An empty field means any; the class is valid unless given; without from
// and to it is everything ever counted.
type CounterKey struct {
	Type      string `json:"type,omitempty"`
	Campaign  string `json:"campaign,omitempty"`
	Affiliate string `json:"affiliate,omitempty"`
	Banner    string `json:"banner,omitempty"`
	Class     string `json:"class,omitempty"`
	From      string `json:"from,omitempty"`
	To        string `json:"to,omitempty"`
}

// Count is a counter's value.
type Count struct {
	N      Value `json:"n"`      // sum of increments
	Events int64 `json:"events"` // number of events
}

// Counts is the answer to many counters, all of one instant.
type Counts struct {
	Values  []Count    `json:"values"` // in the order of the keys
	AsOf    *time.Time `json:"as_of"`
	Fresh   Fresh      `json:"fresh"`
	Partial bool       `json:"partial"`
}

// Limits of one question for counters.
const (
	MaxCounters = 10_000
	maxShapes   = 256 // each is a statement of its own
)

// The bounds of "everything": all buckets that the column can hold, on whole hours.
const (
	everFrom = -2_147_483_640
	everTo   = 2_147_483_640
)

// counterDims are the dimensions that a counter can fix, in the order of counterKey.ids.
func counterDims() [counterDimCount]string {
	return [...]string{"type", "class", "campaign", "banner", "affiliate"}
}

const counterDimCount = 5

const anyID = -1

// counterIDs is a counter's key; anyID where it is not fixed.
type counterIDs [counterDimCount]int64

// shape is what counters have in common that are read by one statement: which dimensions they fix, and when.
type shape struct {
	fixed    [counterDimCount]bool
	from, to int64
}

func (s *shape) project(ids counterIDs) counterIDs {
	for i, fixed := range s.fixed {
		if !fixed {
			ids[i] = anyID
		}
	}
	return ids
}

// counterSet is the counters of one shape. Keys that are asked for twice are read once.
type counterSet struct {
	shape
	index map[counterIDs]int
	sums  []counterSum
}

type counterSum struct{ n, events big.Int }

// Counters answers every key from one ledger snapshot and the generations above it, so all values are of one instant.
func (s *Service) Counters(ctx context.Context, names *catalog.View, keys []CounterKey) (*Counts, error) {
	if len(keys) == 0 || len(keys) > MaxCounters {
		return nil, bad("keys", "give 1 to %d counters", MaxCounters)
	}
	now := s.now()
	sets := map[shape]*counterSet{}
	type place struct {
		set *counterSet
		i   int
	}
	places := make([]place, len(keys))
	for i, k := range keys {
		ids, sh, err := k.resolve(names, now)
		if err != nil {
			return nil, atKey(err, i, len(keys))
		}
		set := sets[sh]
		if set == nil {
			if len(sets) == maxShapes {
				return nil, bad("keys", "more than %d different ranges and combinations in one question", maxShapes)
			}
			set = &counterSet{shape: sh, index: map[counterIDs]int{}}
			sets[sh] = set
		}
		at, ok := set.index[ids]
		if !ok {
			at = len(set.sums)
			set.index[ids] = at
			set.sums = append(set.sums, counterSum{})
		}
		places[i] = place{set, at}
	}
	fresh, err := s.readCounters(ctx, names.Info().ID, sets)
	if err != nil {
		return nil, err
	}
	fresh.judge(now, s.halted())
	out := &Counts{Values: make([]Count, len(keys)), AsOf: fresh.AsOf, Fresh: fresh, Partial: fresh.partial}
	for i, p := range places {
		sum := &p.set.sums[p.i]
		out.Values[i] = Count{N: Value{number, decimal(&sum.n, 0)}, Events: sum.events.Int64()}
	}
	return out, nil
}

// atKey says which key of many was wrong.
func atKey(err error, i, of int) error {
	if b, ok := err.(*BadRequest); ok && of > 1 { //nolint:errorlint // resolve returns it unwrapped
		return &BadRequest{Field: fmt.Sprintf("keys[%d].%s", i, b.Field), Msg: b.Msg}
	}
	return err
}

func (k *CounterKey) resolve(names *catalog.View, now time.Time) (counterIDs, shape, error) {
	ids := counterIDs{anyID, int64(event.Valid), anyID, anyID, anyID}
	for i, f := range []struct {
		dim Dim
		key string
	}{{EventType, k.Type}, {Class, k.Class}, {Campaign, k.Campaign}, {Banner, ""}, {Affiliate, k.Affiliate}} {
		switch {
		case f.key == "":
		case f.dim == Class && f.key == "all":
			ids[i] = anyID
		default:
			id, ok := resolve(names, f.dim, f.key)
			if !ok {
				return ids, shape{}, bad(f.dim.String(), "there is no %s %q", f.dim, clip(f.key))
			}
			ids[i] = id
		}
	}
	if k.Banner != "" {
		q := Query{}
		if k.Campaign != "" {
			q.filters[Campaign].ids = []int64{ids[2]}
		}
		if err := q.addBanner(names, k.Banner); err != nil {
			return ids, shape{}, bad("banner", "there is no banner %q", clip(k.Banner))
		}
		if found := q.filters[Banner].ids; len(found) > 1 {
			return ids, shape{}, bad("banner", "%d campaigns have a banner %q; name the campaign too", len(found), clip(k.Banner))
		}
		ids[3] = q.filters[Banner].ids[0]
	}
	sh := shape{from: everFrom, to: everTo}
	for i, id := range ids {
		sh.fixed[i] = id != anyID
	}
	return ids, sh, k.resolveRange(names, now, &sh)
}

func (k *CounterKey) resolveRange(names *catalog.View, now time.Time, sh *shape) error {
	zone, err := time.LoadLocation(names.Info().TimeZone)
	if err != nil {
		return fmt.Errorf("zone of tenant %q: %w", names.Info().Key, err)
	}
	if k.From != "" {
		if sh.from, err = parseInstant("from", k.From, zone, now); err != nil {
			return err
		}
	}
	if k.To != "" {
		if sh.to, err = parseInstant("to", k.To, zone, now); err != nil {
			return err
		}
	}
	if sh.from >= sh.to {
		return bad("to", "the range is empty")
	}
	return nil
}

// readCounters fills in the sums. The generations are taken before the snapshot: what is committed in between is then
// in the snapshot and its generation is skipped, so nothing is missed and nothing is counted twice.
func (s *Service) readCounters(ctx context.Context, tenant event.TenantID, sets map[shape]*counterSet) (Fresh, error) {
	var pending []*ledger.Generation
	if s.live != nil {
		pending = s.live.Pending()
	}
	var fresh Fresh
	err := s.reader.Snapshot(ctx, func(tx ledger.Querier) error {
		var err error
		if fresh, err = readFresh(ctx, tx); err != nil {
			return err
		}
		for _, set := range sets {
			if err := set.read(ctx, tx, tenant); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fresh, err
	}
	for _, g := range above(&fresh, pending) {
		for i := range g.Cells {
			if g.Cells[i].Tenant != tenant {
				continue
			}
			for _, set := range sets {
				set.add(&g.Cells[i])
			}
		}
	}
	return fresh, nil
}

// above picks, lane by lane, the chain of generations that starts exactly at the committed position, and moves the
// lane's freshness to its end. A generation that does not link up (the lane has a new owner) is left out: the answer
// is then exact at the last position that does.
func above(fresh *Fresh, pending []*ledger.Generation) []*ledger.Generation {
	var out []*ledger.Generation
	for i := range fresh.Lanes {
		l := &fresh.Lanes[i]
		for {
			next := linked(l, pending)
			if next == nil {
				break
			}
			out = append(out, next)
			l.Seq = next.To.Seq
			l.AsOf = time.UnixMilli(max(next.To.LogTime, l.AsOf.UnixMilli())).UTC()
		}
	}
	return out
}

// linked finds the generation that goes on from the lane's position; of two the one that reaches further, because the
// other is an earlier copy of it.
func linked(l *LaneFresh, pending []*ledger.Generation) *ledger.Generation {
	var best *ledger.Generation
	for _, g := range pending {
		if g.Lane == l.Lane && g.From.Seq == l.Seq && g.To.Seq > l.Seq && (best == nil || g.To.Seq > best.To.Seq) {
			best = g
		}
	}
	return best
}

// read sums the set's counters in one statement: the keys are a table that the cells are joined with.
func (c *counterSet) read(ctx context.Context, tx ledger.Querier, tenant event.TenantID) error {
	var fixed []string
	for i, f := range c.fixed {
		if f {
			fixed = append(fixed, counterDims()[i])
		}
	}
	var b strings.Builder
	b.WriteString("SELECT k.i, sum(c.n), sum(c.events) FROM ")
	columns := strings.Join(append(fixed, "n", "events"), ", ")
	source(&b, columns, split(c.from, c.to, 60), []string{fmt.Sprintf("tenant = %d", tenant)})
	b.WriteString(" c JOIN (VALUES ")
	first := true
	for ids, at := range c.index {
		if !first {
			b.WriteString(", ")
		}
		first = false
		fmt.Fprintf(&b, "(%d", at)
		for i, f := range c.fixed {
			if f {
				fmt.Fprintf(&b, ", %d", ids[i])
			}
		}
		b.WriteString(")")
	}
	b.WriteString(") k(i")
	on := []string{"true"}
	for _, name := range fixed {
		b.WriteString(", " + name)
		on = append(on, fmt.Sprintf("c.%s = k.%s", name, name))
	}
	fmt.Fprintf(&b, ") ON %s GROUP BY k.i", strings.Join(on, " AND "))

	rows, err := tx.QueryContext(ctx, b.String())
	if err != nil {
		return fmt.Errorf("read counters: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var at int
		var n, events any
		if err := rows.Scan(&at, &n, &events); err != nil {
			return fmt.Errorf("read counters: %w", err)
		}
		sumN, err := integer(n)
		if err != nil {
			return fmt.Errorf("read counters: %w", err)
		}
		sumEvents, err := integer(events)
		if err != nil {
			return fmt.Errorf("read counters: %w", err)
		}
		c.sums[at].n.Add(&c.sums[at].n, sumN)
		c.sums[at].events.Add(&c.sums[at].events, sumEvents)
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("read counters: %w", err)
	}
	return nil
}

// add counts a cell of a generation.
func (c *counterSet) add(cell *ledger.Cell) {
	if int64(cell.Bucket) < c.from || int64(cell.Bucket) >= c.to {
		return
	}
	at, ok := c.index[c.project(counterIDs{
		int64(cell.Type), int64(cell.Class), int64(cell.Campaign), int64(cell.Banner), int64(cell.Affiliate),
	})]
	if !ok {
		return
	}
	s := &c.sums[at]
	s.n.Add(&s.n, big.NewInt(int64(cell.N)))
	s.events.Add(&s.events, big.NewInt(cell.Events))
}
