package report

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/big"
	"slices"
	"strings"

	"milliard/internal/catalog"
	"milliard/internal/event"
	"milliard/internal/ledger"
)

// cell is one group as SQL summed it: everything that decides about its line and its money, and exact integers.
type cell struct {
	ids     [dimCount]uint32 // by dimension; those not asked for are 0
	value   string           // of country, device or sub1
	time    int64            // number of the local bucket
	offset  int32            // of the zone there, in minutes
	revenue event.PriceID
	payout  event.PriceID
	n       wide // millionths
	amount  wide // millionths
	events  wide
}

// cells are the groups of an answer, by columns: a month of two dimensions has tens of thousands.
type cells struct {
	count  int
	dims   []Dim // of the columns behind the first, which is type and class
	grain  bool
	offset bool
	words  [][]int64 // type and class, dimensions, time, offset, prices, sums
	values []string  // of country, device or sub1, if it is a column
	wide   map[int][sumCount]wide
}

func (q *Query) newCells(names *catalog.View) *cells {
	cs := &cells{dims: q.cellDims(names)[2:], grain: q.grain != NoGrain, offset: q.grain.withinDay()}
	n := 1 + len(cs.dims) + 1 + sumCount
	for _, has := range []bool{cs.grain, cs.offset} {
		if has {
			n++
		}
	}
	cs.words = make([][]int64, n)
	return cs
}

