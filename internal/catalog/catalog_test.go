package catalog

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"milliard/internal/event"
)

const network = `
tenants:
  - key: acme
    name: Acme Network
    host: Track.Acme.Example
    time_zone: Europe/Berlin
    currency: EUR
    goals:
      - {key: sale, name: Sale}
      - {key: lead}
    event_types:
      - {key: signup, name: Sign-up}
    advertisers:
      - {key: shop, name: Shop, postback_key: open-sesame}
    affiliates:
      - {key: a1, name: First}
      - {key: a2, status: paused}
    campaigns:
      - key: "45061"
        advertiser: shop
        landings:
          - {url: "https://shop.example/buy it?c={click_id}", weight: 3}
        click_window: 7d
        fallback: https://shop.example/
        banners:
          - {key: top, image: "https://cdn.example/b.png", width: 300, height: 250}
        prices:
          - {side: revenue, model: cpm, rate: 0.10}
          - {side: payout, model: cpm, rate: "0.055"}
          - {key: special, side: payout, model: cpm, rate: 0.2, affiliate: a1}
          - {side: payout, model: cpa, rate: 12.5}
          - {side: payout, model: revshare, rate: 7, goal: sale}
          - {side: payout, model: cpa, rate: 20, banner: top}
    prices:
      - {key: base, side: revenue, model: cpc, rate: 0.01}
    api_keys:
      - {key: tracker, secret: mk_0123456789abcdef, rights: [read, ingest]}
`

