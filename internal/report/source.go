package report

import (
	"context"
	"fmt"
	"strings"

	"milliard/internal/ledger"
)

// piece is a stretch of time read from one kind of table, in unix minutes.
type piece struct {
	table    string // of rows, or empty: the cells in units of so many minutes
	unit     int64
	from, to int64
	skew     string // of days of UTC that stand for days of another zone: which hours of theirs belong to another one
}

// Units of the tables of cells, in minutes.
const (
	minuteUnit  = 1
	quarterUnit = 15
	hourUnit    = 60
	dayUnit     = dayMinutes
)

// finer is the next finer unit.
func finer(unit int64) int64 {
	switch unit {
	case dayUnit:
		return hourUnit
	case hourUnit:
		return quarterUnit
	}
	return minuteUnit
}

// split covers [from, to) with the coarsest tables that are exact: whole units from the table of that width, what is
// left at the edges from the finer ones.
func split(from, to, unit int64) []piece {
	if from >= to {
		return nil
	}
	if unit == minuteUnit {
		return []piece{{unit: unit, from: from, to: to}}
	}
	lo, hi := -floorDiv(-from, unit)*unit, floorDiv(to, unit)*unit
	if from <= everFrom {
		lo = from
	}
	if to >= everTo {
		hi = to
	}
	if lo >= hi {
		return split(from, to, finer(unit))
	}
	out := split(from, lo, finer(unit))
	out = append(out, piece{unit: unit, from: lo, to: hi})
	return append(out, split(hi, to, finer(unit))...)
}

// pieces chooses the tables of a report.
func (q *Query) pieces() []piece {
	switch {
	case q.rollup != dimCount:
		return []piece{{table: "dim_15m", from: q.from, to: q.to}}
	case q.occurred:
		return []piece{{table: "occurred_15m", from: q.from, to: q.to}}
	}
	if ps := q.skewed(); ps != nil {
		return ps
	}
	for _, unit := range []int64{dayUnit, hourUnit, quarterUnit} {
		if aligned(q.grain, q.periods, unit) {
			return split(q.from, q.to, unit)
		}
	}
	return split(q.from, q.to, minuteUnit)
}

// Bounds of what is worth it: hours of a day that are read twice, and changes of the zone's offset.
const (
	maxSkew        = 8 * 60
	maxSkewPeriods = 8
)

// skewed covers a report by days of a zone that is whole hours from UTC: a day of UTC stands for the day of the zone that
// its noon belongs to, and the hours of it that belong to another one are taken off there and added here. Two hours of 24
// are read for Berlin. It returns nil when that is not possible or not worth it.
func (q *Query) skewed() []piece {
	lo, hi := -floorDiv(-q.from, dayUnit)*dayUnit, floorDiv(q.to, dayUnit)*dayUnit
	if q.grain == NoGrain || q.grain.withinDay() || lo >= hi || len(q.periods) > maxSkewPeriods ||
		aligned(q.grain, q.periods, dayUnit) || !aligned(q.grain, q.periods, hourUnit) {
		return nil
	}
	noon := floorDiv(dayUnit/2+q.periods[0].offset, dayUnit) // days from that of UTC
	var other []string
	for _, p := range q.periods {
		if floorDiv(dayUnit/2+p.offset, dayUnit) != noon {
			return nil
		}
		here := fmt.Sprintf("bucket >= %d AND bucket < %d AND bucket %% %d", p.from, p.to, dayUnit)
		begins := noon*dayUnit - p.offset // when the zone's day begins, in minutes of that of UTC
		switch {
		case begins > 0 && begins <= maxSkew:
			other = append(other, fmt.Sprintf("%s < %d", here, begins))
		case begins < 0 && begins >= -maxSkew:
			other = append(other, fmt.Sprintf("%s >= %d", here, dayUnit+begins))
		case begins != 0:
			return nil
		}
	}
	out := split(q.from, lo, hourUnit)
	out = append(out, piece{unit: dayUnit, from: lo, to: hi, skew: "(" + strings.Join(other, " OR ") + ")"})
	return append(out, split(hi, q.to, hourUnit)...)
}

// mark says up to which flush a lane's cells stand in the coarser tables.
type mark struct {
	lane         int
	rolled, days uint64 // in quarters and hours; in days
}

