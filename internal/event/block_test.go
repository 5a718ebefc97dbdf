package event_test

import (
	"bytes"
	"errors"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"milliard/internal/columnar"
	"milliard/internal/event"
)

// text draws a string that is often empty, often one of a few, and sometimes new; never an empty slice that is not nil,
// since a block does not keep that difference.
func text(t *rapid.T, label string) []byte {
	s := rapid.OneOf(rapid.Just(""), rapid.SampledFrom([]string{"a", "bb", "ccc"}), rapid.StringN(0, 200, 200)).Draw(t, label)
	if s == "" {
		return nil
	}
	return []byte(s)
}

// number draws a value that is often the same, and sometimes anything.
func number[T ~uint8 | ~uint16 | ~uint32 | ~uint64 | ~int64](t *rapid.T, label string) T {
	return T(rapid.OneOf(rapid.Just(uint64(7)), rapid.Uint64Range(0, 300), rapid.Uint64()).Draw(t, label))
}

func draw(t *rapid.T, space event.Space, imp event.ImportID) event.Event {
	e := event.Event{
		Space: space, Import: imp, ID: event.MintedID{Hi: number[uint64](t, "hi"), Lo: number[uint64](t, "lo")},
		Source: text(t, "source"), Type: number[event.Type](t, "type"), Time: number[int64](t, "time"),
		Tenant: number[event.TenantID](t, "tenant"), Advertiser: number[event.AdvertiserID](t, "advertiser"),
		Campaign: number[event.CampaignID](t, "campaign"), Banner: number[event.BannerID](t, "banner"),
		Affiliate: number[event.AffiliateID](t, "affiliate"), Goal: number[event.GoalID](t, "goal"),
		Revenue: number[event.PriceID](t, "revenue"), Payout: number[event.PriceID](t, "payout"),
		N: number[event.Micros](t, "n"), Amount: number[event.Micros](t, "amount"), Flags: number[event.Flags](t, "flags"),
		Country: number[event.Country](t, "country"), Device: number[event.Device](t, "device"),
		Click:     event.MintedID{Hi: number[uint64](t, "click hi"), Lo: number[uint64](t, "click lo")},
		ClickTime: number[int64](t, "click time"), Order: text(t, "order"), Subs: text(t, "subs"), Ref: text(t, "ref"),
		Referrer: text(t, "referrer"), IP: text(t, "ip"), IPHash: number[uint64](t, "ip hash"), UA: text(t, "ua"),
		Visitor: text(t, "visitor"),
	}
	if space == event.Foreign {
		e.Foreign = append([]byte{'f'}, text(t, "foreign")...)
	}
	return e
}

func texts(e *event.Event) []*[]byte {
	return []*[]byte{&e.Foreign, &e.Source, &e.Order, &e.Subs, &e.Ref, &e.Referrer, &e.IP, &e.UA, &e.Visitor}
}

// normal makes a comparable copy of an event: a block gives back empty and nil alike.
func normal(e event.Event) event.Event {
	for _, s := range texts(&e) {
		*s = append([]byte(nil), *s...)
	}
	return e
}

func TestBlockRoundTrip(t *testing.T) {
	var rows event.Builder // reused through all cases, as a lane does
	var got event.Block
	rapid.Check(t, func(t *rapid.T) {
		space := rapid.SampledFrom([]event.Space{event.Minted, event.Foreign, event.Imported}).Draw(t, "space")
		var imp event.ImportID
		if space == event.Imported {
			imp = event.ImportID{byte(rapid.IntRange(1, 9).Draw(t, "import"))}
		}
		rows.Start(space, imp)
		var want []event.Event
		for range rapid.IntRange(0, 40).Draw(t, "rows") {
			e := normal(draw(t, space, imp))
			want = append(want, normal(e))
			rows.Append(&e)
			for _, s := range texts(&e) { // the caller's memory stays the caller's
				clear(*s)
			}
		}
		main, personal := rows.Block().AppendMain(nil), rows.Block().AppendPersonal(nil)
		if len(main)+len(personal) > rows.Size() {
			t.Fatalf("%d bytes, but Size said %d", len(main)+len(personal), rows.Size())
		}
		if err := got.Decode(main, personal); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got.AppendMain(nil), main) || !bytes.Equal(got.AppendPersonal(nil), personal) {
			t.Fatal("a decoded block encodes to other bytes")
		}
		if got.N != len(want) || rows.Len() != len(want) {
			t.Fatalf("%d rows, not %d", got.N, len(want))
		}
		for i := range want {
			var e event.Event
			got.Row(i, &e)
			if e = normal(e); !reflect.DeepEqual(e, want[i]) {
				t.Fatalf("row %d:\n%+v\n%+v", i, e, want[i])
			}
		}
		if err := got.Decode(main, nil); err != nil {
			t.Fatal(err)
		}
		for i := range want {
			var e event.Event
			got.Row(i, &e)
			w := want[i]
			w.IP, w.IPHash, w.UA, w.Visitor = nil, 0, nil, nil
			if e = normal(e); !reflect.DeepEqual(e, w) {
				t.Fatalf("row %d without its personal part:\n%+v\n%+v", i, e, w)
			}
		}
	})
}

