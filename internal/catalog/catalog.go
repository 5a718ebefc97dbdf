// Package catalog is the reference data: tenants, advertisers, campaigns, banners, affiliates, event types, prices and
// keys. Every change is a control record (Record); folding the records in order gives a Snapshot, which is immutable and
// answers every question of the hot path without a lock or a query. It is pure: no I/O, no goroutines, time passed in.
package catalog

import (
	"encoding/json"
	"errors"

	"milliard/internal/event"
)

// Record is one control record as it stands in the journal's control stream. Seq is its sequence there and is the
// catalog version from which it holds.
type Record struct {
	Seq   uint64 `json:"seq,omitempty"` // filled in from the stream when read
	At    int64  `json:"at"`            // unix milliseconds, when it was accepted
	Actor string `json:"actor"`         // who: "cli", "api:<key name>", "demo", "replay:<key name>"
	Why   string `json:"why,omitempty"`
	// Changes are applied together or not at all.
	Changes []Change `json:"changes"`
}

// ErrRecord: a control record that stands in the stream cannot be understood.
var ErrRecord = errors.New("unreadable record")

// Change creates, replaces or archives one entity. Numeric ids are given out when the change is accepted and stand in
// the record, so that folding needs no counter.
type Change struct {
	Op     string          `json:"op"`     // put, archive
	Kind   string          `json:"kind"`   // tenant, advertiser, campaign, banner, affiliate, event_type, goal, price, api_key, signing_key
	Tenant event.TenantID  `json:"tenant"` // owner of the entity; for kind tenant its own id
	ID     uint32          `json:"id"`     // numeric id of the entity
	Key    string          `json:"key"`    // the name users know it by, unique per tenant and kind (banner: per campaign)
	Before json.RawMessage `json:"before,omitempty"`
	After  json.RawMessage `json:"after,omitempty"` // one of the entity structs below
}

// Status of an entity. Only active ones count; others are "unknown" to the doors from the change on.
type Status string

// The states of an entity.
const (
	Active   Status = "active"
	Paused   Status = "paused"
	Archived Status = "archived"
)

// Tenant is one network.
type Tenant struct {
	ID       event.TenantID `json:"id" yaml:"-"`
	Key      string         `json:"key" yaml:"key"`
	Name     string         `json:"name" yaml:"name"`
	Host     string         `json:"host,omitempty" yaml:"host,omitempty"` // Host header that means this tenant at the doors
	TimeZone string         `json:"time_zone" yaml:"time_zone"`           // IANA; default of its reports
	Currency string         `json:"currency" yaml:"currency"`             // ISO 4217; default of its campaigns
	Status   Status         `json:"status" yaml:"status"`
}

// Advertiser pays.
type Advertiser struct {
	ID       event.AdvertiserID `json:"id" yaml:"-"`
	Key      string             `json:"key" yaml:"key"`
	Name     string             `json:"name" yaml:"name"`
	Status   Status             `json:"status" yaml:"status"`
	Currency string             `json:"currency,omitempty" yaml:"currency,omitempty"`
	// PostbackKeyHash is the hex SHA-256 of the secret that its postbacks carry as key=…; empty: postbacks must be signed.
	PostbackKeyHash string `json:"postback_key_hash,omitempty" yaml:"postback_key_hash,omitempty"`
	// PostbackSecret is the secret for signed postbacks (HMAC-SHA-256), sealed under the master key.
	PostbackSecret string `json:"postback_secret,omitempty" yaml:"-"`
}

// Campaign is what is promoted.
type Campaign struct {
	ID           event.CampaignID   `json:"id" yaml:"-"`
	Key          string             `json:"key" yaml:"key"`
	Name         string             `json:"name" yaml:"name"`
	Advertiser   event.AdvertiserID `json:"advertiser" yaml:"-"`
	Status       Status             `json:"status" yaml:"status"`
	Currency     string             `json:"currency,omitempty" yaml:"currency,omitempty"`
	Landings     []Landing          `json:"landings,omitempty" yaml:"landings,omitempty"`
	ClickWindow  int64              `json:"click_window_seconds,omitempty" yaml:"click_window_seconds,omitempty"` // attribution; default 30 days
	SignedClicks bool               `json:"signed_clicks,omitempty" yaml:"signed_clicks,omitempty"`               // static links are refused (forged)
	PixelOrders  bool               `json:"pixel_orders,omitempty" yaml:"pixel_orders,omitempty"`                 // the conversion pixel's order_id and amount are believed
	Fallback     string             `json:"fallback,omitempty" yaml:"fallback,omitempty"`                         // URL for traffic that is not sent to a landing
}

// Landing is one weighted landing URL. Macros are filled in its query values.
type Landing struct {
	URL    string `json:"url" yaml:"url"`
	Weight int    `json:"weight,omitempty" yaml:"weight,omitempty"` // default 1
}

// Banner is a creative of a campaign.
type Banner struct {
	ID       event.BannerID   `json:"id" yaml:"-"`
	Key      string           `json:"key" yaml:"key"`
	Name     string           `json:"name" yaml:"name"`
	Campaign event.CampaignID `json:"campaign" yaml:"-"`
	Status   Status           `json:"status" yaml:"status"`
	Image    string           `json:"image,omitempty" yaml:"image,omitempty"` // URL shown by /ad in HTML
	Width    int              `json:"width,omitempty" yaml:"width,omitempty"`
	Height   int              `json:"height,omitempty" yaml:"height,omitempty"`
	Landing  string           `json:"landing,omitempty" yaml:"landing,omitempty"` // overrides the campaign's
}

