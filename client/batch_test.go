package client

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func sample(n int) []Event {
	at := time.Date(2026, 4, 1, 12, 0, 0, 0, time.UTC)
	events := make([]Event, n)
	for i := range events {
		events[i] = Event{
			ID: fmt.Sprintf("0123456789abcdef-%d", i), Source: "bench", Type: []string{Impression, Impression, Impression, Click}[i%4],
			Time: at.Add(time.Duration(i) * time.Millisecond), Campaign: fmt.Sprintf("campaign-%d", i*i%37),
			Affiliate: fmt.Sprintf("aff-%d", i*7%53), IP: fmt.Sprintf("192.0.%d.7", i%200), UA: []string{"Mozilla/5.0 a", "Mozilla/5.0 b"}[i%2],
			Country: "DE", Subs: []string{"s1"},
		}
	}
	return events
}

func TestBatchRoundTrip(t *testing.T) {
	text := rapid.StringMatching(`[a-zä]{0,5}`)
	rapid.Check(t, func(t *rapid.T) {
		events := make([]Event, rapid.IntRange(1, 30).Draw(t, "rows"))
		var b Builder
		for i := range events {
			events[i] = Event{
				ID: text.Draw(t, "id"), Type: text.Draw(t, "type"), Campaign: text.Draw(t, "campaign"), OrderID: text.Draw(t, "order"),
				N: Micros(rapid.Int64().Draw(t, "n")), Amount: Micros(rapid.Int64().Draw(t, "amount")),
				Subs: rapid.SliceOfN(text, 0, 3).Draw(t, "subs"), Row: rapid.Uint64().Draw(t, "row"),
			}
			b.Add(&events[i])
		}
		wire := b.Encode(nil)
		if len(wire) > b.Size()+100 {
			t.Fatalf("size %d, estimate %d", len(wire), b.Size())
		}
		var got Batch
		if err := got.Decode(wire, 30); err != nil {
			t.Fatal(err)
		}
		for i, e := range events {
			n := e.N
			if n == 0 {
				n = One
			}
			same := string(got.Strings[FieldID].Row(i)) == e.ID && string(got.Strings[FieldType].Row(i)) == e.Type &&
				string(got.Strings[FieldCampaign].Row(i)) == e.Campaign && string(got.Strings[FieldOrderID].Row(i)) == e.OrderID &&
				(!got.HasInt[FieldN-FieldTime] && n == One || got.HasInt[FieldN-FieldTime] && got.Signed(FieldN, i) == n) &&
				(!got.HasInt[FieldAmount-FieldTime] && e.Amount == 0 || got.HasInt[FieldAmount-FieldTime] && got.Signed(FieldAmount, i) == e.Amount)
			for j, s := range e.Subs {
				same = same && string(got.Strings[FieldSub1+Field(j)].Row(i)) == s
			}
			if !same {
				t.Fatalf("row %d of %+v", i, e)
			}
		}
		for cut := range len(wire) {
			if got.Decode(wire[:cut], 30) == nil {
				t.Fatalf("cut at %d of %d was accepted", cut, len(wire))
			}
		}
		b.Reset()
		for i := range events {
			b.Add(&events[i])
		}
		if !bytes.Equal(b.Encode(nil), wire) {
			t.Fatal("a reset builder writes other bytes")
		}
	})
}

func TestRowsAreSentForEventsWithoutIDs(t *testing.T) {
	for name, x := range map[string]struct {
		events []Event
		rows   bool
	}{
		"rows":  {[]Event{{Type: Click}, {Type: Click, Row: 1}}, true},
		"ids":   {[]Event{{Type: Click, ID: "a"}, {Type: Click, ID: "b"}}, false},
		"mixed": {[]Event{{Type: Click, ID: "a"}, {Type: Click, Row: 1}}, true}, // the server refuses the first: it says both
	} {
		b := Builder{Import: true}
		for i := range x.events {
			b.Add(&x.events[i])
		}
		var got Batch
		if err := got.Decode(b.Encode(nil), 10); err != nil || got.HasInt[IntRow] != x.rows {
			t.Errorf("%s: %v, a column of rows: %v", name, err, got.HasInt[IntRow])
		}
	}
}

func TestDecodeRefusesTooManyRows(t *testing.T) {
	var b Builder
	for _, e := range sample(10) {
		b.Add(&e)
	}
	var got Batch
	if err := got.Decode(b.Encode(nil), 9); err == nil {
		t.Error("no error")
	}
}

func FuzzDecode(f *testing.F) {
	var b Builder
	for _, e := range sample(5) {
		b.Add(&e)
	}
	wire := b.Encode(nil)
	f.Add(wire[:len(wire)-crcBytes])
	f.Add([]byte("MLC1"))
	f.Fuzz(func(t *testing.T, src []byte) {
		src = binary.LittleEndian.AppendUint32(src, crc32.Checksum(src, castagnoli())) // or nothing would get past it
		var got Batch
		if got.Decode(src, 1000) != nil {
			return
		}
		for i := range got.Rows {
			for j := range got.Strings {
				got.Strings[j].Row(i)
			}
		}
	})
}

func BenchmarkEncode(b *testing.B) {
	events := sample(2000)
	var builder Builder
	var dst []byte
	b.ReportAllocs()
	for b.Loop() {
		builder.Reset()
		for i := range events {
			builder.Add(&events[i])
		}
		dst = builder.Encode(dst[:0])
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(events)), "ns/event")
	b.ReportMetric(float64(len(dst))/float64(len(events)), "B/event")
}

func BenchmarkDecode(b *testing.B) {
	var builder Builder
	for _, e := range sample(2000) {
		builder.Add(&e)
	}
	wire := builder.Encode(nil)
	var got Batch
	b.ReportAllocs()
	for b.Loop() {
		if err := got.Decode(wire, 4000); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/2000, "ns/event")
}
