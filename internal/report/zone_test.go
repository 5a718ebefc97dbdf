package report

import (
	"fmt"
	"maps"
	"strconv"
	"testing"
	"time"

	"milliard/internal/event"
	"milliard/internal/ledger"
)

func TestDaysBeginAndEndWhereTheZoneSays(t *testing.T) {
	for _, tc := range []struct{ zone, from, to, begins, ends string }{
		{"UTC", "2026-04-01", "2026-04-01", "2026-04-01T00:00:00Z", "2026-04-02T00:00:00Z"},
		{"Asia/Kathmandu", "2026-04-01", "2026-04-01", "2026-03-31T18:15:00Z", "2026-04-01T18:15:00Z"},
		{"America/St_Johns", "2026-03-08", "2026-03-08", "2026-03-08T03:30:00Z", "2026-03-09T02:30:00Z"},    // 23 hours
		{"America/St_Johns", "2010-11-07", "2010-11-07", "2010-11-07T02:30:00Z", "2010-11-08T03:30:00Z"},    // changed at 00:01
		{"Australia/Lord_Howe", "2026-04-05", "2026-04-05", "2026-04-04T13:00:00Z", "2026-04-05T13:30:00Z"}, // 24.5 hours
		{"America/Sao_Paulo", "2018-11-04", "2018-11-04", "2018-11-04T03:00:00Z", "2018-11-05T02:00:00Z"},   // begins at 01:00
		{"Asia/Beirut", "2025-03-30", "2025-03-30", "2025-03-29T22:00:00Z", "2025-03-30T21:00:00Z"},         // no midnight
		{"America/Havana", "2025-11-02", "2025-11-02", "2025-11-02T04:00:00Z", "2025-11-03T05:00:00Z"},      // midnight twice
		{"Pacific/Apia", "2011-12-29", "2011-12-31", "2011-12-29T10:00:00Z", "2011-12-31T10:00:00Z"},        // no 30 December
		{"Europe/Berlin", "2026-03-29", "2026-03-29", "2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z"},
		{"Europe/Berlin", "2026-10-25", "2026-10-25", "2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z"},
	} {
		zone, err := time.LoadLocation(tc.zone)
		if err != nil {
			t.Fatal(err)
		}
		from, err := parseInstant("from", tc.from, zone, time.Unix(0, 0))
		if err != nil {
			t.Fatal(err)
		}
		to, err := parseInstant("to", tc.to, zone, time.Unix(0, 0))
		if err != nil {
			t.Fatal(err)
		}
		if from != int64(minuteOf(t, tc.begins)) || to != int64(minuteOf(t, tc.ends)) {
			t.Errorf("%s %s: %s to %s, want %s to %s", tc.zone, tc.from, minuteText(from), minuteText(to), tc.begins, tc.ends)
		}
	}
}

func TestInstantsAreReadAsDocumented(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 4, 1, 22, 30, 20, 0, time.UTC) // 2 April, 00:30:20 in Berlin
	for _, tc := range []struct{ field, in, want string }{
		{"from", "today", "2026-04-01T22:00:00Z"},
		{"to", "today", "2026-04-02T22:00:00Z"},
		{"from", "yesterday", "2026-03-31T22:00:00Z"},
		{"to", "yesterday", "2026-04-01T22:00:00Z"},
		{"from", "-7d", "2026-03-25T23:00:00Z"},
		{"from", "-1w", "2026-03-25T23:00:00Z"},
		{"from", "-15m", "2026-04-01T22:15:00Z"},
		{"to", "-15m", "2026-04-01T22:16:00Z"},
		{"to", "now", "2026-04-01T22:31:00Z"},
		{"from", "-2h", "2026-04-01T20:30:00Z"},
		{"from", "2026-04-01T08:00:00+02:00", "2026-04-01T06:00:00Z"},
		{"from", "2026-04-01T08:00Z", "2026-04-01T08:00:00Z"},
		{"from", "2026-04-01T08:00", "2026-04-01T06:00:00Z"},
		{"to", "2026-04-01T08:00:00", "2026-04-01T06:00:00Z"},
	} {
		got, err := parseInstant(tc.field, tc.in, berlin, now)
		if err != nil || got != int64(minuteOf(t, tc.want)) {
			t.Errorf("%s=%s: %s %v, want %s", tc.field, tc.in, minuteText(got), err, tc.want)
		}
	}
}

