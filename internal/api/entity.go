package api

import (
	"net/http"
	"net/url"
	"strconv"

	"milliard/internal/catalog"
	"milliard/internal/event"
)

// The answers about single entities: what a document says of them, and their ids and status in full.
type (
	tenantItem struct {
		ID event.TenantID `json:"id"`
		catalog.TenantDoc
		Status catalog.Status `json:"status"`
	}
	advertiserItem struct {
		ID event.AdvertiserID `json:"id"`
		catalog.AdvertiserDoc
		Status            catalog.Status `json:"status"`
		PostbackKeySet    bool           `json:"postback_key_set"`
		PostbackSecretSet bool           `json:"postback_secret_set"`
	}
	campaignItem struct {
		ID event.CampaignID `json:"id"`
		catalog.CampaignDoc
		Status       catalog.Status `json:"status"`
		Live         bool           `json:"live"` // its events count: it and its advertiser are active
		SignedClicks bool           `json:"signed_clicks"`
		PixelOrders  bool           `json:"pixel_orders"`
	}
	bannerItem struct {
		ID       event.BannerID `json:"id"`
		Campaign string         `json:"campaign"`
		catalog.BannerDoc
		Status catalog.Status `json:"status"`
	}
	affiliateItem struct {
		ID event.AffiliateID `json:"id"`
		catalog.AffiliateDoc
		Status catalog.Status `json:"status"`
	}
	priceItem struct {
		ID      event.PriceID `json:"id"`
		Version int           `json:"version"`
		catalog.PriceDoc
		Status   catalog.Status `json:"status"`
		Versions []priceItem    `json:"versions,omitempty"` // of one entity: the older ones
	}
	apiKeyItem struct {
		ID     uint32          `json:"id"`
		Key    string          `json:"key"`
		Rights []catalog.Right `json:"rights"`
		Status catalog.Status  `json:"status"`
	}
	signingItem struct {
		ID      uint8          `json:"id"`
		Key     string         `json:"key"`
		Status  catalog.Status `json:"status"`
		Signing bool           `json:"signing"`
	}
)

func signingKeyItem(k *catalog.SigningKey) signingItem {
	return signingItem{ID: k.ID, Key: k.Key, Status: k.Status, Signing: k.Signing}
}

// items returns every entity of a kind with its id, in id order.
func (a *Catalog) items(v *catalog.View, kind string) (ids []uint32, items []any, err error) {
	add := func(id uint32, item any) {
		ids, items = append(ids, id), append(items, item)
	}
	switch kind {
	case catalog.KindTenant:
		for _, t := range a.Control.Current().Tenants() {
			doc := catalog.TenantDoc{Key: t.Key, Name: t.Name, TimeZone: t.TimeZone, Currency: t.Currency}
			if t.Host != "" {
				doc.Host = &t.Host
			}
			add(uint32(t.ID), tenantItem{ID: t.ID, TenantDoc: doc, Status: t.Status})
		}
	case catalog.KindAdvertiser:
		for _, e := range v.Advertisers() {
			doc := v.ExportAdvertiser(e)
			doc.PostbackKeyHash = ""
			add(uint32(e.ID), advertiserItem{
				ID: e.ID, AdvertiserDoc: doc, Status: e.Status, PostbackKeySet: e.PostbackKeyHash != "",
				PostbackSecretSet: e.PostbackSecret != "",
			})
		}
	case catalog.KindCampaign:
		for _, e := range v.Campaigns() {
			add(uint32(e.ID), campaignItem{
				ID: e.ID, CampaignDoc: v.ExportCampaign(e), Status: e.Status, Live: v.Live(e), SignedClicks: e.SignedClicks,
				PixelOrders: e.PixelOrders,
			})
		}
	case catalog.KindBanner:
		for _, e := range v.Banners() {
			item := bannerItem{ID: e.ID, BannerDoc: v.ExportBanner(e), Status: e.Status}
			if c, ok := v.CampaignByID(e.Campaign); ok {
				item.Campaign = c.Key
			}
			add(uint32(e.ID), item)
		}
	case catalog.KindAffiliate:
		for _, e := range v.Affiliates() {
			add(uint32(e.ID), affiliateItem{ID: e.ID, AffiliateDoc: v.ExportAffiliate(e), Status: e.Status})
		}
	case catalog.KindPrice:
		for _, e := range v.AllPrices() {
			if current, _ := v.Price([]byte(e.Key)); current == e {
				add(uint32(e.ID), onePrice(v, e))
			}
		}
	case catalog.KindEventType:
		for _, e := range v.EventTypes() {
			add(uint32(e.ID), e)
		}
	case catalog.KindGoal:
		for _, e := range v.Goals() {
			add(uint32(e.ID), e)
		}
	case catalog.KindAPIKey:
		for _, e := range v.APIKeys() {
			add(e.ID, apiKeyItem{ID: e.ID, Key: e.Key, Rights: e.Rights, Status: e.Status})
		}
	case catalog.KindSigningKey:
		for _, e := range v.SigningKeys() {
			add(uint32(e.ID), signingKeyItem(e))
		}
	default:
		return nil, nil, notFound("kind", kind)
	}
	return ids, items, nil
}

func onePrice(v *catalog.View, p *catalog.Price) priceItem {
	return priceItem{ID: p.ID, Version: p.Version, PriceDoc: v.ExportPrice(p), Status: p.Status}
}

