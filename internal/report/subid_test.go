package report

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"milliard/internal/event"
	"milliard/internal/ledger"
)

func TestSubIDsAreShownAsTheyWereSent(t *testing.T) {
	for stored, shown := range map[string]string{
		"":                None,
		"(other)":         "(other)",
		"blog":            "blog",
		"J%C3%BCrgen%20M": "Jürgen M",
		"a%2520b":         "a%20b",
		"a%2Bb%2Cc":       "a+b,c",
		"%FF":             "%FF",        // no text
		"%00":             "%00",        // nor this
		"%28none%29":      "%28none%29", // not what named nothing
		"%28other%29":     "%28other%29",
	} {
		if got := shownSub(stored); got != shown {
			t.Errorf("%q is shown as %q, not as %q", stored, got, shown)
		}
		if got := storedSub(shown); got != stored {
			t.Errorf("%q is looked for as %q, not as %q", shown, got, stored)
		}
	}
}

func TestAFilterTakesWhatAReportShowsOfASubID(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		stored := encodeSub(string(rapid.SliceOfN(rapid.OneOf(rapid.Byte(), rapid.SampledFrom([]byte("%25FA0"))), 1, 12).Draw(t, "sub")))
		if got := storedSub(shownSub(stored)); got != stored {
			t.Fatalf("%q is shown as %q and looked for as %q", stored, shownSub(stored), got)
		}
	})
}

func TestReportsBySubID(t *testing.T) {
	b := newBench(t)
	names := network(t, 1, "Europe/Berlin", false)
	key := ledger.Key{Bucket: minuteOf(t, "2026-04-01T08:00:00Z"), Tenant: 1, Type: event.Click, Class: event.Valid, Campaign: 1}
	one := ledger.Value{N: event.One, Events: 1}
	b.flush(t, 0, time.Date(2026, 4, 2, 10, 0, 0, 0, time.UTC), counted{rollups: []ledger.RollupCell{
		{Dim: ledger.DimSub1, DimValue: "winter%20sale", Key: key, Value: one},
		{Dim: ledger.DimSub1, DimValue: "other", Key: key, Value: one},
	}})
	s := New(Config{Reader: b, Now: clock("2026-04-02T10:00:01Z")})
	res := ask(t, s, names, Request{By: []string{"sub1"}, From: "2026-04-01", To: "2026-04-01", Where: []string{"sub1:winter sale"}})
	res.Fill()
	if len(res.Rows) != 1 || res.Rows[0].Values[0].Text != "winter sale" {
		t.Errorf("the report has %+v", res.Rows)
	}
}
