package catalog

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"

	"go.yaml.in/yaml/v3"

	"milliard/internal/event"
)

// Document is a network as people write it (network.yaml, or the same as JSON): names instead of ids. Applying it
// creates what is missing and changes what differs. What it does not mention stays as it is: an entity that is left out
// is not removed, and a field that is left out keeps its value (or gets its default in a new entity). Only a price is
// always whole, because its parts mean nothing alone. See docs/catalog.md.
type Document struct {
	Tenants []TenantDoc `json:"tenants" yaml:"tenants"`
}

// TenantDoc is a tenant and everything in it. An empty key means the default tenant.
type TenantDoc struct {
	Key         string          `json:"key,omitempty" yaml:"key,omitempty"`
	Name        string          `json:"name,omitempty" yaml:"name,omitempty"`
	Host        *string         `json:"host,omitempty" yaml:"host,omitempty"`
	TimeZone    string          `json:"time_zone,omitempty" yaml:"time_zone,omitempty"`
	Currency    string          `json:"currency,omitempty" yaml:"currency,omitempty"`
	Status      Status          `json:"status,omitempty" yaml:"status,omitempty"`
	Goals       []GoalDoc       `json:"goals,omitempty" yaml:"goals,omitempty"`
	EventTypes  []EventTypeDoc  `json:"event_types,omitempty" yaml:"event_types,omitempty"`
	Advertisers []AdvertiserDoc `json:"advertisers,omitempty" yaml:"advertisers,omitempty"`
	Affiliates  []AffiliateDoc  `json:"affiliates,omitempty" yaml:"affiliates,omitempty"`
	Campaigns   []CampaignDoc   `json:"campaigns,omitempty" yaml:"campaigns,omitempty"`
	Prices      []PriceDoc      `json:"prices,omitempty" yaml:"prices,omitempty"`
	APIKeys     []APIKeyDoc     `json:"api_keys,omitempty" yaml:"api_keys,omitempty"`
}

// AdvertiserDoc is an advertiser. PostbackKey and PostbackSecret are plain text going in; they are kept hashed and
// sealed, and never come out again.
type AdvertiserDoc struct {
	Key             string `json:"key" yaml:"key"`
	Name            string `json:"name,omitempty" yaml:"name,omitempty"`
	Status          Status `json:"status,omitempty" yaml:"status,omitempty"`
	Currency        string `json:"currency,omitempty" yaml:"currency,omitempty"`
	PostbackKey     string `json:"postback_key,omitempty" yaml:"postback_key,omitempty"`
	PostbackKeyHash string `json:"postback_key_hash,omitempty" yaml:"postback_key_hash,omitempty"`
	PostbackSecret  string `json:"postback_secret,omitempty" yaml:"postback_secret,omitempty"`
}

// CampaignDoc is a campaign with its banners and its own prices.
type CampaignDoc struct {
	Key          string      `json:"key" yaml:"key"`
	Name         string      `json:"name,omitempty" yaml:"name,omitempty"`
	Advertiser   string      `json:"advertiser,omitempty" yaml:"advertiser,omitempty"`
	Status       Status      `json:"status,omitempty" yaml:"status,omitempty"`
	Currency     string      `json:"currency,omitempty" yaml:"currency,omitempty"`
	Landings     []Landing   `json:"landings,omitempty" yaml:"landings,omitempty"`
	ClickWindow  Seconds     `json:"click_window,omitempty" yaml:"click_window,omitempty"`
	SignedClicks *bool       `json:"signed_clicks,omitempty" yaml:"signed_clicks,omitempty"`
	PixelOrders  *bool       `json:"pixel_orders,omitempty" yaml:"pixel_orders,omitempty"`
	Fallback     *string     `json:"fallback,omitempty" yaml:"fallback,omitempty"`
	Banners      []BannerDoc `json:"banners,omitempty" yaml:"banners,omitempty"`
	Prices       []PriceDoc  `json:"prices,omitempty" yaml:"prices,omitempty"`
}