// Affiliate sends traffic.
type Affiliate struct {
	ID     event.AffiliateID `json:"id" yaml:"-"`
	Key    string            `json:"key" yaml:"key"`
	Name   string            `json:"name" yaml:"name"`
	Status Status            `json:"status" yaml:"status"`
}

// EventType is a registered custom type; the three built-in ones exist in every tenant.
type EventType struct {
	ID   event.Type `json:"id" yaml:"-"`
	Key  string     `json:"key" yaml:"key"` // impression, click, conversion or the custom name
	Name string     `json:"name" yaml:"name"`
}

// Goal is a conversion of a kind. Goals are per tenant and named by key: "sale", "lead".
type Goal struct {
	ID   event.GoalID `json:"id" yaml:"-"`
	Key  string       `json:"key" yaml:"key"`
	Name string       `json:"name" yaml:"name"`
}

// Repair is something that an operator has had done to the installation.
type Repair struct {
	What string `json:"what"` // ledger_rebuilt, journal_rebuilt, images_removed, segment_restored
	Lane int    `json:"lane"` // -1: all
	Text string `json:"text"`
}

// Downtime is a range of a lane's batches that is lost for good: what was sent then may be missing in the counts.
type Downtime struct {
	Lane   int    `json:"lane"`
	First  uint64 `json:"first"` // sequences
	Last   uint64 `json:"last"`
	From   int64  `json:"from"` // unix ms of the last batch before and of the first behind
	To     int64  `json:"to"`
	Events int64  `json:"events"` // how many the replaced ledger had counted there; -1: not known
}

// Side is who a price concerns.
type Side string

// The sides of a price.
const (
	SideRevenue Side = "revenue" // the advertiser pays the network
	SidePayout  Side = "payout"  // the network pays the affiliate
)

// PriceModel says what is paid for.
type PriceModel string

// The models.
const (
	CPM      PriceModel = "cpm"      // rate per 1,000 valid impressions
	CPC      PriceModel = "cpc"      // rate per valid click
	CPA      PriceModel = "cpa"      // rate per valid conversion (of the goal, if the rule names one)
	RevShare PriceModel = "revshare" // percent of the conversion's amount
	// Carried prices stand in the event's amount; the rate is not used.
	CarriedCPM PriceModel = "carried_cpm" // amount is the price of 1,000 impressions
	CarriedCPC PriceModel = "carried_cpc" // amount is the price of the click
	CarriedCPA PriceModel = "carried_cpa" // amount is the price of the conversion
)

// Built-in prices for events that carry their own, the same in every tenant. Rules get ids from FirstRulePrice on.
const (
	PriceCarriedCPM event.PriceID = 1
	PriceCarriedCPC event.PriceID = 2
	PriceCarriedCPA event.PriceID = 3
	FirstRulePrice  event.PriceID = 16
)

// Price is one version of a price rule. A change of a rule is a new Price with a new id under the same key; old ids
// stay for ever, because cells refer to them.
type Price struct {
	ID       event.PriceID `json:"id" yaml:"-"`
	Key      string        `json:"key" yaml:"key"` // the rule's name, unique per tenant
	Version  int           `json:"version" yaml:"-"`
	Side     Side          `json:"side" yaml:"side"`
	Model    PriceModel    `json:"model" yaml:"model"`
	Rate     event.Micros  `json:"rate" yaml:"-"` // money, or percent for revshare
	Currency string        `json:"currency" yaml:"currency"`
	Status   Status        `json:"status" yaml:"status"`
	// Scope: zero means "any". The rule with the most specific scope wins: goal, then banner, then affiliate, then campaign.
	Campaign  event.CampaignID  `json:"campaign,omitempty" yaml:"-"`
	Banner    event.BannerID    `json:"banner,omitempty" yaml:"-"`
	Affiliate event.AffiliateID `json:"affiliate,omitempty" yaml:"-"`
	Goal      event.GoalID      `json:"goal,omitempty" yaml:"-"`
}

// Right is what an API key may do.
type Right string

// The rights.
const (
	RightIngest   Right = "ingest"   // send live events
	RightBackfill Right = "backfill" // send imports, events of any age
	RightRead     Right = "read"     // reports and counters
	RightCatalog  Right = "catalog"  // change the catalog
)

// APIKey is kept as a hash only.
type APIKey struct {
	ID     uint32  `json:"id" yaml:"-"`
	Key    string  `json:"key" yaml:"key"`   // its name
	Hash   string  `json:"hash" yaml:"hash"` // hex SHA-256 of the secret
	Rights []Right `json:"rights" yaml:"rights"`
	Status Status  `json:"status" yaml:"status"`
}

// SigningKey signs a tenant's tokens. At most 256 per tenant live in its tokens' key id.
type SigningKey struct {
	ID      uint8  `json:"id" yaml:"-"`
	Key     string `json:"key" yaml:"key"`
	Secret  string `json:"secret" yaml:"-"` // 32 bytes sealed under the master key, base64
	Status  Status `json:"status" yaml:"status"`
	Signing bool   `json:"signing" yaml:"signing"` // the newest signing key mints; the others only verify
}
