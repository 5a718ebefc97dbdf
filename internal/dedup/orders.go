package dedup

import "slices"

// Orders remembers the keyed hashes of orders, for ever: an order is paid once, however late it is posted again. The
// list grows at its end only, so that an image writes each stretch of it once.
type Orders struct {
	set  map[uint64]struct{}
	list []uint64
}

// NewOrders returns an empty set.
func NewOrders() *Orders { return &Orders{set: make(map[uint64]struct{})} }

// Seen says whether the order was claimed.
func (o *Orders) Seen(hash uint64) bool {
	_, ok := o.set[hash]
	return ok
}

// Claim remembers the order.
func (o *Orders) Claim(hash uint64) {
	o.set[hash] = struct{}{}
	o.list = append(o.list, hash)
}

// List returns every hash in the order of claims. The returned part never changes.
func (o *Orders) List() []uint64 { return slices.Clip(o.list) }

// Restore replaces the state with an image's.
func (o *Orders) Restore(list []uint64) {
	o.set, o.list = make(map[uint64]struct{}, len(list)), list
	for _, h := range list {
		o.set[h] = struct{}{}
	}
}
