package count

import (
	"math"
	"testing"

	"pgregory.net/rapid"

	"milliard/internal/event"
	"milliard/internal/ledger"
)

func drawDetail(t *rapid.T) Detail {
	few := rapid.Uint32Range(0, 3) // so that keys meet again
	return Detail{
		Cell: ledger.Key{
			Bucket: rapid.SampledFrom([]int32{math.MinInt32, -1, 0, 1, math.MaxInt32}).Draw(t, "bucket"), Tenant: event.TenantID(few.Draw(t, "tenant") * 21_000),
			Type: event.Type(few.Draw(t, "type") * 21_000), Goal: event.GoalID(few.Draw(t, "goal") * 21_000), Class: event.Class(few.Draw(t, "class") * 80),
			Campaign: event.CampaignID(few.Draw(t, "campaign") * 1_400_000_000), Banner: event.BannerID(few.Draw(t, "banner") * 1_400_000_000),
			Affiliate: event.AffiliateID(few.Draw(t, "affiliate") * 1_400_000_000), Revenue: event.PriceID(few.Draw(t, "revenue") * 1_400_000_000),
			Payout: event.PriceID(few.Draw(t, "payout") * 1_400_000_000),
		},
		Quarter: rapid.SampledFrom([]int32{math.MinInt32, -15, 0, 15, math.MaxInt32}).Draw(t, "quarter"), Sub1: few.Draw(t, "sub1") * 1_400_000_000,
		Country: event.Country(few.Draw(t, "country") * 21_000), Device: event.Device(few.Draw(t, "device") * 80),
	}
}

// TestPackingLosesNothing: two details are one key exactly if they are equal.
func TestPackingLosesNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := drawDetail(t), drawDetail(t)
		p, q := pack(&a), pack(&b)
		if p.unpack() != a {
			t.Fatalf("%+v became %+v", a, p.unpack())
		}
		if (p == q) != (a == b) {
			t.Fatalf("%+v and %+v: keys equal %t", a, b, p == q)
		}
	})
}

// TestDetailTableSumsAsAMapDoes also opens a second sum where one would leave its range.
func TestDetailTableSumsAsAMapDoes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var table detailTable
		want := map[Key]int64{}
		got := map[Key]int64{}
		for range rapid.IntRange(0, 300).Draw(t, "events") {
			d := drawDetail(t)
			k := pack(&d)
			n := rapid.SampledFrom([]event.Micros{1, event.One, math.MaxInt64 / 2}).Draw(t, "n")
			at := table.add(&k, ledger.Value{N: n, Events: 1})
			if table.row(uint32(at)).key != k {
				t.Fatalf("row %d has another key", at)
			}
			want[k]++
		}
		for _, r := range table.all {
			if r.sum.N < 0 {
				t.Fatalf("a sum has left its range: %+v", r.sum)
			}
			got[r.key] += r.sum.Events
		}
		if len(got) != len(want) {
			t.Fatalf("%d keys, want %d", len(got), len(want))
		}
		for k, n := range want {
			if got[k] != n {
				t.Fatalf("%d events, want %d", got[k], n)
			}
		}
	})
}

// TestDetailTableOfManyPages: what is found again stands where it was put, whatever has grown meanwhile, and a copy stays.
func TestDetailTableOfManyPages(t *testing.T) {
	const many = 3*pageRows + 1
	var table detailTable
	key := func(i int) *Key {
		k := pack(&Detail{Cell: ledger.Key{Campaign: event.CampaignID(i), Class: event.Valid}})
		return &k
	}
	for round := range 2 {
		for i := range many {
			if at := table.add(key(i), ledger.Value{N: event.Micros(i), Events: 1}); at != i {
				t.Fatalf("round %d: key %d stands at %d", round, i, at)
			}
		}
	}
	was := table.clone()
	table.add(key(pageRows), ledger.Value{Events: 1})
	n := 0
	for i, r := range was.all {
		if i != n || r.key != *key(i) || r.sum != (ledger.Value{N: 2 * event.Micros(i), Events: 2}) {
			t.Fatalf("row %d of the copy is %d: %+v", n, i, *r)
		}
		n++
	}
	if n != many || was.rows != many || len(table.pages) != 4 {
		t.Fatalf("%d rows, %d by number, %d pages", n, was.rows, len(table.pages))
	}
}

// TestNextBeginsEmpty takes tables one after the other, each in the memory of the index before it, and looks at both.
func TestNextBeginsEmpty(t *testing.T) {
	budgets, d := NewBudgets(), NewDetails(0)
	key := func(i int) Key {
		return Pack(28_333_333, event.CampaignID(i+1), 0, 7, 0, 0, 1, event.Impression, 0, event.Valid, 0, 28_333_320, 0, 0)
	}
	for round, rows := range []int{0, 1000, 1100, 900, 40_000, 3, 3, 500} {
		for i := range rows {
			k := key(round*100 + i) // some keys of the table before, some new ones
			d.AddAll([]Key{k, k}, []ledger.Value{{N: event.One, Events: 1}, {N: event.One, Events: 1}}, budgets)
		}
		index := len(d.table.index)
		next := d.Next()
		if next.Len() != 0 || len(next.Cells()) != 0 || len(next.table.index) < 2*rows || len(next.table.index) > max(64, 4*2*2*rows) {
			t.Fatalf("round %d: the next of %d rows, with an index of %d, has %d rows and an index of %d",
				round, rows, index, next.Len(), len(next.table.index))
		}
		cells := d.Cells()
		for i, c := range cells {
			if c.Campaign != event.CampaignID(round*100+i+1) || c.Events != 2 {
				t.Fatalf("round %d: cell %d is %+v", round, i, c)
			}
		}
		if len(cells) != rows {
			t.Fatalf("round %d: %d cells of %d", round, len(cells), rows)
		}
		d = next
	}
}
