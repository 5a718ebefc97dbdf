package catalog

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"slices"

	"milliard/internal/event"
)

// View is one tenant's immutable part of a snapshot. Lookups neither lock nor allocate. They return entities of every
// status: whoever counts asks Status == Active (for a campaign: Live).
type View struct {
	owner       *edit
	builtin     *builtins
	info        *Tenant
	advertisers *table[Advertiser]
	campaigns   *table[Campaign]
	banners     *table[Banner]
	affiliates  *table[Affiliate]
	goals       *table[Goal]
	eventTypes  *table[EventType]
	prices      *table[Price]
	apiKeys     *table[APIKey]
	signingKeys *table[SigningKey]
	rules       *rules
	quick       *quick
}

// Info returns the tenant itself.
func (v *View) Info() *Tenant { return v.info }

// Campaign finds a campaign by its key.
func (v *View) Campaign(key []byte) (*Campaign, bool) { return found(v.campaigns.byKey(0, key)) }

// CampaignByID finds a campaign by its id.
func (v *View) CampaignByID(id event.CampaignID) (*Campaign, bool) {
	return found(v.campaigns.byID(uint32(id)))
}

// Live says whether events of the campaign count: it, its advertiser and its tenant are active.
func (v *View) Live(c *Campaign) bool {
	if c.Status != Active || !v.open() {
		return false
	}
	a := v.advertisers.byID(uint32(c.Advertiser))
	return a != nil && a.Status == Active
}

// open says whether the tenant may send and count anything.
func (v *View) open() bool { return v.info.Status != Paused && v.info.Status != Archived }

// Banner finds a banner of a campaign by its key.
func (v *View) Banner(campaign event.CampaignID, key []byte) (*Banner, bool) {
	return found(v.banners.byKey(uint32(campaign), key))
}

// BannerByID finds a banner by its id, which is unique within the tenant.
func (v *View) BannerByID(id event.BannerID) (*Banner, bool) {
	return found(v.banners.byID(uint32(id)))
}

// Affiliate finds an affiliate by its key.
func (v *View) Affiliate(key []byte) (*Affiliate, bool) { return found(v.affiliates.byKey(0, key)) }

// AffiliateByID finds an affiliate by its id.
func (v *View) AffiliateByID(id event.AffiliateID) (*Affiliate, bool) {
	return found(v.affiliates.byID(uint32(id)))
}

// Advertiser finds an advertiser by its key.
func (v *View) Advertiser(key []byte) (*Advertiser, bool) { return found(v.advertisers.byKey(0, key)) }

// AdvertiserByID finds an advertiser by its id.
func (v *View) AdvertiserByID(id event.AdvertiserID) (*Advertiser, bool) {
	return found(v.advertisers.byID(uint32(id)))
}

// Goal finds a goal by its key.
func (v *View) Goal(key []byte) (*Goal, bool) { return found(v.goals.byKey(0, key)) }

// GoalByID finds a goal by its id.
func (v *View) GoalByID(id event.GoalID) (*Goal, bool) { return found(v.goals.byID(uint32(id))) }

// EventType finds an event type by its key; impression, click and conversion exist everywhere.
func (v *View) EventType(key []byte) (*EventType, bool) {
	for _, t := range v.builtin.types {
		if t.Key == string(key) {
			return t, true
		}
	}
	return found(v.eventTypes.byKey(0, key))
}

// EventTypeByID finds an event type by its id.
func (v *View) EventTypeByID(id event.Type) (*EventType, bool) {
	for _, t := range v.builtin.types {
		if t.ID == id {
			return t, true
		}
	}
	return found(v.eventTypes.byID(uint32(id)))
}

// PriceByID finds a version of a price rule, or a built-in carried price.
func (v *View) PriceByID(id event.PriceID) (*Price, bool) {
	for _, p := range v.builtin.prices {
		if p.ID == id {
			return p, true
		}
	}
	return found(v.prices.byID(uint32(id)))
}

// Price finds the current version of a price rule.
func (v *View) Price(key []byte) (*Price, bool) { return found(v.prices.byKey(0, key)) }

// APIKey finds an API key by its name.
func (v *View) APIKey(name []byte) (*APIKey, bool) { return found(v.apiKeys.byKey(0, name)) }

// SigningKeys returns every signing key in id order.
func (v *View) SigningKeys() []*SigningKey { return list(v.signingKeys) }

// APIKeys returns every API key in id order.
func (v *View) APIKeys() []*APIKey { return list(v.apiKeys) }

// Advertisers returns every advertiser in id order.
func (v *View) Advertisers() []*Advertiser { return list(v.advertisers) }

// Campaigns returns every campaign in id order.
func (v *View) Campaigns() []*Campaign { return list(v.campaigns) }

// Banners returns every banner in id order.
func (v *View) Banners() []*Banner { return list(v.banners) }

// Affiliates returns every affiliate in id order.
func (v *View) Affiliates() []*Affiliate { return list(v.affiliates) }

// Goals returns every goal in id order.
func (v *View) Goals() []*Goal { return list(v.goals) }

// EventTypes returns the built-in event types, then the tenant's own in id order.
func (v *View) EventTypes() []*EventType {
	return append(append([]*EventType(nil), v.builtin.types[:]...), list(v.eventTypes)...)
}

// AllPrices returns every version of every price rule in id order.
func (v *View) AllPrices() []*Price { return list(v.prices) }

// Prices returns what an event earns and costs: of the rules for its type the one with the most specific scope, per
// side. Specific means, in this order: goal, banner, affiliate, campaign; among equals the newest.
func (v *View) Prices(
	t event.Type, c event.CampaignID, b event.BannerID, a event.AffiliateID, g event.GoalID,
) (revenue, payout event.PriceID) {
	return v.rules.find(t, c, b, a, g)
}

// PricedBy says which parts of an event some price rule of its type looks at, beside the campaign. Prices does not depend
// on the others.
type PricedBy struct{ Banner, Affiliate, Goal bool }

// PricedBy returns what the prices of a type of event depend on.
func (v *View) PricedBy(t event.Type) PricedBy { return v.rules.by(t) }

// HashSecret returns how an API key or a postback key is kept: the hex SHA-256 of the secret.
func HashSecret(secret []byte) string {
	sum := sha256.Sum256(secret)
	return hex.EncodeToString(sum[:])
}

// CheckPostbackKey says, in constant time, whether given is the advertiser's postback key.
func (a *Advertiser) CheckPostbackKey(given []byte) bool {
	sum := sha256.Sum256(given)
	var got [2 * sha256.Size]byte
	hex.Encode(got[:], sum[:])
	return subtle.ConstantTimeCompare(got[:], []byte(a.PostbackKeyHash)) == 1
}

// Can says whether the key may do something.
func (k *APIKey) Can(r Right) bool {
	return slices.Contains(k.Rights, r)
}

func found[T any](p *T) (*T, bool) { return p, p != nil }

func list[T any](t *table[T]) []*T {
	out := make([]*T, 0, t.size())
	t.each(func(row *T) { out = append(out, row) })
	return out
}
