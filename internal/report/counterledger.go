package report

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"milliard/internal/event"
	"milliard/internal/ledger"
)

// counterSet is the counters of one shape that are read from the ledger.
type counterSet struct {
	tableKey
	asked map[sumKey]counterIDs
	sums  sumTable
}

// fromLedger reads the sums. The generations are taken before the snapshot: what is committed in between is then in the
// snapshot and its generation is skipped, so nothing is missed and nothing is counted twice.
func (s *Service) fromLedger(ctx context.Context, tenant event.TenantID, q *question) error {
	var pending []*ledger.Generation
	if s.live != nil {
		pending = s.live.Pending()
	}
	sets := make([]counterSet, len(q.shapes))
	for i := range sets {
		sets[i] = counterSet{tableKey: q.shapes[i], asked: map[sumKey]counterIDs{}}
	}
	for i := range q.places {
		p := &q.places[i]
		sets[p.shape].asked[p.key] = p.ids
	}
	err := s.reader.Snapshot(ctx, func(tx ledger.Querier) error {
		var err error
		if q.fresh, err = readFresh(ctx, tx); err != nil {
			return err
		}
		marks, err := readMarks(ctx, tx)
		if err != nil {
			return err
		}
		for i := range sets {
			if err := sets[i].read(ctx, tx, marks); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, g := range above(&q.fresh, pending) {
		for i := range g.Cells {
			if g.Cells[i].Tenant != tenant {
				continue
			}
			for j := range sets {
				sets[j].add(&g.Cells[i])
			}
		}
	}
	for i := range q.places {
		p := &q.places[i]
		q.sums[i] = sum{}
		if x := sets[p.shape].sums.find(&p.key); x != nil {
			q.sums[i] = *x
		}
	}
	return nil
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
			l.advance(next)
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
func (c *counterSet) read(ctx context.Context, tx ledger.Querier, marks []mark) error {
	fixed := c.dims()
	var b strings.Builder
	b.WriteString("SELECT k.i, sum(c.n), sum(c.events) FROM ")
	columns := strings.Join(append(slices.Clone(fixed), "n", "events"), ", ")
	source(&b, columns, split(c.from, c.to, dayUnit), marks, []string{fmt.Sprintf("tenant = %d", c.tenant)})
	b.WriteString(" c JOIN (VALUES ")
	keys := make([]sumKey, 0, len(c.asked))
	for key, ids := range c.asked {
		if len(keys) > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "(%d", len(keys))
		keys = append(keys, key)
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
		v, err := sumFrom(n, events)
		if err != nil {
			return fmt.Errorf("read counters: %w", err)
		}
		c.sums.add(&keys[at], &v)
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("read counters: %w", err)
	}
	return nil
}

// add counts a cell of a generation, if it was asked for.
func (c *counterSet) add(cell *ledger.Cell) {
	if int64(cell.Bucket) < c.from || int64(cell.Bucket) >= c.to {
		return
	}
	k := c.key(&counterIDs{int64(cell.Type), int64(cell.Class), int64(cell.Campaign), int64(cell.Banner), int64(cell.Affiliate)})
	if _, ok := c.asked[k]; ok {
		c.sums.add(&k, &sum{wideOf(int64(cell.N)), cell.Events})
	}
}
