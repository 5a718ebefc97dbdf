package catalog

import (
	"encoding/json"
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"milliard/internal/event"
)

// drawDocument draws a document over few keys, so that documents meet each other's entities.
func drawDocument(t *rapid.T) *Document {
	d := &Document{}
	for _, key := range drawSome(t, "tenants", []string{"t1", "t2", ""}) {
		d.Tenants = append(d.Tenants, drawTenant(t, key))
	}
	return d
}

func drawSome(t *rapid.T, label string, of []string) []string {
	return rapid.Permutation(of).Draw(t, label)[:rapid.IntRange(0, len(of)).Draw(t, label+" count")]
}

func drawStatus(t *rapid.T) Status {
	return rapid.SampledFrom([]Status{"", Active, Paused, Archived}).Draw(t, "status")
}

func drawTenant(t *rapid.T, key string) TenantDoc {
	d := TenantDoc{Key: key, Name: rapid.SampledFrom([]string{"", "Name", "Other"}).Draw(t, "name")}
	if rapid.Bool().Draw(t, "host given") {
		d.Host = new(rapid.SampledFrom([]string{"", "a.example", "B.example"}).Draw(t, "host"))
	}
	for _, k := range drawSome(t, "goals", []string{"sale", "lead"}) {
		d.Goals = append(d.Goals, GoalDoc{Key: k})
	}
	for _, k := range drawSome(t, "types", []string{"signup", "ping"}) {
		d.EventTypes = append(d.EventTypes, EventTypeDoc{Key: k})
	}
	for _, k := range drawSome(t, "advertisers", []string{"adv1", "adv2"}) {
		d.Advertisers = append(d.Advertisers, AdvertiserDoc{
			Key: k, Status: drawStatus(t), PostbackKey: rapid.SampledFrom([]string{"", "12345678", "87654321"}).Draw(t, "key"),
		})
	}
	for _, k := range drawSome(t, "affiliates", []string{"a1", "a2"}) {
		d.Affiliates = append(d.Affiliates, AffiliateDoc{Key: k, Status: drawStatus(t)})
	}
	for _, k := range drawSome(t, "campaigns", []string{"c1", "c2", "c3"}) {
		d.Campaigns = append(d.Campaigns, drawCampaign(t, k))
	}
	for _, k := range drawSome(t, "prices", []string{"p1", "p2", "p3"}) {
		p := drawPrice(t)
		p.Key = k
		p.Campaign = rapid.SampledFrom([]string{"", "c1", "c2"}).Draw(t, "campaign")
		d.Prices = append(d.Prices, p)
	}
	for _, k := range drawSome(t, "API keys", []string{"k1", "k2"}) {
		d.APIKeys = append(d.APIKeys, APIKeyDoc{
			Key: k, Status: drawStatus(t), Rights: []Right{RightRead, RightIngest},
			Secret: rapid.SampledFrom([]string{"", "0123456789abcdef", "fedcba9876543210"}).Draw(t, "secret"),
		})
	}
	return d
}

func drawCampaign(t *rapid.T, key string) CampaignDoc {
	c := CampaignDoc{Key: key, Advertiser: rapid.SampledFrom([]string{"adv1", "adv2", ""}).Draw(t, "advertiser"), Status: drawStatus(t)}
	for range rapid.IntRange(0, 2).Draw(t, "landings") {
		c.Landings = append(c.Landings, Landing{
			URL: rapid.SampledFrom([]string{"https://a.example/x y", "https://b.example", "ftp://c.example"}).Draw(t, "url"),
		})
	}
	if rapid.Bool().Draw(t, "signed given") {
		c.SignedClicks = new(rapid.Bool().Draw(t, "signed"))
	}
	if rapid.Bool().Draw(t, "pixel orders given") {
		c.PixelOrders = new(rapid.Bool().Draw(t, "pixel orders"))
	}
	for _, k := range drawSome(t, "banners", []string{"b1", "b2"}) {
		c.Banners = append(c.Banners, BannerDoc{Key: k, Width: rapid.IntRange(0, 3).Draw(t, "width"), Status: drawStatus(t)})
	}
	for range rapid.IntRange(0, 2).Draw(t, "own prices") {
		p := drawPrice(t)
		p.Banner = rapid.SampledFrom([]string{"", "b1"}).Draw(t, "banner")
		c.Prices = append(c.Prices, p)
	}
	return c
}

