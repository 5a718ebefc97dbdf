package count

import (
	"math/bits"
	"slices"
	"unsafe"

	"milliard/internal/event"
	"milliard/internal/ledger"
	"milliard/internal/offheap"
)

// Key is a Detail in whole words, so that two are compared without gaps and without a call: this is the one look-up
// that every event costs.
type Key [6]uint64

func pack(k *Detail) Key {
	c := &k.Cell
	return Pack(c.Bucket, c.Campaign, c.Banner, c.Affiliate, c.Revenue, c.Payout, c.Tenant, c.Type, c.Goal, c.Class, k.Device,
		k.Quarter, k.Sub1, k.Country)
}

// Pack makes the key of a detail.
func Pack(bucket int32, campaign event.CampaignID, banner event.BannerID, affiliate event.AffiliateID, revenue, payout event.PriceID,
	tenant event.TenantID, typ event.Type, goal event.GoalID, class event.Class, device event.Device,
	quarter int32, sub1 uint32, country event.Country,
) Key {
	return Key{
		uint64(uint32(bucket))<<32 | uint64(campaign),
		uint64(banner)<<32 | uint64(affiliate),
		uint64(revenue)<<32 | uint64(payout),
		uint64(tenant)<<48 | uint64(typ)<<32 | uint64(goal)<<16 | uint64(class)<<8 | uint64(device),
		uint64(uint32(quarter))<<32 | uint64(sub1),
		uint64(country),
	}
}

// is says whether two keys are equal.
func (p *Key) is(k *Key) bool {
	return p[0] == k[0] && p[1] == k[1] && p[2] == k[2] && p[3] == k[3] && p[4] == k[4] && p[5] == k[5]
}

// plain says whether there is neither a country nor a device nor a sub1.
func (p *Key) plain() bool { return p[5] == 0 && uint8(p[3]) == 0 && uint32(p[4]) == 0 }

// moved says whether the event's own time lies in another quarter of an hour than its bucket.
func (p *Key) moved() bool {
	bucket := int32(p[0] >> 32)
	return bucket-bucket%Quarter != int32(p[4]>>32)
}

func (p *Key) unpack() Detail {
	return Detail{
		Cell: ledger.Key{
			Bucket: int32(p[0] >> 32), Tenant: event.TenantID(p[3] >> 48), Type: event.Type(p[3] >> 32), Goal: event.GoalID(p[3] >> 16),
			Class: event.Class(p[3] >> 8), Campaign: event.CampaignID(p[0]), Banner: event.BannerID(p[1] >> 32),
			Affiliate: event.AffiliateID(p[1]), Revenue: event.PriceID(p[2] >> 32), Payout: event.PriceID(p[2]),
		},
		Quarter: int32(p[4] >> 32), Sub1: uint32(p[4]), Country: event.Country(p[5]), Device: event.Device(p[3]),
	}
}

// hash mixes the words in three multiplications; keys are ours, so speed matters more than resistance.
func (p *Key) hash() uint64 {
	h0, l0 := bits.Mul64(p[0]^0x9e3779b97f4a7c15, p[1]^0xe7037ed1a0b428db)
	h1, l1 := bits.Mul64(p[2]^0x8ebc6af09c88c6e3, p[3]^0x589965cc75374cc3)
	h2, l2 := bits.Mul64(p[4]^0xa0761d6478bd642f, p[5]^0x1d8e4e27c47d124f)
	return h0 ^ l0 ^ bits.RotateLeft64(h1^l1, 29) ^ bits.RotateLeft64(h2^l2, 47)
}

// detailRow is a key beside its sum: an event that finds its detail touches nothing else.
type detailRow struct {
	key Key
	sum ledger.Value
}

// pageRows is how many rows stand in one piece of memory: a table that grows copies none of them.
const pageRows = 1024

// detailTable is Table for details alone.
type detailTable struct {
	pages [][]detailRow // in the order in which they first appeared; all but the last are full
	rows  int
	index []uint64 // high half: that of the hash, which says where to begin; low half: number of the row + 1; 0 is empty
}