// BannerDoc is a banner of a campaign.
type BannerDoc struct {
	Key     string  `json:"key" yaml:"key"`
	Name    string  `json:"name,omitempty" yaml:"name,omitempty"`
	Status  Status  `json:"status,omitempty" yaml:"status,omitempty"`
	Image   *string `json:"image,omitempty" yaml:"image,omitempty"`
	Width   int     `json:"width,omitempty" yaml:"width,omitempty"`
	Height  int     `json:"height,omitempty" yaml:"height,omitempty"`
	Landing *string `json:"landing,omitempty" yaml:"landing,omitempty"`
}

// AffiliateDoc is an affiliate.
type AffiliateDoc struct {
	Key    string `json:"key" yaml:"key"`
	Name   string `json:"name,omitempty" yaml:"name,omitempty"`
	Status Status `json:"status,omitempty" yaml:"status,omitempty"`
}

// GoalDoc is a goal.
type GoalDoc struct {
	Key  string `json:"key" yaml:"key"`
	Name string `json:"name,omitempty" yaml:"name,omitempty"`
}

// EventTypeDoc is a custom event type.
type EventTypeDoc struct {
	Key  string `json:"key" yaml:"key"`
	Name string `json:"name,omitempty" yaml:"name,omitempty"`
}

// PriceDoc is a price rule. Below a campaign the campaign is implied. Without a key it gets one made of its scope, side
// and model. A rule of which only the status is given keeps the rest.
type PriceDoc struct {
	Key       string     `json:"key,omitempty" yaml:"key,omitempty"`
	Side      Side       `json:"side,omitempty" yaml:"side,omitempty"`
	Model     PriceModel `json:"model,omitempty" yaml:"model,omitempty"`
	Rate      *Decimal   `json:"rate,omitempty" yaml:"rate,omitempty"`
	Currency  string     `json:"currency,omitempty" yaml:"currency,omitempty"`
	Status    Status     `json:"status,omitempty" yaml:"status,omitempty"`
	Campaign  string     `json:"campaign,omitempty" yaml:"campaign,omitempty"`
	Banner    string     `json:"banner,omitempty" yaml:"banner,omitempty"`
	Affiliate string     `json:"affiliate,omitempty" yaml:"affiliate,omitempty"`
	Goal      string     `json:"goal,omitempty" yaml:"goal,omitempty"`
}

// APIKeyDoc is an API key, by the hash of its secret or by the secret itself (which is hashed and forgotten).
type APIKeyDoc struct {
	Key    string  `json:"key" yaml:"key"`
	Secret string  `json:"secret,omitempty" yaml:"secret,omitempty"`
	Hash   string  `json:"hash,omitempty" yaml:"hash,omitempty"`
	Rights []Right `json:"rights,omitempty" yaml:"rights,omitempty"`
	Status Status  `json:"status,omitempty" yaml:"status,omitempty"`
}

// Decimal is an exact decimal number. It is read from the literal as it was written, never through a float.
type Decimal event.Micros

// NewDecimal returns a pointer, as the documents hold it.
func NewDecimal(m event.Micros) *Decimal {
	d := Decimal(m)
	return &d
}

// UnmarshalJSON accepts a number or a string.
func (d *Decimal) UnmarshalJSON(b []byte) error {
	s := string(b)
	if len(b) > 0 && b[0] == '"' {
		if err := json.Unmarshal(b, &s); err != nil {
			return err
		}
	}
	m, err := event.ParseMicros(s)
	*d = Decimal(m)
	return err
}

// MarshalJSON writes a number.
func (d Decimal) MarshalJSON() ([]byte, error) { return []byte(event.Micros(d).String()), nil }

// UnmarshalYAML accepts a number or a string.
func (d *Decimal) UnmarshalYAML(n *yaml.Node) error {
	if n.Kind != yaml.ScalarNode {
		return fmt.Errorf("line %d: not a decimal number", n.Line)
	}
	m, err := event.ParseMicros(n.Value)
	if err != nil {
		return fmt.Errorf("line %d: %w", n.Line, err)
	}
	*d = Decimal(m)
	return nil
}