// TestManyEntries goes through the sizes at which a dictionary's index gets wider and its table grows.
func TestManyEntries(t *testing.T) {
	var rows event.Builder
	for _, n := range []int{1, 2, 3, 255, 256, 257, 5000} {
		rows.Start(event.Minted, event.ImportID{})
		for i := range n {
			rows.Append(&event.Event{Space: event.Minted, UA: []byte{byte(i), byte(i >> 8), 'x'}, ID: event.MintedID{Lo: uint64(i)}})
		}
		for i := range n {
			rows.Append(&event.Event{Space: event.Minted, UA: []byte{byte(i), byte(i >> 8), 'x'}})
		}
		if got := len(rows.Block().S[event.StrUA].Dict); got != n {
			t.Fatalf("%d entries for %d values", got, n)
		}
		var got event.Block
		main, personal := rows.Block().AppendMain(nil), rows.Block().AppendPersonal(nil)
		if size := len(main) + len(personal); size > rows.Size() {
			t.Fatalf("%d bytes, but Size said %d", size, rows.Size())
		}
		if err := got.Decode(main, personal); err != nil {
			t.Fatal(err)
		}
		for i := range 2 * n {
			if ua := got.S[event.StrUA].Row(i); int(ua[0])|int(ua[1])<<8 != i%n {
				t.Fatalf("row %d of %d: %x", i, n, ua)
			}
		}
	}
}

func TestTryAppendRefusesWhatWouldWidenTooMuch(t *testing.T) {
	var rows event.Builder
	rows.Start(event.Minted, event.ImportID{})
	for range 1000 {
		if !rows.TryAppend(&event.Event{Space: event.Minted}, 2000) {
			t.Fatal("a row without bytes was refused")
		}
	}
	before := rows.Size()
	if rows.TryAppend(&event.Event{Space: event.Minted, Time: math.MaxInt64, IPHash: 1 << 60}, 10_000) {
		t.Fatal("16 bytes for each of 1,000 rows fit into 10,000")
	}
	if rows.Len() != 1000 || rows.Size() != before {
		t.Fatalf("a refused row left its traces: %d rows, %d bytes, before %d", rows.Len(), rows.Size(), before)
	}
	if !rows.TryAppend(&event.Event{Space: event.Minted, Campaign: 1}, 2000) || rows.Len() != 1001 {
		t.Fatal("a small row was refused")
	}
}

func TestBuilderAllocatesNothingOnceItHasGrown(t *testing.T) {
	es := traffic(1000)
	var rows event.Builder
	run := func() {
		rows.Start(event.Minted, event.ImportID{})
		for i := range es {
			rows.Append(&es[i])
		}
	}
	for range 3 {
		run()
	}
	if n := testing.AllocsPerRun(10, run); n != 0 {
		t.Fatalf("%v allocations for 1,000 events", n)
	}
	buf := make([]byte, 0, 1<<20)
	if n := testing.AllocsPerRun(10, func() { rows.Block().AppendPersonal(rows.Block().AppendMain(buf)) }); n != 0 {
		t.Fatalf("%v allocations to encode", n)
	}
}