// list answers the entities of a kind.
func (a *Catalog) list(w http.ResponseWriter, r *http.Request) {
	answer, err := a.page(r)
	if err != nil {
		a.fail(w, err)
		return
	}
	WriteJSON(w, http.StatusOK, answer)
}

func (a *Catalog) page(r *http.Request) (map[string]any, error) {
	q, err := query(r, "tenant", "limit", "after")
	if err != nil {
		return nil, err
	}
	v, err := a.tenant(q)
	if err != nil {
		return nil, err
	}
	size, err := limit(q)
	if err != nil {
		return nil, err
	}
	if size == 0 {
		size = defaultListSize
	}
	size = min(size, maxListSize)
	after := uint64(0)
	if s := q.Get("after"); s != "" {
		if after, err = strconv.ParseUint(s, 10, 32); err != nil {
			return nil, &FieldError{Field: "after", Msg: "is not an id"}
		}
	}
	ids, items, err := a.items(v, r.PathValue("kind"))
	if err != nil {
		return nil, err
	}
	for len(ids) > 0 && uint64(ids[0]) <= after {
		ids, items = ids[1:], items[1:]
	}
	answer := map[string]any{"version": a.Control.Version()}
	if len(items) > size {
		answer["next"] = ids[size-1]
		items = items[:size]
	}
	if items == nil {
		items = []any{}
	}
	answer["items"] = items
	return answer, nil
}

// get answers one entity.
func (a *Catalog) get(w http.ResponseWriter, r *http.Request) {
	q, err := query(r, "tenant", "campaign")
	if err != nil {
		a.fail(w, err)
		return
	}
	item, err := a.item(q, r.PathValue("kind"), r.PathValue("key"))
	if err != nil {
		a.fail(w, err)
		return
	}
	WriteJSON(w, http.StatusOK, item)
}

// item finds one entity. The items of a kind are in id order, which finds the item once the id is known.
func (a *Catalog) item(q url.Values, kind, key string) (any, error) {
	v, err := a.tenant(q)
	if err != nil {
		return nil, err
	}
	id, err := a.idOf(v, q, kind, key)
	if err != nil {
		return nil, err
	}
	ids, items, err := a.items(v, kind)
	if err != nil {
		return nil, err
	}
	for i := range ids {
		if ids[i] == id {
			return a.withDetails(v, items[i]), nil
		}
	}
	return nil, notFound(kind, key)
}

// withDetails adds what is shown of a single entity only.
func (a *Catalog) withDetails(v *catalog.View, item any) any {
	switch e := item.(type) {
	case campaignItem:
		for _, b := range v.Banners() {
			if b.Campaign == e.ID {
				e.Banners = append(e.Banners, v.ExportBanner(b))
			}
		}
		for _, p := range v.AllPrices() {
			if current, _ := v.Price([]byte(p.Key)); p.Campaign == e.ID && current == p {
				e.Prices = append(e.Prices, v.ExportPrice(p))
			}
		}
		return e
	case priceItem:
		for _, p := range v.AllPrices() {
			if p.Key == e.Key && p.ID != e.ID {
				e.Versions = append(e.Versions, onePrice(v, p))
			}
		}
		return e
	}
	return item
}

// idOf finds an entity's id by its key.
func (a *Catalog) idOf(v *catalog.View, q url.Values, kind, key string) (uint32, error) {
	name := []byte(key)
	switch kind {
	case catalog.KindTenant:
		if e, ok := a.Control.Current().TenantByKey(key); ok {
			return uint32(e.Info().ID), nil
		}
	case catalog.KindAdvertiser:
		if e, ok := v.Advertiser(name); ok {
			return uint32(e.ID), nil
		}
	case catalog.KindCampaign:
		if e, ok := v.Campaign(name); ok {
			return uint32(e.ID), nil
		}
	case catalog.KindBanner:
		c, err := bannerCampaign(v, q)
		if err != nil {
			return 0, err
		}
		if e, ok := v.Banner(c.ID, name); ok {
			return uint32(e.ID), nil
		}
	case catalog.KindAffiliate:
		if e, ok := v.Affiliate(name); ok {
			return uint32(e.ID), nil
		}
	case catalog.KindPrice:
		if e, ok := v.Price(name); ok {
			return uint32(e.ID), nil
		}
	case catalog.KindEventType:
		if e, ok := v.EventType(name); ok {
			return uint32(e.ID), nil
		}
	case catalog.KindGoal:
		if e, ok := v.Goal(name); ok {
			return uint32(e.ID), nil
		}
	case catalog.KindAPIKey:
		if e, ok := v.APIKey(name); ok {
			return e.ID, nil
		}
	case catalog.KindSigningKey:
		for _, e := range v.SigningKeys() {
			if e.Key == key {
				return uint32(e.ID), nil
			}
		}
	default:
		return 0, notFound("kind", kind)
	}
	return 0, notFound(kind, key)
}

// bannerCampaign finds the campaign that a banner's key is unique in.
func bannerCampaign(v *catalog.View, q url.Values) (*catalog.Campaign, error) {
	key := q.Get("campaign")
	if key == "" {
		return nil, &FieldError{Field: "campaign", Msg: "is required: keys of banners are unique per campaign"}
	}
	c, ok := v.Campaign([]byte(key))
	if !ok {
		return nil, notFound("campaign", key)
	}
	return c, nil
}
