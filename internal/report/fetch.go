package report

import (
	"context"
	"database/sql"
	"fmt"
	"math/big"
	"slices"
	"strings"

	"milliard/internal/catalog"
	"milliard/internal/event"
	"milliard/internal/ledger"
)

// cell is one group as SQL summed it: everything that decides about its line and its money, and exact integers.
type cell struct {
	ids     [dimCount]int64 // by dimension; those not asked for are 0
	value   string          // of country, device or sub1
	time    int64           // number of the local bucket
	offset  int64           // of the zone there, in minutes
	revenue event.PriceID
	payout  event.PriceID
	n       wide // millionths
	amount  wide // millionths
	events  wide
}

// columnOf is the cells' column of a dimension; the advertiser is found from the campaign.
func (d Dim) columnOf() string {
	switch d {
	case EventType, Goal, Class, Campaign, Banner, Affiliate:
		return d.String()
	case Country, Device, Sub1:
		return "value"
	case Advertiser, dimCount:
	}
	return ""
}

// cellDims are the integer dimensions that SQL groups by. Type and class are always among them, because metrics and
// money depend on them. The campaign is when the advertiser is asked for or when campaigns differ in currency.
func (q *Query) cellDims(names *catalog.View) []Dim {
	dims := []Dim{EventType, Class}
	add := func(d Dim) {
		if !slices.Contains(dims, d) {
			dims = append(dims, d)
		}
	}
	for _, d := range q.dims {
		switch {
		case d == Advertiser:
			add(Campaign)
		case d.rollup() == 0:
			add(d)
		}
	}
	if severalCurrencies(names) {
		add(Campaign)
	}
	return dims
}

