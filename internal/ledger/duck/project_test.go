package duck

import (
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"milliard/internal/catalog"
	"milliard/internal/event"
	"milliard/internal/ledger"
	"milliard/internal/ledger/ledgertest"
)

func change(t testing.TB, op, kind string, tenant event.TenantID, id uint32, entity any) catalog.Change {
	t.Helper()
	c := catalog.Change{Op: op, Kind: kind, Tenant: tenant, ID: id, Key: "k"}
	if entity != nil {
		after, err := json.Marshal(entity)
		if err != nil {
			t.Fatal(err)
		}
		c.After = after
	}
	return c
}

func network(t testing.TB) []catalog.Record {
	t.Helper()
	return []catalog.Record{
		{Seq: 1, At: 10, Actor: "cli", Why: "start", Changes: []catalog.Change{
			change(t, "put", "tenant", 1, 1, catalog.Tenant{ID: 1, Key: "default", Name: "Default", TimeZone: "UTC", Status: catalog.Active}),
			change(t, "put", "signing_key", 1, 1, catalog.SigningKey{ID: 1, Secret: "sealed-signing"}),
			change(t, "put", "advertiser", 1, 7, catalog.Advertiser{ID: 7, Key: "acme", Status: catalog.Active, PostbackKeyHash: "cafe", PostbackSecret: "sealed-postback"}),
			change(t, "put", "api_key", 1, 1, catalog.APIKey{ID: 1, Hash: "f00d"}),
		}},
		{Seq: 2, At: 20, Actor: "cli", Changes: []catalog.Change{
			change(t, "put", "campaign", 1, 9, catalog.Campaign{ID: 9, Key: "shoes", Advertiser: 7, Status: catalog.Active, Landings: []catalog.Landing{{URL: "https://x/?a=b&c"}}}),
			change(t, "put", "banner", 1, 3, catalog.Banner{ID: 3, Key: "big", Campaign: 9, Width: 300, Status: catalog.Active}),
			change(t, "put", "affiliate", 1, 4, catalog.Affiliate{ID: 4, Key: "joe", Name: "Joe\xff", Status: catalog.Active}),
			change(t, "put", "goal", 1, 1, catalog.Goal{ID: 1, Key: "sale"}),
			change(t, "put", "event_type", 1, 64, catalog.EventType{ID: 64, Key: "scroll", Name: "Scroll"}),
			change(t, "put", "price", 1, 16, catalog.Price{ID: 16, Key: "p", Version: 1, Rate: 1_500_000, Side: catalog.SideRevenue, Model: catalog.CPC, Status: catalog.Active, Campaign: 9}),
		}},
		{Seq: 4, At: 30, Actor: "api:x", Changes: []catalog.Change{
			change(t, "put", "campaign", 1, 9, catalog.Campaign{ID: 9, Key: "shoes", Name: "Shoes", Advertiser: 7, Status: catalog.Paused}),
			change(t, "archive", "affiliate", 1, 4, nil),
			change(t, "archive", "campaign", 1, 9, nil),
		}},
		{Seq: 6, At: 40, Actor: "cli", Changes: []catalog.Change{change(t, "archive", "advertiser", 1, 7, nil), change(t, "archive", "goal", 1, 1, nil)}},
	}
}

