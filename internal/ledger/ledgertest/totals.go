// Package ledgertest is the conformance suite of the ledger contract: every implementation runs it, so that they cannot
// drift apart. It also holds the plain model that tests compare a ledger with: maps and sums, nothing shared with any
// implementation. It starts no goroutines and must not be imported outside tests.
package ledgertest

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"milliard/internal/event"
	"milliard/internal/journal"
	"milliard/internal/ledger"
)

// RollupKey is what a rollup cell counts.
type RollupKey struct {
	Dim   ledger.Dimension
	Value string
	ledger.Key
}

// TallyKey is what a tally counts.
type TallyKey struct {
	Minute int64
	Tenant event.TenantID
	Door   string
	Reason string
}

// Totals are all the sums of a ledger. Implementations that have coarser tables must make Quarters, Hours and Days, and what is
// derived from them, Occurred and Rollups, equal to what Add computes, at every moment.
type Totals struct {
	Cells, Quarters, Hours, Days, Occurred map[ledger.Key]ledger.Value
	Rollups                                map[RollupKey]ledger.Value
	Tallies                                map[TallyKey]int64
	Clicks, Sales                          map[string]int // row, written as text → how often
}

// NewTotals returns empty totals.
func NewTotals() *Totals {
	return &Totals{
		Cells: map[ledger.Key]ledger.Value{}, Quarters: map[ledger.Key]ledger.Value{}, Hours: map[ledger.Key]ledger.Value{},
		Days: map[ledger.Key]ledger.Value{}, Occurred: map[ledger.Key]ledger.Value{}, Rollups: map[RollupKey]ledger.Value{}, Tallies: map[TallyKey]int64{},
		Clicks: map[string]int{}, Sales: map[string]int{},
	}
}

// Add counts a generation that was flushed.
func (t *Totals) Add(g *ledger.Generation) {
	for i := range g.Cells {
		c := &g.Cells[i]
		plus(t.Cells, c.Key, c.Value)
		plus(t.Quarters, coarse(c.Key, 15), c.Value)
		plus(t.Hours, coarse(c.Key, 60), c.Value)
		plus(t.Days, coarse(c.Key, 24*60), c.Value)
		plus(t.Occurred, coarse(c.Key, 15), c.Value)
		for _, dim := range []ledger.Dimension{ledger.DimCountry, ledger.DimDevice, ledger.DimSub1} {
			plus(t.Rollups, RollupKey{dim, dim.Rest(), coarse(c.Key, 15)}, c.Value)
		}
	}
	for i := range g.Moved {
		plus(t.Occurred, g.Moved[i].Key, g.Moved[i].Value)
	}
	for i := range g.Rollups {
		r := &g.Rollups[i]
		plus(t.Rollups, RollupKey{r.Dim, r.DimValue, r.Key}, r.Value)
		plus(t.Rollups, RollupKey{r.Dim, r.Dim.Rest(), r.Key}, negative(r.Value))
	}
	for _, y := range g.Tallies {
		t.Tallies[TallyKey{y.Minute, y.Tenant, y.Door, y.Reason}] += y.N
	}
	for row := range g.Clicks.All() {
		t.Clicks[ClickText(g.Lane, row)]++
	}
	for row := range g.Sales.All() {
		t.Sales[SaleText(g.Lane, row)]++
	}
}

func plus[K comparable](m map[K]ledger.Value, k K, v ledger.Value) {
	sum := m[k]
	sum.N += v.N
	sum.Amount += v.Amount
	sum.Events += v.Events
	m[k] = sum
}

func negative(v ledger.Value) ledger.Value {
	return ledger.Value{N: -v.N, Amount: -v.Amount, Events: -v.Events}
}

func coarse(k ledger.Key, minutes int32) ledger.Key {
	for k.Bucket%minutes != 0 {
		k.Bucket--
	}
	return k
}

// Diff returns what differs, empty when nothing does.
func (t *Totals) Diff(got *Totals) []string {
	var out []string
	out = append(out, diff("cell", t.Cells, got.Cells)...)
	out = append(out, diff("quarter", t.Quarters, got.Quarters)...)
	out = append(out, diff("hour", t.Hours, got.Hours)...)
	out = append(out, diff("day", t.Days, got.Days)...)
	out = append(out, diff("occurred", t.Occurred, got.Occurred)...)
	out = append(out, diff("rollup", t.Rollups, got.Rollups)...)
	out = append(out, diff("tally", t.Tallies, got.Tallies)...)
	out = append(out, diff("click", t.Clicks, got.Clicks)...)
	out = append(out, diff("sale", t.Sales, got.Sales)...)
	return out[:min(len(out), 10)]
}

func diff[K comparable, V comparable](what string, want, got map[K]V) []string {
	var out []string
	for k, w := range want {
		if g, ok := got[k]; !ok || g != w {
			out = append(out, fmt.Sprintf("%s %+v: want %v, got %v", what, k, w, g))
		}
	}
	for k, g := range got {
		if _, ok := want[k]; !ok {
			out = append(out, fmt.Sprintf("%s %+v: want none, got %v", what, k, g))
		}
	}
	slices.Sort(out)
	return out
}

// ClickText writes a click row as text, for comparing.
func ClickText(lane int, c *ledger.ClickRow) string {
	return fmt.Sprint(lane, c.Seq, c.Row, c.ClickID, " ", c.EventID, " ", c.Time, c.Received, c.Tenant, c.Campaign, c.Banner,
		c.Affiliate, uint8(c.Class), " ", c.Country, " ", c.Device, " ", c.Subs)
}

