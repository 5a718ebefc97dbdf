package main

import (
	"testing"

	"milliard/internal/testkit"
)

// The totals below stand in the description of the data sets; the readers must find the same.

func TestReadAdsFindsThePublishedTotals(t *testing.T) {
	log, err := readAds(testkit.Data(t))
	if err != nil {
		t.Fatal(err)
	}
	if log.rows != 404_408 || log.views != 402_469 || log.clicks != 1_939 || len(log.spend) != 718 {
		t.Errorf("got %d rows, %d views, %d clicks, %d campaigns", log.rows, log.views, log.clicks, len(log.spend))
	}
	want := map[string]dayCount{
		"2019-04-01": {21_782, 291}, "2019-04-02": {46_572, 545}, "2019-04-03": {59_023, 460}, "2019-04-04": {275_092, 643},
	}
	if len(log.days) != len(want) {
		t.Errorf("got days %v", log.days)
	}
	for day, count := range want {
		if log.days[day] != count {
			t.Errorf("%s: got %v, want %v", day, log.days[day], count)
		}
	}
}

func TestReadRedirectsFindsThePublishedTotals(t *testing.T) {
	log, err := readRedirects(testkit.Data(t))
	if err != nil {
		t.Fatal(err)
	}
	if log.lines != 110_849 || log.clicks != 107_853 || log.heartbeats != 2_996 || log.refused != 4 {
		t.Errorf("got %+v", log)
	}
}

func TestReadPurchasesFindsThePublishedTotals(t *testing.T) {
	log, err := readPurchases(testkit.Data(t))
	if err != nil {
		t.Fatal(err)
	}
	if log.rows != 24_631 || log.purchases != 147 || log.orders != 144 || log.revenue.FloatString(2) != "142919.60" {
		t.Errorf("got %+v", log)
	}
}