// Whatever way the records are cut into calls, the tables are the same.
func TestProjectionIsTheSameInAnySteps(t *testing.T) {
	dump := func(l *Ledger) string {
		var all strings.Builder
		for _, q := range []string{
			"FROM tenants", "FROM advertisers", "FROM campaigns", "FROM banners", "FROM affiliates", "FROM goals", "FROM event_kinds",
			"FROM prices", "FROM changes ORDER BY seq, item", "FROM control_position",
		} {
			out, err := json.Marshal(ask(t, l, q).Rows)
			if err != nil {
				t.Fatal(err)
			}
			all.WriteString(q + " " + string(out) + "\n")
		}
		return all.String()
	}
	records := network(t)
	var first string
	for _, steps := range [][]uint64{{6}, {1, 2, 4, 6}, {2, 6}, {1, 3, 5, 6}, {1, 1, 2, 2, 4, 6, 6}} {
		l := openTest(t)
		for _, through := range steps {
			if err := l.Project(t.Context(), records, through); err != nil {
				t.Fatal(err)
			}
		}
		got := dump(l)
		if first == "" {
			first = got
		}
		if got != first {
			t.Fatalf("steps %v:\n%s\nwant\n%s", steps, got, first)
		}
	}
	for _, want := range []string{
		`FROM campaigns [[1,9,"shoes","Shoes",7,"","null","",0,false,"archived",false]]`, `[[1,7,"acme","","","archived"]]`,
		`[[1,4,"joe","Joe` + "\uFFFD" + `","archived"]]`, `"cpc",1500000,"",9,`, `FROM control_position [[6]]`, `(secret)`,
	} {
		if !strings.Contains(first, want) {
			t.Errorf("no %s in\n%s", want, first)
		}
	}
	for _, secret := range []string{"cafe", "sealed-postback", "sealed-signing", "f00d"} {
		if strings.Contains(first, secret) {
			t.Errorf("%s reached SQL", secret)
		}
	}
}

func TestProjectionOfABadRecordChangesNothing(t *testing.T) {
	l := openTest(t)
	records := network(t)
	records[1].Changes[0].After = json.RawMessage(`{"id": "nine"}`)
	if err := l.Project(t.Context(), records, 6); err == nil || !strings.Contains(err.Error(), "control record 2") ||
		!errors.Is(err, catalog.ErrRecord) || errors.Is(err, ledger.ErrUnavailable) {
		t.Fatal(err)
	}
	if n := len(ask(t, l, "FROM tenants").Rows) + len(ask(t, l, "FROM changes").Rows); n != 0 {
		t.Fatalf("%d rows", n)
	}
	failed := errors.New("disk on fire")
	l.commitHook = func(commit func() error) error { return errors.Join(commit(), failed) }
	if err := l.Project(t.Context(), network(t), 6); err != nil {
		t.Fatalf("a projection that had committed: %v", err)
	}
	l.commitHook = func(func() error) error { return failed }
	if err := l.Project(t.Context(), nil, 9); !errors.Is(err, ledger.ErrUnavailable) {
		t.Fatalf("a projection that had not: %v", err)
	}
}

func TestProjectionOfAManyCampaigns(t *testing.T) {
	l := openTest(t)
	records := []catalog.Record{{Seq: 1}, {Seq: 2}}
	for i := range uint32(15_000) {
		c := catalog.Campaign{ID: event.CampaignID(i), Key: "c", Status: catalog.Active}
		records[0].Changes = append(records[0].Changes, change(t, "put", "campaign", 1, i, c))
	}
	records[1].Changes = records[0].Changes
	for _, through := range []uint64{1, 2} {
		if err := l.Project(t.Context(), records, through); err != nil {
			t.Fatal(err)
		}
	}
	if n := number(t, l, "SELECT count(*) FROM campaigns"); n != 15_000 {
		t.Fatal(n)
	}
}

