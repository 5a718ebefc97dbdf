package client

import (
	"fmt"
	"testing"

	"pgregory.net/rapid"
)

// TestRowsSayWhatABuilderSays encodes the same events both ways and compares every value.
func TestRowsSayWhatABuilderSays(t *testing.T) {
	types, campaigns := []string{Impression, Click, Conversion}, []string{"a", "bb", "ccc", "dddd", "eeeee"}
	rapid.Check(t, func(t *rapid.T) {
		r := NewRows(
			Column{Field: FieldID}, Column{Field: FieldType, Words: types}, Column{Field: FieldCampaign, Words: campaigns},
			Column{Field: FieldOrderID}, Column{Field: FieldReferrer})
		for range rapid.IntRange(1, 3).Draw(t, "batches") { // in the memory of the one before
			var b Builder
			r.Reset()
			for i := range rapid.IntRange(1, 40).Draw(t, "rows") {
				e := Event{Type: types[rapid.IntRange(0, 2).Draw(t, "type")]}
				if rapid.Bool().Draw(t, "named") {
					e.ID = fmt.Sprintf("id-%d", i)
				}
				if c := rapid.IntRange(-1, 4).Draw(t, "campaign"); c >= 0 {
					e.Campaign = campaigns[c]
					r.Word(2, c)
				}
				if rapid.IntRange(0, 5).Draw(t, "sale") == 0 {
					e.OrderID, e.Amount, e.N = fmt.Sprintf("o-%d", i), Micros(rapid.Int64().Draw(t, "amount")), 2*One
					r.Text(3, []byte(e.OrderID))
					r.Amount(e.Amount)
					r.N(e.N)
				}
				r.Text(0, []byte(e.ID))
				for i, name := range types {
					if name == e.Type {
						r.Word(1, i)
					}
				}
				b.Add(&e)
				r.Next()
			}
			compare(t, r, &b)
		}
	})
}

func compare(t *rapid.T, r *Rows, b *Builder) {
	wire := r.Encode(nil)
	if len(wire) > r.Size() {
		t.Fatalf("%d bytes, estimate %d", len(wire), r.Size())
	}
	var got, want Batch
	if err := got.Decode(wire, 100); err != nil {
		t.Fatal(err)
	}
	if err := want.Decode(b.Encode(nil), 100); err != nil {
		t.Fatal(err)
	}
	if got.Rows != want.Rows || got.Rows != r.Len() {
		t.Fatalf("%d rows, want %d", got.Rows, want.Rows)
	}
	value := func(b *Batch, f Field, i int) Micros {
		switch {
		case b.HasInt[f-FieldTime]:
			return b.Signed(f, i)
		case f == FieldN:
			return One
		}
		return 0
	}
	for i := range got.Rows {
		for f := range got.Strings {
			if x, y := string(got.Strings[f].Row(i)), string(want.Strings[f].Row(i)); x != y {
				t.Fatalf("row %d field %d: %q, want %q", i, f, x, y)
			}
		}
		for f := FieldTime; int(f-FieldTime) < NumIntFields; f++ {
			if x, y := value(&got, f, i), value(&want, f, i); x != y {
				t.Fatalf("row %d field %d: %d, want %d", i, f, x, y)
			}
		}
	}
}

func BenchmarkRows(b *testing.B) {
	events := sample(2000)
	lists := map[Field][]string{}
	place := map[Field]map[string]int{FieldCampaign: {}, FieldAffiliate: {}, FieldUA: {}, FieldIP: {}, FieldType: {}}
	at := func(f Field, v string) int {
		i, ok := place[f][v]
		if !ok {
			i = len(lists[f])
			place[f][v] = i
			lists[f] = append(lists[f], v)
		}
		return i
	}
	type row struct {
		id    []byte
		words [5]int
	}
	rows := make([]row, len(events))
	fields := []Field{FieldType, FieldCampaign, FieldAffiliate, FieldIP, FieldUA}
	for i, e := range events {
		rows[i] = row{id: []byte(e.ID), words: [5]int{
			at(FieldType, e.Type), at(FieldCampaign, e.Campaign), at(FieldAffiliate, e.Affiliate), at(FieldIP, e.IP), at(FieldUA, e.UA),
		}}
	}
	columns := []Column{{Field: FieldID}}
	for _, f := range fields {
		columns = append(columns, Column{Field: f, Words: lists[f]})
	}
	r := NewRows(columns...)
	var dst []byte
	b.ReportAllocs()
	for b.Loop() {
		r.Reset()
		for i := range rows {
			r.Text(0, rows[i].id)
			for k, w := range rows[i].words {
				r.Word(k+1, w)
			}
			r.Next()
		}
		dst = r.Encode(dst[:0])
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(rows)), "ns/event")
	b.ReportMetric(float64(len(dst))/float64(len(rows)), "B/event")
}