func mustParse(t testing.TB, text string) *Document {
	t.Helper()
	d, err := ParseDocument([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// mustApply plans a document and folds what it changes.
func mustApply(t testing.TB, s *Snapshot, d *Document) *Snapshot {
	t.Helper()
	changes, err := Plan(s, d)
	if err != nil {
		t.Fatal(err)
	}
	next, err := s.Apply(&Record{Changes: changes})
	if err != nil {
		t.Fatal(err)
	}
	return next
}

func acme(t testing.TB, s *Snapshot) *View {
	t.Helper()
	v, ok := s.TenantByKey("acme")
	if !ok {
		t.Fatal("no tenant acme")
	}
	return v
}

func TestDocumentBecomesLookups(t *testing.T) {
	s := mustApply(t, Empty(), mustParse(t, network))
	v := acme(t, s)
	if got := *v.Info(); got.ID != 1 || got.Host != "track.acme.example" || got.Currency != "EUR" || got.Status != Active {
		t.Errorf("tenant: %+v", got)
	}
	for _, host := range []string{"track.acme.example", "TRACK.acme.example:8080", "track.acme.example."} {
		if got, ok := s.TenantByHost(host); !ok || got != v {
			t.Errorf("TenantByHost(%q) = %v", host, ok)
		}
	}
	if _, ok := s.TenantByHost(""); ok {
		t.Error("the empty host is a tenant")
	}
	c, ok := v.Campaign([]byte("45061"))
	if !ok || c.Currency != "EUR" || c.ClickWindow != 7*86400 || c.Landings[0].URL != "https://shop.example/buy%20it?c={click_id}" ||
		c.Landings[0].Weight != 3 || !v.Live(c) {
		t.Errorf("campaign: %+v", c)
	}
	b, ok := v.Banner(c.ID, []byte("top"))
	if !ok || b.Width != 300 || b.Campaign != c.ID {
		t.Errorf("banner: %+v", b)
	}
	if _, ok := v.Banner(c.ID+1, []byte("top")); ok {
		t.Error("the banner is found below another campaign")
	}
	if a, ok := v.Affiliate([]byte("a2")); !ok || a.Status != Paused {
		t.Errorf("affiliate: %+v", a)
	}
	a, ok := v.Advertiser([]byte("shop"))
	if !ok || !a.CheckPostbackKey([]byte("open-sesame")) || a.CheckPostbackKey([]byte("open-sesam")) || a.CheckPostbackKey(nil) {
		t.Errorf("advertiser: %+v", a)
	}
	if (&Advertiser{}).CheckPostbackKey(nil) {
		t.Error("an advertiser without a postback key accepts the empty one")
	}
	tenant, key, ok := s.APIKey(HashSecret([]byte("mk_0123456789abcdef")))
	if !ok || tenant != 1 || !key.Can(RightIngest) || !key.Can(RightRead) || key.Can(RightCatalog) {
		t.Errorf("API key: %v %+v", ok, key)
	}
	if _, _, ok := s.APIKey(strings.Repeat("00", 32)); ok {
		t.Error("an unknown hash is an API key")
	}
}

func TestEventTypesAreUniqueOverTheInstallation(t *testing.T) {
	s := mustApply(t, Empty(), mustParse(t, network))
	s = mustApply(t, s, &Document{Tenants: []TenantDoc{
		{Key: "other", EventTypes: []EventTypeDoc{{Key: "signup"}, {Key: "ping"}}},
		{Key: "acme", EventTypes: []EventTypeDoc{{Key: "pong"}}},
	}})
	other, _ := s.TenantByKey("other")
	got := ""
	for _, e := range append(other.EventTypes(), acme(t, s).EventTypes()...) {
		got += fmt.Sprintf("%s=%d ", e.Key, e.ID)
	}
	const want = "impression=1 click=2 conversion=3 signup=65 ping=66 impression=1 click=2 conversion=3 signup=64 pong=67 "
	if got != want {
		t.Errorf("event types\n got %s\nwant %s", got, want)
	}
	if e, ok := other.EventType([]byte("click")); !ok || e.ID != event.Click {
		t.Error("click is not built in")
	}
	if _, ok := other.EventTypeByID(64); ok {
		t.Error("a tenant sees another tenant's event type")
	}
	if p, ok := other.PriceByID(PriceCarriedCPC); !ok || p.Model != CarriedCPC {
		t.Error("the carried price is not built in")
	}
}

func TestMostSpecificPriceWins(t *testing.T) {
	s := mustApply(t, Empty(), mustParse(t, network))
	v := acme(t, s)
	c, _ := v.Campaign([]byte("45061"))
	b, _ := v.Banner(c.ID, []byte("top"))
	a1, _ := v.Affiliate([]byte("a1"))
	a2, _ := v.Affiliate([]byte("a2"))
	sale, _ := v.Goal([]byte("sale"))
	lead, _ := v.Goal([]byte("lead"))
	for _, tt := range []struct {
		name            string
		typ             event.Type
		campaign        event.CampaignID
		banner          event.BannerID
		affiliate       event.AffiliateID
		goal            event.GoalID
		revenue, payout string
	}{
		{"impression", event.Impression, c.ID, 0, 0, 0, "0.1", "0.055"},
		{"impression of the special affiliate", event.Impression, c.ID, b.ID, a1.ID, 0, "0.1", "0.2"},
		{"impression of another affiliate", event.Impression, c.ID, b.ID, a2.ID, 0, "0.1", "0.055"},
		{"click by the tenant-wide rule", event.Click, c.ID, b.ID, a1.ID, 0, "0.01", ""},
		{"click without anything", event.Click, 0, 0, 0, 0, "0.01", ""},
		{"conversion", event.Conversion, c.ID, 0, a1.ID, 0, "", "12.5"},
		{"conversion by banner", event.Conversion, c.ID, b.ID, a1.ID, lead.ID, "", "20"},
		{"goal beats banner", event.Conversion, c.ID, b.ID, a1.ID, sale.ID, "", "7"},
		{"unknown campaign", event.Conversion, 99, b.ID, a1.ID, sale.ID, "", ""},
		{"custom type", 64, c.ID, 0, 0, 0, "", ""},
	} {
		revenue, payout := v.Prices(tt.typ, tt.campaign, tt.banner, tt.affiliate, tt.goal)
		if rateOf(v, revenue) != tt.revenue || rateOf(v, payout) != tt.payout {
			t.Errorf("%s: revenue %q payout %q, want %q %q",
				tt.name, rateOf(v, revenue), rateOf(v, payout), tt.revenue, tt.payout)
		}
	}
}

func rateOf(v *View, id event.PriceID) string {
	if p, ok := v.PriceByID(id); ok {
		return p.Rate.String()
	}
	return ""
}

func TestChangedPriceIsANewVersion(t *testing.T) {
	price := func(rate, status string) *Document {
		return mustParse(t, `{"tenants":[{"key":"acme","prices":[{"key":"base","side":"revenue","model":"cpc","rate":`+
			rate+`,"status":"`+status+`"}]}]}`)
	}
	s := mustApply(t, Empty(), mustParse(t, network))
	v1, _ := acme(t, s).Prices(event.Click, 0, 0, 0, 0)
	s2 := mustApply(t, s, price("0.02", "active"))
	v2, _ := acme(t, s2).Prices(event.Click, 0, 0, 0, 0)
	p1, ok1 := acme(t, s2).PriceByID(v1)
	p2, ok2 := acme(t, s2).PriceByID(v2)
	if !ok1 || !ok2 || v2 <= v1 || p1.Rate.String() != "0.01" || p2.Rate.String() != "0.02" || p2.Version != 2 || p1.Key != p2.Key {
		t.Fatalf("versions: %+v %+v", p1, p2)
	}
	if old, _ := acme(t, s).Prices(event.Click, 0, 0, 0, 0); old != v1 {
		t.Error("the older snapshot changed")
	}
	// A newer rule of the same scope wins the tie; when it goes, the older one is back.
	s3 := mustApply(t, s2, mustParse(t, `{"tenants":[{"key":"acme","prices":[{"key":"tie","side":"revenue","model":"cpc","rate":5}]}]}`))
	if got, _ := acme(t, s3).Prices(event.Click, 0, 0, 0, 0); rateOf(acme(t, s3), got) != "5" {
		t.Error("the newer rule does not win")
	}
	s4 := mustApply(t, s3, mustParse(t, `{"tenants":[{"key":"acme","prices":[{"key":"tie","status":"archived"}]}]}`))
	if got, _ := acme(t, s4).Prices(event.Click, 0, 0, 0, 0); got != v2 {
		t.Error("the older rule is not back")
	}
	s5 := mustApply(t, s4, price("0.02", "paused"))
	if got, _ := acme(t, s5).Prices(event.Click, 0, 0, 0, 0); got != 0 {
		t.Error("a paused rule prices")
	}
	s6 := mustApply(t, s5, price("0.02", "active"))
	if got, _ := acme(t, s6).Prices(event.Click, 0, 0, 0, 0); got != v2 {
		t.Error("an unpaused rule got another version")
	}
	s7 := mustApply(t, s6, price("0.03", "archived"))
	if got, _ := acme(t, s7).Prices(event.Click, 0, 0, 0, 0); got != 0 {
		t.Error("a version that is archived from the start prices")
	}
}

func TestRefusedDocumentsNameEntityAndField(t *testing.T) {
	s := mustApply(t, Empty(), mustParse(t, network))
	for doc, want := range map[string]string{
		`campaigns: [{key: c, advertiser: shop, landings: [{url: "ftp://x.example/"}]}]`: `tenant "acme": campaign "c": landings[0].url: scheme "ftp" is not http or https`,
		`campaigns: [{key: c}]`:                                               `campaign "c": advertiser: is required`,
		`campaigns: [{key: c, advertiser: nobody}]`:                           `campaign "c": advertiser: "nobody" does not exist`,
		`campaigns: [{key: "45061", currency: USD}]`:                          `campaign "45061": currency: cannot change`,
		`campaigns: [{key: c, advertiser: shop, status: on}]`:                 `campaign "c": status: "on" is not`,
		`campaigns: [{key: c, advertiser: shop, fallback: "javascript:x"}]`:   `campaign "c": fallback: scheme "javascript"`,
		`campaigns: [{key: c, advertiser: shop, click_window: 500d}]`:         `campaign "c": click_window: is not`,
		`campaigns: [{key: "45061", banners: [{key: b, width: -1}]}]`:         `banner "b": width: is not`,
		`campaigns: [{key: "45061", prices: [{side: x}]}]`:                    `price "45061 prices[0]": side: "x" is not`,
		`campaigns: [{key: "45061", prices: [{side: payout, model: cpx}]}]`:   `model: "cpx" is not`,
		`campaigns: [{key: "45061", prices: [{side: payout, model: cpc}]}]`:   `rate: is required`,
		`prices: [{key: p, side: payout, model: cpc, rate: -1}]`:              `price "p": rate: is negative`,
		`prices: [{key: p, side: payout, model: revshare, rate: 101}]`:        `price "p": rate: is more than 100`,
		`prices: [{key: p, side: payout, model: cpc, rate: 1, goal: sale}]`:   `price "p": goal: cannot limit cpc`,
		`prices: [{key: p, side: payout, model: cpc, rate: 1, banner: top}]`:  `price "p": banner: needs the campaign`,
		`prices: [{key: p, side: payout, model: cpc, rate: 1, currency: eu}]`: `price "p": currency: "eu" is not`,
		`prices: [{key: p, side: payout, model: carried_cpc, rate: 1}]`:       `price "p": rate: is carried`,
		`affiliates: [{key: ""}]`:                                             `affiliate "": key: is required`,
		`affiliates: [{key: " a"}]`:                                           `key: begins or ends with a space`,
		`affiliates: [{key: a, name: "x\ny"}]`:                                `affiliate "a": name: contains a control character`,
		`affiliates: [{key: ` + strings.Repeat("k", 256) + `}]`:               `key: is longer than 255 bytes`,
		`affiliates: [{key: a}, {key: a}]`:                                    `affiliate "a": key: stands twice`,
		`event_types: [{key: click}]`:                                         `event_type "click": key: "click" is built in`,
		`advertisers: [{key: a, postback_key: short}]`:                        `advertiser "a": postback_key: is shorter`,
		`advertisers: [{key: a, postback_secret: 12345678}]`:                  `postback_secret: cannot be sealed here`,
		`api_keys: [{key: k, rights: [read]}]`:                                `api_key "k": hash: not the 64`,
		`api_keys: [{key: k, secret: 0123456789abcdef, rights: [fly]}]`:       `api_key "k": rights[0]: "fly" is not`,
		`api_keys: [{key: k, secret: 0123456789abcdef}]`:                      `api_key "k": rights: is required`,
		`api_keys: [{key: k, secret: mk_0123456789abcdef, rights: [read]}]`:   `api_key "k": hash: another API key`,
		`host: "a:80"`:    `tenant "acme": host: has a port`,
		`currency: euro`:  `tenant "acme": currency: "euro" is not`,
		`status: unknown`: `tenant "acme": status: "unknown" is not`,
	} {
		d := mustParse(t, "tenants:\n  - key: acme\n    "+doc)
		_, err := Plan(s, d)
		var p *Problem
		if !errors.As(err, &p) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s\n got %v\nwant %s", doc, err, want)
		}
	}
}

func TestUnreadableDocumentsAreRefused(t *testing.T) {
	for doc, want := range map[string]string{
		``:                                            "empty",
		`tenants: [{key: a, prise: 1}]`:               "prise",
		`{"tenants":[{"key":"a","prise":1}]}`:         "prise",
		`{"tenants":[]} x`:                            "after its end",
		`tenants: [{prices: [{rate: 1e3}]}]`:          "not a decimal",
		`tenants: [{prices: [{rate: 0.0000001}]}]`:    "six decimals",
		`{"tenants":[{"prices":[{"rate":1e400}]}]}`:   "not a decimal",
		`tenants: [{prices: [{rate: [1]}]}]`:          "not a decimal",
		`tenants: [{campaigns: [{click_window: x}]}]`: "not a duration",
		"tenants: []\n---\ntenants: []\n":             "more than one",
		"a: &a [*a, *a]":                              "",
	} {
		if _, err := ParseDocument([]byte(doc)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", doc, err, want)
		}
	}
}

func TestSkipInvalidAppliesTheRest(t *testing.T) {
	s := mustApply(t, Empty(), mustParse(t, network))
	changes, refused, err := Planner{SkipInvalid: true}.Plan(s, mustParse(t, `
tenants:
  - key: acme
    campaigns:
      - {key: good, advertiser: shop, landings: [{url: "https://a.example/"}]}
      - {key: bad, advertiser: shop, landings: [{url: "ftp://a.example/"}], banners: [{key: b}]}
      - {key: best, advertiser: shop}
    prices:
      - {side: payout, model: cpc, rate: 1, campaign: bad}
`))
	if err != nil || len(changes) != 2 || len(refused) != 2 {
		t.Fatalf("%d changes, %v refused, %v", len(changes), refused, err)
	}
	if refused[0].Key != "bad" || refused[0].Field != "landings[0].url" || refused[1].Field != "campaign" {
		t.Errorf("refused: %v", refused)
	}
}

func TestArchivedEntityComesBackWithItsID(t *testing.T) {
	s := mustApply(t, Empty(), mustParse(t, network))
	c1, _ := acme(t, s).Campaign([]byte("45061"))
	archive, err := Plan(s, mustParse(t, `{"tenants":[{"key":"acme","campaigns":[{"key":"45061","status":"archived"}]}]}`))
	if err != nil || len(archive) != 1 || archive[0].Op != OpArchive {
		t.Fatalf("%+v %v", archive, err)
	}
	archive[0].After = nil // an archive may leave the entity out
	s2, err := s.Apply(&Record{Changes: archive})
	if err != nil {
		t.Fatal(err)
	}
	c2, _ := acme(t, s2).Campaign([]byte("45061"))
	if c2.Status != Archived || acme(t, s2).Live(c2) || c1.Status != Active || len(c2.Landings) != 1 {
		t.Fatalf("archived: %+v, before: %+v", c2, c1)
	}
	s3 := mustApply(t, s2, mustParse(t, `{"tenants":[{"key":"acme","campaigns":[{"key":"45061","status":"active"}]}]}`))
	if c3, _ := acme(t, s3).Campaign([]byte("45061")); c3.ID != c1.ID || c3.Status != Active {
		t.Fatalf("back: %+v", c3)
	}
}

func TestPausedTenantCountsNothing(t *testing.T) {
	s := mustApply(t, Empty(), mustParse(t, network))
	s = mustApply(t, s, mustParse(t, `{"tenants":[{"key":"acme","status":"paused"}]}`))
	c, _ := acme(t, s).Campaign([]byte("45061"))
	if acme(t, s).Live(c) {
		t.Error("its campaign is live")
	}
	if _, _, ok := s.APIKey(HashSecret([]byte("mk_0123456789abcdef"))); ok {
		t.Error("its API key is good")
	}
}

func TestLookupsDoNotAllocate(t *testing.T) {
	s := mustApply(t, Empty(), mustParse(t, network))
	v := acme(t, s)
	key, hash := []byte("45061"), [32]byte{1}
	if n := testing.AllocsPerRun(1000, func() {
		v.Campaign(key)
		v.Banner(1, key)
		v.Affiliate(key)
		v.Advertiser(key)
		v.Goal(key)
		v.EventType(key)
		v.Prices(event.Impression, 1, 1, 1, 0)
		s.APIKeyByHash(hash)
		s.TenantByHost("track.acme.example")
	}); n >= 1 {
		t.Errorf("%.1f allocations", n)
	}
}

func TestFoldRefusesBrokenRecords(t *testing.T) {
	s := mustApply(t, Empty(), mustParse(t, network))
	for name, c := range map[string]Change{
		"op":                {Op: "x", Kind: KindGoal, Tenant: 1, ID: 9, Key: "k", After: []byte(`{"id":9,"key":"k"}`)},
		"kind":              {Op: OpPut, Kind: "x", Tenant: 1, ID: 9, Key: "k", After: []byte(`{}`)},
		"tenant":            {Op: OpPut, Kind: KindGoal, Tenant: 7, ID: 9, Key: "k", After: []byte(`{"id":9,"key":"k"}`)},
		"id zero":           {Op: OpPut, Kind: KindGoal, Tenant: 1, Key: "k", After: []byte(`{"key":"k"}`)},
		"id huge":           {Op: OpPut, Kind: KindCampaign, Tenant: 1, ID: 1 << 31, Key: "k", After: []byte(`{"id":2147483648,"key":"k","advertiser":1}`)},
		"id differs":        {Op: OpPut, Kind: KindGoal, Tenant: 1, ID: 9, Key: "k", After: []byte(`{"id":8,"key":"k"}`)},
		"key differs":       {Op: OpPut, Kind: KindGoal, Tenant: 1, ID: 9, Key: "k", After: []byte(`{"id":9,"key":"l"}`)},
		"key of another":    {Op: OpPut, Kind: KindGoal, Tenant: 1, ID: 9, Key: "sale", After: []byte(`{"id":9,"key":"sale"}`)},
		"renamed":           {Op: OpPut, Kind: KindGoal, Tenant: 1, ID: 1, Key: "k", After: []byte(`{"id":1,"key":"k"}`)},
		"no entity":         {Op: OpPut, Kind: KindGoal, Tenant: 1, ID: 9, Key: "k"},
		"not JSON":          {Op: OpPut, Kind: KindGoal, Tenant: 1, ID: 9, Key: "k", After: []byte(`{`)},
		"archived goal":     {Op: OpArchive, Kind: KindGoal, Tenant: 1, ID: 1, Key: "sale"},
		"archived nothing":  {Op: OpArchive, Kind: KindCampaign, Tenant: 1, ID: 77, Key: "x"},
		"no advertiser":     {Op: OpPut, Kind: KindCampaign, Tenant: 1, ID: 9, Key: "k", After: []byte(`{"id":9,"key":"k"}`)},
		"old price":         {Op: OpPut, Kind: KindPrice, Tenant: 1, ID: 16, Key: "base", After: []byte(`{"id":16,"key":"base","side":"revenue","model":"cpc"}`)},
		"changed price":     {Op: OpPut, Kind: KindPrice, Tenant: 1, ID: 22, Key: "base", After: []byte(`{"id":22,"key":"base","side":"revenue","model":"cpc","rate":7}`)},
		"built-in price":    {Op: OpPut, Kind: KindPrice, Tenant: 1, ID: 2, Key: "n", After: []byte(`{"id":2,"key":"n","side":"revenue","model":"cpc"}`)},
		"built-in type":     {Op: OpPut, Kind: KindEventType, Tenant: 1, ID: 2, Key: "n", After: []byte(`{"id":2,"key":"n"}`)},
		"signing key":       {Op: OpPut, Kind: KindSigningKey, Tenant: 1, ID: 256, Key: "n", After: []byte(`{"id":255,"key":"n"}`)},
		"host taken":        {Op: OpPut, Kind: KindTenant, Tenant: 2, ID: 2, Key: "n", After: []byte(`{"id":2,"key":"n","host":"track.acme.example"}`)},
		"banner elsewhere":  {Op: OpPut, Kind: KindBanner, Tenant: 1, ID: 2, Key: "n", After: []byte(`{"id":2,"key":"n","campaign":5}`)},
		"API key w/o hash":  {Op: OpPut, Kind: KindAPIKey, Tenant: 1, ID: 2, Key: "n", After: []byte(`{"id":2,"key":"n"}`)},
		"tenant id differs": {Op: OpPut, Kind: KindTenant, Tenant: 1, ID: 2, Key: "n", After: []byte(`{"id":2,"key":"n"}`)},
	} {
		if _, err := s.Apply(&Record{Changes: []Change{c}}); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := s.Apply(&Record{Seq: s.Version()}); err == nil {
		t.Error("a record that is not newer is accepted")
	}
	if got := Export(s); len(got.Tenants) != 1 || s.Version() != 1 {
		t.Error("a refused record changed the snapshot")
	}
}

func TestLargeDocumentPlansAndFoldsQuickly(t *testing.T) {
	d := &Document{Tenants: []TenantDoc{{Key: "big", Advertisers: []AdvertiserDoc{{Key: "adv"}}}}}
	for i := range 15_000 {
		d.Tenants[0].Campaigns = append(d.Tenants[0].Campaigns, CampaignDoc{
			Key: fmt.Sprint("c", i), Advertiser: "adv", Landings: []Landing{{URL: fmt.Sprintf("https://shop.example/%d", i)}},
		})
	}
	start := time.Now()
	text, err := d.YAML()
	if err != nil {
		t.Fatal(err)
	}
	s := mustApply(t, Empty(), mustParse(t, string(text)))
	if again, err := Plan(s, d); err != nil || len(again) != 0 {
		t.Fatalf("planned again: %d changes, %v", len(again), err)
	}
	// The limit is three seconds for all of it; a busy machine gets some more before this is called a failure.
	if took := time.Since(start); took > 15*time.Second {
		t.Errorf("took %s", took)
	} else {
		t.Logf("15,000 campaigns in %s", took)
	}
}

func BenchmarkPrices(b *testing.B) {
	v := acme(b, mustApply(b, Empty(), mustParse(b, network)))
	c, _ := v.Campaign([]byte("45061"))
	b.ReportAllocs()
	for b.Loop() {
		v.Prices(event.Impression, c.ID, 1, 2, 0)
	}
}

func BenchmarkCampaign(b *testing.B) {
	v := acme(b, mustApply(b, Empty(), mustParse(b, network)))
	key := []byte("45061")
	b.ReportAllocs()
	for b.Loop() {
		v.Campaign(key)
	}
}

func BenchmarkSingleChange(b *testing.B) {
	d := &Document{Tenants: []TenantDoc{{Key: "big", Advertisers: []AdvertiserDoc{{Key: "adv"}}}}}
	for i := range 15_000 {
		d.Tenants[0].Campaigns = append(d.Tenants[0].Campaigns, CampaignDoc{Key: fmt.Sprint("c", i), Advertiser: "adv"})
	}
	s := mustApply(b, Empty(), d)
	changes, err := Plan(s, mustParse(b, `{"tenants":[{"key":"big","campaigns":[{"key":"c77","name":"x"}]}]}`))
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := s.Apply(&Record{Changes: changes}); err != nil {
			b.Fatal(err)
		}
	}
}
