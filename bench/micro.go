package main

import (
	"testing"

	"milliard/client"
	"milliard/internal/dedup"
	"milliard/internal/event"
	"milliard/internal/token"
)

// micro is a hot function that is measured alone.
type micro struct {
	name  string
	per   string
	units int // per iteration
	run   func(*testing.B)
}

const microRows = 2000

// micros are the hot functions on an event's way, in its order. Those that live behind unexported names have benchmarks
// in their own packages.
func micros() []micro {
	return []micro{
		{"client: make and encode a columnar batch (Builder)", "event", microRows, microClient},
		{"client: make and encode a columnar batch (Rows)", "event", microRows, microRowsClient},
		{"door: decode a columnar batch", "event", microRows, microDecode},
		{"token: verify", "token", 1, microVerify},
		{"token: refuse a forgery", "token", 1, microForgery},
		{"journal: encode a block", "event", microRows, microBlock},
		{"grid: read a block", "event", microRows, microRead},
		{"dedup: look up and claim a foreign id", "id", microRows, microWindow},
		{"dedup: look up and claim a minted id", "id", microRows, microMinted},
	}
}

func microTraffic() *traffic {
	n := newNames(&catalogSize{campaigns: 1000, affiliates: 10_000})
	return newTraffic(n, zipfTable(1000), 100, 0.01, true)
}

func microBatch(t *traffic, b *client.Builder, dst []byte) []byte {
	var e client.Event
	b.Reset()
	t.reset()
	for range microRows {
		p := t.next()
		t.event(&p, &e)
		b.Add(&e)
	}
	return b.Encode(dst[:0])
}

func microClient(b *testing.B) {
	b.Helper()
	t := microTraffic()
	var builder client.Builder
	var body []byte
	b.ReportAllocs()
	for b.Loop() {
		body = microBatch(t, &builder, body)
	}
}

func microRowsClient(b *testing.B) {
	b.Helper()
	t := microTraffic()
	rows := t.rows()
	var body []byte
	b.ReportAllocs()
	for b.Loop() {
		rows.Reset()
		for range microRows {
			p := t.next()
			t.add(rows, &p)
		}
		body = rows.Encode(body[:0])
	}
}

func microDecode(b *testing.B) {
	b.Helper()
	var builder client.Builder
	body := microBatch(microTraffic(), &builder, nil)
	var batch client.Batch
	b.ReportAllocs()
	for b.Loop() {
		if err := batch.Decode(body, microRows); err != nil {
			b.Fatal(err)
		}
	}
}

func microKeys(b *testing.B) (*token.Keyring, []byte) {
	b.Helper()
	k := token.NewKeyring(map[event.TenantID]token.TenantKeys{1: {Mint: 1, Keys: []token.Key{{ID: 1, Secret: [32]byte{7}}}}})
	text, err := k.Mint(nil, &token.Claims{
		Kind: token.Tag, Tenant: 1, Campaign: 5, Affiliate: 9, ID: event.NewMintedID(1_700_000_000_000, 3, 4, 5), Expires: 1_700_086_400,
	})
	if err != nil {
		b.Fatal(err)
	}
	return k, text
}

func microVerify(b *testing.B) {
	b.Helper()
	k, text := microKeys(b)
	var c token.Claims
	b.ReportAllocs()
	for b.Loop() {
		if err := k.Verify(text, &c); err != nil {
			b.Fatal(err)
		}
	}
}

func microForgery(b *testing.B) {
	b.Helper()
	k, text := microKeys(b)
	if text[macAt] == 'A' {
		text[macAt] = 'B'
	} else {
		text[macAt] = 'A'
	}
	var c token.Claims
	b.ReportAllocs()
	for b.Loop() {
		if k.Verify(text, &c) == nil {
			b.Fatal("a forgery was taken")
		}
	}
}

func microEvents() []event.Event {
	t := microTraffic()
	out := make([]event.Event, microRows)
	past := make([]past, microRows)
	for i := range out {
		past[i] = t.draw()
		past[i].id = t.id
		past[i].id[15], past[i].id[14], past[i].id[13] = byte(i), byte(i>>8), byte(i>>16)
		out[i] = event.Event{
			Space: event.Foreign, Foreign: past[i].id[:], Type: event.Type(past[i].kind + 1), Time: 1_700_000_000_000, Tenant: 1, Advertiser: 1,
			Campaign: event.CampaignID(past[i].campaign + 1), Affiliate: event.AffiliateID(past[i].affiliate + 1), N: event.One,
		}
	}
	return out
}

func microBlock(b *testing.B) {
	b.Helper()
	events := microEvents()
	var builder event.Builder
	var main, personal []byte
	b.ReportAllocs()
	for b.Loop() {
		builder.Start(event.Foreign, event.ImportID{})
		for i := range events {
			builder.Append(&events[i])
		}
		block := builder.Block()
		main, personal = block.AppendMain(main[:0]), block.AppendPersonal(personal[:0])
	}
}

func microRead(b *testing.B) {
	b.Helper()
	var builder event.Builder
	events := microEvents()
	builder.Start(event.Foreign, event.ImportID{})
	for i := range events {
		builder.Append(&events[i])
	}
	made := builder.Block()
	main, personal := made.AppendMain(nil), made.AppendPersonal(nil)
	var block event.Block
	var e event.Event
	b.ReportAllocs()
	for b.Loop() {
		if err := block.Decode(main, personal); err != nil {
			b.Fatal(err)
		}
		for i := range block.N {
			block.Row(i, &e)
		}
	}
}

func microWindow(b *testing.B) {
	b.Helper()
	w := dedup.NewWindow(1<<40, dedup.DefaultMaxHashes)
	t := microTraffic()
	at := int64(1_700_000_000_000)
	b.ReportAllocs()
	for b.Loop() {
		at++
		w.Advance(at)
		for range microRows {
			if h := t.random(); !w.Seen(h) {
				w.Claim(h, at)
			}
		}
	}
}

func microMinted(b *testing.B) {
	b.Helper()
	m := dedup.NewMinted()
	n := uint64(0)
	b.ReportAllocs()
	for b.Loop() {
		for range microRows {
			n++
			id := event.NewMintedID(1_700_000_000_000, uint16(n*397), 7, n/event.Slots)
			if !m.Seen(event.Impression, id) {
				m.Claim(event.Impression, id)
			}
		}
	}
}
