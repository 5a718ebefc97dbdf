package report

import (
	"fmt"
	"strings"
)

// piece is a stretch of time read from one table, in unix minutes.
type piece struct {
	table    string
	from, to int64
}

// split covers [from, to) with the coarsest tables that are exact: whole units from the table of that width, what is
// left at the edges from the finer ones. unit is 60, 15 or 1.
func split(from, to, unit int64) []piece {
	if from >= to {
		return nil
	}
	if unit == 1 {
		return []piece{{"cells", from, to}}
	}
	table, finer := "exact_15m", int64(1)
	if unit == 60 {
		table, finer = "exact_1h", 15
	}
	lo, hi := -floorDiv(-from, unit)*unit, floorDiv(to, unit)*unit
	if lo >= hi {
		return split(from, to, finer)
	}
	out := split(from, lo, finer)
	out = append(out, piece{table, lo, hi})
	return append(out, split(hi, to, finer)...)
}

// pieces chooses the tables of a report.
func (q *Query) pieces() []piece {
	switch {
	case q.rollup != dimCount:
		return []piece{{"dim_15m", q.from, q.to}}
	case q.occurred:
		return []piece{{"occurred_15m", q.from, q.to}}
	}
	for _, unit := range []int64{60, 15} {
		if aligned(q.grain, q.periods, unit) {
			return split(q.from, q.to, unit)
		}
	}
	return split(q.from, q.to, 1)
}

// source writes the pieces as one subquery with the given columns. The coarse tables are read through the ledger's
// views exact_15m and exact_1h, which add the cells that compaction has not rolled up yet. Conditions stand in every
// piece, so that each table is filtered while it is scanned.
func source(b *strings.Builder, columns string, ps []piece, conds []string) {
	b.WriteString("(")
	for i, p := range ps {
		if i > 0 {
			b.WriteString(" UNION ALL ")
		}
		fmt.Fprintf(b, "SELECT %s FROM %s WHERE bucket >= %d AND bucket < %d", columns, p.table, p.from, p.to)
		for _, c := range conds {
			b.WriteString(" AND ")
			b.WriteString(c)
		}
	}
	b.WriteString(")")
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
