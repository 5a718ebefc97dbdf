package duck

import (
	"database/sql"

	"milliard/internal/crash"
	"milliard/internal/event"
	"milliard/internal/ledger"
)

// appendGeneration writes the rows of g inside the transaction that conn is in.
func appendGeneration(conn *sql.Conn, g *ledger.Generation) error {
	lane, flush := int32(g.Lane), g.To.Flush
	for _, step := range []func() error{
		func() error { return appendCells(conn, "cells", g.Cells, lane, flush) },
		func() error { return appendCells(conn, "moved_15m", g.Moved, lane, flush) },
		func() error { return appendValues(conn, g.Rollups, lane, flush) },
		func() error { return appendClicks(conn, &g.Clicks, lane, flush) },
		func() error { return appendSales(conn, &g.Sales, lane, flush) },
		func() error {
			return appendColumns(conn, "tallies", len(g.Tallies), func(c *chunk, first int) {
				rows := g.Tallies[first:]
				same(c, lane)
				same(c, flush)
				numbers(c, func(i int) int64 { return rows[i].Minute })
				numbers(c, func(i int) event.TenantID { return rows[i].Tenant })
				texts(c, func(i int) string { return rows[i].Door })
				texts(c, func(i int) string { return rows[i].Reason })
				numbers(c, func(i int) int64 { return rows[i].N })
			})
		},
	} {
		if err := step(); err != nil {
			return err
		}
		crash.Point(crash.FlushCells)
	}
	return nil
}

func appendCells(conn *sql.Conn, table string, cells []ledger.Cell, lane int32, flush uint64) error {
	return appendColumns(conn, table, len(cells), func(c *chunk, first int) {
		rows := cells[first:]
		same(c, lane)
		same(c, flush)
		keys(c, func(i int) *ledger.Key { return &rows[i].Key })
		sums(c, func(i int) *ledger.Value { return &rows[i].Value })
	})
}

func appendValues(conn *sql.Conn, rollups []ledger.RollupCell, lane int32, flush uint64) error {
	return appendColumns(conn, "values_15m", len(rollups), func(c *chunk, first int) {
		rows := rollups[first:]
		numbers(c, func(i int) ledger.Dimension { return rows[i].Dim })
		texts(c, func(i int) string { return rows[i].DimValue })
		same(c, lane)
		same(c, flush)
		keys(c, func(i int) *ledger.Key { return &rows[i].Key })
		sums(c, func(i int) *ledger.Value { return &rows[i].Value })
	})
}

func keys(c *chunk, at func(i int) *ledger.Key) {
	numbers(c, func(i int) int32 { return at(i).Bucket })
	numbers(c, func(i int) event.TenantID { return at(i).Tenant })
	numbers(c, func(i int) event.Type { return at(i).Type })
	numbers(c, func(i int) event.GoalID { return at(i).Goal })
	numbers(c, func(i int) event.Class { return at(i).Class })
	numbers(c, func(i int) event.CampaignID { return at(i).Campaign })
	numbers(c, func(i int) event.BannerID { return at(i).Banner })
	numbers(c, func(i int) event.AffiliateID { return at(i).Affiliate })
	numbers(c, func(i int) event.PriceID { return at(i).Revenue })
	numbers(c, func(i int) event.PriceID { return at(i).Payout })
}

func sums(c *chunk, at func(i int) *ledger.Value) {
	numbers(c, func(i int) event.Micros { return at(i).N })
	numbers(c, func(i int) event.Micros { return at(i).Amount })
	numbers(c, func(i int) int64 { return at(i).Events })
}

func appendClicks(conn *sql.Conn, clicks *ledger.Rows[ledger.ClickRow], lane int32, flush uint64) error {
	return appendColumns(conn, "clicks", clicks.Len(), func(c *chunk, first int) {
		at := func(i int) *ledger.ClickRow { return clicks.At(first + i) }
		same(c, lane)
		same(c, flush)
		numbers(c, func(i int) uint64 { return at(i).Seq })
		numbers(c, func(i int) uint32 { return at(i).Row })
		uuids(c, func(i int) event.MintedID { return at(i).ClickID })
		texts(c, func(i int) string { return at(i).EventID })
		numbers(c, func(i int) int64 { return at(i).Time })
		numbers(c, func(i int) int64 { return at(i).Received })
		numbers(c, func(i int) event.TenantID { return at(i).Tenant })
		numbers(c, func(i int) event.CampaignID { return at(i).Campaign })
		numbers(c, func(i int) event.BannerID { return at(i).Banner })
		numbers(c, func(i int) event.AffiliateID { return at(i).Affiliate })
		numbers(c, func(i int) event.Class { return at(i).Class })
		texts(c, func(i int) string { return at(i).Country.String() })
		texts(c, func(i int) string { return at(i).Device.String() })
		texts(c, func(i int) string { return at(i).Subs })
	})
}

func appendSales(conn *sql.Conn, sales *ledger.Rows[ledger.SaleRow], lane int32, flush uint64) error {
	return appendColumns(conn, "sales", sales.Len(), func(c *chunk, first int) {
		at := func(i int) *ledger.SaleRow { return sales.At(first + i) }
		same(c, lane)
		same(c, flush)
		numbers(c, func(i int) uint64 { return at(i).Seq })
		numbers(c, func(i int) uint32 { return at(i).Row })
		texts(c, func(i int) string { return at(i).EventID })
		texts(c, func(i int) string { return at(i).Order })
		uuids(c, func(i int) event.MintedID { return at(i).ClickID })
		numbers(c, func(i int) int64 { return at(i).ClickTime })
		numbers(c, func(i int) int64 { return at(i).Time })
		numbers(c, func(i int) int64 { return at(i).Received })
		numbers(c, func(i int) event.TenantID { return at(i).Tenant })
		numbers(c, func(i int) event.AdvertiserID { return at(i).Advertiser })
		numbers(c, func(i int) event.CampaignID { return at(i).Campaign })
		numbers(c, func(i int) event.BannerID { return at(i).Banner })
		numbers(c, func(i int) event.AffiliateID { return at(i).Affiliate })
		numbers(c, func(i int) event.GoalID { return at(i).Goal })
		numbers(c, func(i int) event.Class { return at(i).Class })
		numbers(c, func(i int) event.PriceID { return at(i).Revenue })
		numbers(c, func(i int) event.PriceID { return at(i).Payout })
		numbers(c, func(i int) event.Micros { return at(i).N })
		numbers(c, func(i int) event.Micros { return at(i).Amount })
		texts(c, func(i int) string { return at(i).Subs })
	})
}