func TestHostileBlocksAreRefused(t *testing.T) {
	var rows event.Builder
	rows.Start(event.Foreign, event.ImportID{})
	rows.Append(&event.Event{Space: event.Foreign, Foreign: []byte("x"), UA: []byte("y")})
	main, personal := rows.Block().AppendMain(nil), rows.Block().AppendPersonal(nil)
	var b event.Block
	for n := range len(main) {
		if err := b.Decode(main[:n], personal); !errors.Is(err, columnar.ErrCorrupt) {
			t.Fatalf("main part cut to %d bytes: %v", n, err)
		}
	}
	for n := range len(personal) {
		if err := b.Decode(main, personal[:n:n]); !errors.Is(err, columnar.ErrCorrupt) {
			t.Fatalf("personal part cut to %d bytes: %v", n, err)
		}
	}
	if err := b.Decode(append(main, 0), personal); !errors.Is(err, columnar.ErrCorrupt) {
		t.Fatalf("a byte too many: %v", err)
	}
	if err := b.Decode(main, append(personal, 0)); !errors.Is(err, columnar.ErrCorrupt) {
		t.Fatalf("a byte too many in the personal part: %v", err)
	}
	many := append([]byte{1, byte(event.Minted)}, 0x81, 0x80, 0x04) // 65,537 rows
	if err := b.Decode(append(many, make([]byte, 100)...), nil); !errors.Is(err, columnar.ErrCorrupt) {
		t.Fatalf("too many rows: %v", err)
	}
}

func FuzzDecode(f *testing.F) {
	es := traffic(20)
	var rows event.Builder
	rows.Start(event.Minted, event.ImportID{})
	for i := range es {
		rows.Append(&es[i])
	}
	f.Add(rows.Block().AppendMain(nil), rows.Block().AppendPersonal(nil))
	rows.Start(event.Foreign, event.ImportID{})
	rows.Append(&event.Event{Space: event.Foreign, Foreign: []byte("x"), Order: []byte("o"), UA: []byte("y")})
	f.Add(rows.Block().AppendMain(nil), rows.Block().AppendPersonal(nil))
	rows.Start(event.Imported, event.ImportID{1})
	f.Add(rows.Block().AppendMain(nil), []byte(nil))
	var b, again event.Block
	f.Fuzz(func(t *testing.T, main, personal []byte) {
		if b.Decode(main, personal) != nil {
			return
		}
		if b.N > event.MaxBlockRows {
			t.Fatalf("%d rows", b.N)
		}
		var e, e2 event.Event
		for i := range b.N {
			b.Row(i, &e)
		}
		if err := again.Decode(b.AppendMain(nil), b.AppendPersonal(nil)); err != nil || again.N != b.N {
			t.Fatalf("again: %v", err)
		}
		for i := range min(b.N, 100) {
			b.Row(i, &e)
			again.Row(i, &e2)
			if !reflect.DeepEqual(normal(e), normal(e2)) {
				t.Fatalf("row %d changed", i)
			}
		}
	})
}

// TestADecodedBlockIsReused decodes blocks of many lengths and values into one Block: what an earlier one left in a
// constant column must not show.
func TestADecodedBlockIsReused(t *testing.T) {
	var reused event.Block
	var b event.Builder
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		b.Start(event.Minted, event.ImportID{})
		n, same := rnd.IntN(50), rnd.IntN(2) == 0
		tenant := event.TenantID(rnd.IntN(2))
		for range n {
			e := event.Event{Space: event.Minted, Type: event.Click, Tenant: tenant, Campaign: event.CampaignID(rnd.IntN(3)), IPHash: uint64(rnd.IntN(2))}
			if same {
				e.Campaign = 2
			}
			b.Append(&e)
		}
		made := b.Block()
		main, personal := made.AppendMain(nil), made.AppendPersonal(nil)
		if rnd.IntN(3) == 0 {
			personal = nil
		}
		var fresh event.Block
		if err := errors.Join(reused.Decode(main, personal), fresh.Decode(main, personal)); err != nil {
			t.Fatal(err)
		}
		for c := range event.NumCols {
			if !slices.Equal(reused.U[c], fresh.U[c]) || reused.Const[c] != fresh.Const[c] {
				t.Fatalf("column %d: %v, a fresh block has %v", c, reused.U[c], fresh.U[c])
			}
		}
	}
}
