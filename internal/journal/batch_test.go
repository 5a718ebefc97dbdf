package journal_test

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"hash/crc32"
	"testing"

	"pgregory.net/rapid"

	"milliard/internal/event"
	"milliard/internal/journal"
)

func TestBatchRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := journal.Header{
			Kind: journal.Kind(rapid.Uint8().Draw(t, "kind")), Spooled: rapid.Bool().Draw(t, "spooled"),
			Lane: rapid.Uint16().Draw(t, "lane"), Counter: rapid.Uint64().Draw(t, "counter"),
			Events: rapid.Uint32().Draw(t, "events"), Received: rapid.Int64().Draw(t, "received"),
			Catalog: rapid.Uint64().Draw(t, "catalog"),
		}
		copy(want.Incarnation[:], rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "incarnation"))
		copy(want.Prev[:], rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "prev"))
		body := rapid.SliceOf(rapid.Byte()).Draw(t, "body")
		msg := append(journal.AppendHeader(nil), body...)
		hash := journal.Seal(msg, &want)
		got, rest, err := journal.Open(msg)
		if err != nil || got != want || !bytes.Equal(rest, body) || hash != journal.HashOf(msg) {
			t.Fatalf("%+v %x %v", got, rest, err)
		}
		// Any one bit that is wrong is noticed.
		bit := rapid.IntRange(0, 8*len(msg)-1).Draw(t, "bit")
		msg[bit/8] ^= 1 << (bit % 8)
		if _, _, err := journal.Open(msg); !errors.Is(err, journal.ErrBadBatch) {
			t.Fatalf("bit %d: %v", bit, err)
		}
		if journal.HashOf(msg) == hash {
			t.Fatal("same hash")
		}
	})
	for n := range journal.HeaderBytes {
		if _, _, err := journal.Open(make([]byte, n)); !errors.Is(err, journal.ErrBadBatch) {
			t.Fatalf("%d bytes: %v", n, err)
		}
	}
}

func TestBlocksOfABody(t *testing.T) {
	var body []byte
	for i := range 3 {
		var rows event.Builder
		rows.Start(event.Minted, event.ImportID{})
		for range i {
			rows.Append(&event.Event{Space: event.Minted, UA: []byte("x")})
		}
		body = journal.AppendBlock(body, rows.Block())
	}
	rest := body
	for i := range 3 {
		main, personal, next, ok, err := journal.NextBlock(rest)
		var b event.Block
		if err != nil || !ok || b.Decode(main, personal) != nil || b.N != i {
			t.Fatalf("block %d: %v %v, %d rows", i, ok, err, b.N)
		}
		rest = next
	}
	if _, _, _, ok, err := journal.NextBlock(rest); ok || err != nil {
		t.Fatalf("%v %v", ok, err)
	}
	for n := 1; n < len(body); n++ { // a cut body ends in an error or at a block's end
		rest, err, ok := body[:n], error(nil), true
		for ok && err == nil {
			_, _, rest, ok, err = journal.NextBlock(rest)
		}
	}
	huge := binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint32(nil, 1<<32-1), 1<<32-1)
	if _, _, _, _, err := journal.NextBlock(huge); !errors.Is(err, journal.ErrBadBatch) {
		t.Fatal(err)
	}
}

func TestOtherBodies(t *testing.T) {
	ended := journal.Incarnation{1, 2, 3}
	if got, err := journal.ParseClosed(journal.AppendClosed(nil, ended)); err != nil || got != ended {
		t.Fatalf("%x %v", got, err)
	}
	if _, err := journal.ParseClosed(ended[:15]); !errors.Is(err, journal.ErrBadBatch) {
		t.Fatal(err)
	}
	want := []journal.Tally{{Minute: 29_000_000, Tenant: 1, Door: "pixel", Reason: "forged", N: 3}, {Minute: -1, N: -5}}
	body, err := journal.AppendTallies([]byte("before"), want)
	if err != nil {
		t.Fatal(err)
	}
	got, err := journal.DecodeTallies(body[len("before"):])
	if err != nil || len(got) != 2 || got[0] != want[0] || got[1] != want[1] {
		t.Fatalf("%+v %v", got, err)
	}
	if _, err := journal.DecodeTallies([]byte("{")); !errors.Is(err, journal.ErrBadBatch) {
		t.Fatal(err)
	}
}

