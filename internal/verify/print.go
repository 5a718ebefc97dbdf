package verify

import (
	"math/bits"
	"math/rand/v2"
	"slices"

	"github.com/zeebo/xxh3"

	"milliard/internal/event"
	"milliard/internal/ledger"
)

// Cells are compared by fingerprints. Every cell of every table has a secret factor of 128 bits, made of its key; the
// fingerprint of a group of cells is Σ factor × worth, modulo 2^128, where the worth of what is added is a secret linear
// combination of increment, amount and events. It is linear, so the log's side needs no cell at all: each event is added
// as it comes, in any order, and the ledger's rows are taken away. What is left is zero if and only if every cell of the
// group has the same sums on both sides; by chance with a probability below 2^-60. Groups that are left over are counted
// again, cell by cell.

// wide128 is a number modulo 2^128.
type wide128 struct{ hi, lo uint64 }

func (w *wide128) plus(v wide128) {
	var carry uint64
	w.lo, carry = bits.Add64(w.lo, v.lo, 0)
	w.hi, _ = bits.Add64(w.hi, v.hi, carry)
}

func (w *wide128) minus(v wide128) {
	var borrow uint64
	w.lo, borrow = bits.Sub64(w.lo, v.lo, 0)
	w.hi, _ = bits.Sub64(w.hi, v.hi, borrow)
}

func (w wide128) times(v wide128) wide128 {
	hi, lo := bits.Mul64(w.lo, v.lo)
	return wide128{hi + w.hi*v.lo + w.lo*v.hi, lo}
}

// signed is a number of 64 bits with its sign.
func signed(v int64) wide128 { return wide128{uint64(v >> 63), uint64(v)} }

// secret is what the factors of a run are made with. Nobody else knows it, so nobody can make damage that is not seen.
type secret struct {
	s                 [8]uint64
	seed              uint64
	n, amount, events wide128
	one               wide128 // worth of an event with the increment one and no amount
}

func newSecret() *secret {
	k := &secret{seed: rand.Uint64()}
	for i := range k.s {
		k.s[i] = rand.Uint64()
	}
	for _, w := range []*wide128{&k.n, &k.amount, &k.events} {
		*w = wide128{rand.Uint64(), rand.Uint64() | 1} // odd: no bit of what it multiplies is lost
	}
	k.one = k.worth(1_000_000, 0, 1)
	return k
}

// worth of what is added to a cell.
func (k *secret) worth(n, amount, events int64) wide128 {
	w := k.events.times(signed(events))
	w.plus(k.n.times(signed(n)))
	w.plus(k.amount.times(signed(amount)))
	return w
}

// factors is the part of a cell's key that does not say where or when.
type factors struct {
	what, whom, by, pay uint64
}

func factorsOf(k *ledger.Key) factors {
	return factors{
		what: uint64(k.Tenant) | uint64(k.Type)<<16 | uint64(k.Goal)<<32 | uint64(k.Class)<<48,
		whom: uint64(k.Campaign) | uint64(k.Banner)<<32,
		by:   uint64(k.Affiliate) | uint64(k.Revenue)<<32,
		pay:  uint64(k.Payout),
	}
}

// factorsAt is factorsOf for row i of a block.
func factorsAt(b *event.Block, i int, class byte) factors {
	u := &b.U
	return factors{
		what: u[event.ColTenant][i]&(1<<16-1) | u[event.ColType][i]&(1<<16-1)<<16 | u[event.ColGoal][i]&(1<<16-1)<<32 | uint64(class)<<48,
		whom: u[event.ColCampaign][i]&(1<<32-1) | u[event.ColBanner][i]<<32,
		by:   u[event.ColAffiliate][i]&(1<<32-1) | u[event.ColRevenue][i]<<32,
		pay:  u[event.ColPayout][i] & (1<<32 - 1),
	}
}

func (k *secret) base(f *factors) wide128 {
	ah, al := bits.Mul64(f.what^k.s[0], f.whom^k.s[1])
	bh, bl := bits.Mul64(f.by^k.s[2], f.pay^k.s[3])
	return wide128{ah ^ bl, bits.RotateLeft64(al, 32) + bh}
}

// place is the other part: a table, a lane and a bucket.
func (k *secret) place(t table, lane, bucket int32) wide128 {
	return k.mix(wide128{uint64(t), uint64(uint32(lane))<<32 | uint64(uint32(bucket))}, wide128{k.s[6], k.s[7]})
}

