package dedup

import "slices"

// Orders remembers the keyed hashes of orders, for ever: an order is paid once, however late it is posted again. The
// list grows at its end only, so that an image writes each stretch of it once. The look-up stands in parts that grow by
// themselves, so that no claim waits for more than a part.
type Orders struct {
	list  []uint64
	parts [orderParts]orderPart
}

// orderParts is a power of two, so that the hash's first byte says the part.
const orderParts = 256

// orderPart holds places in the list, by hash. It is never more than three quarters full.
type orderPart struct {
	slots []uint32 // place + 1; 0: free
	n     int
}

// NewOrders returns an empty set.
func NewOrders() *Orders { return &Orders{} }

// Seen says whether the order was claimed.
func (o *Orders) Seen(hash uint64) bool {
	p := &o.parts[hash>>56]
	if p.n == 0 {
		return false
	}
	return p.slots[o.find(p, hash)] != 0
}

// find returns the slot that has the hash, or the free one where it belongs.
func (o *Orders) find(p *orderPart, hash uint64) int {
	mask := len(p.slots) - 1
	at := int(hash) & mask
	for p.slots[at] != 0 && o.list[p.slots[at]-1] != hash {
		at = (at + 1) & mask
	}
	return at
}

// Claim remembers the order.
func (o *Orders) Claim(hash uint64) {
	o.list = append(o.list, hash)
	o.enter(len(o.list) - 1)
}

// enter makes the order at a place of the list known.
func (o *Orders) enter(place int) {
	p := &o.parts[o.list[place]>>56]
	if 4*(p.n+1) > 3*len(p.slots) {
		o.grow(p)
	}
	at := o.find(p, o.list[place])
	if p.slots[at] == 0 {
		p.slots[at] = uint32(place + 1)
		p.n++
	}
}

func (o *Orders) grow(p *orderPart) {
	old := p.slots
	p.slots = make([]uint32, max(8, 2*len(old)))
	for _, place := range old {
		if place != 0 {
			p.slots[o.find(p, o.list[place-1])] = place
		}
	}
}

// List returns every hash in the order of claims. The returned part never changes.
func (o *Orders) List() []uint64 { return slices.Clip(o.list) }

// Restore replaces the state with an image's.
func (o *Orders) Restore(list []uint64) {
	o.list, o.parts = list, [orderParts]orderPart{}
	for place := range list {
		o.enter(place)
	}
}