func drawPrice(t *rapid.T) PriceDoc {
	return PriceDoc{
		Side:      rapid.SampledFrom([]Side{SideRevenue, SidePayout}).Draw(t, "side"),
		Model:     rapid.SampledFrom([]PriceModel{CPM, CPC, CPA, RevShare, CarriedCPC}).Draw(t, "model"),
		Rate:      NewDecimal(event.Micros(rapid.IntRange(0, 3).Draw(t, "rate"))),
		Affiliate: rapid.SampledFrom([]string{"", "a1", "a2"}).Draw(t, "affiliate"),
		Goal:      rapid.SampledFrom([]string{"", "sale"}).Draw(t, "goal"),
		Status:    drawStatus(t),
	}
}

// dump is everything that a snapshot answers, in text.
func dump(t *rapid.T, s *Snapshot) string {
	out := ""
	for _, tenant := range s.Tenants() {
		v, _ := s.Tenant(tenant.ID)
		for _, part := range []any{
			v.Info(), v.Advertisers(), v.Campaigns(), v.Banners(), v.Affiliates(), v.Goals(), v.EventTypes(),
			v.AllPrices(), v.APIKeys(), v.SigningKeys(),
		} {
			b, err := json.Marshal(part)
			if err != nil {
				t.Fatal(err)
			}
			out += string(b) + "\n"
		}
		for typ := event.Impression; typ <= event.Conversion; typ++ {
			for c := range event.CampaignID(3) {
				for a := range event.AffiliateID(3) {
					for g := range event.GoalID(2) {
						r, p := v.Prices(typ, c, event.BannerID(1), a, g)
						out += fmt.Sprint(r, p, " ")
					}
				}
			}
		}
		for _, k := range v.APIKeys() {
			owner, key, ok := s.APIKey(k.Hash)
			out += fmt.Sprintln(owner, ok, key == k)
		}
		_, byHost := s.TenantByHost(tenant.Host)
		out += fmt.Sprintln(byHost)
	}
	return out
}

// slowPrices is what Prices must say, worked out without an index.
func slowPrices(v *View, side Side, typ event.Type, full scope) event.PriceID {
	var best *Price
	for _, p := range v.AllPrices() {
		pays, _ := p.Model.pays()
		current, _ := v.Price([]byte(p.Key))
		s := p.scope()
		if p != current || p.Status != Active || p.Side != side || pays != typ || s != full.only(s.mask()) || s.mask()&^full.mask() != 0 {
			continue
		}
		if best == nil || s.mask() > best.scope().mask() || s.mask() == best.scope().mask() && p.ID > best.ID {
			best = p
		}
	}
	if best == nil {
		return 0
	}
	return best.ID
}

func TestFoldedRecordsAreTheSnapshot(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		inForce := Empty()
		var records []Record
		for range rapid.IntRange(1, 5).Draw(t, "documents") {
			doc := drawDocument(t)
			before := dump(t, inForce)
			changes, refused, err := Planner{SkipInvalid: true}.Plan(inForce, doc)
			if err != nil {
				t.Fatal(err)
			}
			if dump(t, inForce) != before {
				t.Fatal("planning changed the snapshot")
			}
			// The record travels as JSON, as in the control stream.
			text, err := json.Marshal(Record{Changes: changes})
			if err != nil {
				t.Fatal(err)
			}
			r := Record{}
			if err := json.Unmarshal(text, &r); err != nil {
				t.Fatal(err)
			}
			r.Seq = inForce.Version() + 1
			next, err := inForce.Apply(&r)
			if err != nil {
				t.Fatal(err)
			}
			if dump(t, inForce) != before {
				t.Fatal("folding changed the older snapshot")
			}
			// What was refused may pass the second time: a host, say, that the document frees further down.
			if again, err := Plan(next, doc); len(refused) == 0 && (err != nil || len(again) != 0) {
				t.Fatalf("applied again it changes %+v, %v", again, err)
			}
			if again, err := Plan(next, Export(next)); err != nil || len(again) != 0 {
				t.Fatalf("the export changes %+v, %v", again, err)
			}
			// Folding the same record twice must not matter: a stream may hold a resent message twice.
			r2 := r
			r2.Seq++
			if twice, err := next.Apply(&r2); err != nil || dump(t, twice) != dump(t, next) {
				t.Fatalf("folded twice: %v", err)
			}
			records = append(records, r)
			inForce = next
		}
		folded := Empty()
		for i := range records {
			var err error
			if folded, err = folded.Apply(&records[i]); err != nil {
				t.Fatal(err)
			}
		}
		if dump(t, folded) != dump(t, inForce) || folded.Version() != inForce.Version() {
			t.Fatalf("folded\n%s\nin force\n%s", dump(t, folded), dump(t, inForce))
		}
	})
}

