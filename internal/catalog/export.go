package catalog

import "milliard/internal/event"

// Export returns the catalog as a document. Applying it changes nothing. Defaults are left out. Secrets are not in it;
// hashes are, so that keys go on working where it is applied to an empty installation.
func Export(s *Snapshot) *Document {
	d := &Document{Tenants: []TenantDoc{}}
	s.tenants.each(func(v *View) { d.Tenants = append(d.Tenants, v.Export()) })
	return d
}

// Export returns one tenant as a document.
func (v *View) Export() TenantDoc {
	t := v.info
	d := TenantDoc{
		Key: t.Key, Name: t.Name, Host: optional(t.Host), TimeZone: t.TimeZone, Currency: t.Currency,
		Status: unlessActive(t.Status),
	}
	v.goals.each(func(g *Goal) { d.Goals = append(d.Goals, GoalDoc{Key: g.Key, Name: g.Name}) })
	v.eventTypes.each(func(e *EventType) { d.EventTypes = append(d.EventTypes, EventTypeDoc{Key: e.Key, Name: e.Name}) })
	v.advertisers.each(func(a *Advertiser) { d.Advertisers = append(d.Advertisers, v.ExportAdvertiser(a)) })
	v.affiliates.each(func(a *Affiliate) { d.Affiliates = append(d.Affiliates, v.ExportAffiliate(a)) })
	index := make(map[event.CampaignID]int)
	v.campaigns.each(func(c *Campaign) {
		index[c.ID] = len(d.Campaigns)
		d.Campaigns = append(d.Campaigns, v.ExportCampaign(c))
	})
	v.banners.each(func(b *Banner) {
		c := &d.Campaigns[index[b.Campaign]]
		c.Banners = append(c.Banners, v.ExportBanner(b))
	})
	v.prices.each(func(p *Price) {
		if v.prices.byKey(0, []byte(p.Key)) != p {
			return // an older version
		}
		doc := v.ExportPrice(p)
		if p.Campaign == 0 {
			d.Prices = append(d.Prices, doc)
			return
		}
		c := &d.Campaigns[index[p.Campaign]]
		doc.Campaign = ""
		c.Prices = append(c.Prices, doc)
	})
	v.apiKeys.each(func(k *APIKey) { d.APIKeys = append(d.APIKeys, v.ExportAPIKey(k)) })
	return d
}

// ExportAdvertiser returns an advertiser as a document has it, without its secrets.
func (v *View) ExportAdvertiser(a *Advertiser) AdvertiserDoc {
	return AdvertiserDoc{
		Key: a.Key, Name: a.Name, Status: unlessActive(a.Status), Currency: a.Currency,
		PostbackKeyHash: a.PostbackKeyHash,
	}
}

// ExportAffiliate returns an affiliate as a document has it.
func (v *View) ExportAffiliate(a *Affiliate) AffiliateDoc {
	return AffiliateDoc{Key: a.Key, Name: a.Name, Status: unlessActive(a.Status)}
}

// ExportCampaign returns a campaign as a document has it, without banners and prices.
func (v *View) ExportCampaign(c *Campaign) CampaignDoc {
	d := CampaignDoc{
		Key: c.Key, Name: c.Name, Status: unlessActive(c.Status), Currency: c.Currency, Landings: c.Landings,
		ClickWindow: Seconds(c.ClickWindow), Fallback: optional(c.Fallback),
	}
	if a := v.advertisers.byID(uint32(c.Advertiser)); a != nil {
		d.Advertiser = a.Key
	}
	if c.SignedClicks {
		d.SignedClicks = new(true)
	}
	if c.PixelOrders {
		d.PixelOrders = new(true)
	}
	return d
}

// ExportBanner returns a banner as a document has it.
func (v *View) ExportBanner(b *Banner) BannerDoc {
	return BannerDoc{
		Key: b.Key, Name: b.Name, Status: unlessActive(b.Status), Image: optional(b.Image), Width: b.Width,
		Height: b.Height, Landing: optional(b.Landing),
	}
}

// ExportPrice returns a version of a price rule as a document has it.
func (v *View) ExportPrice(p *Price) PriceDoc {
	d := PriceDoc{
		Key: p.Key, Side: p.Side, Model: p.Model, Currency: p.Currency, Status: unlessActive(p.Status),
	}
	switch p.Model {
	case CarriedCPM, CarriedCPC, CarriedCPA:
	default:
		d.Rate = NewDecimal(p.Rate)
	}
	if c := v.campaigns.byID(uint32(p.Campaign)); c != nil {
		d.Campaign = c.Key
	}
	if b := v.banners.byID(uint32(p.Banner)); b != nil {
		d.Banner = b.Key
	}
	if a := v.affiliates.byID(uint32(p.Affiliate)); a != nil {
		d.Affiliate = a.Key
	}
	if g := v.goals.byID(uint32(p.Goal)); g != nil {
		d.Goal = g.Key
	}
	return d
}

// ExportAPIKey returns an API key as a document has it.
func (v *View) ExportAPIKey(k *APIKey) APIKeyDoc {
	return APIKeyDoc{Key: k.Key, Hash: k.Hash, Rights: k.Rights, Status: unlessActive(k.Status)}
}

func optional(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

func unlessActive(s Status) Status {
	if s == Active {
		return ""
	}
	return s
}
