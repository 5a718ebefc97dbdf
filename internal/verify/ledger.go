package verify

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"milliard/internal/event"
	"milliard/internal/journal"
	"milliard/internal/ledger"
)

// ledgerReader reads the ledger's side. It asks for a bounded number of rows at a time, because the engine holds a whole
// answer in memory.
type ledgerReader struct {
	run    *run
	q      ledger.Querier
	side   ledgerSide
	rolled map[int32]uint64 // lane → flush up to which its rollups are complete
	days   map[int32]uint64 // the same for its days, made of its hours
}

// chunkRows is about how many rows are asked for at a time.
const chunkRows = 200_000

func (l *ledgerReader) all(ctx context.Context) error {
	steps := []func(context.Context) error{l.positions, l.watermarks, l.cells, l.rollups, l.dims, l.tallies}
	if !l.run.exact {
		steps = append(steps, l.clicks, l.sales)
	}
	for _, step := range steps {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// query runs a statement and yields its rows.
func (l *ledgerReader) query(ctx context.Context, each func(rows *sql.Rows) error, query string) error {
	rows, err := l.q.QueryContext(ctx, query)
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
	l.rolled, l.days = map[int32]uint64{}, map[int32]uint64{}
	for state, into := range map[string]map[int32]uint64{"rollup_state": l.rolled, "day_state": l.days} {
		err := l.query(ctx, func(rows *sql.Rows) error {
			var lane int32
			var flush uint64
			if err := rows.Scan(&lane, &flush); err != nil {
				return err
			}
			if _, twice := into[lane]; twice {
				l.run.find(checkRollups, int(lane), "the ledger has several watermarks in %s", state)
			}
			into[lane] = flush
			return nil
		}, "SELECT lane, rolled_flush FROM "+state)
		if err != nil {
			return err
		}
	}
	for lane, flush := range l.days {
		if flush > l.rolled[lane] {
			l.run.find(checkRollups, int(lane), "days are said to reach flush %d, hours reach %d", flush, l.rolled[lane])
		}
	}
	return nil
}

// spans cuts a table into stretches of a column that have about chunkRows rows each, and yields the condition of each. A
// unit that has many more is cut by the expression spread as well.
func (l *ledgerReader) spans(ctx context.Context, table, column string, unit int64, spread string, each func(where string) error) error {
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
		where := fmt.Sprintf("%s BETWEEN %d AND %d", column, s.first, s.last)
		parts := max(1, s.rows/(2*chunkRows))
		for part := range parts {
			some := where
			if parts > 1 {
				some += fmt.Sprintf(" AND %s %% %d = %d", spread, parts, part)
			}
			err := each(some)
			if err == nil {
				err = l.run.pace.wait(ctx, 0)
			}
			if err != nil {
				return fmt.Errorf("%s: %w", table, err)
			}
		}
	}
	return nil
}

// columns runs a statement and yields its answer in columns.
func (l *ledgerReader) columns(ctx context.Context, each func(c *ledger.Columns) error, query string, args ...any) error {
	q, ok := l.q.(ledger.ColumnQuerier)
	if !ok {
		return errors.New("the ledger does not answer in columns")
	}
	return q.QueryColumns(ctx, fmt.Sprintf(query, args...), each)
}

const cellColumns = "lane, flush, bucket, tenant, type, goal, class, campaign, banner, affiliate, revenue, payout, n, amount, events"

// scanned is one row of a table of cells.
type scanned struct {
	lane              int32
	flush             uint64
	dim               ledger.Dimension
	value             string // valid until the next row
	key               ledger.Key
	n, amount, events int64
}

func (s *scanned) scan(c []ledger.Column, i int) {
	s.lane, s.flush = int32(c[0].Ints[i]), uint64(c[1].Ints[i])
	s.key = ledger.Key{
		Bucket: int32(c[2].Ints[i]), Tenant: event.TenantID(c[3].Ints[i]), Type: event.Type(c[4].Ints[i]),
		Goal: event.GoalID(c[5].Ints[i]), Class: event.Class(c[6].Ints[i]), Campaign: event.CampaignID(c[7].Ints[i]),
		Banner: event.BannerID(c[8].Ints[i]), Affiliate: event.AffiliateID(c[9].Ints[i]),
		Revenue: event.PriceID(c[10].Ints[i]), Payout: event.PriceID(c[11].Ints[i]),
	}
	s.n, s.amount, s.events = c[12].Ints[i], c[13].Ints[i], c[14].Ints[i]
}

// table yields the rows of a table of cells.
func (l *ledgerReader) table(ctx context.Context, name, extra string, each func(s *scanned)) error {
	unit := int64(1)
	if name != "cells" {
		unit = quarter
	}
	return l.spans(ctx, name, "bucket", unit, "hash(campaign, banner, affiliate)", func(where string) error {
		var s scanned
		err := l.columns(ctx, func(c *ledger.Columns) error {
			for i := range c.N {
				s.scan(c.Col, i)
				if extra != "" {
					s.dim, s.value = ledger.Dimension(c.Col[15].Ints[i]), c.Col[16].Texts[i]
				}
				if at := l.run.at[int(s.lane)]; s.flush > at.Flush {
					l.run.find(checkPosition, int(s.lane), "%s has a row of flush %d, the position is flush %d", name, s.flush, at.Flush)
				}
				each(&s)
			}
			return nil
		}, "SELECT %s%s FROM %s WHERE %s", cellColumns, extra, name, where)
		if err == nil {
			err = l.side.settle()
		}
		return err
	})
}

// cells reads the minute cells. Up to the watermark they must come to what the coarser tables hold.
func (l *ledgerReader) cells(ctx context.Context) error {
	return l.table(ctx, "cells", "", func(s *scanned) { l.side.cell(s, s.flush <= l.rolled[s.lane]) })
}

func (l *ledgerReader) rollups(ctx context.Context) error {
	for name, t := range map[string]table{"cells_15m": tableQuarters, "cells_1h": tableHours, "cells_1d": tableDays, "moved_15m": tableOccurred} {
		err := l.table(ctx, name, "", func(s *scanned) {
			l.side.rollup(t, s)
			if t == tableHours && s.flush <= l.days[s.lane] {
				l.side.day(s)
			}
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (l *ledgerReader) dims(ctx context.Context) error {
	return l.table(ctx, "values_15m", ", dim, value", l.side.dim)
}

func (l *ledgerReader) tallies(ctx context.Context) error {
	return l.spans(ctx, "tallies", "minute", hour, "tenant", func(where string) error {
		return l.columns(ctx, func(c *ledger.Columns) error {
			for i := range c.N {
				k := cellKey{table: tableTallies, lane: int32(c.Col[0].Ints[i])}
				k.Bucket, k.Tenant = int32(c.Col[1].Ints[i]), event.TenantID(c.Col[2].Ints[i])
				k.value = c.Col[3].Texts[i] + "\x00" + c.Col[4].Texts[i]
				l.side.tally(&k, c.Col[5].Ints[i])
			}
			return nil
		}, "SELECT lane, minute, tenant, door, reason, n FROM tallies WHERE %s", where)
	})
}

func (l *ledgerReader) clicks(ctx context.Context) error { return l.prints(ctx, clicks, l.clickRows) }
func (l *ledgerReader) sales(ctx context.Context) error  { return l.prints(ctx, sales, l.saleRows) }

// rowReader yields the rows for which a condition holds, of every lane.
type rowReader func(ctx context.Context, where string, each func(lane int32, r *row)) error

func (l *ledgerReader) prints(ctx context.Context, t rowTable, read rowReader) error {
	return l.spans(ctx, t.String(), "seq", groupSize, "row_no", func(where string) error {
		var at group
		var to *print128
		return read(ctx, where, func(lane int32, r *row) {
			if g := (group{t, lane, r.seq / groupSize}); to == nil || g != at {
				at, to = g, l.run.group(t, lane, r.seq)
			}
			to.minus(r.hash(l.run.seed))
		})
	})
}

func (l *ledgerReader) clickRows(ctx context.Context, where string, each func(lane int32, r *row)) error {
	return l.rowColumns(ctx, 9, 4, each, `SELECT lane, seq, row_no, time, received, tenant, campaign, banner, affiliate, class,
		event_id, country, device, subs, %s FROM clicks WHERE %s`, clickColumns, where)
}

func (l *ledgerReader) saleRows(ctx context.Context, where string, each func(lane int32, r *row)) error {
	return l.rowColumns(ctx, 16, 3, each, `SELECT lane, seq, row_no, click_time, time, received, tenant, advertiser, campaign,
		banner, affiliate, goal, class, revenue, payout, n, amount, event_id, order_id, subs, %s
		FROM sales WHERE %s`, clickColumns, where)
}

// clickColumns is a click id that may not be there.
const clickColumns = "coalesce(click_id, '00000000-0000-0000-0000-000000000000'::UUID), (click_id IS NOT NULL)::UTINYINT"

// rowColumns yields rows of which the statement selects the lane, then so many numbers, then texts, then clickColumns.
func (l *ledgerReader) rowColumns(ctx context.Context, numbers, texts int, each func(lane int32, r *row), query string, args ...any) error {
	var r row
	return l.columns(ctx, func(c *ledger.Columns) error {
		id, there := &c.Col[1+numbers+texts], &c.Col[2+numbers+texts]
		for i := range c.N {
			r.start(uint64(c.Col[1].Ints[i]), uint32(c.Col[2].Ints[i]))
			for j := 3; j <= numbers; j++ {
				r.number(c.Col[j].Ints[i])
			}
			r.click(event.MintedID{Hi: id.High[i], Lo: uint64(id.Ints[i])}, there.Ints[i] != 0)
			for j := 1 + numbers; j <= numbers+texts; j++ {
				r.string(c.Col[j].Texts[i])
			}
			each(int32(c.Col[0].Ints[i]), &r)
		}
		return nil
	}, query, args...)
}

// rowsOf returns the ledger's rows of one group as text by (sequence, row).
func (l *ledgerReader) rowsOf(ctx context.Context, g group) (map[[2]uint64][]string, error) {
	out := map[[2]uint64][]string{}
	read := rowReader(l.clickRows)
	if g.table == sales {
		read = l.saleRows
	}
	where := fmt.Sprintf("seq BETWEEN %d AND %d", g.start*groupSize, (g.start+1)*groupSize-1)
	err := read(ctx, where, func(lane int32, r *row) {
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
			want.ofClick(seq, no, e, class, received)
			check(seq, no)
		}
	} else {
		c.sale = func(seq uint64, no uint32, e *event.Event, class event.Class, received int64) {
			want.ofSale(seq, no, e, class, received)
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
	if err != nil && !errors.Is(err, journal.ErrGap) {
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
