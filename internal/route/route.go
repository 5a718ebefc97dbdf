// Package route decides which slot an event belongs to and which lane carries a slot. It is pure. Slots never change;
// an event's slot depends on nothing but its own ids, so one event always meets the same state.
package route

import (
	"encoding/binary"

	"github.com/zeebo/xxh3"

	"milliard/internal/event"
	"milliard/internal/planted"
)

// importRowsPerSlot keeps neighbouring rows of an import in one slot, so that their bitmap is dense.
const importRowsPerSlot = 1 << 16

// Router hashes foreign ids and orders with the installation's secret seed.
type Router struct{ Seed uint64 }

// Slot returns the event's slot: inside ids that we minted; conversions by order, else by click unless an
// import names them; foreign ids by hash.
func (r Router) Slot(e *event.Event) uint16 {
	var buf [foreignRoom]byte
	slot, _ := r.SlotWith(buf[:0], e)
	return slot
}

// SlotWith is Slot with the caller's buffer, as HashForeign.
func (r Router) SlotWith(buf []byte, e *event.Event) (uint16, []byte) {
	if e.Type == event.Conversion {
		if len(e.Order) > 0 && (!planted.Is(planted.OrderByClick) || e.Click.IsZero()) {
			return slotOf(r.Order(e.Tenant, e.Advertiser, e.Order)), buf
		}
		if !e.Click.IsZero() && (e.Space != event.Imported || len(e.Foreign) == 0) {
			return e.Click.Slot(), buf
		}
	}
	switch e.Space {
	case event.Minted:
		return e.ID.Slot(), buf
	case event.Imported:
		if len(e.Foreign) == 0 {
			return ImportSlot(e.Import, e.ID.Lo), buf
		}
	case event.Foreign:
	}
	hash, buf := r.HashForeign(buf, e.Tenant, e.Source, e.Type, e.Foreign)
	return slotOf(hash), buf
}

// foreignRoom holds what is hashed of a foreign id.
const foreignRoom = 6 + 2*event.MaxForeignID + 2

// Foreign returns the keyed hash of a foreign id. The type is part of it: an impression and a click may share an id.
func (r Router) Foreign(tenant event.TenantID, source []byte, typ event.Type, id []byte) uint64 {
	var buf [foreignRoom]byte
	hash, _ := r.HashForeign(buf[:0], tenant, source, typ, id)
	return hash
}

// HashForeign is Foreign with the caller's buffer, which it overwrites and returns: who hashes many ids need not clear
// one for each.
func (r Router) HashForeign(buf []byte, tenant event.TenantID, source []byte, typ event.Type, id []byte) (uint64, []byte) {
	if planted.Is(planted.NoTenant) {
		tenant = 0
	}
	b := binary.LittleEndian.AppendUint64(buf[:0], uint64(uint16(len(source)))<<32|uint64(typ)<<16|uint64(tenant))[:6]
	b = append(b, source...)
	b = append(b, id...)
	return xxh3.HashSeed(b, r.Seed), b
}

// Order returns the keyed hash of an advertiser's order id. The goal is not part of it, so all goals of an order meet.
func (r Router) Order(tenant event.TenantID, advertiser event.AdvertiserID, order []byte) uint64 {
	var buf [16 + event.MaxForeignID]byte
	b := binary.LittleEndian.AppendUint16(buf[:0], uint16(tenant))
	b = binary.LittleEndian.AppendUint32(b, uint32(advertiser))
	b = append(b, "order"...)
	b = append(b, order...)
	return xxh3.HashSeed(b, r.Seed)
}

func slotOf(hash uint64) uint16 { return uint16(hash >> 54) }

// ImportSlot returns the slot of a row of an import.
func ImportSlot(id event.ImportID, row uint64) uint16 {
	h := xxh3.HashSeed(id[:], row/importRowsPerSlot)
	return slotOf(h)
}

// Lane returns which of lanes carries a slot.
func Lane(slot uint16, lanes int) int { return int(slot) * lanes / event.Slots }