// The queries that everybody with a minute-bucket counter table has.
func TestClassicQueries(t *testing.T) {
	l := openTest(t)
	if err := l.Project(t.Context(), network(t), 6); err != nil {
		t.Fatal(err)
	}
	epoch, at := acquire(t, l, 0)
	const noon = ledgertest.BaseMinute + 12*60
	add := func(minute int32, typ event.Type, class event.Class, n event.Micros) {
		t.Helper()
		g := &ledger.Generation{Epoch: epoch, From: at, To: ledgertest.Next(at, 1, int64(minute)*60_000)}
		g.Cells = []ledger.Cell{{Key: ledger.Key{Bucket: minute, Tenant: 1, Type: typ, Class: class}, Value: ledger.Value{N: n, Events: 1}}}
		if err := l.Flush(t.Context(), g); err != nil {
			t.Fatal(err)
		}
		at = g.To
	}
	for i := range int32(10) {
		add(noon-i, event.Impression, event.Valid, 5*event.One)
		add(noon-i, event.Impression, event.Duplicate, 100*event.One)
	}
	add(noon, event.Click, event.Valid, event.One)
	add(noon-3, event.Click, event.Valid, event.One)
	add(noon-70, 64, event.Valid, event.One/2)
	add(noon-70, 64, event.Valid, event.One/4)
	for _, c := range []struct{ name, query, want string }{
		{
			"counts by type for the last minutes",
			`SELECT event_type, sum(count) AS n FROM counters
			 WHERE time_bucket > TIMESTAMP '2026-07-01 12:00:00' - INTERVAL 5 MINUTE GROUP BY event_type ORDER BY event_type`,
			`[[1,25],[2,2]]`,
		},
		{
			"top types of an hour with names",
			`SELECT t.name, sum(c.count) AS n FROM counters c JOIN event_types t ON t.id = c.event_type
			 WHERE c.time_bucket >= '2026-07-01 11:00:00' AND c.time_bucket < '2026-07-01 12:00:00'
			 GROUP BY t.name ORDER BY n DESC LIMIT 10`,
			`[["impression",45],["click",1]]`,
		},
		{
			"a day by minute",
			`SELECT time_bucket, count FROM counters WHERE time_bucket::DATE = '2026-07-01' AND event_type = 64 ORDER BY time_bucket`,
			`[["2026-07-01T10:50:00Z",0.75]]`,
		},
		{
			"names of custom types, and one row per type",
			`SELECT name, count(*) FROM event_types GROUP BY name ORDER BY name`,
			`[["Scroll",1],["click",1],["conversion",1],["impression",1]]`,
		},
		{
			"every class has its name",
			`SELECT k.name, sum(c.events)::BIGINT FROM cells c JOIN classes k ON k.id = c.class GROUP BY ALL ORDER BY ALL`,
			`[["duplicate",10],["valid",14]]`,
		},
	} {
		for range 2 { // before and after compaction
			got, err := json.Marshal(ask(t, l, c.query).Rows)
			if err != nil || string(got) != c.want {
				t.Errorf("%s: got %s, want %s", c.name, got, c.want)
			}
			compactAll(t, l)
		}
	}
}

func TestClassesViewNamesEveryClass(t *testing.T) {
	l := openTest(t)
	rows := ask(t, l, "SELECT id, name FROM classes ORDER BY id").Rows
	if len(rows) != len(event.Classes()) {
		t.Fatal(rows)
	}
	for i, c := range event.Classes() {
		if rows[i][0] != uint8(c) || rows[i][1] != c.String() {
			t.Errorf("%v, want %d %s", rows[i], c, c)
		}
	}
}

// TestOlderLedgersLearnWhichCampaignsBelieveTheirPixel: the column is filled in from the changes that are kept.
func TestOlderLedgersLearnWhichCampaignsBelieveTheirPixel(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger.duckdb")
	l, err := Open(t.Context(), Options{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	put := func(id uint32, believed bool) catalog.Change {
		after, err := json.Marshal(&catalog.Campaign{ID: event.CampaignID(id), Key: fmt.Sprint(id), PixelOrders: believed, Status: catalog.Active})
		if err != nil {
			t.Fatal(err)
		}
		return catalog.Change{Op: catalog.OpPut, Kind: "campaign", Tenant: 1, ID: id, Key: fmt.Sprint(id), After: after}
	}
	records := []catalog.Record{
		{Seq: 1, Changes: []catalog.Change{put(1, true), put(2, false), put(3, true)}},
		{Seq: 2, Changes: []catalog.Change{put(3, false)}},
	}
	if err := l.Project(t.Context(), records, 2); err != nil {
		t.Fatal(err)
	}
	believing := func() int64 {
		return number(t, l, "SELECT coalesce(sum(id), 0)::BIGINT FROM campaigns WHERE pixel_orders")
	}
	if n := believing(); n != 1 {
		t.Fatalf("campaigns that sum to %d", n)
	}
	conn, err := l.writer(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, q := range []string{"ALTER TABLE campaigns DROP COLUMN pixel_orders", "DELETE FROM schema_migrations WHERE name = '0007_pixel_orders'"} {
		if _, err := conn.ExecContext(t.Context(), q); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if l, err = Open(t.Context(), Options{Path: path}); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	if n := believing(); n != 1 {
		t.Errorf("campaigns that sum to %d after the migration", n)
	}
}
