// Package event is the vocabulary of Milliard: what an event is, the ids and units it is made of, the verdicts it can
// get, and the columnar block in which events travel. It is the ground every other package stands on: standard library
// and the column encodings only, no I/O, no goroutines, no clock.
package event

import (
	"encoding/hex"
	"fmt"
	"math"
	"strconv"
)

// Ids of the catalog. They are small integers given out by the catalog; 0 means "none" or "not known".
type (
	TenantID     uint16 // one network on this installation
	AdvertiserID uint32 // who pays
	CampaignID   uint32 // what is promoted; unique within a tenant
	BannerID     uint32 // the creative
	AffiliateID  uint32 // who sends traffic
	GoalID       uint16 // which conversion
	PriceID      uint32 // one version of one price rule; 0 is "no price"
)

// Type is the kind of an event. The first three are built in; custom types start at FirstCustomType.
type Type uint16

// The built-in event types.
const (
	Impression Type = 1
	Click      Type = 2
	Conversion Type = 3

	FirstCustomType Type = 64
)

// Class is a verdict: exactly one per event.
type Class uint8

// The classes. Only Valid events are billed; every class is counted and kept.
const (
	Valid            Class = 1
	Duplicate        Class = 2
	Expired          Class = 3 // the token was older than its life when a door received it
	UnknownCampaign  Class = 4
	UnknownBanner    Class = 5
	UnknownAffiliate Class = 6
	Late             Class = 7 // a live event whose own time is older than the duplicate window
	Future           Class = 8 // own time more than ten minutes ahead of log time
	Undecided        Class = 9 // judging failed; held, with its bytes in the archive
)

// Classes lists every class in order.
func Classes() []Class {
	return []Class{Valid, Duplicate, Expired, UnknownCampaign, UnknownBanner, UnknownAffiliate, Late, Future, Undecided}
}

// String returns the class as it is written in reports, metrics and SQL.
func (c Class) String() string {
	switch c {
	case Valid:
		return "valid"
	case Duplicate:
		return "duplicate"
	case Expired:
		return "expired"
	case UnknownCampaign:
		return "unknown_campaign"
	case UnknownBanner:
		return "unknown_banner"
	case UnknownAffiliate:
		return "unknown_affiliate"
	case Late:
		return "late"
	case Future:
		return "future"
	case Undecided:
		return "undecided"
	}
	return "class_" + strconv.Itoa(int(c))
}

// ParseClass is the inverse of String.
func ParseClass(s string) (Class, bool) {
	for _, c := range Classes() {
		if c.String() == s {
			return c, true
		}
	}
	return 0, false
}

// Micros is a fixed-point number in millionths: 1.5 is 1_500_000. Counts and amounts of money are Micros, so that sums
// are exact integers.
type Micros int64

// One is the number 1.
const One Micros = 1_000_000

// String returns the shortest exact decimal.
func (m Micros) String() string {
	neg := m < 0
	u := uint64(m)
	if neg {
		u = -u
	}
	s := strconv.FormatUint(u/1_000_000, 10)
	if frac := u % 1_000_000; frac != 0 {
		f := fmt.Sprintf("%06d", frac)
		for f[len(f)-1] == '0' {
			f = f[:len(f)-1]
		}
		s += "." + f
	}
	if neg {
		s = "-" + s
	}
	return s
}

// ParseMicros reads a plain decimal such as "-12", "0.55" or "142919.60". It refuses exponents, separators, more than
// six decimals and anything beyond the range of int64 millionths.
func ParseMicros(s string) (Micros, error) {
	digits := s
	neg := false
	if len(digits) > 0 && (digits[0] == '-' || digits[0] == '+') {
		neg = digits[0] == '-'
		digits = digits[1:]
	}
	var u uint64
	limit := uint64(math.MaxInt64)
	if neg {
		limit++
	}
	seen, frac, dot := 0, 0, false
	for i := 0; i < len(digits); i++ {
		c := digits[i]
		switch {
		case c == '.' && !dot:
			dot = true
			continue
		case c < '0' || c > '9':
			return 0, fmt.Errorf("not a decimal number: %.40q", s)
		}
		seen++
		if dot {
			frac++
			if frac > 6 {
				if c != '0' {
					return 0, fmt.Errorf("more than six decimals: %.40q", s)
				}
				continue
			}
		}
		if u > (limit-uint64(c-'0'))/10 {
			return 0, fmt.Errorf("number out of range: %.40q", s)
		}
		u = u*10 + uint64(c-'0')
	}
	if seen == 0 {
		return 0, fmt.Errorf("not a decimal number: %.40q", s)
	}
	for ; frac < 6; frac++ {
		if u > limit/10 {
			return 0, fmt.Errorf("number out of range: %.40q", s)
		}
		u *= 10
	}
	if neg {
		return -Micros(u), nil
	}
	return Micros(u), nil
}

