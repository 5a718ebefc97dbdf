package report

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"milliard/internal/catalog"
	"milliard/internal/event"
	"milliard/internal/ledger"
	"milliard/internal/ledger/duck"
)

// bench is a real ledger in a temporary directory with one lane per number used.
type bench struct {
	*duck.Ledger
	epochs map[int]uint64
	at     map[int]ledger.Position
}

func newBench(t *testing.T) *bench {
	t.Helper()
	l, err := duck.Open(t.Context(), duck.Options{Path: filepath.Join(t.TempDir(), "ledger.duckdb"), RollEvery: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return &bench{Ledger: l, epochs: map[int]uint64{}, at: map[int]ledger.Position{}}
}

// counted is what one flush writes.
type counted struct {
	cells   []ledger.Cell
	moved   []ledger.Cell
	rollups []ledger.RollupCell
}

func (b *bench) flush(t fataler, lane int, logTime time.Time, c counted) {
	t.Helper()
	ctx := t.Context()
	if b.epochs[lane] == 0 {
		epoch, at, err := b.Acquire(ctx, lane)
		if err != nil {
			t.Fatal(err)
		}
		b.epochs[lane], b.at[lane] = epoch, at
	}
	g := b.generation(lane, logTime, c)
	if err := b.Flush(ctx, g); err != nil {
		t.Fatal(err)
	}
	b.at[lane] = g.To
}

// generation makes the lane's next one without writing it.
func (b *bench) generation(lane int, logTime time.Time, c counted) *ledger.Generation {
	from := b.at[lane]
	to := from
	to.Seq++
	to.Flush++
	to.Hash[0]++
	to.LogTime = logTime.UnixMilli()
	return &ledger.Generation{
		Lane: lane, Epoch: b.epochs[lane], From: from, To: to, Cells: c.cells, Moved: c.moved, Rollups: c.rollups,
	}
}

// put is one change that creates an entity.
func put(t fataler, kind string, tenant event.TenantID, id uint32, key string, entity any) catalog.Change {
	t.Helper()
	after, err := json.Marshal(entity)
	if err != nil {
		t.Fatal(err)
	}
	return catalog.Change{Op: catalog.OpPut, Kind: kind, Tenant: tenant, ID: id, Key: key, After: after}
}

// The network of the tests. Prices: 16 CPM 2.50 EUR, 17 CPC 0.333333 EUR, 18 CPA 7 EUR, 19 revshare 12.5 %, 20 CPC of
// 0.10 USD as payout.
const (
	priceCPM event.PriceID = 16 + iota
	priceCPC
	priceCPA
	priceShare
	priceUSD
)

// network makes a tenant: campaigns 1 and 2 of acme in EUR, campaign 3 of brand, in USD when mixed.
func network(t fataler, tenant event.TenantID, zone string, mixed bool) *catalog.View {
	t.Helper()
	third := "EUR"
	if mixed {
		third = "USD"
	}
	key := "t" + string(rune('0'+tenant%10))
	active := catalog.Active
	changes := []catalog.Change{
		put(t, "tenant", tenant, uint32(tenant), key, &catalog.Tenant{ID: tenant, Key: key, TimeZone: zone, Currency: "EUR", Status: active}),
		put(t, "advertiser", tenant, 1, "acme", &catalog.Advertiser{ID: 1, Key: "acme", Name: "Acme", Status: active}),
		put(t, "advertiser", tenant, 2, "brand", &catalog.Advertiser{ID: 2, Key: "brand", Name: "=cmd|' /C calc'!A0", Status: active}),
		put(t, "campaign", tenant, 1, "100", &catalog.Campaign{ID: 1, Key: "100", Name: "Shoes", Advertiser: 1, Currency: "EUR", Status: active}),
		put(t, "campaign", tenant, 2, "20", &catalog.Campaign{ID: 2, Key: "20", Name: "Hats, red", Advertiser: 1, Currency: "EUR", Status: active}),
		put(t, "campaign", tenant, 3, "-c,3", &catalog.Campaign{ID: 3, Key: "-c,3", Name: "@brand", Advertiser: 2, Currency: third, Status: active}),
		put(t, "banner", tenant, 1, "wide", &catalog.Banner{ID: 1, Key: "wide", Campaign: 1, Status: active}),
		put(t, "banner", tenant, 2, "wide", &catalog.Banner{ID: 2, Key: "wide", Campaign: 2, Status: active}),
		put(t, "affiliate", tenant, 1, "anna", &catalog.Affiliate{ID: 1, Key: "anna", Name: "Anna", Status: active}),
		put(t, "affiliate", tenant, 2, "bob", &catalog.Affiliate{ID: 2, Key: "bob", Status: active}),
		put(t, "goal", tenant, 1, "sale", &catalog.Goal{ID: 1, Key: "sale"}),
		put(t, "event_type", tenant, 64+uint32(tenant), "ping", &catalog.EventType{ID: 64 + event.Type(tenant), Key: "ping", Name: "Ping"}),
	}
	for _, p := range []catalog.Price{
		{ID: priceCPM, Key: "cpm", Side: catalog.SideRevenue, Model: catalog.CPM, Rate: 2_500_000, Currency: "EUR"},
		{ID: priceCPC, Key: "cpc", Side: catalog.SideRevenue, Model: catalog.CPC, Rate: 333_333, Currency: "EUR"},
		{ID: priceCPA, Key: "cpa", Side: catalog.SideRevenue, Model: catalog.CPA, Rate: 7_000_000, Currency: "EUR"},
		{ID: priceShare, Key: "share", Side: catalog.SidePayout, Model: catalog.RevShare, Rate: 12_500_000},
		{ID: priceUSD, Key: "usd", Side: catalog.SidePayout, Model: catalog.CPC, Rate: 100_000, Currency: "USD"},
	} {
		p.Version, p.Status = 1, active
		changes = append(changes, put(t, "price", tenant, uint32(p.ID), p.Key, &p))
	}
	s, err := catalog.Empty().Apply(&catalog.Record{Changes: changes})
	if err != nil {
		t.Fatal(err)
	}
	v, _ := s.Tenant(tenant)
	return v
}

// golden compares a text with its file; MILLIARD_GOLDEN=write rewrites the file.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if os.Getenv("MILLIARD_GOLDEN") == "write" {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs; got\n%s\nwant\n%s", name, got, want)
	}
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

func clock(at string) func() time.Time {
	return func() time.Time {
		t, err := time.Parse(time.RFC3339, at)
		if err != nil {
			panic(err)
		}
		return t
	}
}

func minuteOf(t fataler, s string) int32 {
	t.Helper()
	at, err := time.Parse(time.RFC3339, s)
	if err != nil {
		t.Fatal(err)
	}
	return int32(at.Unix() / 60)
}
