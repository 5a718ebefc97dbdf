package catalog

import (
	"encoding/binary"
	"math/bits"
	"slices"
	"sync"
	"sync/atomic"
	"unsafe"

	"milliard/internal/event"
	"milliard/internal/offheap"
)

// NotActive is what a batch of look-ups returns for a name that nothing active has.
const NotActive = ^uint64(0)

// quick finds what is active by name, for doors that look up whole dictionaries, and by id, for those that are given a
// token: one cache line each, no pointers. It belongs to one View and is made when so many were asked for that making it is
// cheaper than having done without, so a catalog that changes all the time never pays for it.
type quick struct {
	asked  atomic.Int64
	tables atomic.Pointer[quickTables]
	making sync.Mutex
}

type quickTables struct {
	campaigns, affiliates quickTable
	live                  []uint64 // by id of a Live campaign: that of its advertiser + 1
	active                []uint64 // a bit for each active affiliate, by id
}

// quickTable is a hash table with open addressing. Names of more than 15 bytes are not in it.
type quickTable struct {
	slots []quickSlot
	shift uint8
}

// quickSlot is empty when its last byte of name, the length, is 0.
type quickSlot struct {
	lo, hi   uint64
	id, more uint32
}

const longestQuick = 15

// words packs a name of at most longestQuick bytes.
func words(key []byte) (lo, hi uint64) {
	n := len(key)
	switch {
	case n >= 8:
		lo = binary.LittleEndian.Uint64(key)
		hi = binary.LittleEndian.Uint64(key[n-8:])
		hi >>= 8 * uint(16-n) // what lo does not hold; nothing when n is 8
	case n >= 4:
		lo = uint64(binary.LittleEndian.Uint32(key)) | uint64(binary.LittleEndian.Uint32(key[n-4:]))<<(8*uint(n-4))
	default:
		for i := n - 1; i >= 0; i-- {
			lo = lo<<8 | uint64(key[i])
		}
	}
	return lo, hi | uint64(n)<<56
}

func (t *quickTable) at(lo, hi uint64) int {
	h := (lo ^ bits.RotateLeft64(hi*0x9e3779b97f4a7c15, 31)) * 0xc2b2ae3d27d4eb4f
	return int((h ^ h>>29) * 0x165667b19e3779f9 >> t.shift)
}

func newQuickTable(names int) quickTable {
	size := bits.Len(uint(2*names + 1))
	return quickTable{slots: make([]quickSlot, 1<<size), shift: uint8(64 - size)}
}

func (t *quickTable) put(key string, id, more uint32) {
	if len(key) > longestQuick || len(key) == 0 {
		return
	}
	lo, hi := words([]byte(key))
	i := t.at(lo, hi)
	for t.slots[i].hi != 0 {
		i = (i + 1) & (len(t.slots) - 1)
	}
	t.slots[i] = quickSlot{lo: lo, hi: hi, id: id, more: more}
}

// find returns the slot of a name of 1 to longestQuick bytes, nil if there is none.
func (t *quickTable) find(key []byte) *quickSlot {
	lo, hi := words(key)
	return t.findAt(t.at(lo, hi), lo, hi)
}

func (t *quickTable) findAt(i int, lo, hi uint64) *quickSlot {
	for ; ; i = (i + 1) & (len(t.slots) - 1) {
		s := &t.slots[i]
		if s.lo == lo && s.hi == hi {
			return s
		}
		if s.hi == 0 {
			return nil
		}
	}
}

// together is how many names are looked up at once, so that they wait for memory together.
const together = 32

// findSome finds at most together names. What is empty or too long has no slot.
func (t *quickTable) findSome(out *[together]*quickSlot, keys [][]byte) {
	var lo, hi [together]uint64
	var at [together]int
	var near [together]uintptr
	for i, key := range keys {
		if len(key) > 0 && len(key) <= longestQuick {
			lo[i], hi[i] = words(key)
			at[i] = t.at(lo[i], hi[i])
			near[i] = uintptr(unsafe.Pointer(&t.slots[at[i]]))
		}
	}
	offheap.Prefetch(near[:len(keys)])
	for i := range keys {
		if out[i] = nil; hi[i] != 0 {
			out[i] = t.findAt(at[i], lo[i], hi[i])
		}
	}
}

