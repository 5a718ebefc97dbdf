package api

import (
	"fmt"
	"net/http"
	"net/url"

	"milliard/internal/catalog"
)

// put creates or changes one entity; fields that are left out keep their value.
func (a *Catalog) put(w http.ResponseWriter, r *http.Request) {
	q, err := query(r, "tenant", "campaign")
	if err != nil {
		a.fail(w, err)
		return
	}
	doc, err := a.document(w, r, q)
	if err != nil {
		a.fail(w, err)
		return
	}
	a.applyOne(w, r, q, doc)
}

// archive ends one entity. It stays in the catalog under its id, because counts refer to it.
func (a *Catalog) archive(w http.ResponseWriter, r *http.Request) {
	q, err := query(r, "tenant", "campaign")
	if err != nil {
		a.fail(w, err)
		return
	}
	kind, key := r.PathValue("kind"), r.PathValue("key")
	if _, err := a.item(q, kind, key); err != nil {
		a.fail(w, err)
		return
	}
	v, err := a.tenant(q)
	if err != nil {
		a.fail(w, err)
		return
	}
	if kind == catalog.KindSigningKey {
		c, cancel := a.change(r)
		defer cancel()
		if err := a.Control.ArchiveSigningKey(c.ctx, c.actor, v.Info().ID, key); err != nil {
			a.fail(w, err)
			return
		}
		a.answerOne(w, q, kind, key)
		return
	}
	t := catalog.TenantDoc{Key: v.Info().Key}
	switch kind {
	case catalog.KindTenant:
		t = catalog.TenantDoc{Key: key, Status: catalog.Archived}
	case catalog.KindAdvertiser:
		t.Advertisers = []catalog.AdvertiserDoc{{Key: key, Status: catalog.Archived}}
	case catalog.KindCampaign:
		t.Campaigns = []catalog.CampaignDoc{{Key: key, Status: catalog.Archived}}
	case catalog.KindBanner:
		t.Campaigns = []catalog.CampaignDoc{{
			Key: q.Get("campaign"), Banners: []catalog.BannerDoc{{Key: key, Status: catalog.Archived}},
		}}
	case catalog.KindAffiliate:
		t.Affiliates = []catalog.AffiliateDoc{{Key: key, Status: catalog.Archived}}
	case catalog.KindPrice:
		t.Prices = []catalog.PriceDoc{{Key: key, Status: catalog.Archived}}
	case catalog.KindAPIKey:
		t.APIKeys = []catalog.APIKeyDoc{{Key: key, Status: catalog.Archived}}
	default:
		a.fail(w, &FieldError{Field: "kind", Msg: kind + " is never archived: counts refer to it"})
		return
	}
	a.applyOne(w, r, q, &catalog.Document{Tenants: []catalog.TenantDoc{t}})
}

func (a *Catalog) applyOne(w http.ResponseWriter, r *http.Request, q url.Values, doc *catalog.Document) {
	c, cancel := a.change(r)
	defer cancel()
	if _, err := a.Control.Apply(c.ctx, c.actor, c.why, doc); err != nil {
		a.fail(w, err)
		return
	}
	a.answerOne(w, q, r.PathValue("kind"), r.PathValue("key"))
}

func (a *Catalog) answerOne(w http.ResponseWriter, q url.Values, kind, key string) {
	item, err := a.item(q, kind, key)
	if err != nil {
		a.fail(w, err)
		return
	}
	WriteJSON(w, http.StatusOK, item)
}

// document makes a document of the one entity in a request's body.
func (a *Catalog) document(w http.ResponseWriter, r *http.Request, q url.Values) (*catalog.Document, error) {
	kind, key := r.PathValue("kind"), r.PathValue("key")
	v, err := a.tenant(q)
	if err != nil {
		return nil, err
	}
	t := catalog.TenantDoc{Key: v.Info().Key}
	var given *string
	switch kind {
	case catalog.KindTenant:
		t.Key = ""
		given, err = &t.Key, decodeBody(w, r, &t)
	case catalog.KindAdvertiser:
		given, err = decodeInto(w, r, &t.Advertisers, func(d *catalog.AdvertiserDoc) *string { return &d.Key })
	case catalog.KindCampaign:
		given, err = decodeInto(w, r, &t.Campaigns, func(d *catalog.CampaignDoc) *string { return &d.Key })
	case catalog.KindBanner:
		c, cerr := bannerCampaign(v, q)
		if cerr != nil {
			return nil, cerr
		}
		t.Campaigns = []catalog.CampaignDoc{{Key: c.Key}}
		given, err = decodeInto(w, r, &t.Campaigns[0].Banners, func(d *catalog.BannerDoc) *string { return &d.Key })
	case catalog.KindAffiliate:
		given, err = decodeInto(w, r, &t.Affiliates, func(d *catalog.AffiliateDoc) *string { return &d.Key })
	case catalog.KindPrice:
		given, err = decodeInto(w, r, &t.Prices, func(d *catalog.PriceDoc) *string { return &d.Key })
	case catalog.KindEventType:
		given, err = decodeInto(w, r, &t.EventTypes, func(d *catalog.EventTypeDoc) *string { return &d.Key })
	case catalog.KindGoal:
		given, err = decodeInto(w, r, &t.Goals, func(d *catalog.GoalDoc) *string { return &d.Key })
	case catalog.KindAPIKey:
		given, err = decodeInto(w, r, &t.APIKeys, func(d *catalog.APIKeyDoc) *string { return &d.Key })
	case catalog.KindSigningKey:
		return nil, &FieldError{Field: "kind", Msg: "signing keys are made by POST /v1/catalog/signing_key/rotate"}
	default:
		return nil, notFound("kind", kind)
	}
	if err != nil {
		return nil, err
	}
	if *given != "" && *given != key {
		return nil, &FieldError{Field: "key", Msg: fmt.Sprintf("is %.80q in the body and %.80q in the path", *given, key)}
	}
	*given = key
	return &catalog.Document{Tenants: []catalog.TenantDoc{t}}, nil
}

// decodeInto reads the body as the only element of a list and returns where its key is.
func decodeInto[T any](w http.ResponseWriter, r *http.Request, into *[]T, key func(*T) *string) (*string, error) {
	*into = make([]T, 1)
	return key(&(*into)[0]), decodeBody(w, r, &(*into)[0])
}
