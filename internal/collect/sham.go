package collect

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"sync/atomic"

	"milliard/internal/event"
)

// doorMinter is the minter of the doors. It remembers what the last id looked like, so that a sham can look like the next
// without using one up: the grid keeps ids as dense bits, and a forger must not be able to make holes.
type doorMinter struct {
	Minter
	last atomic.Uint64 // minter (24 bits) and counter (40 bits) of the last id
}

// New mints an id.
func (m *doorMinter) New(unixMilli int64) event.MintedID {
	id := m.Minter.New(unixMilli)
	m.last.Store(uint64(id.Minter())<<40 | id.Counter())
	return id
}

// sham returns an id that looks as if it had just been minted. It is not unique, and nothing may be stored under it.
func (m *doorMinter) sham(unixMilli int64) event.MintedID {
	last := m.last.Load()
	if last == 0 { // nothing has been minted since the start: one real id shows what they look like
		m.New(unixMilli)
		last = m.last.Load()
	}
	var dice [8]byte
	_, _ = rand.Read(dice[:]) // never fails
	roll := binary.LittleEndian.Uint64(dice[:])
	counter := last & (1<<40 - 1)
	if counter > 0 {
		counter -= roll >> 32 & 1 // slots take turns, so at any time the counters are one apart
	}
	return event.NewMintedID(unixMilli, uint16(roll%event.Slots), uint32(last>>40), counter)
}

// macBytes is the end of a token that depends on the key.
const macBytes = 16

// spoil gives a signed text a random signature, so that it cannot be verified and nobody without the key can tell. It
// returns false when text is not a token.
func spoil(text []byte) bool {
	raw, err := base64.RawURLEncoding.DecodeString(string(text))
	if err != nil || len(raw) < macBytes {
		return false
	}
	_, _ = rand.Read(raw[len(raw)-macBytes:]) // never fails
	base64.RawURLEncoding.Encode(text, raw)
	return true
}
