package event_test

import (
	"reflect"
	"testing"

	"pgregory.net/rapid"

	"milliard/internal/event"
)

// TestAReusedBuilderKeepsNothing builds blocks one after the other in the same memory, whose columns are equal in some
// blocks and not in others, looks at them in between, and reads every row back.
func TestAReusedBuilderKeepsNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var b event.Builder
		for range rapid.IntRange(1, 6).Draw(t, "blocks") {
			b.Start(event.Foreign, event.ImportID{})
			var want []event.Event
			vary := rapid.Uint32Range(0, 63).Draw(t, "which columns vary")
			base := rapid.Uint32Range(0, 2).Draw(t, "base")
			for i := range rapid.IntRange(0, 600).Draw(t, "rows") {
				x := func(bit int) uint32 {
					if vary>>bit&1 != 0 && i > 10*bit {
						return base + uint32(i)%7*100
					}
					return base
				}
				e := event.Event{
					Space: event.Foreign, Foreign: []byte{byte(i), byte(i >> 8), 1}, Type: event.Type(x(0)), Time: int64(x(1)) << 20,
					Campaign: event.CampaignID(x(2)), Affiliate: event.AffiliateID(x(3)), N: event.Micros(x(4)) - 50, IPHash: uint64(x(5)) << 40,
				}
				b.Append(&e)
				want = append(want, e)
				if rapid.IntRange(0, 200).Draw(t, "look") == 0 {
					same(t, b.Block(), want)
				}
			}
			same(t, b.Block(), want)
			var got event.Block
			if err := got.Decode(b.Block().AppendMain(nil), b.Block().AppendPersonal(nil)); err != nil {
				if len(want) > 0 {
					t.Fatal(err)
				}
				continue
			}
			same(t, &got, want)
		}
	})
}

func same(t *rapid.T, b *event.Block, want []event.Event) {
	if b.N != len(want) {
		t.Fatalf("%d rows, want %d", b.N, len(want))
	}
	var e event.Event
	for i := range want {
		b.Row(i, &e)
		w := &want[i]
		if string(e.Foreign) != string(w.Foreign) || e.Type != w.Type || e.Time != w.Time || e.Campaign != w.Campaign ||
			e.Affiliate != w.Affiliate || e.N != w.N || e.IPHash != w.IPHash || e.Banner != 0 || e.Amount != 0 {
			t.Fatalf("row %d: %+v, want %+v", i, e, *w)
		}
	}
}

// TestRowSetsEveryField: the grid reads all rows into one event, so a field that Row forgot would be that of another.
func TestRowSetsEveryField(t *testing.T) {
	var b event.Builder
	b.Start(event.Minted, event.ImportID{})
	b.Append(&event.Event{Space: event.Minted, ID: event.NewMintedID(1, 2, 3, 4), Type: event.Click})
	var fresh, used event.Event
	for _, f := range reflect.ValueOf(&used).Elem().Fields() {
		switch f.Kind() {
		case reflect.Slice:
			f.SetBytes([]byte("left over"))
		case reflect.Array:
			f.Index(0).SetUint(7)
		case reflect.Struct:
			f.Field(0).SetUint(7)
		case reflect.Int64:
			f.SetInt(7)
		default:
			f.SetUint(7)
		}
	}
	b.Block().Row(0, &fresh)
	b.Block().Row(0, &used)
	if !reflect.DeepEqual(fresh, used) {
		t.Errorf("got %+v, want %+v", used, fresh)
	}
}
