package duck

import (
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"

	duckdb "github.com/duckdb/duckdb-go/v2"

	"milliard/internal/crash"
	"milliard/internal/event"
	"milliard/internal/ledger"
)

// appendGeneration writes the rows of g inside the transaction that conn is in.
func appendGeneration(conn *sql.Conn, g *ledger.Generation) error {
	lane, flush := int32(g.Lane), g.To.Flush
	var row []driver.Value
	cell := func(c *ledger.Cell) []driver.Value {
		row = append(row[:0], lane, flush)
		return appendCell(row, &c.Key, &c.Value)
	}
	steps := []func() error{
		func() error {
			return appendRows(conn, "cells", len(g.Cells), func(i int) []driver.Value { return cell(&g.Cells[i]) })
		},
		func() error {
			return appendRows(conn, "moved_15m", len(g.Moved), func(i int) []driver.Value { return cell(&g.Moved[i]) })
		},
		func() error {
			return appendRows(conn, "values_15m", len(g.Rollups), func(i int) []driver.Value {
				r := &g.Rollups[i]
				row = append(row[:0], uint8(r.Dim), text(r.DimValue), lane, flush)
				row = appendCell(row, &r.Key, &r.Value)
				return row
			})
		},
		func() error {
			return appendRows(conn, "clicks", len(g.Clicks), func(i int) []driver.Value { return clickRow(lane, flush, &g.Clicks[i]) })
		},
		func() error {
			return appendRows(conn, "sales", len(g.Sales), func(i int) []driver.Value { return saleRow(lane, flush, &g.Sales[i]) })
		},
		func() error {
			return appendRows(conn, "tallies", len(g.Tallies), func(i int) []driver.Value {
				t := &g.Tallies[i]
				return []driver.Value{lane, flush, t.Minute, uint16(t.Tenant), text(t.Door), text(t.Reason), t.N}
			})
		},
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
		crash.Point(crash.FlushCells)
	}
	return nil
}

// appendRows hands n rows to the engine in chunks. The values of a row are copied before the next one is asked for.
func appendRows(conn *sql.Conn, table string, n int, row func(i int) []driver.Value) error {
	if n == 0 {
		return nil
	}
	err := conn.Raw(func(raw any) error {
		dc, ok := raw.(driver.Conn)
		if !ok {
			return errors.New("no driver connection")
		}
		a, err := duckdb.NewAppenderFromConn(dc, "main", table)
		if err != nil {
			return err
		}
		for i := range n {
			if err = a.AppendRow(row(i)...); err != nil {
				// What Close would still hand over is rolled back with the transaction.
				return errors.Join(err, a.Close())
			}
		}
		return a.Close()
	})
	if err != nil {
		return fmt.Errorf("append to %s: %w", table, err)
	}
	return nil
}

func appendCell(row []driver.Value, k *ledger.Key, v *ledger.Value) []driver.Value {
	return append(row, k.Bucket, uint16(k.Tenant), uint16(k.Type), uint16(k.Goal), uint8(k.Class), uint32(k.Campaign),
		uint32(k.Banner), uint32(k.Affiliate), uint32(k.Revenue), uint32(k.Payout), int64(v.N), int64(v.Amount), v.Events)
}

func clickRow(lane int32, flush uint64, c *ledger.ClickRow) []driver.Value {
	return []driver.Value{
		lane, flush, c.Seq, c.Row, uuid(c.ClickID), text(c.EventID), c.Time, c.Received, uint16(c.Tenant),
		uint32(c.Campaign), uint32(c.Banner), uint32(c.Affiliate), uint8(c.Class), country(c.Country), c.Device.String(),
		text(c.Subs),
	}
}

func saleRow(lane int32, flush uint64, s *ledger.SaleRow) []driver.Value {
	return []driver.Value{
		lane, flush, s.Seq, s.Row, text(s.EventID), text(s.Order), uuid(s.ClickID), s.ClickTime, s.Time, s.Received,
		uint16(s.Tenant), uint32(s.Advertiser), uint32(s.Campaign), uint32(s.Banner), uint32(s.Affiliate), uint16(s.Goal),
		uint8(s.Class), uint32(s.Revenue), uint32(s.Payout), int64(s.N), int64(s.Amount), text(s.Subs),
	}
}

// uuid returns the id for a UUID column, NULL when there is none.
func uuid(id event.MintedID) driver.Value {
	if id.IsZero() {
		return nil
	}
	return duckdb.UUID(id.Bytes())
}