// readMarks reads them inside the snapshot that answers the question: what is above them is added from the finer tables.
func readMarks(ctx context.Context, tx ledger.Querier) ([]mark, error) {
	rows, err := tx.QueryContext(ctx, `SELECT p.lane, coalesce(r.rolled_flush, 0), coalesce(d.rolled_flush, 0) FROM positions p
		LEFT JOIN rollup_state r ON r.lane = p.lane LEFT JOIN day_state d ON d.lane = p.lane ORDER BY p.lane`)
	if err != nil {
		return nil, fmt.Errorf("read watermarks: %w", err)
	}
	defer rows.Close()
	var out []mark
	for rows.Next() {
		var m mark
		if err := rows.Scan(&m.lane, &m.rolled, &m.days); err != nil {
			return nil, fmt.Errorf("read watermarks: %w", err)
		}
		out = append(out, m)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read watermarks: %w", err)
	}
	return out, nil
}

// above is the condition for rows that the watermark of their lane does not cover yet. It is of constants, so that the
// engine skips whole groups of rows by their bounds; that is why the views exact_1h and exact_1d are not used here.
func aboveMarks(marks []mark, flush func(*mark) uint64) string {
	if len(marks) == 0 {
		return "flush > 0"
	}
	var b strings.Builder
	least := flush(&marks[0])
	for i := range marks {
		least = min(least, flush(&marks[i]))
	}
	fmt.Fprintf(&b, "flush > %d", least)
	if len(marks) > 1 {
		b.WriteString(" AND (")
		for i := range marks {
			fmt.Fprintf(&b, "lane = %d AND flush > %d OR ", marks[i].lane, flush(&marks[i]))
		}
		fmt.Fprintf(&b, "lane > %d)", marks[len(marks)-1].lane)
	}
	return b.String()
}

// source writes the pieces as one subquery with the given columns. Conditions stand in every part, so that each table is
// filtered while it is scanned. Rows that are not rolled up yet keep their own finer bucket: whoever reads a coarse piece
// does not look at where in its unit a bucket lies.
func source(b *strings.Builder, columns string, ps []piece, marks []mark, conds []string) {
	b.WriteString("(")
	parts := 0
	partOf := func(columns, table string, p *piece, above string) {
		if parts++; parts > 1 {
			b.WriteString(" UNION ALL ")
		}
		fmt.Fprintf(b, "SELECT %s FROM %s WHERE true", columns, table)
		if p.from > everFrom {
			fmt.Fprintf(b, " AND bucket >= %d", p.from)
		}
		if p.to < everTo {
			fmt.Fprintf(b, " AND bucket < %d", p.to)
		}
		for _, c := range conds {
			b.WriteString(" AND " + c)
		}
		if above != "" {
			b.WriteString(" AND " + above)
		}
	}
	part := func(table string, p *piece, above string) { partOf(columns, table, p, above) }
	for i := range ps {
		p := &ps[i]
		switch {
		case p.skew != "":
			above := aboveMarks(marks, func(m *mark) uint64 { return m.days })
			noon := fmt.Sprintf("bucket - bucket %% %d + %d", dayUnit, dayUnit/2)
			partOf(replaced(columns, map[string]string{"bucket": noon}), "cells_1d", p, "")
			partOf(replaced(columns, map[string]string{
				"bucket": "CASE WHEN sign > 0 THEN bucket ELSE " + noon + " END", "n": "n * sign", "amount": "amount * sign", "events": "events * sign",
			}), "cells_1h, (VALUES (1::TINYINT), (-1::TINYINT)) signs(sign)", p, p.skew+" AND NOT ("+above+")")
			part("cells_1h", p, above)
		case p.table != "":
			part(p.table, p, "")
			continue
		case p.unit == minuteUnit:
			part("cells", p, "")
			continue
		case p.unit == dayUnit:
			part("cells_1d", p, "")
			part("cells_1h", p, aboveMarks(marks, func(m *mark) uint64 { return m.days }))
		case p.unit == hourUnit:
			part("cells_1h", p, "")
		default:
			part("cells_15m", p, "")
		}
		part("cells", p, aboveMarks(marks, func(m *mark) uint64 { return m.rolled }))
	}
	b.WriteString(")")
}

// replaced writes columns, some of them as expressions.
func replaced(columns string, by map[string]string) string {
	list := strings.Split(columns, ", ")
	for i, c := range list {
		if x, ok := by[c]; ok {
			list[i] = x + " AS " + c
		}
	}
	return strings.Join(list, ", ")
}

// inList writes "column IN (1, 2)". The ids come from the catalog, never from a request's text.
func inList(column string, ids []int64) string {
	var b strings.Builder
	b.WriteString(column)
	b.WriteString(" IN (")
	for i, id := range ids {
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "%d", id)
	}
	b.WriteString(")")
	return b.String()
}
