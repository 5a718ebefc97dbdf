package verify

import (
	"context"
	"database/sql"
	"fmt"

	"milliard/internal/event"
	"milliard/internal/ledger"
)

// ledgerReader reads the ledger's side. It asks for a bounded number of rows at a time, because the engine holds a whole
// answer in memory.
type ledgerReader struct {
	run    *run
	q      ledger.Querier
	rolled map[int32]uint64 // lane → flush up to which its rollups are complete
}

// chunkRows is how many rows are asked for at a time, unless one minute or one stretch of sequences has more.
const chunkRows = 100_000

func (l *ledgerReader) all(ctx context.Context) error {
	steps := []func(context.Context) error{l.positions, l.watermarks, l.cells, l.rollups, l.dims, l.tallies, l.clicks, l.sales}
	for _, step := range steps {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// query runs a statement and yields its rows.
func (l *ledgerReader) query(ctx context.Context, each func(rows *sql.Rows) error, query string, args ...any) error {
	rows, err := l.q.QueryContext(ctx, query, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := each(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

func (l *ledgerReader) positions(ctx context.Context) error {
	r := l.run
	err := l.query(ctx, func(rows *sql.Rows) error {
		var lane int
		var p ledger.Position
		var hash []byte
		if err := rows.Scan(&lane, &p.Seq, &hash, &p.LogTime, &p.Flush, &p.Stream); err != nil {
			return err
		}
		copy(p.Hash[:], hash)
		if _, twice := r.at[lane]; twice || len(hash) != len(p.Hash) {
			r.find(checkPosition, lane, "the ledger has several positions, or one that is none")
		}
		r.at[lane] = p
		return nil
	}, "SELECT lane, seq, hash, log_time, flush, coalesce(stream, '') FROM positions")
	if err != nil {
		return fmt.Errorf("positions: %w", err)
	}
	return l.query(ctx, func(rows *sql.Rows) error { return rows.Scan(&r.projected) },
		"SELECT coalesce(max(seq), 0)::UBIGINT FROM control_position")
}

func (l *ledgerReader) watermarks(ctx context.Context) error {
	l.rolled = map[int32]uint64{}
	return l.query(ctx, func(rows *sql.Rows) error {
		var lane int32
		var flush uint64
		if err := rows.Scan(&lane, &flush); err != nil {
			return err
		}
		if _, twice := l.rolled[lane]; twice {
			l.run.find(checkRollups, int(lane), "the ledger has several watermarks")
		}
		l.rolled[lane] = flush
		return nil
	}, "SELECT lane, rolled_flush FROM rollup_state")
}

// spans cuts a table into stretches of a column that have about chunkRows rows each.
func (l *ledgerReader) spans(ctx context.Context, table, column string, unit int64, each func(first, last int64) error) error {
	type span struct{ first, last, rows int64 }
	var list []span
	err := l.query(ctx, func(rows *sql.Rows) error {
		var s span
		if err := rows.Scan(&s.first, &s.rows); err != nil {
			return err
		}
		s.last = s.first + unit - 1
		if n := len(list); n > 0 && list[n-1].rows+s.rows <= chunkRows {
			list[n-1].last, list[n-1].rows = s.last, list[n-1].rows+s.rows
			return nil
		}
		list = append(list, s)
		return nil
	}, fmt.Sprintf("SELECT (%s::BIGINT // %d) * %d AS start, count(*) FROM %s GROUP BY start ORDER BY start", column, unit, unit, table))
	if err != nil {
		return fmt.Errorf("%s: %w", table, err)
	}
	for _, s := range list {
		if err := each(s.first, s.last); err != nil {
			return fmt.Errorf("%s: %w", table, err)
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	return nil
}

const cellColumns = "lane, flush, bucket, tenant, type, goal, class, campaign, banner, affiliate, revenue, payout, n, amount, events"

// scanned is one row of a table of cells.
type scanned struct {
	cellKey
	dim   uint8
	flush uint64
	sum   sum
}

func (s *scanned) scan(rows *sql.Rows, more ...any) error {
	var n, amount, events int64
	into := append(more, &s.lane, &s.flush, &s.Bucket, &s.Tenant, &s.Type, &s.Goal, &s.Class, &s.Campaign, &s.Banner,
		&s.Affiliate, &s.Revenue, &s.Payout, &n, &amount, &events)
	if err := rows.Scan(into...); err != nil {
		return err
	}
	s.sum = sum{wideOf(n), wideOf(amount), wideOf(events)}
	return nil
}

// table yields the rows of a table of cells.
func (l *ledgerReader) table(ctx context.Context, name, extra string, each func(s *scanned)) error {
	unit := int64(1)
	if name != "cells" {
		unit = quarter
	}
	return l.spans(ctx, name, "bucket", unit, func(first, last int64) error {
		var s scanned
		err := l.query(ctx, func(rows *sql.Rows) error {
			var into []any
			if extra != "" {
				into = []any{&s.dim, &s.value}
			}
			if err := s.scan(rows, into...); err != nil {
				return err
			}
			if at := l.run.at[int(s.lane)]; s.flush > at.Flush {
				l.run.find(checkPosition, int(s.lane), "%s has a row of flush %d, the position is flush %d", name, s.flush, at.Flush)
			}
			each(&s)
			return nil
		}, fmt.Sprintf("SELECT %s%s FROM %s WHERE bucket BETWEEN ? AND ?", extra, cellColumns, name), first, last)
		if err == nil {
			err = l.run.sums.settle()
		}
		if err != nil {
			return err
		}
		return l.run.pace.wait(ctx, 0)
	})
}

// cells reads the minute cells. Up to the watermark they must come to what the coarser tables hold.
func (l *ledgerReader) cells(ctx context.Context) error {
	return l.table(ctx, "cells", "", func(s *scanned) {
		k := s.cellKey
		k.table = tableCells
		l.run.sums.addLedger(&k, &s.sum)
		// What no row says is derived as every reader derives it: events that have not moved, and values that are not named.
		k.Bucket = floor(s.Bucket, quarter)
		k.table = tableOccurred
		l.run.sums.addLedger(&k, &s.sum)
		for dim := ledger.DimCountry; dim <= ledger.DimSub1; dim++ {
			k.table, k.value = tableDim+table(dim), restOf(dim)
			l.run.sums.addLedger(&k, &s.sum)
		}
		if s.flush > l.rolled[s.lane] {
			return
		}
		k.table, k.value = tableQuarters, ""
		l.run.sums.addLog(&k, &s.sum)
		k.table, k.Bucket = tableHours, floor(s.Bucket, hour)
		l.run.sums.addLog(&k, &s.sum)
	})
}

func (l *ledgerReader) rollups(ctx context.Context) error {
	for name, t := range map[string]table{"cells_15m": tableQuarters, "cells_1h": tableHours, "moved_15m": tableOccurred} {
		err := l.table(ctx, name, "", func(s *scanned) {
			s.table = t
			l.run.sums.addLedger(&s.cellKey, &s.sum)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (l *ledgerReader) dims(ctx context.Context) error {
	return l.table(ctx, "values_15m", "dim, value, ", func(s *scanned) {
		s.table = tableDim + table(s.dim)
		l.run.sums.addLedger(&s.cellKey, &s.sum)
		s.value = restOf(ledger.Dimension(s.dim))
		less := s.sum.negative()
		l.run.sums.addLedger(&s.cellKey, &less)
	})
}

func (l *ledgerReader) tallies(ctx context.Context) error {
	return l.spans(ctx, "tallies", "minute", hour, func(first, last int64) error {
		return l.query(ctx, func(rows *sql.Rows) error {
			k := cellKey{table: tableTallies}
			var minute, n int64
			var door, reason string
			if err := rows.Scan(&k.lane, &minute, &k.Tenant, &door, &reason, &n); err != nil {
				return err
			}
			k.Bucket, k.value = int32(minute), door+"\x00"+reason
			l.run.sums.addLedger(&k, &sum{events: wideOf(n)})
			return nil
		}, "SELECT lane, minute, tenant, door, reason, n FROM tallies WHERE minute BETWEEN ? AND ?", first, last)
	})
}

func (l *ledgerReader) clicks(ctx context.Context) error {
	return l.spans(ctx, "clicks", "seq", groupSize, func(first, last int64) error {
		return l.clickRows(ctx, first, last, func(lane int32, r *row) {
			l.run.group(clicks, lane, r.seq).minus(r.hash(l.run.seed))
		})
	})
}

// clickRows yields the clicks of a stretch of sequences, of every lane.
func (l *ledgerReader) clickRows(ctx context.Context, first, last int64, each func(lane int32, r *row)) error {
	var r row
	return l.query(ctx, func(rows *sql.Rows) error {
		var lane int32
		var seq uint64
		var no uint32
		var time, received int64
		var tenant, campaign, banner, affiliate, class uint32
		var click, id, country, device, subs string
		if err := rows.Scan(&lane, &seq, &no, &time, &received, &tenant, &campaign, &banner, &affiliate, &class, &click,
			&id, &country, &device, &subs); err != nil {
			return err
		}
		r.start(seq, no)
		r.numbers(time, received, int64(tenant), int64(campaign), int64(banner), int64(affiliate), int64(class))
		r.texts(click, id, country, device, subs)
		each(lane, &r)
		return nil
	}, `SELECT lane, seq, row_no, time, received, tenant, campaign, banner, affiliate, class, coalesce(click_id::VARCHAR, ''),
		event_id, country, device, subs FROM clicks WHERE seq BETWEEN ? AND ?`, first, last)
}

func (l *ledgerReader) sales(ctx context.Context) error {
	return l.spans(ctx, "sales", "seq", groupSize, func(first, last int64) error {
		return l.saleRows(ctx, first, last, func(lane int32, r *row) {
			l.run.group(sales, lane, r.seq).minus(r.hash(l.run.seed))
		})
	})
}

// saleRows yields the conversions of a stretch of sequences, of every lane.
func (l *ledgerReader) saleRows(ctx context.Context, first, last int64, each func(lane int32, r *row)) error {
	var r row
	return l.query(ctx, func(rows *sql.Rows) error {
		var lane int32
		var seq uint64
		var no uint32
		var clickTime, time, received, n, amount int64
		var tenant, advertiser, campaign, banner, affiliate, goal, class, revenue, payout uint32
		var click, id, order, subs string
		if err := rows.Scan(&lane, &seq, &no, &clickTime, &time, &received, &tenant, &advertiser, &campaign, &banner,
			&affiliate, &goal, &class, &revenue, &payout, &n, &amount, &click, &id, &order, &subs); err != nil {
			return err
		}
		r.start(seq, no)
		r.numbers(clickTime, time, received, int64(tenant), int64(advertiser), int64(campaign), int64(banner),
			int64(affiliate), int64(goal), int64(class), int64(revenue), int64(payout), n, amount)
		r.texts(click, id, order, subs)
		each(lane, &r)
		return nil
	}, `SELECT lane, seq, row_no, click_time, time, received, tenant, advertiser, campaign, banner, affiliate, goal, class,
		revenue, payout, n, amount, coalesce(click_id::VARCHAR, ''), event_id, order_id, subs
		FROM sales WHERE seq BETWEEN ? AND ?`, first, last)
}

// rowsOf returns the ledger's rows of one group as text by (sequence, row).
func (l *ledgerReader) rowsOf(ctx context.Context, g group) (map[[2]uint64][]string, error) {
	out := map[[2]uint64][]string{}
	read := l.clickRows
	if g.table == sales {
		read = l.saleRows
	}
	first := int64(g.start * groupSize)
	err := read(ctx, first, first+groupSize-1, func(lane int32, r *row) {
		if lane == g.lane {
			at := [2]uint64{r.seq, uint64(r.no)}
			out[at] = append(out[at], string(r.text))
		}
	})
	return out, err
}

// explainRows finds out which rows of a group differ.
func (r *run) explainRows(ctx context.Context, g group) error {
	var have map[[2]uint64][]string
	err := r.opt.Ledger.Snapshot(ctx, func(q ledger.Querier) (err error) {
		have, err = (&ledgerReader{run: r, q: q}).rowsOf(ctx, g)
		return err
	})
	if err != nil {
		return fmt.Errorf("%w: %w", ErrLedger, err)
	}
	var l *Lane
	for i := range r.opt.Lanes {
		if int32(r.opt.Lanes[i].Number) == g.lane {
			l = &r.opt.Lanes[i]
		}
	}
	if l == nil {
		return nil // rows of a lane that there is not: the group's finding says so
	}
	diff := func(seq uint64, no uint32, what string) {
		r.find(checkRows, int(g.lane), "%s: sequence %d row %d %s", g.table, seq, no, what)
	}
	c := newCounter(l.Number, false, func(*cellKey, *sum) {})
	var want row
	check := func(seq uint64, no uint32) {
		at := [2]uint64{seq, uint64(no)}
		switch rows := have[at]; {
		case len(rows) == 0:
			diff(seq, no, "is missing in the ledger")
		case len(rows) > 1:
			diff(seq, no, fmt.Sprintf("stands %d times in the ledger", len(rows)))
		case rows[0] != string(want.text):
			diff(seq, no, "has other values in the ledger")
		}
		delete(have, at)
	}
	if g.table == clicks {
		c.click = func(seq uint64, no uint32, e *event.Event, class event.Class, received int64) {
			want.click(seq, no, e, class, received)
			check(seq, no)
		}
	} else {
		c.sale = func(seq uint64, no uint32, e *event.Event, class event.Class, received int64) {
			want.sale(seq, no, e, class, received)
			check(seq, no)
		}
	}
	if err := r.again(ctx, l, g, c); err != nil {
		return err
	}
	for at := range have {
		if at[0] <= r.at[l.Number].Seq { // others were flushed since
			diff(at[0], uint32(at[1]), "stands only in the ledger")
		}
	}
	return nil
}

// again walks the sequences of one group once more.
func (r *run) again(ctx context.Context, l *Lane, g group, c *counter) error {
	counted := r.at[l.Number].Seq
	unsealed, err := verdictsOf(ctx, l, counted)
	if err != nil {
		return err
	}
	first := g.start * groupSize
	w := &walker{
		lane: l, archive: r.opt.Archive, unsealed: unsealed, pace: r.pace, bad: func(string, uint64, uint64, error) {},
		each: func(b *batch) error {
			if len(b.classes) > 0 {
				_, err := c.batch(b)
				return err
			}
			return nil
		},
	}
	return w.walk(ctx, max(first, 1), min(first+groupSize-1, counted))
}