// quickFor returns the tables if they exist or pay by now, else nil.
func (v *View) quickFor(names int) *quickTables {
	q := v.quick
	if t := q.tables.Load(); t != nil {
		return t
	}
	if q.asked.Add(int64(names)) < int64(v.campaigns.size()+v.affiliates.size()) || !q.making.TryLock() {
		return nil
	}
	defer q.making.Unlock()
	t := &quickTables{campaigns: newQuickTable(v.campaigns.size()), affiliates: newQuickTable(v.affiliates.size())}
	if dense(v.campaigns) {
		t.live = make([]uint64, v.campaigns.lastID()+1)
	}
	if dense(v.affiliates) {
		t.active = make([]uint64, v.affiliates.lastID()/64+1)
	}
	v.campaigns.each(func(c *Campaign) {
		if v.Live(c) {
			t.campaigns.put(c.Key, uint32(c.ID), uint32(c.Advertiser))
			if int(c.ID) < len(t.live) {
				t.live[c.ID] = uint64(c.Advertiser) + 1
			}
		}
	})
	v.affiliates.each(func(a *Affiliate) {
		if a.Status == Active {
			t.affiliates.put(a.Key, uint32(a.ID), 0)
			if i := int(a.ID / 64); i < len(t.active) {
				t.active[i] |= 1 << (a.ID % 64)
			}
		}
	})
	q.tables.Store(t)
	return t
}

// dense says whether a table by id is not much larger than what is in it.
func dense[T any](t *table[T]) bool { return int(t.lastID()) <= 4*t.size()+1024 }

// LiveCampaigns appends what keys stand for to ids and their advertisers to advertisers: 0 for no text, NotActive for
// what is no campaign or not Live.
func (v *View) LiveCampaigns(ids, advertisers []uint64, keys [][]byte) (_, _ []uint64) {
	quick := v.quickFor(len(keys))
	for some := range slices.Chunk(keys, together) {
		var found [together]*quickSlot
		if quick != nil {
			quick.campaigns.findSome(&found, some)
		}
		for i, key := range some {
			id, advertiser := NotActive, uint64(0)
			if s := found[i]; s != nil {
				id, advertiser = uint64(s.id), uint64(s.more)
			} else if len(key) == 0 {
				id = 0
			} else if quick == nil || len(key) > longestQuick {
				if c, ok := v.Campaign(key); ok && v.Live(c) {
					id, advertiser = uint64(c.ID), uint64(c.Advertiser)
				}
			}
			ids, advertisers = append(ids, id), append(advertisers, advertiser)
		}
	}
	return ids, advertisers
}

// ActiveAffiliates appends what keys stand for to ids: 0 for no text, NotActive for what is no active affiliate.
func (v *View) ActiveAffiliates(ids []uint64, keys [][]byte) []uint64 {
	quick := v.quickFor(len(keys))
	for some := range slices.Chunk(keys, together) {
		var found [together]*quickSlot
		if quick != nil {
			quick.affiliates.findSome(&found, some)
		}
		for i, key := range some {
			id := NotActive
			if s := found[i]; s != nil {
				id = uint64(s.id)
			} else if len(key) == 0 {
				id = 0
			} else if quick == nil || len(key) > longestQuick {
				if a, ok := v.Affiliate(key); ok && a.Status == Active {
					id = uint64(a.ID)
				}
			}
			ids = append(ids, id)
		}
	}
	return ids
}

// LiveCampaign is LiveCampaigns for one name. It may fail to find one that exists; Campaign and Live have the last word.
func (v *View) LiveCampaign(key []byte) (id event.CampaignID, advertiser event.AdvertiserID, ok bool) {
	if quick := v.quickFor(1); quick != nil && len(key) > 0 && len(key) <= longestQuick {
		if s := quick.campaigns.find(key); s != nil {
			return event.CampaignID(s.id), event.AdvertiserID(s.more), true
		}
	}
	return 0, 0, false
}

// ActiveAffiliate is ActiveAffiliates for one name. It may fail to find one that exists; Affiliate has the last word.
func (v *View) ActiveAffiliate(key []byte) (event.AffiliateID, bool) {
	if quick := v.quickFor(1); quick != nil && len(key) > 0 && len(key) <= longestQuick {
		if s := quick.affiliates.find(key); s != nil {
			return event.AffiliateID(s.id), true
		}
	}
	return 0, false
}

// LiveCampaignByID says whose a campaign is that is Live. It may fail to find one; CampaignByID and Live have the last word.
func (v *View) LiveCampaignByID(id event.CampaignID) (event.AdvertiserID, bool) {
	if quick := v.quickFor(1); quick != nil && int(id) < len(quick.live) && quick.live[id] != 0 {
		return event.AdvertiserID(quick.live[id] - 1), true
	}
	return 0, false
}

// ActiveAffiliateByID says whether an affiliate is active. It may fail to find one that is; AffiliateByID has the last word.
func (v *View) ActiveAffiliateByID(id event.AffiliateID) bool {
	quick := v.quickFor(1)
	return quick != nil && int(id/64) < len(quick.active) && quick.active[id/64]>>(id%64)&1 != 0
}
