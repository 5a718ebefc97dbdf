package count

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"milliard/internal/event"
	"milliard/internal/ledger"
)

func TestASumBeyondInt64OpensASecondCell(t *testing.T) {
	var table Table[cellKey]
	k := cellKey{Bucket: 1}
	table.Add(k, ledger.Value{N: math.MaxInt64 - 1, Events: 1})
	table.Add(k, ledger.Value{N: 5, Amount: -3, Events: 1})
	table.Add(k, ledger.Value{N: 6, Events: 1})
	for n := range 500 { // and it stays so when the table grows
		table.Add(cellKey{Bucket: int32(n + 2)}, ledger.Value{N: 1})
	}
	table.Add(k, ledger.Value{N: 7, Events: 1})
	if table.Keys[0] != k || table.Keys[1] != k || table.Sums[0].N != math.MaxInt64-1 || table.Sums[1].N != 18 || table.Len() != 502 {
		t.Fatalf("%+v %+v", table.Sums[:2], table.Len())
	}
}

// TestDetailsAddUp draws events and compares cells, occurred cells and rollups with plain maps.
func TestDetailsAddUp(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		d, budgets := NewDetails(0), NewBudgets()
		cells, quarters := map[ledger.Key]ledger.Value{}, map[ledger.Key]ledger.Value{}
		occurred := map[ledger.Key]ledger.Value{}
		rollups := map[string]ledger.Value{}
		plus := func(v ledger.Value, n, amount event.Micros) ledger.Value {
			return ledger.Value{N: v.N + n, Amount: v.Amount + amount, Events: v.Events + 1}
		}
		for range rapid.IntRange(0, 200).Draw(rt, "events") {
			sub := rapid.SampledFrom([]string{"", "a", "b"}).Draw(rt, "sub")
			minute := rapid.Int32Range(0, 40).Draw(rt, "minute")
			own := rapid.Int32Range(0, 40).Draw(rt, "own minute")
			det := Detail{
				Cell: ledger.Key{
					Bucket: minute, Tenant: 1, Campaign: event.CampaignID(rapid.IntRange(0, 3).Draw(rt, "campaign")),
					Class: event.Class(rapid.IntRange(1, 2).Draw(rt, "class")),
				},
				Quarter: own - own%Quarter, Sub1: d.Sub([]byte(sub)),
				Country: event.ParseCountry(rapid.SampledFrom([]string{"", "DE", "FR"}).Draw(rt, "country")),
				Device:  event.Device(rapid.IntRange(0, 2).Draw(rt, "device")),
			}
			n, amount := event.Micros(rapid.Int64Range(-9, 9).Draw(rt, "n")), event.Micros(rapid.Int64Range(-9, 9).Draw(rt, "amount"))
			d.Add(&det, ledger.Value{N: n, Amount: amount, Events: 1}, budgets)
			cells[det.Cell] = plus(cells[det.Cell], n, amount)
			k := det.Cell
			k.Bucket = minute - minute%Quarter
			quarters[k] = plus(quarters[k], n, amount)
			k.Bucket = det.Quarter
			occurred[k] = plus(occurred[k], n, amount)
			k.Bucket = minute - minute%Quarter
			for dim, value := range map[ledger.Dimension]string{
				ledger.DimCountry: det.Country.String(), ledger.DimDevice: det.Device.String(), ledger.DimSub1: sub,
			} {
				if value == dim.Rest() {
					continue // whoever reads takes it from the cells
				}
				key := fmt.Sprint(dim, value, k)
				rollups[key] = plus(rollups[key], n, amount)
			}
		}
		for what, pair := range map[string]struct {
			got  []ledger.Cell
			want map[ledger.Key]ledger.Value
		}{"cells": {d.Cells(), cells}, "occurred": {moved(quarters, d.Moved()), occurred}, "clone": {d.Clone().Cells(), cells}} {
			if len(pair.got) != len(pair.want) {
				rt.Fatalf("%s: %d, want %d", what, len(pair.got), len(pair.want))
			}
			for _, c := range pair.got {
				if pair.want[c.Key] != c.Value {
					rt.Fatalf("%s: %+v, want %+v", what, c, pair.want[c.Key])
				}
			}
		}
		got := d.Rollups()
		if len(got) != len(rollups) {
			rt.Fatalf("%d rollups, want %d", len(got), len(rollups))
		}
		for _, r := range got {
			if want := rollups[fmt.Sprint(r.Dim, r.DimValue, r.Key)]; want != r.Value {
				rt.Fatalf("rollup %+v, want %+v", r, want)
			}
		}
	})
}