// Space says which of the three forms an event id has; it decides how the grid remembers it.
type Space uint8

// The id spaces.
const (
	Minted   Space = 1 // made by a Milliard door: MintedID
	Foreign  Space = 2 // made by somebody else: up to 255 bytes, unique per tenant and source
	Imported Space = 3 // an event of an import: (ImportID, row number), or the log's own id
)

// MaxForeignID is the longest foreign id in bytes.
const MaxForeignID = 255

// Slots is the number of slots: the fixed unit of routing and of state.
const Slots = 1024

// MintedID is a UUID of version 7 whose 74 free bits hold slot (10), minter (24) and a dense counter (40).
// Hi = unix milliseconds (48) | 7 (4) | slot (10) | minter high (2). Lo = 2 (2) | minter low (22) | counter (40).
type MintedID struct{ Hi, Lo uint64 }

// NewMintedID packs an id. Only the low bits that fit are used.
func NewMintedID(unixMilli int64, slot uint16, minter uint32, counter uint64) MintedID {
	minter &= 1<<24 - 1
	return MintedID{
		Hi: uint64(unixMilli)<<16 | 7<<12 | uint64(slot&(Slots-1))<<2 | uint64(minter>>22),
		Lo: 2<<62 | uint64(minter&(1<<22-1))<<40 | counter&(1<<40-1),
	}
}

// UnixMilli returns when the id was minted.
func (id MintedID) UnixMilli() int64 { return int64(id.Hi >> 16) }

// Slot returns the slot that the id was minted into.
func (id MintedID) Slot() uint16 { return uint16(id.Hi>>2) & (Slots - 1) }

// Minter returns which minter made the id.
func (id MintedID) Minter() uint32 {
	return uint32(id.Hi&3)<<22 | uint32(id.Lo>>40)&(1<<22-1)
}

// Counter returns the minter's dense counter within the slot.
func (id MintedID) Counter() uint64 { return id.Lo & (1<<40 - 1) }

// IsZero says whether there is no id.
func (id MintedID) IsZero() bool { return id.Hi == 0 && id.Lo == 0 }

// Wellformed says whether the version and variant bits are those of a minted id.
func (id MintedID) Wellformed() bool { return id.Hi>>12&15 == 7 && id.Lo>>62 == 2 }

// Bytes returns the sixteen bytes, big-endian, as UUIDs are written.
func (id MintedID) Bytes() (b [16]byte) {
	for i := range 8 {
		b[i] = byte(id.Hi >> (56 - 8*i))
		b[8+i] = byte(id.Lo >> (56 - 8*i))
	}
	return b
}

// MintedIDFromBytes is the inverse of Bytes.
func MintedIDFromBytes(b [16]byte) (id MintedID) {
	for i := range 8 {
		id.Hi = id.Hi<<8 | uint64(b[i])
		id.Lo = id.Lo<<8 | uint64(b[8+i])
	}
	return id
}