// MarshalYAML writes a number.
func (d Decimal) MarshalYAML() (any, error) {
	return &yaml.Node{Kind: yaml.ScalarNode, Value: event.Micros(d).String()}, nil
}

// Seconds is a duration in whole seconds. It is written as "30d", "12h", "15m", "90s" or a plain number of seconds.
type Seconds int64

func parseSeconds(s string) (Seconds, error) {
	unit := int64(1)
	digits := s
	if n := len(s); n > 0 {
		switch s[n-1] {
		case 'd':
			unit = 24 * 60 * 60
		case 'h':
			unit = 60 * 60
		case 'm':
			unit = 60
		case 's':
		default:
			digits += "s"
		}
		digits = digits[:len(digits)-1]
	}
	v, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || v < 0 || v > (1<<40)/unit {
		return 0, fmt.Errorf("not a duration such as 30d, 12h, 15m or 90s: %.40q", s)
	}
	return Seconds(v * unit), nil
}

// String returns the shortest form.
func (d Seconds) String() string {
	switch {
	case d != 0 && d%86400 == 0:
		return strconv.FormatInt(int64(d)/86400, 10) + "d"
	case d != 0 && d%3600 == 0:
		return strconv.FormatInt(int64(d)/3600, 10) + "h"
	case d != 0 && d%60 == 0:
		return strconv.FormatInt(int64(d)/60, 10) + "m"
	}
	return strconv.FormatInt(int64(d), 10) + "s"
}

// UnmarshalJSON accepts a number of seconds or a string.
func (d *Seconds) UnmarshalJSON(b []byte) (err error) {
	s := string(b)
	if len(b) > 0 && b[0] == '"' {
		if err := json.Unmarshal(b, &s); err != nil {
			return err
		}
	}
	*d, err = parseSeconds(s)
	return err
}

// MarshalJSON writes a string.
func (d Seconds) MarshalJSON() ([]byte, error) { return json.Marshal(d.String()) }

// UnmarshalYAML accepts a number of seconds or a string.
func (d *Seconds) UnmarshalYAML(n *yaml.Node) error {
	v, err := parseSeconds(n.Value)
	if err != nil {
		return fmt.Errorf("line %d: %w", n.Line, err)
	}
	*d = v
	return nil
}

// MarshalYAML writes a string.
func (d Seconds) MarshalYAML() (any, error) { return d.String(), nil }

// MaxDocument is the largest document in bytes.
const MaxDocument = 32 << 20

// ParseDocument reads a document: JSON when it starts with a brace, else YAML. Unknown fields are errors, because a
// misspelt price must not be a missing price.
func ParseDocument(text []byte) (*Document, error) {
	if len(text) > MaxDocument {
		return nil, fmt.Errorf("document larger than %d bytes", MaxDocument)
	}
	d := &Document{}
	if trimmed := bytes.TrimLeft(text, " \t\r\n"); len(trimmed) > 0 && trimmed[0] == '{' {
		return d, parseStrictJSON(text, d)
	}
	dec := yaml.NewDecoder(bytes.NewReader(text))
	dec.KnownFields(true)
	if err := dec.Decode(d); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, errors.New("document is empty")
		}
		return nil, fmt.Errorf("document: %w", err)
	}
	if err := dec.Decode(&yaml.Node{}); !errors.Is(err, io.EOF) {
		return nil, errors.New("document: more than one YAML document")
	}
	return d, nil
}

func parseStrictJSON(text []byte, into any) error {
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		return fmt.Errorf("document: %w", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return errors.New("document: text after its end")
	}
	return nil
}

// YAML returns the document as YAML.
func (d *Document) YAML() ([]byte, error) {
	var b bytes.Buffer
	enc := yaml.NewEncoder(&b)
	enc.SetIndent(2)
	if err := enc.Encode(d); err != nil {
		return nil, err
	}
	return b.Bytes(), enc.Close()
}
