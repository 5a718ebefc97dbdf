package duck

import (
	"fmt"
	"syscall"
	"testing"

	"milliard/internal/event"
	"milliard/internal/ledger"
	"milliard/internal/ledger/ledgertest"
)

// BenchmarkFlush writes generations of one kind of row each, as busy lanes make them.
func BenchmarkFlush(b *testing.B) {
	const rows = 50_000
	for name, g := range map[string]ledger.Generation{
		"cells": {Cells: benchCells(rows)}, "clicks": {Clicks: benchClicks(rows)}, "sales": {Sales: benchSales(rows)},
		"values": {Rollups: benchRollups(rows)},
	} {
		b.Run(name, func(b *testing.B) {
			l := openTest(b)
			epoch, at := acquire(b, l, 0)
			g.Epoch = epoch
			var before, after syscall.Rusage
			_ = syscall.Getrusage(syscall.RUSAGE_SELF, &before)
			for b.Loop() {
				g.From, g.To = at, ledgertest.Next(at, 1, at.LogTime+1000)
				if err := l.Flush(b.Context(), &g); err != nil {
					b.Fatal(err)
				}
				at = g.To
			}
			_ = syscall.Getrusage(syscall.RUSAGE_SELF, &after)
			cpu := after.Utime.Nano() + after.Stime.Nano() - before.Utime.Nano() - before.Stime.Nano()
			b.ReportMetric(float64(cpu)/float64(b.N*rows), "cpu-ns/row")
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*rows), "ns/row")
		})
	}
}

func benchCells(n int) []ledger.Cell {
	out := make([]ledger.Cell, n)
	for i := range out {
		out[i] = ledger.Cell{
			Key: ledger.Key{
				Bucket: ledgertest.BaseMinute, Tenant: 1, Type: event.Impression, Class: event.Valid, Campaign: event.CampaignID(i % 1000),
				Affiliate: event.AffiliateID(i * 61 % 10_000),
			},
			Value: ledger.Value{N: event.Micros(i) * event.One, Events: int64(i)},
		}
	}
	return out
}

func benchRollups(n int) []ledger.RollupCell {
	out := make([]ledger.RollupCell, n)
	for i, c := range benchCells(n) {
		out[i] = ledger.RollupCell{Dim: ledger.DimCountry, DimValue: "DE", Key: c.Key, Value: c.Value}
	}
	return out
}

func benchClicks(n int) ledger.Rows[ledger.ClickRow] {
	var out ledger.Rows[ledger.ClickRow]
	for i := range n {
		out.Append(ledger.ClickRow{
			Seq: uint64(i / 4000), Row: uint32(i % 4000), EventID: fmt.Sprintf("%016d", i), Time: int64(i), Received: int64(i), Tenant: 1,
			Campaign: event.CampaignID(i % 1000), Affiliate: event.AffiliateID(i % 10_000), Class: event.Valid,
		})
	}
	return out
}

func benchSales(n int) ledger.Rows[ledger.SaleRow] {
	var out ledger.Rows[ledger.SaleRow]
	for i := range n {
		id := fmt.Sprintf("%016d", i)
		out.Append(ledger.SaleRow{
			Seq: uint64(i / 4000), Row: uint32(i % 4000), EventID: id, Order: id, Time: int64(i), Received: int64(i), Tenant: 1,
			Campaign: event.CampaignID(i % 1000), Affiliate: event.AffiliateID(i % 10_000), Class: event.Valid, N: event.One, Amount: event.One,
		})
	}
	return out
}
