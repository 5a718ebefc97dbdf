// Package count sums events into cells: open-addressing tables without pointers, one per generation. It is pure and has
// no lock; each table belongs to one owner.
package count

import (
	"math"
	"math/bits"

	"milliard/internal/event"
	"milliard/internal/ledger"
)

// Table sums values by key. The zero Table is empty and ready.
type Table struct {
	cells []ledger.Cell
	index []uint32 // position in cells + 1; 0 is empty
}

// Add adds v to the cell of k. When a sum would leave the range of int64 a second cell of the same key is opened: cells
// are deltas, and whoever reads them adds them up in wider arithmetic.
func (t *Table) Add(k *ledger.Key, v ledger.Value) {
	if 2*(len(t.cells)+1) > len(t.index) {
		t.grow()
	}
	mask := uint64(len(t.index) - 1)
	i := hashKey(k) & mask
	for ; t.index[i] != 0; i = (i + 1) & mask {
		c := &t.cells[t.index[i]-1]
		if c.Key == *k {
			if add(&c.Value, v) {
				return
			}
			break
		}
	}
	t.cells = append(t.cells, ledger.Cell{Key: *k, Value: v})
	t.index[i] = uint32(len(t.cells))
}

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
	if (b > 0 && a > math.MaxInt64-b) || (b < 0 && a < math.MinInt64-b) {
		return 0, false
	}
	return a + b, true
}

func (t *Table) grow() {
	size := max(64, 2*len(t.index))
	t.index = make([]uint32, size)
	mask := uint64(size - 1)
	for n := range t.cells {
		k := &t.cells[n].Key
		i := hashKey(k) & mask
		for t.index[i] != 0 && t.cells[t.index[i]-1].Key != *k {
			i = (i + 1) & mask
		}
		t.index[i] = uint32(n + 1)
	}
}

// hashKey mixes the fields of a key with two multiplications; cells are few and keys are ours, so speed matters more
// than resistance.
func hashKey(k *ledger.Key) uint64 {
	a := uint64(uint32(k.Bucket))<<32 | uint64(k.Campaign)
	b := uint64(k.Banner)<<32 | uint64(k.Affiliate)
	c := uint64(k.Revenue)<<32 | uint64(k.Payout)
	d := uint64(k.Tenant)<<48 | uint64(k.Type)<<32 | uint64(k.Goal)<<16 | uint64(k.Class)
	hi, lo := bits.Mul64(a^0x9e3779b97f4a7c15, b^0xe7037ed1a0b428db)
	h2, l2 := bits.Mul64(c^0x8ebc6af09c88c6e3, d^0x589965cc75374cc3)
	return hi ^ lo ^ bits.RotateLeft64(h2^l2, 29)
}

// Cells returns the cells in the order in which they first appeared. The slice is the table's own.
func (t *Table) Cells() []ledger.Cell { return t.cells }

// Len returns the number of cells.
func (t *Table) Len() int { return len(t.cells) }

// Reset empties the table and keeps its index memory; the cells are left to whoever took them.
func (t *Table) Reset() {
	t.cells = nil
	clear(t.index)
}

type rollupKey struct {
	ledger.Key
	dim   ledger.Dimension
	value uint32
}

// Rollups sums values by key, dimension and value. Values are interned by the owner (see Budgets).
type Rollups struct {
	index map[rollupKey]int // position in keys and sums
	keys  []rollupKey
	sums  []ledger.Value
}

// Add adds v to one rollup cell, with the same rule for overflow as Table.Add.
func (r *Rollups) Add(k *ledger.Key, dim ledger.Dimension, value uint32, v ledger.Value) {
	if r.index == nil {
		r.index = make(map[rollupKey]int)
	}
	rk := rollupKey{Key: *k, dim: dim, value: value}
	if i, ok := r.index[rk]; ok && add(&r.sums[i], v) {
		return
	}
	r.index[rk] = len(r.keys)
	r.keys = append(r.keys, rk)
	r.sums = append(r.sums, v)
}

// Cells returns the rollup cells, with the values spelt out by name.
func (r *Rollups) Cells(name func(ledger.Dimension, uint32) string) []ledger.RollupCell {
	out := make([]ledger.RollupCell, 0, len(r.keys))
	for i, k := range r.keys {
		out = append(out, ledger.RollupCell{Dim: k.dim, DimValue: name(k.dim, k.value), Key: k.Key, Value: r.sums[i]})
	}
	return out
}

// Len returns the number of rollup cells.
func (r *Rollups) Len() int { return len(r.keys) }
