package ledgertest

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math/rand/v2"

	"milliard/internal/event"
	"milliard/internal/journal"
	"milliard/internal/ledger"
)

// BaseMinute is the bucket around which random generations lie: 2026-07-01 00:00 UTC.
const BaseMinute = 29_714_400

// Next returns the position one flush after at, as an owner would reach it.
func Next(at ledger.Position, batches uint64, logTime int64) ledger.Position {
	to := ledger.Position{Seq: at.Seq + batches, LogTime: max(at.LogTime, logTime), Flush: at.Flush + 1}
	to.Hash = sha256.Sum256(binary.BigEndian.AppendUint64(at.Hash[:], to.Seq))
	return to
}

// Shape says how large a random generation is and how it spreads.
type Shape struct {
	Cells, Clicks, Sales, Tallies int // at most
	Minutes                       int // buckets lie within so many minutes before Minute
	Minute                        int32
	Keys                          int // campaigns and affiliates are below this; with 1 nearly every row repeats a key
}

// Random returns a generation of random rows. Keys repeat on purpose, within it and between generations; some values
// are at the edges of their types.
func Random(r *rand.Rand, lane int, epoch uint64, from ledger.Position, s Shape) *ledger.Generation {
	s.Minutes, s.Keys = max(s.Minutes, 1), max(s.Keys, 1)
	g := &ledger.Generation{
		Lane: lane, Epoch: epoch, From: from,
		To: Next(from, 1+r.Uint64N(3), int64(s.Minute)*60_000+r.Int64N(60_000)),
	}
	for range upTo(r, s.Cells) {
		c := ledger.Cell{Key: key(r, &s), Value: value(r)}
		g.Cells = append(g.Cells, c)
		c.Bucket -= r.Int32N(2000)
		c.Key = coarse(c.Key, 15)
		g.Moved = append(g.Moved, c)
		g.Rollups = append(g.Rollups, ledger.RollupCell{
			Dim: ledger.Dimension(1 + r.IntN(3)), DimValue: pick(r, "DE", "desktop", ledger.OtherValue, "x", "naïve ☕", "a'b\"c\\"),
			Key: coarse(c.Key, 15), Value: c.Value,
		})
	}
	for i := range upTo(r, s.Clicks) {
		g.Clicks.Append(click(r, g, uint32(i), &s))
	}
	for i := range upTo(r, s.Sales) {
		g.Sales.Append(sale(r, g, uint32(i), &s))
	}
	for range upTo(r, s.Tallies) {
		g.Tallies = append(g.Tallies, journal.Tally{
			Minute: int64(s.Minute) - r.Int64N(int64(s.Minutes)), Tenant: event.TenantID(r.Uint32N(3)),
			Door: pick(r, "pixel", "click"), Reason: pick(r, "forged", "malformed"), N: 1 + r.Int64N(1000),
		})
	}
	return g
}

func upTo(r *rand.Rand, n int) int {
	if n <= 0 {
		return 0
	}
	return r.IntN(n + 1)
}

func pick(r *rand.Rand, words ...string) string { return words[r.IntN(len(words))] }

func key(r *rand.Rand, s *Shape) ledger.Key {
	id := func() uint32 {
		if s.Keys > 1 && r.IntN(50) == 0 {
			return 1<<32 - 1
		}
		return r.Uint32N(uint32(s.Keys))
	}
	few := uint32(min(s.Keys, 2))
	return ledger.Key{
		Bucket: s.Minute - r.Int32N(int32(s.Minutes)), Tenant: event.TenantID(1 + r.Uint32N(few)), Type: event.Type(1 + r.Uint32N(4)),
		Goal: event.GoalID(r.Uint32N(few)), Class: event.Class(1 + r.Uint32N(3)), Campaign: event.CampaignID(id()),
		Banner: event.BannerID(r.Uint32N(few)), Affiliate: event.AffiliateID(id()), Revenue: event.PriceID(r.Uint32N(few)),
		Payout: event.PriceID(r.Uint32N(few)),
	}
}

func value(r *rand.Rand) ledger.Value {
	events := 1 + r.Int64N(100)
	return ledger.Value{N: event.Micros(events)*event.One + event.Micros(r.Int64N(3)), Amount: event.Micros(r.Int64N(2e9) - 1e9), Events: events}
}

func minted(r *rand.Rand) event.MintedID {
	if r.IntN(4) == 0 {
		return event.MintedID{}
	}
	return event.NewMintedID(int64(BaseMinute)*60_000+r.Int64N(1e6), uint16(r.Uint32N(event.Slots)), r.Uint32(), r.Uint64())
}

func click(r *rand.Rand, g *ledger.Generation, row uint32, s *Shape) ledger.ClickRow {
	k := key(r, s)
	return ledger.ClickRow{
		Seq: g.To.Seq, Row: row, ClickID: minted(r), EventID: fmt.Sprintf("c-%d-%d", g.To.Seq, row), Time: g.To.LogTime - 5,
		Received: g.To.LogTime, Tenant: k.Tenant, Campaign: k.Campaign, Banner: k.Banner, Affiliate: k.Affiliate, Class: k.Class,
		Country: event.ParseCountry(pick(r, "de", "us", "")), Device: event.Device(r.UintN(6)), Subs: pick(r, "", "sub1=x&sub2=%20y"),
	}
}

func sale(r *rand.Rand, g *ledger.Generation, row uint32, s *Shape) ledger.SaleRow {
	k, v := key(r, s), value(r)
	return ledger.SaleRow{
		Seq: g.To.Seq, Row: row, EventID: fmt.Sprintf("s-%d-%d", g.To.Seq, row), Order: pick(r, "", "A-1", "☕"), ClickID: minted(r),
		ClickTime: r.Int64N(1e12), Time: g.To.LogTime - 7, Received: g.To.LogTime, Tenant: k.Tenant, Advertiser: event.AdvertiserID(r.Uint32N(9)),
		Campaign: k.Campaign, Banner: k.Banner, Affiliate: k.Affiliate, Goal: k.Goal, Class: k.Class, Revenue: k.Revenue,
		Payout: k.Payout, N: v.N, Amount: v.Amount, Subs: pick(r, "", "sub1=z"),
	}
}