func FuzzOpen(f *testing.F) {
	var rows event.Builder
	rows.Start(event.Minted, event.ImportID{})
	rows.Append(&event.Event{Space: event.Minted, UA: []byte("x")})
	msg := journal.AppendBlock(journal.AppendHeader(nil), rows.Block())
	journal.Seal(msg, &journal.Header{Kind: journal.KindEvents, Events: 1})
	f.Add(msg)
	f.Fuzz(func(t *testing.T, msg []byte) {
		if _, _, err := journal.Open(msg); err != nil && len(msg) >= journal.HeaderBytes {
			// Go on behind the checksum, which the fuzzer will not guess.
			msg = bytes.Clone(msg)
			journal.Seal(msg, &journal.Header{Kind: journal.KindEvents})
		}
		_, body, err := journal.Open(msg)
		if err != nil {
			return
		}
		for {
			main, personal, rest, ok, err := journal.NextBlock(body)
			if err != nil || !ok {
				return
			}
			var b event.Block
			if err := b.Decode(main, personal); err == nil && b.N > event.MaxBlockRows {
				t.Fatal("too many rows")
			}
			body = rest
		}
	})
}

// TestTheBytesAreTheOnesThatAreDrawn pins docs/format/batch.md and docs/format/columnar.md.
func TestTheBytesAreTheOnesThatAreDrawn(t *testing.T) {
	var rows event.Builder
	rows.Start(event.Foreign, event.ImportID{})
	for i, id := range []string{"a", "b"} {
		rows.Append(&event.Event{
			Space: event.Foreign, Foreign: []byte(id), Type: event.Click, Time: int64(1000 + i), Tenant: 7,
			N: -1, UA: []byte("u"), IPHash: uint64(i) << 20,
		})
	}
	msg := journal.AppendBlock(journal.AppendHeader(nil), rows.Block())
	journal.Seal(msg, &journal.Header{
		Kind: journal.KindEvents, Spooled: true, Lane: 0x0102, Incarnation: journal.Incarnation{0xAA, 15: 0xBB}, Counter: 3,
		Events: 2, Received: 0x0506, Catalog: 9, Prev: journal.Hash{0xCC, 31: 0xDD},
	})
	const want = "4d4c4431" + "01" + "01" + "0201" + // magic, kind, flags, lane
		"aa0000000000000000000000000000bb" + "0300000000000000" + "02000000" + // incarnation, counter, events
		"0605000000000000" + "0900000000000000" + // received, catalog
		"cc000000000000000000000000000000000000000000000000000000000000dd" // prev
	if got := hex.EncodeToString(msg[:84]); got != want {
		t.Errorf("header\n%s\n%s", got, want)
	}
	if crc := binary.LittleEndian.Uint32(msg[84:]); crc != crc32.Update(crc32.Checksum(msg[:84], crc32.MakeTable(crc32.Castagnoli)), crc32.MakeTable(crc32.Castagnoli), msg[88:]) {
		t.Errorf("checksum %x", crc)
	}
	const wantMain = "01" + "02" + "02" + // version, space, rows
		"0000" + "0000" + "0200" + "e807010001" + "0700" + // id, id, type, time, tenant
		"0000" + "0000" + "0000" + "0000" + "0000" + "0000" + "0000" + // advertiser … payout
		"0100" + "0000" + "0000" + "0000" + "0000" + "0000" + "0000" + "0000" + // n, amount, flags … click time
		"02" + "0101" + "6162" + "01" + // foreign ids, plain
		"0000000000" // source, order, subs, ref, referrer are absent
	const wantPersonal = "01" + "02" + "0004" + "0000000000001000" + // version, rows, IP hash
		"00" + "01" + "01" + "75" + "00" // IP, user agent, visitor
	main, personal, rest, ok, err := journal.NextBlock(msg[88:])
	if err != nil || !ok || len(rest) != 0 {
		t.Fatal(ok, err)
	}
	if got := hex.EncodeToString(main); got != wantMain {
		t.Errorf("main\n%s\n%s", got, wantMain)
	}
	if got := hex.EncodeToString(personal); got != wantPersonal {
		t.Errorf("personal\n%s\n%s", got, wantPersonal)
	}
}