func TestPriceIndexAgreesWithASearch(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := Empty()
		for range rapid.IntRange(1, 6).Draw(t, "documents") {
			changes, _, err := Planner{SkipInvalid: true}.Plan(s, drawDocument(t))
			if err != nil {
				t.Fatal(err)
			}
			if s, err = s.Apply(&Record{Changes: changes}); err != nil {
				t.Fatal(err)
			}
		}
		for _, tenant := range s.Tenants() {
			v, _ := s.Tenant(tenant.ID)
			typ := event.Type(rapid.IntRange(1, 3).Draw(t, "type"))
			for i := range 3 * 3 * 3 * 2 {
				full := scope{
					campaign: event.CampaignID(i % 3), banner: event.BannerID(i / 3 % 3),
					affiliate: event.AffiliateID(i / 9 % 3), goal: event.GoalID(i / 27),
				}
				revenue, payout := v.Prices(typ, full.campaign, full.banner, full.affiliate, full.goal)
				wantRevenue, wantPayout := slowPrices(v, SideRevenue, typ, full), slowPrices(v, SidePayout, typ, full)
				if revenue != wantRevenue || payout != wantPayout {
					t.Fatalf("%+v: %d %d, want %d %d", full, revenue, payout, wantRevenue, wantPayout)
				}
			}
		}
	})
}

func TestExportMovesToAnEmptyInstallation(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := Empty()
		for range 3 {
			changes, _, err := Planner{SkipInvalid: true}.Plan(s, drawDocument(t))
			if err != nil {
				t.Fatal(err)
			}
			if s, err = s.Apply(&Record{Changes: changes}); err != nil {
				t.Fatal(err)
			}
		}
		exported := Export(s)
		text, err := exported.YAML()
		if err != nil {
			t.Fatal(err)
		}
		doc, err := ParseDocument(text)
		if err != nil {
			t.Fatal(err)
		}
		changes, err := Plan(Empty(), doc)
		if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		moved, err := Empty().Apply(&Record{Changes: changes})
		if err != nil {
			t.Fatal(err)
		}
		again, err := Export(moved).YAML()
		if err != nil {
			t.Fatal(err)
		}
		if string(again) != string(text) {
			t.Fatalf("moved\n%s\nwas\n%s", again, text)
		}
	})
}

func FuzzDocument(f *testing.F) {
	f.Add([]byte(network))
	f.Add([]byte(`{"tenants":[{"key":"a","prices":[{"side":"payout","model":"cpc","rate":"0.1"}]}]}`))
	f.Add([]byte("tenants: [{key: a, campaigns: [{key: b, click_window: 3d}]}]"))
	f.Fuzz(func(t *testing.T, text []byte) {
		d, err := ParseDocument(text)
		if err != nil {
			return
		}
		changes, refused, err := Planner{SkipInvalid: true}.Plan(Empty(), d)
		if err != nil {
			t.Fatal(err)
		}
		s, err := Empty().Apply(&Record{Changes: changes})
		if err != nil {
			t.Fatalf("planned changes cannot be folded: %v", err)
		}
		if again, err := Plan(s, d); len(refused) == 0 && (err != nil || len(again) != 0) {
			t.Fatalf("applied again it changes %+v, %v", again, err)
		}
	})
}