// moved adds what has moved to what was received, as a reader does.
func moved(received map[ledger.Key]ledger.Value, by []ledger.Cell) []ledger.Cell {
	sums := maps.Clone(received)
	for _, c := range by {
		v := sums[c.Key]
		sums[c.Key] = ledger.Value{N: v.N + c.N, Amount: v.Amount + c.Amount, Events: v.Events + c.Events}
	}
	var out []ledger.Cell
	for k, v := range sums {
		if v.Events != 0 {
			out = append(out, ledger.Cell{Key: k, Value: v})
		}
	}
	return out
}

func TestBeyondTheBudgetIsOther(t *testing.T) {
	d, budgets := NewDetails(0), NewBudgets()
	const extra = 50
	add := func(campaign event.CampaignID, sub string) {
		d.Add(&Detail{Cell: ledger.Key{Campaign: campaign}, Sub1: d.Sub([]byte(sub))}, ledger.Value{N: event.One, Events: 1}, budgets)
	}
	for n := range Sub1Budget + extra {
		add(1, fmt.Sprint(n))
	}
	add(2, "0") // another campaign has a budget of its own
	add(1, "3") // a value that was counted by name stays so
	named, rest := 0, event.Micros(0)
	for _, r := range d.Rollups() {
		if r.Dim != ledger.DimSub1 || r.Campaign != 1 {
			continue
		}
		if r.DimValue == ledger.OtherValue {
			rest += r.N
			continue
		}
		named++
		if r.DimValue == "3" && r.N != 2*event.One {
			t.Errorf("sub1 3: %v", r.N)
		}
	}
	if named != Sub1Budget || rest != extra*event.One {
		t.Fatalf("%d by name, %v other", named, rest)
	}
	day, names, used := budgets.State()
	again := NewBudgets()
	again.Restore(day, names, used)
	if again.value(0, 1, ledger.DimSub1, "new") != other || again.value(0, 1, ledger.DimSub1, "3") == other {
		t.Fatal("the budgets are others after Restore")
	}
	again.Advance(dayMillis)
	if again.Due(dayMillis) || again.value(0, 1, ledger.DimSub1, "new") == other {
		t.Fatal("a new day did not give a new budget")
	}
}

// TestWhatIsKnownIsNoState asks two budgets the same, one of which begins anew with its state before every question.
func TestWhatIsKnownIsNoState(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := NewBudgets(), NewBudgets()
		for range rapid.IntRange(1, 400).Draw(t, "details") {
			k := Detail{
				Cell:    ledger.Key{Tenant: 1, Campaign: event.CampaignID(rapid.IntRange(0, 1).Draw(t, "campaign"))},
				Country: event.Country(rapid.OneOf(rapid.Uint16Range('A'<<8|'A', 'A'<<8|'D'), rapid.Uint16()).Draw(t, "country")),
				Device:  event.Device(rapid.Uint8().Draw(t, "device")),
			}
			sub := rapid.SampledFrom([]string{"", "x", "y"}).Draw(t, "sub1")
			day, names, uses := b.State()
			b = NewBudgets()
			b.Restore(day, slices.Clone(names), slices.Clone(uses))
			if x, y := a.others(&k, sub), b.others(&k, sub); x != y {
				t.Fatalf("%+v: %b and %b", k, x, y)
			}
		}
		dayA, namesA, usedA := a.State()
		dayB, namesB, usedB := b.State()
		if dayA != dayB || !slices.Equal(namesA, namesB) || !slices.Equal(SortUses(usedA), SortUses(usedB)) {
			t.Fatal("the budgets differ")
		}
	})
}
