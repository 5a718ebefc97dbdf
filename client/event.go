package client

import (
	"time"

	"milliard/internal/event"
)

// Micros is a fixed-point number in millionths: 1.5 is 1_500_000. Increments and amounts of money are Micros.
type Micros = event.Micros

// One is the number 1.
const One = event.One

// ParseMicros reads a plain decimal with at most six decimals, exactly.
func ParseMicros(s string) (Micros, error) { return event.ParseMicros(s) }

// The built-in event types.
const (
	Impression = "impression"
	Click      = "click"
	Conversion = "conversion"
)

// Event is one event to send. Empty fields are not sent. docs/api-doors.md has the rules.
type Event struct {
	ID         string    // unique per Source; empty: Client.Send makes one, so that a retry cannot count twice, or the Row is it
	Source     string    // who gave the id
	Type       string    // Impression, Click, Conversion or a registered custom type
	Time       time.Time // when it happened; zero: when it is received
	Campaign   string
	Banner     string
	Affiliate  string
	Goal       string
	N          Micros // increment; 0 means 1
	Amount     Micros // order value, or with PriceModel the price
	Currency   string
	PriceModel string // cpm, cpc or cpa: the amount is a carried price
	OrderID    string
	ClickID    string
	Token      string
	IP         string
	UA         string
	Visitor    string
	Country    string
	Device     string
	Referrer   string
	Subs       []string // Subs[0] is sub1
	Row        uint64   // of an import, for an event without an ID
}

// MaxSubs is the number of sub-ids that an event can have.
const MaxSubs = 30
