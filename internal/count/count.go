// Package count sums events into cells: open-addressing tables without pointers, filled by a lane's owner and spelled
// out for the ledger when a generation is closed. It is pure and has no lock; each table belongs to one goroutine at a
// time.
package count

import (
	"math"
	"math/bits"

	"milliard/internal/event"
	"milliard/internal/ledger"
)

// Hashable is a key of a table.
type Hashable interface {
	comparable
	hash() uint64
}

// Table sums values by key. The zero Table is empty and ready.
type Table[K Hashable] struct {
	Keys  []K            // in the order in which they first appeared
	Sums  []ledger.Value // of the key at the same place
	index []uint32       // position in Keys + 1; 0 is empty
}

// Reserve makes room for n keys, so that a generation as large as the last one grows no table.
func (t *Table[K]) Reserve(n int) {
	size := 64
	for size < 2*n {
		size *= 2
	}
	t.Keys, t.Sums = make([]K, 0, n), make([]ledger.Value, 0, n)
	t.index = make([]uint32, size)
}

// Add adds v to the sum of k and says whether the key is new. When a sum would leave the range of int64 a second one of
// the same key is opened: cells are deltas, and whoever reads them adds them up in wider arithmetic.
func (t *Table[K]) Add(k K, v ledger.Value) (at int, fresh bool) {
	if 2*(len(t.Keys)+1) > len(t.index) {
		t.grow()
	}
	mask := uint64(len(t.index) - 1)
	i := k.hash() & mask
	for ; t.index[i] != 0; i = (i + 1) & mask {
		at := int(t.index[i] - 1)
		if t.Keys[at] == k {
			if add(&t.Sums[at], v) {
				return at, false
			}
			break
		}
	}
	fresh = t.index[i] == 0
	t.Keys, t.Sums = append(t.Keys, k), append(t.Sums, v)
	t.index[i] = uint32(len(t.Keys))
	return len(t.Keys) - 1, fresh
}

func (t *Table[K]) grow() {
	size := max(64, 2*len(t.index))
	t.index = make([]uint32, size)
	mask := uint64(size - 1)
	for n, k := range t.Keys {
		i := k.hash() & mask
		for t.index[i] != 0 && t.Keys[t.index[i]-1] != k {
			i = (i + 1) & mask
		}
		t.index[i] = uint32(n + 1)
	}
}

// Len returns the number of sums.
func (t *Table[K]) Len() int { return len(t.Keys) }

func add(to *ledger.Value, v ledger.Value) bool {
	n, okN := addMicros(to.N, v.N)
	amount, okA := addMicros(to.Amount, v.Amount)
	if !okN || !okA {
		return false
	}
	to.N, to.Amount, to.Events = n, amount, to.Events+v.Events
	return true
}

func addMicros(a, b event.Micros) (event.Micros, bool) {
	if (b > 0 && a > math.MaxInt64-b) || (b < 0 && a < -math.MaxInt64-b) { // every sum has a negative
		return 0, false
	}
	return a + b, true
}

// cellKey is a ledger key with a hash.
type cellKey ledger.Key

// hash mixes the fields with two multiplications; keys are ours, so speed matters more than resistance.
func (k cellKey) hash() uint64 {
	a := uint64(uint32(k.Bucket))<<32 | uint64(k.Campaign)
	b := uint64(k.Banner)<<32 | uint64(k.Affiliate)
	c := uint64(k.Revenue)<<32 | uint64(k.Payout)
	d := uint64(k.Tenant)<<48 | uint64(k.Type)<<32 | uint64(k.Goal)<<16 | uint64(k.Class)
	hi, lo := bits.Mul64(a^0x9e3779b97f4a7c15, b^0xe7037ed1a0b428db)
	h2, l2 := bits.Mul64(c^0x8ebc6af09c88c6e3, d^0x589965cc75374cc3)
	return hi ^ lo ^ bits.RotateLeft64(h2^l2, 29)
}

// rollupKey is a cell of 15 minutes, split by one value of one dimension.
type rollupKey struct {
	cell  cellKey
	value uint32
	dim   ledger.Dimension
}

func (k rollupKey) hash() uint64 {
	hi, lo := bits.Mul64(k.cell.hash()^0x9e3779b97f4a7c15, uint64(k.value)<<8|uint64(k.dim)|1<<63)
	return hi ^ lo
}
