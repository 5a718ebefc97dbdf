package replay

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"

	"milliard/internal/catalog"
)

// Created is what the server made of the catalog entries that a replay asked for.
type Created struct {
	Created int `json:"created"`
	Updated int `json:"updated"`
	Refused int `json:"refused"`
}

// wanted is the catalog entries that a set of files names.
type wanted struct {
	advertisers map[string]bool
	affiliates  map[string]bool
	goals       map[string]bool
	types       map[string]bool
	campaigns   map[string]*wantedCampaign
}

type wantedCampaign struct {
	advertiser string
	landing    string
	banners    map[string]bool
}

func newWanted() *wanted {
	return &wanted{
		advertisers: map[string]bool{}, affiliates: map[string]bool{}, goals: map[string]bool{}, types: map[string]bool{},
		campaigns: map[string]*wantedCampaign{},
	}
}

// note collects what an event names. Of a campaign that stands with several advertisers or landings the first counts.
func (w *wanted) note(e *Event) {
	add := func(m map[string]bool, name string) {
		if name != "" && !m[name] {
			m[name] = true
		}
	}
	add(w.advertisers, e.text[fAdvertiser])
	add(w.affiliates, e.text[fAffiliate])
	add(w.goals, e.text[fGoal])
	switch t := e.text[fType]; t {
	case "impression", "click", "conversion":
	default:
		add(w.types, t)
	}
	key := e.text[fCampaign]
	if key == "" {
		return
	}
	c := w.campaigns[key]
	if c == nil {
		c = &wantedCampaign{advertiser: e.text[fAdvertiser], landing: e.text[fLanding], banners: map[string]bool{}}
		w.campaigns[key] = c
	}
	if c.landing == "" {
		c.landing = e.text[fLanding]
	}
	add(c.banners, e.text[fBanner])
}

// defaultAdvertiser is who pays in logs that do not say it.
const defaultAdvertiser = "recorded"

// document writes the entries as the catalog wants them, in a fixed order.
func (w *wanted) document(m *Map, tenant string, postbackKey, postbackSecret string) *catalog.Document {
	t := catalog.TenantDoc{Key: tenant}
	for _, c := range w.campaigns {
		if c.advertiser == "" {
			c.advertiser = defaultAdvertiser
			w.advertisers[defaultAdvertiser] = true
		}
	}
	for _, key := range slices.Sorted(maps.Keys(w.advertisers)) {
		t.Advertisers = append(t.Advertisers, catalog.AdvertiserDoc{
			Key: key, Currency: m.Create.Currency, PostbackKey: postbackKey, PostbackSecret: postbackSecret,
		})
	}
	for _, key := range slices.Sorted(maps.Keys(w.affiliates)) {
		t.Affiliates = append(t.Affiliates, catalog.AffiliateDoc{Key: key})
	}
	for _, key := range slices.Sorted(maps.Keys(w.goals)) {
		t.Goals = append(t.Goals, catalog.GoalDoc{Key: key})
	}
	for _, key := range slices.Sorted(maps.Keys(w.types)) {
		t.EventTypes = append(t.EventTypes, catalog.EventTypeDoc{Key: key})
	}
	for _, key := range slices.Sorted(maps.Keys(w.campaigns)) {
		c := w.campaigns[key]
		doc := catalog.CampaignDoc{Key: key, Advertiser: c.advertiser, Currency: m.Create.Currency, ClickWindow: m.Create.ClickWindow}
		if c.landing == "" {
			c.landing = m.Create.Landing
		}
		if c.landing != "" {
			doc.Landings = []catalog.Landing{{URL: c.landing}}
		}
		for _, b := range slices.Sorted(maps.Keys(c.banners)) {
			doc.Banners = append(doc.Banners, catalog.BannerDoc{Key: b})
		}
		t.Campaigns = append(t.Campaigns, doc)
	}
	return &catalog.Document{Tenants: []catalog.TenantDoc{t}}
}

// refusals says which entries the catalog refused, and why. Nil refuses nothing.
type refusals map[refusedEntry]string

type refusedEntry struct{ kind, key string }

// of returns why an event cannot be sent; empty when it can.
func (r refusals) of(e *Event) string {
	if len(r) == 0 {
		return ""
	}
	for _, x := range []struct {
		kind string
		f    field
	}{
		{catalog.KindAdvertiser, fAdvertiser},
		{catalog.KindCampaign, fCampaign},
		{catalog.KindBanner, fBanner},
		{catalog.KindAffiliate, fAffiliate},
		{catalog.KindGoal, fGoal},
		{catalog.KindEventType, fType},
	} {
		if name := e.text[x.f]; name != "" {
			if why, ok := r[refusedEntry{x.kind, name}]; ok {
				return x.kind + ": " + why
			}
		}
	}
	return ""
}

// apply sends the document to the admin API. What the catalog refuses is left out of it and returned.
func apply(ctx context.Context, o *Options, doc *catalog.Document) (*Created, refusals, error) {
	body, err := json.Marshal(doc)
	if err != nil {
		return nil, nil, fmt.Errorf("catalog: %w", err)
	}
	q := url.Values{"skip_invalid": {"1"}}
	if o.Tenant != "" {
		q.Set("tenant", o.Tenant)
	}
	var out struct {
		Created int                `json:"created"`
		Updated int                `json:"updated"`
		Refused []*catalog.Problem `json:"refused"`
	}
	// Applying a document twice is applying it once, so a server that is away is waited for.
	err = persist(ctx, o.Patience, func(error) {}, func() error {
		return postJSON(ctx, o, o.Admin+"/v1/catalog/apply?"+q.Encode(), body, &out)
	})
	if err != nil {
		return nil, nil, fmt.Errorf("catalog: %w", err)
	}
	r := refusals{}
	for _, p := range out.Refused {
		why := p.Msg
		if p.Field != "" {
			why = p.Field + " " + p.Msg
		}
		r[refusedEntry{p.Kind, p.Key}] = why
	}
	return &Created{out.Created, out.Updated, len(out.Refused)}, r, nil
}

// maxAnswer bounds what is read of an answer.
const maxAnswer = 64 << 20

func postJSON(ctx context.Context, o *Options, url string, body []byte, out any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Milliard-Actor", "replay")
	req.Header.Set("Milliard-Why", "names of "+o.Map.Name)
	if o.AdminToken != "" {
		req.Header.Set("Authorization", "Bearer "+o.AdminToken)
	}
	req.Header.Set("Milliard-Actor", "replay")
	req.Header.Set("Milliard-Why", "create what "+o.Map.Name+" names")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("%w: %w", errTemporary, err)
	}
	defer func() { _ = resp.Body.Close() }() // read to its end or given up
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return err
	}
	if resp.StatusCode == http.StatusTooManyRequests || resp.StatusCode >= 500 {
		return fmt.Errorf("%w: %s", errTemporary, resp.Status)
	}
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("%s: %.300s", resp.Status, bytes.TrimSpace(text))
	}
	return json.Unmarshal(text, out)
}