// reserve makes room for n rows, in the memory of another table's index if that is neither too small nor far too large.
func (t *detailTable) reserve(n int, index []uint64) {
	size := 64
	for size < 2*n {
		size *= 2
	}
	if len(index) < size || len(index) > 4*size {
		t.index = make([]uint64, size)
		return
	}
	clear(index)
	t.index = index
}

func (t *detailTable) row(at uint32) *detailRow { return &t.pages[at/pageRows][at%pageRows] }

// add is Table.Add. It returns where the sum is, which is new when it is the last.
func (t *detailTable) add(k *Key, v ledger.Value) int { return t.addHashed(k, k.hash(), v) }

func (t *detailTable) addHashed(k *Key, h uint64, v ledger.Value) int {
	if 2*(t.rows+1) > len(t.index) {
		t.grow()
	}
	mask := uint64(len(t.index) - 1)
	i := h >> 32 & mask
	for ; t.index[i] != 0; i = (i + 1) & mask {
		if t.index[i]>>32 != h>>32 {
			continue
		}
		at := uint32(t.index[i]) - 1
		if row := t.row(at); row.key.is(k) {
			if add(&row.sum, v) {
				return int(at)
			}
			break
		}
	}
	t.push(k, v)
	t.index[i] = h>>32<<32 | uint64(t.rows)
	return t.rows - 1
}

// push appends a row. Most tables are small, so the first page begins small.
func (t *detailTable) push(k *Key, v ledger.Value) {
	switch {
	case t.rows == 0:
		t.pages = append(t.pages, nil)
	case t.rows%pageRows == 0:
		t.pages = append(t.pages, make([]detailRow, 0, pageRows))
	}
	page := &t.pages[len(t.pages)-1]
	*page = append(*page, detailRow{*k, v})
	t.rows++
}

// all goes through the rows and their numbers.
func (t *detailTable) all(yield func(int, *detailRow) bool) {
	for p, page := range t.pages {
		for i := range page {
			if !yield(p*pageRows+i, &page[i]) {
				return
			}
		}
	}
}

// clone copies the rows. Nothing can be added to the copy.
func (t *detailTable) clone() detailTable {
	out := detailTable{pages: make([][]detailRow, len(t.pages)), rows: t.rows}
	for i, page := range t.pages {
		out.pages[i] = slices.Clone(page)
	}
	return out
}

// lookUp asks for the memory where looking at most 64 hashes up begins, and waits for none of it.
func (t *detailTable) lookUp(hashes []uint64) {
	if t.rows == 0 {
		return
	}
	var lines [addedTogether]uintptr
	mask := uint64(len(t.index) - 1)
	for i, h := range hashes {
		lines[i] = uintptr(unsafe.Pointer(&t.index[h>>32&mask]))
	}
	offheap.Prefetch(lines[:len(hashes)])
}

// touch reads that and asks for the rows that it names: a row may lie on two lines.
func (t *detailTable) touch(hashes []uint64) {
	if t.rows == 0 {
		return
	}
	var lines [2 * addedTogether]uintptr
	n, mask := 0, uint64(len(t.index)-1)
	for _, h := range hashes {
		if at := uint32(t.index[h>>32&mask]); at != 0 {
			row := uintptr(unsafe.Pointer(t.row(at - 1)))
			lines[n], lines[n+1] = row, row+unsafe.Sizeof(detailRow{})-1
			n += 2
		}
	}
	offheap.Prefetch(lines[:n])
}

// grow doubles the index. Where an entry stands is in the entry, so no row is looked at.
func (t *detailTable) grow() {
	was := t.index
	t.index = make([]uint64, max(64, 2*len(was)))
	mask := uint64(len(t.index) - 1)
	for _, e := range was {
		if e == 0 {
			continue
		}
		i := e >> 32 & mask
		for t.index[i] != 0 {
			i = (i + 1) & mask
		}
		t.index[i] = e
	}
}