// SaleText writes a sale row as text, for comparing.
func SaleText(lane int, s *ledger.SaleRow) string {
	return fmt.Sprint(lane, s.Seq, s.Row, " ", s.EventID, " ", s.Order, " ", s.ClickID, s.ClickTime, s.Time, s.Received, s.Tenant,
		s.Advertiser, s.Campaign, s.Banner, s.Affiliate, s.Goal, uint8(s.Class), s.Revenue, s.Payout, int64(s.N), int64(s.Amount),
		" ", s.Subs)
}

// SQLTotals reads the totals of an implementation with SQL, in one snapshot.
func SQLTotals(ctx context.Context, l ledger.Ledger) (*Totals, error) {
	t := NewTotals()
	err := l.Snapshot(ctx, func(q ledger.Querier) error {
		for table, into := range map[string]map[ledger.Key]ledger.Value{
			"cells": t.Cells, "exact_15m": t.Quarters, "exact_1h": t.Hours, "exact_1d": t.Days, "occurred_15m": t.Occurred,
		} {
			if err := sqlCells(ctx, q, table, into); err != nil {
				return fmt.Errorf("%s: %w", table, err)
			}
		}
		return sqlRows(ctx, q, t)
	})
	return t, err
}

const keyColumns = "bucket, tenant, type, goal, class, campaign, banner, affiliate, revenue, payout"

func keyInto(k *ledger.Key, v *ledger.Value) []any {
	return []any{
		&k.Bucket, &k.Tenant, &k.Type, &k.Goal, &k.Class, &k.Campaign, &k.Banner, &k.Affiliate, &k.Revenue, &k.Payout,
		&v.N, &v.Amount, &v.Events,
	}
}

func sqlCells(ctx context.Context, q ledger.Querier, table string, into map[ledger.Key]ledger.Value) error {
	rows, err := q.QueryContext(ctx, "SELECT "+keyColumns+", n, amount, events FROM "+table)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var k ledger.Key
		var v ledger.Value
		if err := rows.Scan(keyInto(&k, &v)...); err != nil {
			return err
		}
		plus(into, k, v)
	}
	return rows.Err()
}

// each scans every row of a query into the given places and then calls do.
func each(ctx context.Context, q ledger.Querier, query string, into []any, do func()) error {
	rows, err := q.QueryContext(ctx, query)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := rows.Scan(into...); err != nil {
			return err
		}
		do()
	}
	return rows.Err()
}

func sqlRows(ctx context.Context, q ledger.Querier, t *Totals) error {
	var r RollupKey
	var v ledger.Value
	if err := each(ctx, q, "SELECT dim, value, "+keyColumns+", n, amount, events FROM dim_15m",
		append([]any{&r.Dim, &r.Value}, keyInto(&r.Key, &v)...), func() { plus(t.Rollups, r, v) }); err != nil {
		return fmt.Errorf("dim_15m: %w", err)
	}
	var y journal.Tally
	if err := each(ctx, q, "SELECT minute, tenant, door, reason, n FROM tallies",
		[]any{&y.Minute, &y.Tenant, &y.Door, &y.Reason, &y.N},
		func() { t.Tallies[TallyKey{y.Minute, y.Tenant, y.Door, y.Reason}] += y.N }); err != nil {
		return fmt.Errorf("tallies: %w", err)
	}
	var lane int
	var id, country, device string
	var c ledger.ClickRow
	if err := each(ctx, q, `SELECT lane, seq, row_no, coalesce(click_id::VARCHAR, ''), event_id, time, received, tenant,
			campaign, banner, affiliate, class, country, device, subs FROM clicks`,
		[]any{
			&lane, &c.Seq, &c.Row, &id, &c.EventID, &c.Time, &c.Received, &c.Tenant, &c.Campaign, &c.Banner, &c.Affiliate,
			&c.Class, &country, &device, &c.Subs,
		}, func() {
			c.ClickID, _ = event.ParseMintedID(id)
			c.Country, c.Device = event.ParseCountry(country), event.ParseDevice(device)
			t.Clicks[ClickText(lane, &c)]++
		}); err != nil {
		return fmt.Errorf("clicks: %w", err)
	}
	var s ledger.SaleRow
	if err := each(ctx, q, `SELECT lane, seq, row_no, event_id, order_id, coalesce(click_id::VARCHAR, ''), click_time, time,
			received, tenant, advertiser, campaign, banner, affiliate, goal, class, revenue, payout, n, amount, subs FROM sales`,
		[]any{
			&lane, &s.Seq, &s.Row, &s.EventID, &s.Order, &id, &s.ClickTime, &s.Time, &s.Received, &s.Tenant, &s.Advertiser,
			&s.Campaign, &s.Banner, &s.Affiliate, &s.Goal, &s.Class, &s.Revenue, &s.Payout, &s.N, &s.Amount, &s.Subs,
		}, func() {
			s.ClickID, _ = event.ParseMintedID(id)
			t.Sales[SaleText(lane, &s)]++
		}); err != nil {
		return fmt.Errorf("sales: %w", err)
	}
	return nil
}

// Events returns the number of events in all cells.
func (t *Totals) Events() (n int64) {
	for v := range maps.Values(t.Cells) {
		n += v.Events
	}
	return n
}
