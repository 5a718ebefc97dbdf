package token

import (
	"sync/atomic"

	"milliard/internal/event"
)

// slotStride is odd, so that consecutive ids visit every slot, and far enough that they do not share a cache line.
const slotStride = 397

// Minter makes minted ids. Its number must never have been used before on the installation: together with the dense
// counter of each slot it is what makes an id unique, and what lets the grid remember ids as bits. All methods are safe
// for concurrent use.
type Minter struct {
	number uint32
	turn   atomic.Uint64
	next   [event.Slots]atomic.Uint64
}

// NewMinter returns a minter whose counters start at 0. Only the low 24 bits of the number are used.
func NewMinter(minter uint32) *Minter { return &Minter{number: minter & (1<<24 - 1)} }

// Number returns the minter's number.
func (m *Minter) Number() uint32 { return m.number }

// New mints an id in the next slot of the round.
func (m *Minter) New(unixMilli int64) event.MintedID {
	turn := m.turn.Add(1) - 1
	return m.NewIn(uint16(turn*slotStride%event.Slots), unixMilli)
}

// NewFor mints an id in the slot of a visitor, so that one visitor's events meet each other.
func (m *Minter) NewFor(visitorHash uint64, unixMilli int64) event.MintedID {
	return m.NewIn(uint16(visitorHash>>54), unixMilli)
}

// NewIn mints an id in a given slot. A time outside the 48 bits of the id is clamped.
func (m *Minter) NewIn(slot uint16, unixMilli int64) event.MintedID {
	slot %= event.Slots
	unixMilli = min(max(unixMilli, 0), 1<<48-1)
	return event.NewMintedID(unixMilli, slot, m.number, m.next[slot].Add(1)-1)
}