// build writes the statement of a report and its parameters.
func (q *Query) build(names *catalog.View, marks []mark) (string, []any) {
	conds := []string{fmt.Sprintf("tenant = %d", q.tenant)}
	var args []any
	pieces := q.pieces()
	for d := range dimCount {
		f := &q.filters[d]
		switch {
		case !f.used():
		case d == Advertiser:
			conds = append(conds, inList("campaign", campaignsOf(names, f.ids)))
		case d.rollup() != 0:
			conds = append(conds, "value IN ("+strings.TrimSuffix(strings.Repeat("?, ", len(f.values)), ", ")+")")
			for _, v := range f.values {
				args = append(args, v)
			}
		default:
			conds = append(conds, inList(d.columnOf(), f.ids))
		}
	}
	columns := "bucket, type, goal, class, campaign, banner, affiliate, revenue, payout, n, amount, events"
	if q.rollup != dimCount {
		conds = append(conds, fmt.Sprintf("dim = %d", q.rollup.rollup()))
		columns = "value, " + columns
	}

	keys := []string{"type::UINTEGER * 256 + class AS tc"} // fewer columns are grouped and handed over faster
	for _, d := range q.cellDims(names)[2:] {
		keys = append(keys, d.columnOf())
	}
	if slices.ContainsFunc(q.dims, func(d Dim) bool { return d.rollup() != 0 }) {
		keys = append(keys, "value")
	}
	if q.grain != NoGrain {
		offset := offsetSQL(q.periods)
		keys = append(keys, timeSQL(q.grain, offset)+" AS t")
		if q.grain.withinDay() {
			keys = append(keys, offset+" AS o")
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, "SELECT %s, revenue::UBIGINT * %d + payout AS rp", strings.Join(keys, ", "), int64(1)<<32)
	for _, c := range sumColumns() { // words where they fit: wider numbers are dear to hand over
		fmt.Fprintf(&b, ", TRY_CAST(sum(%s) AS BIGINT) AS s%s", c, c)
	}
	b.WriteString(", CASE WHEN sn IS NULL OR samount IS NULL OR sevents IS NULL THEN concat_ws('/', sum(n), sum(amount), sum(events)) END FROM ")
	source(&b, columns, pieces, marks, conds)
	b.WriteString(" GROUP BY ALL")
	if q.occurred || q.rollup != dimCount {
		b.WriteString(" HAVING sum(events) <> 0") // these are partly differences, which may come to nothing
	}
	return b.String(), args
}

// campaignsOf lists the campaigns of advertisers. Campaign 0, which is nobody's, belongs to advertiser 0. The list is
// never empty, as SQL demands.
func campaignsOf(names *catalog.View, advertisers []int64) []int64 {
	out := []int64{-1}
	for _, a := range advertisers {
		if a == 0 {
			out = append(out, 0)
		}
	}
	for _, c := range names.Campaigns() {
		if slices.Contains(advertisers, int64(c.Advertiser)) {
			out = append(out, int64(c.ID))
		}
	}
	return out
}

// fetch runs the statement and reads every group. It computes nothing, so that the snapshot ends soon.
func (q *Query) fetch(ctx context.Context, tx ledger.Querier, names *catalog.View, stmt string, args []any) ([]cell, error) {
	rows, err := tx.QueryContext(ctx, stmt, args...)
	if err != nil {
		return nil, fmt.Errorf("read cells: %w", err)
	}
	defer rows.Close()
	var out []cell
	var c cell
	var typeClass, prices uint64
	var sums [3]sql.NullInt64
	var wider sql.NullString
	dest := []any{&typeClass}
	for _, d := range q.cellDims(names)[2:] {
		dest = append(dest, &c.ids[d])
	}
	if slices.ContainsFunc(q.dims, func(d Dim) bool { return d.rollup() != 0 }) {
		dest = append(dest, &c.value)
	}
	if q.grain != NoGrain {
		dest = append(dest, &c.time)
		if q.grain.withinDay() {
			dest = append(dest, &c.offset)
		}
	}
	dest = append(dest, &prices, &sums[0], &sums[1], &sums[2], &wider)
	for rows.Next() {
		if err := rows.Scan(dest...); err != nil {
			return nil, fmt.Errorf("read cells: %w", err)
		}
		if len(out) >= maxGroups {
			return nil, fmt.Errorf("%w: more than %d; use fewer dimensions, a coarser grain or a filter", ErrTooMany, maxGroups)
		}
		c.ids[EventType], c.ids[Class] = int64(typeClass>>8), int64(typeClass&0xff)
		c.revenue, c.payout = event.PriceID(prices>>32), event.PriceID(uint32(prices))
		c.n, c.amount, c.events = wideOf(sums[0].Int64), wideOf(sums[1].Int64), wideOf(sums[2].Int64)
		if wider.Valid {
			if err := c.widen(wider.String); err != nil {
				return nil, fmt.Errorf("read cells: %w", err)
			}
		}
		out = append(out, c)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read cells: %w", err)
	}
	return out, nil
}

// sumColumns are what SQL sums, in order.
func sumColumns() [3]string { return [...]string{"n", "amount", "events"} }

// widen reads the sums of a cell one of which does not fit into a word.
func (c *cell) widen(s string) error {
	parts := strings.Split(s, "/")
	to := [...]*wide{&c.n, &c.amount, &c.events}
	if len(parts) != len(to) {
		return fmt.Errorf("sums %q", s)
	}
	for i, part := range parts {
		x, ok := new(big.Int).SetString(part, 10)
		if !ok {
			return fmt.Errorf("sum %q", part)
		}
		var err error
		if *to[i], err = wideOfBig(x); err != nil {
			return err
		}
	}
	return nil
}

// integer takes a sum as the driver gives it: HUGEINT as *big.Int, smaller ones as int64. Anything else would not be
// exact and is an error.
func integer(v any) (*big.Int, error) {
	switch x := v.(type) {
	case *big.Int:
		return x, nil
	case int64:
		return big.NewInt(x), nil
	case nil:
		return new(big.Int), nil
	}
	return nil, fmt.Errorf("sum of type %T is not an integer", v)
}
