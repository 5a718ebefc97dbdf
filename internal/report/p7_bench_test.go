package report

import (
	"database/sql"
	"fmt"
	"io"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"milliard/internal/catalog"
	"milliard/internal/event"
	"milliard/internal/ledger/duck"
)

// BenchmarkMonth is a report of two dimensions over a month of 10,000 cells a minute, 1,000 campaigns with 10 affiliates each.
func BenchmarkMonth(b *testing.B) {
	path := filepath.Join(b.TempDir(), "ledger.duckdb")
	l, err := duck.Open(b.Context(), duck.Options{Path: path})
	if err != nil {
		b.Fatal(err)
	}
	if err := l.Close(); err != nil {
		b.Fatal(err)
	}
	db, err := sql.Open("duckdb", path)
	if err != nil {
		b.Fatal(err)
	}
	const days = 30
	first := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	for table, unit := range map[string]int64{"cells_1h": 60, "cells_1d": 1440} {
		for d := range int64(days) {
			from := first.Unix()/60 + d*1440
			if _, err := db.ExecContext(b.Context(), fmt.Sprintf(`INSERT INTO %s SELECT 0, 0, b, 1, 1, 0, 1, c, 0, (c - 1) * 10 + k, 0, 0, %d * 1000000::BIGINT, 0, %d
				FROM range(%d, %d, %d) r(b), range(1, 1001) p(c), range(1, 11) a(k) ORDER BY b`, table, unit, unit, from, from+1440, unit)); err != nil {
				b.Fatal(err)
			}
		}
	}
	if err := db.Close(); err != nil {
		b.Fatal(err)
	}
	if l, err = duck.Open(b.Context(), duck.Options{Path: path}); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = l.Close() })
	s := New(Config{Reader: l, Now: time.Now})
	names := monthNames(b)
	for _, by := range [][]string{{"campaign", "day"}, {"affiliate", "campaign"}} {
		for _, zone := range []string{"UTC", "Europe/Berlin"} {
			b.Run(fmt.Sprint(by[0], ",", by[1], "/", zone), func(b *testing.B) {
				b.ReportAllocs()
				before := cpu(b)
				for b.Loop() {
					res, err := s.Report(b.Context(), names, Request{By: by, From: "2026-03-01", To: "2026-03-30", Zone: zone, Limit: MaxLimit})
					if err != nil {
						b.Fatal(err)
					}
					if res.RowCount < 10_000 {
						b.Fatal(res.RowCount)
					}
					if err = res.WriteJSON(io.Discard); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64((cpu(b)-before).Microseconds())/1000/float64(b.N), "cpu-ms/op")
			})
		}
	}
}

func monthNames(b testing.TB) *catalog.View {
	b.Helper()
	changes := []catalog.Change{
		put(b, "tenant", 1, 1, "t", &catalog.Tenant{ID: 1, Key: "t", TimeZone: "UTC", Currency: "EUR", Status: catalog.Active}),
		put(b, "advertiser", 1, 1, "a", &catalog.Advertiser{ID: 1, Key: "a", Status: catalog.Active}),
	}
	for i := range uint32(1000) {
		c := catalog.Campaign{ID: event.CampaignID(i + 1), Key: fmt.Sprint("c", i+1), Name: fmt.Sprint("Campaign ", i+1), Advertiser: 1, Currency: "EUR", Status: catalog.Active}
		changes = append(changes, put(b, "campaign", 1, i+1, c.Key, &c))
	}
	for i := range uint32(10_000) {
		a := catalog.Affiliate{ID: event.AffiliateID(i + 1), Key: fmt.Sprint("a", i+1), Status: catalog.Active}
		changes = append(changes, put(b, "affiliate", 1, i+1, a.Key, &a))
	}
	s, err := catalog.Empty().Apply(&catalog.Record{Changes: changes})
	if err != nil {
		b.Fatal(err)
	}
	v, _ := s.Tenant(1)
	return v
}

// cpu is the processor time of the whole process: that is what an answer costs, also where others use the machine.
func cpu(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