// text of a dimension's value.
func (k *secret) text(s string) wide128 {
	h := xxh3.HashString128Seed(s, k.seed)
	return wide128{h.Hi, h.Lo}
}

// tally is the factor of a tally.
func (k *secret) tally(t *cellKey) wide128 {
	base := k.base(&factors{what: uint64(t.Tenant)})
	return k.mix(base, k.mix(k.text(t.value), k.place(tableTallies, t.lane, t.Bucket)))
}

// mix puts two parts of a key together. The order matters.
func (k *secret) mix(a, b wide128) wide128 {
	hi, lo := bits.Mul64(a.lo^b.hi^k.s[4], a.hi^b.lo^k.s[5])
	xh, xl := bits.Mul64(lo^a.hi^k.s[6], hi^b.hi^k.s[7])
	return wide128{xh ^ lo, xl ^ hi ^ a.lo}
}

// Groups: the quarters of an hour of one table in one lane, by their number modulo printGroups, so that memory is bounded
// whatever the times are; two quarters of one group lie months apart.
const (
	printGroups = 8192
	printPage   = 64
)

// printKey names a group.
type printKey struct {
	table table
	lane  int32
	group uint16
}

func groupOf(bucket int32) uint16 {
	return uint16(uint32(floor(bucket, quarter)/quarter) % printGroups)
}

// account is the fingerprint of a group: log minus ledger.
type account struct {
	wide128
	log, ledger int64 // events, modulo 2^64, for people
}

// prints holds the accounts of a run.
type prints struct {
	lanes []Lane
	pages map[printKey]*[printPage]account // by the first group of the page
}

func newPrints(lanes []Lane) *prints {
	return &prints{lanes: lanes, pages: map[printKey]*[printPage]account{}}
}

// noLane is where rows of lanes belong that there are not: a damaged column may name any number of them.
const noLane = -1

// key names the group of a bucket.
func (p *prints) key(t table, lane, bucket int32) printKey {
	if !slices.ContainsFunc(p.lanes, func(l Lane) bool { return int32(l.Number) == lane }) {
		lane = noLane
	}
	return printKey{t, lane, groupOf(bucket)}
}

// at returns the account of a bucket. It stays where it is.
func (p *prints) at(t table, lane, bucket int32) *account {
	k := p.key(t, lane, bucket)
	g := k.group
	k.group = g / printPage * printPage
	page := p.pages[k]
	if page == nil {
		page = &[printPage]account{}
		p.pages[k] = page
	}
	return &page[g%printPage]
}

// left returns the groups that differ.
func (p *prints) left() map[printKey]account {
	out := map[printKey]account{}
	for k, page := range p.pages {
		for i := range page {
			if page[i].wide128 != (wide128{}) {
				out[printKey{k.table, k.lane, k.group + uint16(i)}] = page[i]
			}
		}
	}
	return out
}

// index gives small numbers to keys, in the order in which they come. Nothing is ever removed.
type index struct {
	slots []int32 // number + 1; 0: free
	keys  []uint64
}

func (x *index) has(key uint64) bool {
	if len(x.slots) == 0 {
		return false
	}
	mask := len(x.slots) - 1
	for at := spread64(key) & mask; x.slots[at] != 0; at = (at + 1) & mask {
		if x.keys[x.slots[at]-1] == key {
			return true
		}
	}
	return false
}

// number returns the key's number and whether it is new.
func (x *index) number(key uint64) (n int, fresh bool) {
	if 2*len(x.keys) >= len(x.slots) {
		x.grow()
	}
	mask := len(x.slots) - 1
	for at := spread64(key) & mask; ; at = (at + 1) & mask {
		if n := x.slots[at]; n == 0 {
			x.keys = append(x.keys, key)
			x.slots[at] = int32(len(x.keys))
			return len(x.keys) - 1, true
		} else if x.keys[n-1] == key {
			return int(n - 1), false
		}
	}
}

func (x *index) grow() {
	x.slots = make([]int32, max(64, 2*len(x.slots)))
	mask := len(x.slots) - 1
	for i, key := range x.keys {
		at := spread64(key) & mask
		for x.slots[at] != 0 {
			at = (at + 1) & mask
		}
		x.slots[at] = int32(i + 1)
	}
}

func (x *index) clear() {
	clear(x.slots)
	x.keys = x.keys[:0]
}

func spread64(key uint64) int {
	hi, lo := bits.Mul64(key^0x9e3779b97f4a7c15, 0xd1342543de82ef95)
	return int((hi ^ lo) >> 1)
}