// String returns the usual UUID text form.
func (id MintedID) String() string {
	b := id.Bytes()
	h := hex.EncodeToString(b[:])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

// ParseMintedID reads the UUID text form, with or without dashes.
func ParseMintedID(s string) (MintedID, bool) {
	if len(s) == 36 && s[8] == '-' && s[13] == '-' && s[18] == '-' && s[23] == '-' {
		s = s[:8] + s[9:13] + s[14:18] + s[19:23] + s[24:]
	}
	var b [16]byte
	if len(s) != 32 {
		return MintedID{}, false
	}
	if _, err := hex.Decode(b[:], []byte(s)); err != nil {
		return MintedID{}, false
	}
	id := MintedIDFromBytes(b)
	return id, id.Wellformed()
}

// ImportID names one import: a hash of tenant, key, file and map. Zero means the event is live.
type ImportID [16]byte

// IsZero says whether there is no import.
func (id ImportID) IsZero() bool { return id == ImportID{} }

// Flags is what a door found out about an event and the grid needs for its verdict.
type Flags uint16

// The flags.
const (
	FlagExpired          Flags = 1 << iota // token past its life on receipt
	FlagUnknownCampaign                    // named a campaign that the catalog does not have or that is not active
	FlagUnknownBanner                      // named a banner that the campaign does not have
	FlagUnknownAffiliate                   // named an affiliate that the tenant does not have
	FlagAttributed                         // a conversion whose click is known from a signed click id
	FlagPrivacySignal                      // Sec-GPC: 1; the personal columns are empty
	FlagTimeGiven                          // the sender gave the event time; without it Time is the receive time
)

// Country is two letters of ISO 3166, or 0 for unknown.
type Country uint16

// ParseCountry accepts two ASCII letters in any case; everything else is unknown (0).
func ParseCountry(s string) Country {
	if len(s) != 2 {
		return 0
	}
	a, b := s[0]&^0x20, s[1]&^0x20
	if a < 'A' || a > 'Z' || b < 'A' || b > 'Z' {
		return 0
	}
	return Country(a)<<8 | Country(b)
}

// String returns the two letters, or "unknown".
func (c Country) String() string {
	if c == 0 {
		return "unknown"
	}
	return string([]byte{byte(c >> 8), byte(c)})
}

// Device is the coarse device class.
type Device uint8

// The devices.
const (
	DeviceUnknown Device = iota
	DeviceDesktop
	DeviceMobile
	DeviceTablet
	DeviceTV
	DeviceBot
	DeviceOther
	deviceCount
)

// String returns the device as it is written in reports.
func (d Device) String() string {
	switch d {
	case DeviceDesktop:
		return "desktop"
	case DeviceMobile:
		return "mobile"
	case DeviceTablet:
		return "tablet"
	case DeviceTV:
		return "tv"
	case DeviceBot:
		return "bot"
	case DeviceOther:
		return "other"
	default:
		return "unknown"
	}
}

// ParseDevice is the inverse of String; unknown words are DeviceOther, the empty word is DeviceUnknown.
func ParseDevice(s string) Device {
	if s == "" {
		return DeviceUnknown
	}
	for d := range deviceCount {
		if d.String() == s {
			return d
		}
	}
	return DeviceOther
}

// Event is one event as a door hands it to a lane: resolved against the catalog, not yet judged. Strings may alias the
// request; a lane copies them.
type Event struct {
	Space   Space
	ID      MintedID // Minted: the id. Imported: Lo is the row number.
	Import  ImportID // Imported only
	Foreign []byte   // Foreign: the id. Imported: the log's own id, if it has any; it then identifies the event instead of the row.
	Source  []byte   // with Foreign: who gave the id (CloudEvents source); empty is a source too

	Type       Type
	Time       int64 // when it happened, unix milliseconds; the receive time when the sender gave none
	Tenant     TenantID
	Advertiser AdvertiserID // of the campaign
	Campaign   CampaignID
	Banner     BannerID
	Affiliate  AffiliateID
	Goal       GoalID
	Revenue    PriceID // what the advertiser pays, by the version it was resolved with
	Payout     PriceID // what the affiliate gets
	N          Micros  // the increment, One unless given
	Amount     Micros  // order value, or the carried price; in the currency of the campaign
	Flags      Flags
	Country    Country
	Device     Device

	Click     MintedID // Click: the click id put into the landing URL. Conversion: the click it is attributed to.
	ClickTime int64    // Conversion: when that click was, unix milliseconds
	Order     []byte   // Conversion: the advertiser's order id

	Subs     []byte // sub-ids, query-encoded in name order: "sub1=a&sub2=b"
	Ref      []byte // for unknown campaign, banner or affiliate: what the sender called it
	Referrer []byte // referrer host

	// Personal part: kept apart, redactable.
	IP      []byte // truncated address: 3 bytes (IPv4 /24) or 6 bytes (IPv6 /48)
	IPHash  uint64 // daily-keyed hash of the full address; 0 without one
	UA      []byte // user agent
	Visitor []byte // visitor id
}

// Sale says whether the event belongs into the ledger's sales table.
func (e *Event) Sale() bool { return e.Type == Conversion }
