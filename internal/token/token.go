// Package token is the signed ids that links and pixels carry: their bytes, the keys that sign them, and the minter
// that makes the ids inside. It is pure: no I/O, no goroutines, no clock; everything is safe for concurrent use. It
// never decides whether a token is too old: the caller compares Claims.Expires with its own clock. The bytes are drawn
// in docs/format/token.md.
package token

import (
	"errors"
	"fmt"

	"milliard/internal/event"
)

// Errors of the package.
var (
	// ErrForged: not a token of ours. The reason is not told apart, so that nobody can learn from it.
	ErrForged = errors.New("forged token")
	// ErrNoKey: the tenant has no key to mint with.
	ErrNoKey = errors.New("tenant has no signing key")
)

// Kind says what a token is for.
type Kind uint8

// The kinds.
const (
	Tag     Kind = 1 // minted by /ad, carried by pixel and click links
	ClickID Kind = 2 // put into landing URLs, carried back by conversions
)

// MaxSub1 is the longest first sub-id that a click id carries.
const MaxSub1 = 64

// Claims is what a token says.
type Claims struct {
	Kind      Kind
	Tenant    event.TenantID
	Campaign  event.CampaignID
	Banner    event.BannerID
	Affiliate event.AffiliateID
	ID        event.MintedID
	Expires   int64 // unix seconds

	// Of a click id only: what attribution needs of its click.
	Country event.Country
	Device  event.Device
	Sub1    []byte // at most MaxSub1 bytes; after Verify it stands in the Claims' own memory

	sub1 [MaxSub1]byte
}

// The layout. A tag is exactly headSize + macSize = 54 bytes, which is 72 characters without a spare bit.
const (
	version   = 1
	headSize  = 38
	extraSize = 4 // country, device, length of sub1
	macSize   = 16

	// MaxSize is the longest token in bytes, MaxText in characters.
	MaxSize = headSize + extraSize + MaxSub1 + macSize
	MaxText = (MaxSize*8 + 5) / 6

	maxExpires = 1<<40 - 1
)

// appendBody appends everything but the MAC.
func appendBody(b []byte, key uint8, c *Claims) ([]byte, error) {
	switch {
	case c.Kind != Tag && c.Kind != ClickID:
		return b, fmt.Errorf("token kind %d", c.Kind)
	case c.Expires < 0 || c.Expires > maxExpires:
		return b, fmt.Errorf("token expiry %d out of range", c.Expires)
	case len(c.Sub1) > MaxSub1:
		return b, fmt.Errorf("token sub1 longer than %d bytes", MaxSub1)
	case c.Kind == Tag && (len(c.Sub1) > 0 || c.Country != 0 || c.Device != 0):
		return b, errors.New("tag token with fields of a click id")
	}
	id := c.ID.Bytes()
	b = append(b, version, key, byte(c.Kind), byte(c.Tenant>>8), byte(c.Tenant))
	b = append32(b, uint32(c.Campaign))
	b = append32(b, uint32(c.Banner))
	b = append32(b, uint32(c.Affiliate))
	b = append(b, byte(c.Expires>>32))
	b = append32(b, uint32(c.Expires))
	b = append(b, id[:]...)
	if c.Kind == ClickID {
		b = append(b, byte(c.Country>>8), byte(c.Country), byte(c.Device), byte(len(c.Sub1)))
		b = append(b, c.Sub1...)
	}
	return b, nil
}

// parseBody fills c from body, which has no MAC any more. It accepts exactly what appendBody writes.
func parseBody(body []byte, c *Claims) bool {
	if len(body) < headSize || body[0] != version {
		return false
	}
	var id [16]byte
	copy(id[:], body[22:38])
	c.Kind = Kind(body[2])
	c.Tenant = event.TenantID(body[3])<<8 | event.TenantID(body[4])
	c.Campaign = event.CampaignID(read32(body[5:]))
	c.Banner = event.BannerID(read32(body[9:]))
	c.Affiliate = event.AffiliateID(read32(body[13:]))
	c.Expires = int64(body[17])<<32 | int64(read32(body[18:]))
	c.ID = event.MintedIDFromBytes(id)
	c.Country, c.Device, c.Sub1 = 0, 0, nil
	if !c.ID.Wellformed() {
		return false
	}
	if c.Kind == Tag {
		return len(body) == headSize
	}
	if c.Kind != ClickID || len(body) < headSize+extraSize {
		return false
	}
	n := int(body[headSize+3])
	if n > MaxSub1 || len(body) != headSize+extraSize+n {
		return false
	}
	c.Country = event.Country(body[headSize])<<8 | event.Country(body[headSize+1])
	c.Device = event.Device(body[headSize+2])
	if n > 0 {
		c.Sub1 = c.sub1[:copy(c.sub1[:], body[headSize+extraSize:])]
	}
	return true
}

func append32(b []byte, v uint32) []byte {
	return append(b, byte(v>>24), byte(v>>16), byte(v>>8), byte(v))
}

func read32(b []byte) uint32 {
	return uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
}