func TestTheCoarsestExactTableIsRead(t *testing.T) {
	for _, tc := range []struct {
		zone, from, to string
		grain          Grain
		want           string
	}{
		{"Europe/Berlin", "2026-03-29T00:00Z", "2026-03-30T00:00Z", Day, "1440 skewed"},
		{"Europe/Berlin", "2026-03-27T23:00Z", "2026-03-30T22:00Z", Week, "60 1440 skewed 60"},
		{"Europe/Berlin", "2026-03-29T00:00Z", "2026-03-29T23:00Z", Day, "60"},
		{"America/New_York", "2026-03-28T04:00Z", "2026-03-30T04:00Z", Day, "60 1440 skewed 60"},
		{"Asia/Tokyo", "2026-03-29T00:00Z", "2026-03-30T00:00Z", Day, "60"},
		{"Pacific/Auckland", "2026-03-29T00:00Z", "2026-03-30T00:00Z", Day, "60"},
		{"Asia/Kathmandu", "2026-03-29T00:00Z", "2026-03-30T00:00Z", Day, "15"},
		{"Asia/Kathmandu", "2026-03-29T00:00Z", "2026-03-30T00:00Z", NoGrain, "1440"},
		{"Asia/Kathmandu", "2026-03-28T23:00Z", "2026-03-31T01:15Z", NoGrain, "60 1440 60 15"},
		{"UTC", "2026-03-29T00:00Z", "2026-03-31T00:00Z", Day, "1440"},
		{"Australia/Lord_Howe", "2026-04-04T00:00Z", "2026-04-06T00:00Z", Day, "15"},
		{"UTC", "2026-03-29T00:00Z", "2026-03-30T00:00Z", Minute, "1"},
		{"UTC", "2026-03-29T00:00Z", "2026-03-30T00:00Z", Quarter, "15"},
		{"UTC", "2026-03-29T00:07Z", "2026-03-30T01:22Z", Month, "1 15 60 15 1"},
		{"UTC", "2026-03-29T00:07Z", "2026-03-29T00:09Z", Month, "1"},
	} {
		zone, err := time.LoadLocation(tc.zone)
		if err != nil {
			t.Fatal(err)
		}
		q := &Query{zone: zone, grain: tc.grain, rollup: dimCount}
		if err := q.parseRange(Request{From: tc.from, To: tc.to}, time.Unix(0, 0)); err != nil {
			t.Fatal(err)
		}
		got, at := "", q.from
		for _, p := range q.pieces() {
			if p.from != at {
				t.Errorf("%+v: a piece begins at %d instead of %d", tc, p.from, at)
			}
			if at = p.to; got != "" {
				got += " "
			}
			got += fmt.Sprint(p.unit)
			if p.skew != "" {
				got += " skewed"
			}
		}
		if got != tc.want || at != q.to {
			t.Errorf("%+v: reads units of %s", tc, got)
		}
	}
}

// Days of a zone are made of days of UTC and the hours at their edges, across a change of the clocks, and of what is not
// rolled up yet.
func TestDaysOfAZoneAreMadeOfDaysOfUTC(t *testing.T) {
	b := newBench(t)
	names := network(t, 1, "UTC", false)
	first := minuteOf(t, "2026-03-26T00:00:00Z")
	for _, zone := range []string{"Europe/Berlin", "America/New_York", "Atlantic/Azores", "UTC"} {
		in, err := time.LoadLocation(zone)
		if err != nil {
			t.Fatal(err)
		}
		want := map[string]int64{}
		var cells []ledger.Cell
		for h := range int32(7 * 24) {
			at := first + 60*h
			cells = append(cells, ledger.Cell{
				Key:   ledger.Key{Bucket: at, Tenant: 1, Type: event.Click, Class: event.Valid, Campaign: 1},
				Value: ledger.Value{N: event.Micros(h+1) * event.One, Events: 1},
			})
			want[time.Unix(int64(at)*60, 0).In(in).Format(time.DateOnly)] += int64(h + 1)
		}
		if zone == "Europe/Berlin" { // the others read the same
			third := len(cells) / 3
			for i := range 3 {
				b.flush(t, 0, time.Date(2026, 4, 2, 10, 0, i, 0, time.UTC), counted{cells: cells[i*third : (i+1)*third]})
				if i == 2 {
					break // minutes alone
				}
				if err := b.Compact(t.Context()); err != nil { // first into hours and days, then, within an hour, into hours alone
					t.Fatal(err)
				}
			}
		}
		s := New(Config{Reader: b, Now: clock("2026-04-02T10:00:05Z")})
		res := ask(t, s, names, Request{By: []string{"day"}, From: "2026-03-25", To: "2026-04-02", Zone: zone})
		res.Fill()
		got := map[string]int64{}
		for _, row := range res.Rows {
			day, _ := row.Get("day")
			n, _ := row.Get("clicks")
			if got[day.Text], err = strconv.ParseInt(n.Text, 10, 64); err != nil {
				t.Fatal(err)
			}
		}
		if !maps.Equal(got, want) {
			t.Errorf("%s: %v, want %v", zone, got, want)
		}
	}
}

func TestRepeatedHoursStayApart(t *testing.T) {
	zone, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	from, to := int64(minuteOf(t, "2026-10-24T23:00:00Z")), int64(minuteOf(t, "2026-10-25T03:00:00Z"))
	ps, err := periods(zone, from, to)
	if err != nil {
		t.Fatal(err)
	}
	var labels []string
	for _, p := range ps {
		for m := p.from; m < p.to; m += 60 {
			labels = append(labels, label(Hour, floorDiv(m+p.offset, 60), p.offset))
		}
	}
	want := []string{"2026-10-25T01:00+02:00", "2026-10-25T02:00+02:00", "2026-10-25T02:00+01:00", "2026-10-25T03:00+01:00"}
	for i := range want {
		if i >= len(labels) || labels[i] != want[i] {
			t.Fatalf("labels %v, want %v", labels, want)
		}
	}
}
