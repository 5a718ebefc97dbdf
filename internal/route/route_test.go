package route

import (
	"testing"

	"pgregory.net/rapid"

	"milliard/internal/event"
)

func TestAnEventMeetsItselfWhateverElseChanges(t *testing.T) {
	r := Router{Seed: 5}
	click := event.NewMintedID(1, 77, 3, 9)
	other := event.NewMintedID(1, 78, 3, 9)
	same := func(what string, a, b event.Event) {
		t.Helper()
		if r.Slot(&a) != r.Slot(&b) {
			t.Errorf("%s: slots %d and %d", what, r.Slot(&a), r.Slot(&b))
		}
	}
	order := event.Event{Space: event.Foreign, Type: event.Conversion, Tenant: 1, Advertiser: 2, Order: []byte("A")}
	again := order
	again.Click, again.Goal, again.Foreign, again.Space = other, 4, []byte("e"), event.Minted
	same("an order posted with another click, goal and id", order, again)
	tag := event.Event{Space: event.Minted, Type: event.Impression, ID: click}
	clicked := tag
	clicked.Type = event.Click
	same("impression and click of one tag", tag, clicked)
	if r.Slot(&tag) != 77 {
		t.Errorf("a minted id stays in its slot: %d", r.Slot(&tag))
	}
	same("a conversion without an order goes to its click", event.Event{Space: event.Foreign, Type: event.Conversion, Click: click}, tag)
	row := event.Event{Space: event.Imported, Type: event.Click, Tenant: 1, Import: event.ImportID{1}, ID: event.MintedID{Lo: 1}, Foreign: []byte("id")}
	moved := row
	moved.Import, moved.ID.Lo = event.ImportID{2}, 1<<40
	same("an imported id in another file and row", row, moved)
	row.Type, moved.Type = event.Conversion, event.Conversion
	row.Click, moved.Click = click, other
	same("an imported conversion with another click", row, moved)
	for what, e := range map[string]event.Event{"tenant": {Space: event.Foreign, Tenant: 2, Foreign: []byte("x")}, "type": {Space: event.Foreign, Type: 9, Foreign: []byte("x")}} {
		if plain := (event.Event{Space: event.Foreign, Foreign: []byte("x")}); r.Slot(&e) == r.Slot(&plain) {
			t.Errorf("another %s, the same slot (one chance in 1,024)", what)
		}
	}
}

func TestEverySlotHasALane(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		lanes := rapid.IntRange(1, 64).Draw(rt, "lanes")
		last := 0
		for slot := range uint16(event.Slots) {
			lane := Lane(slot, lanes)
			if lane < last || lane > last+1 || lane >= lanes {
				rt.Fatalf("slot %d goes to lane %d of %d after %d", slot, lane, lanes, last)
			}
			last = lane
		}
		if last != lanes-1 {
			rt.Fatalf("lane %d of %d is never used", lanes-1, lanes)
		}
	})
}