// read fills in the i-th cell.
func (cs *cells) read(i int, c *cell) {
	w := cs.words
	c.ids[EventType], c.ids[Class] = uint32(w[0][i]>>8), uint32(w[0][i]&0xff)
	w = w[1:]
	for j, d := range cs.dims {
		c.ids[d] = uint32(w[j][i])
	}
	w = w[len(cs.dims):]
	if cs.values != nil {
		c.value = cs.values[i]
	}
	if cs.grain {
		c.time, w = w[0][i], w[1:]
	}
	if cs.offset {
		c.offset, w = int32(w[0][i]), w[1:]
	}
	c.revenue, c.payout = event.PriceID(uint64(w[0][i])>>32), event.PriceID(uint32(w[0][i]))
	c.n, c.amount, c.events = wideOf(w[1][i]), wideOf(w[2][i]), wideOf(w[3][i])
	if cs.wide != nil {
		if sums, ok := cs.wide[i]; ok {
			c.n, c.amount, c.events = sums[0], sums[1], sums[2]
		}
	}
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

// build writes the statement of a report and its parameters. Its sums are words where they fit, because wider numbers are
// dear to hand over; where one does not fit it is tooWide, and if exact then a last column has the sums as text.
func (q *Query) build(names *catalog.View, marks []mark, exact bool) (string, []any) {
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
	if q.valued() {
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
	for _, c := range sumColumns() {
		fmt.Fprintf(&b, ", coalesce(TRY_CAST(sum(%s) AS BIGINT), (%d)::BIGINT) AS s%s", c, int64(tooWide), c)
	}
	if exact {
		fmt.Fprintf(&b, ", CASE WHEN %d IN (sn, samount, sevents) THEN concat_ws('/', sum(n), sum(amount), sum(events)) ELSE '' END", int64(tooWide))
	}
	b.WriteString(" FROM ")
	source(&b, columns, pieces, marks, conds)
	b.WriteString(" GROUP BY ALL")
	if q.occurred || q.rollup != dimCount || slices.ContainsFunc(pieces, func(p piece) bool { return p.skew != "" }) {
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

// tooWide stands for a sum that does not fit into a word.
const tooWide = math.MinInt64

// fetch reads every group. It computes nothing, so that the snapshot ends soon. A ledger that answers by columns is asked
// so; not with texts out of a request, which are parameters, and not again when a sum is too wide.
func (q *Query) fetch(ctx context.Context, tx ledger.Querier, names *catalog.View, marks []mark) (*cells, error) {
	if by, ok := tx.(ledger.ColumnQuerier); ok {
		if stmt, args := q.build(names, marks, false); len(args) == 0 {
			cs, err := q.fetchColumns(ctx, by, names, stmt)
			if err != nil || cs != nil {
				return cs, err
			}
		}
	}
	stmt, args := q.build(names, marks, true)
	return q.fetchRows(ctx, tx, names, stmt, args)
}

// fetchColumns returns nil when a sum is too wide.
func (q *Query) fetchColumns(ctx context.Context, tx ledger.ColumnQuerier, names *catalog.View, stmt string) (*cells, error) {
	cs := q.newCells(names)
	var texts map[string]string
	valueAt := -1
	if q.valued() {
		texts, valueAt = map[string]string{}, 1+len(cs.dims)
	}
	wide := false
	err := tx.QueryColumns(ctx, stmt, func(c *ledger.Columns) error {
		if cs.count += c.N; cs.count > maxGroups {
			return tooMany()
		}
		at := 0
		for i := range c.Col {
			if i == valueAt {
				for _, s := range c.Col[i].Texts { // it is the engine's
					own, ok := texts[s]
					if !ok {
						own = strings.Clone(s)
						texts[own] = own
					}
					cs.values = append(cs.values, own)
				}
				continue
			}
			cs.words[at] = append(cs.words[at], c.Col[i].Ints...)
			at++
		}
		for i := len(c.Col) - sumCount; i < len(c.Col); i++ {
			wide = wide || slices.Contains(c.Col[i].Ints, tooWide)
		}
		return nil
	})
	switch {
	case errors.Is(err, ErrTooMany):
		return nil, err
	case err != nil:
		return nil, fmt.Errorf("read cells: %w", err)
	case wide:
		return nil, nil
	}
	return cs, nil
}

func tooMany() error {
	return fmt.Errorf("%w: more than %d; use fewer dimensions, a coarser grain or a filter", ErrTooMany, maxGroups)
}

// valued says whether a dimension of texts is a column.
func (q *Query) valued() bool {
	return slices.ContainsFunc(q.dims, func(d Dim) bool { return d.rollup() != 0 })
}

func (q *Query) fetchRows(ctx context.Context, tx ledger.Querier, names *catalog.View, stmt string, args []any) (*cells, error) {
	rows, err := tx.QueryContext(ctx, stmt, args...)
	if err != nil {
		return nil, fmt.Errorf("read cells: %w", err)
	}
	defer rows.Close()
	cs := q.newCells(names)
	row := make([]int64, len(cs.words))
	prices := len(row) - 1 - sumCount
	var packed uint64
	var value, sums string
	var dest []any
	for i := range row {
		if i == 1+len(cs.dims) && q.valued() {
			dest = append(dest, &value)
		}
		if i == prices {
			dest = append(dest, &packed)
			continue
		}
		dest = append(dest, &row[i])
	}
	dest = append(dest, &sums)
	for rows.Next() {
		if err := rows.Scan(dest...); err != nil {
			return nil, fmt.Errorf("read cells: %w", err)
		}
		if cs.count++; cs.count > maxGroups {
			return nil, tooMany()
		}
		row[prices] = int64(packed)
		for i, v := range row {
			cs.words[i] = append(cs.words[i], v)
		}
		if q.valued() {
			cs.values = append(cs.values, value)
		}
		if sums != "" {
			if err := cs.widen(sums); err != nil {
				return nil, fmt.Errorf("read cells: %w", err)
			}
		}
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read cells: %w", err)
	}
	return cs, nil
}

const sumCount = 3

// sumColumns are what SQL sums, in order.
func sumColumns() [sumCount]string { return [...]string{"n", "amount", "events"} }

// widen reads the sums of the last cell, one of which does not fit into a word.
func (cs *cells) widen(s string) error {
	parts := strings.Split(s, "/")
	var sums [sumCount]wide
	if len(parts) != len(sums) {
		return fmt.Errorf("sums %q", s)
	}
	for i, part := range parts {
		x, ok := new(big.Int).SetString(part, 10)
		if !ok {
			return fmt.Errorf("sum %q", part)
		}
		var err error
		if sums[i], err = wideOfBig(x); err != nil {
			return err
		}
	}
	if cs.wide == nil {
		cs.wide = map[int][sumCount]wide{}
	}
	cs.wide[cs.count-1] = sums
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
