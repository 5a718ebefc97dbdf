package count

import (
	"cmp"
	"math/bits"
	"slices"

	"milliard/internal/event"
	"milliard/internal/ledger"
)

// Budgets of distinct values per campaign and dimension; what comes after is counted under ledger.OtherValue.
const (
	CountryBudget = 300 // every code of ISO 3166
	DeviceBudget  = 16
	Sub1Budget    = 1000
)

// other is the interned value of ledger.OtherValue.
const other = 0

// Budgets holds each campaign to its number of distinct values in each rollup dimension. Which values a campaign has used
// is state: it is part of the image, so that a replay gives the same cells. Budgets start anew each UTC day of log time.
type Budgets struct {
	day   int64
	names []string // only grows, as uses does: an image shares both
	ids   map[string]uint32
	uses  []BudgetUse
	index []uint32 // where uses stand, by hash: place + 1; 0 is empty
	known campaigns
}

// NewBudgets returns empty budgets.
func NewBudgets() *Budgets {
	b := &Budgets{}
	b.reset(0)
	return b
}

func (b *Budgets) reset(day int64) {
	*b = Budgets{day: day, names: []string{ledger.OtherValue}, ids: map[string]uint32{ledger.OtherValue: other}}
}

// Advance starts the budgets of log time's day; Due says when that is wanted. The owner starts new details with it, so
// that every value is asked for again.
func (b *Budgets) Advance(logTime int64) { b.reset(logTime / dayMillis) }

// Due says whether the day has changed.
func (b *Budgets) Due(logTime int64) bool { return logTime/dayMillis != b.day }

const dayMillis = 24 * 60 * 60 * 1000

// value returns the interned number of a value for which the campaign's budget has room, else other.
func (b *Budgets) value(t event.TenantID, c event.CampaignID, dim ledger.Dimension, value string) uint32 {
	id, known := b.ids[value]
	use := BudgetUse{t, c, dim, id}
	if known && b.used(&use) {
		return id
	}
	counts := &b.known.of(t, c).counts
	if counts[dim] >= budgetOf(dim) {
		return other
	}
	if !known {
		id = uint32(len(b.names))
		b.names = append(b.names, value)
		b.ids[value] = id
		use.Value = id
	}
	b.use(&use)
	counts[dim]++
	return id
}

func budgetOf(dim ledger.Dimension) uint32 {
	switch dim {
	case ledger.DimCountry:
		return CountryBudget
	case ledger.DimDevice:
		return DeviceBudget
	default:
		return Sub1Budget
	}
}

// used says whether a value was used before.
func (b *Budgets) used(u *BudgetUse) bool {
	if len(b.index) == 0 {
		return false
	}
	return b.index[b.place(u)] != 0
}

// place returns where in the index a use stands, or would stand.
func (b *Budgets) place(u *BudgetUse) uint64 {
	mask := uint64(len(b.index) - 1)
	i := u.hash() & mask
	for b.index[i] != 0 && b.uses[b.index[i]-1] != *u {
		i = (i + 1) & mask
	}
	return i
}

// use remembers a use that is new.
func (b *Budgets) use(u *BudgetUse) {
	if 2*(len(b.uses)+1) > len(b.index) {
		b.index = make([]uint32, max(64, 2*len(b.index)))
		for i := range b.uses {
			b.index[b.place(&b.uses[i])] = uint32(i + 1)
		}
	}
	b.uses = append(b.uses, *u)
	b.index[b.place(u)] = uint32(len(b.uses))
}

func (u *BudgetUse) hash() uint64 {
	hi, lo := bits.Mul64(uint64(u.Tenant)<<48|uint64(u.Dim)<<32|uint64(u.Campaign)^0x9e3779b97f4a7c15, uint64(u.Value)^0xe7037ed1a0b428db)
	return hi ^ lo
}

// others returns, as bits by dimension, which of a detail's values are counted under ledger.OtherValue.
func (b *Budgets) others(k *Detail, sub1 string) (others uint8) {
	t, c := k.Cell.Tenant, k.Cell.Campaign
	known := b.known.of(t, c)
	if word, bit := countryBit(k.Country); known.countries[word]&bit == 0 {
		if b.value(t, c, ledger.DimCountry, k.Country.String()) == other {
			others |= 1 << ledger.DimCountry
		} else {
			known.countries[word] |= bit
		}
	}
	if bit := uint64(1) << k.Device; known.devices&bit == 0 { // 0 for what no device is
		if b.value(t, c, ledger.DimDevice, k.Device.String()) == other {
			others |= 1 << ledger.DimDevice
		} else {
			known.devices |= bit
		}
	}
	if sub1 != "" && b.value(t, c, ledger.DimSub1, sub1) == other {
		others |= 1 << ledger.DimSub1
	}
	if others == 0 && k.Country == 0 && k.Device == 0 && sub1 == "" {
		b.known.setPlain(t, c)
	}
	return others
}

// campaigns holds what is known of campaigns. Their ids are given out in order, so a look-up is an index.
type campaigns struct {
	tenants []tenantCampaigns // by tenant
	list    []campaignUse
	far     map[uint64]*campaignUse // of ids that no catalog gives out
}

type tenantCampaigns struct {
	at    []uint32 // by campaign: place in list + 1; 0 is not known
	plain []uint64 // a bit by campaign: an event of it that has no value in any dimension is within the budgets
}

// farCampaign is the first id that has no place in a list.
const farCampaign = 1 << 22

// campaignUse is what a campaign has used. How many values is state. Which countries and devices, known here without a
// look at their names, is none: what is not known is looked up.
type campaignUse struct {
	counts    [4]uint32 // by dimension
	countries [12]uint64
	devices   uint64
}

// of returns what is known of a campaign; it is valid until another one is asked for.
func (c *campaigns) of(t event.TenantID, id event.CampaignID) *campaignUse {
	if id >= farCampaign {
		return c.farAway(t, id)
	}
	c.tenants = reach(c.tenants, int(t))
	tenant := &c.tenants[t]
	tenant.at = reach(tenant.at, int(id))
	at := &tenant.at[id]
	if *at == 0 {
		c.list = append(c.list, campaignUse{})
		*at = uint32(len(c.list))
	}
	return &c.list[*at-1]
}

func (c *campaigns) farAway(t event.TenantID, id event.CampaignID) *campaignUse {
	key := uint64(t)<<32 | uint64(id)
	if c.far == nil {
		c.far = make(map[uint64]*campaignUse)
	}
	if c.far[key] == nil {
		c.far[key] = &campaignUse{}
	}
	return c.far[key]
}

// plain says whether it is known that an event without any value is within a campaign's budgets.
func (c *campaigns) plain(t event.TenantID, id event.CampaignID) bool {
	if int(t) >= len(c.tenants) {
		return false
	}
	words := c.tenants[t].plain
	return int(id/64) < len(words) && words[id/64]>>(id%64)&1 != 0
}

func (c *campaigns) setPlain(t event.TenantID, id event.CampaignID) {
	if id >= farCampaign {
		return
	}
	tenant := &c.tenants[t] // of was asked before
	tenant.plain = reach(tenant.plain, int(id/64))
	tenant.plain[id/64] |= 1 << (id % 64)
}

// reach makes a list long enough to have an element i.
func reach[T any](list []T, i int) []T {
	if i < len(list) {
		return list
	}
	list = slices.Grow(list, i+1-len(list))
	return list[:cap(list)]
}

// countryBit is the place of a country among those that are written with two letters, and of none; for anything else no
// bit is set.
func countryBit(c event.Country) (word int, bit uint64) {
	n := 0
	if c != 0 {
		first, second := int(c>>8)-'A', int(c&0xff)-'A'
		if first < 0 || first > 25 || second < 0 || second > 25 {
			return 0, 0
		}
		n = 1 + 26*first + second
	}
	return n / 64, 1 << (n % 64)
}

// BudgetUse is one used value, as an image stores it.
type BudgetUse struct {
	Tenant   event.TenantID
	Campaign event.CampaignID
	Dim      ledger.Dimension
	Value    uint32
}

// State returns the state for an image. It may be read while the budgets go on; uses are in no order, see SortUses.
func (b *Budgets) State() (day int64, names []string, uses []BudgetUse) {
	return b.day, slices.Clip(b.names), slices.Clip(b.uses)
}

// SortUses returns uses in the order in which images have them.
func SortUses(uses []BudgetUse) []BudgetUse {
	return slices.SortedFunc(slices.Values(uses), func(x, y BudgetUse) int {
		return cmp.Or(cmp.Compare(x.Tenant, y.Tenant), cmp.Compare(x.Campaign, y.Campaign), cmp.Compare(x.Dim, y.Dim), cmp.Compare(x.Value, y.Value))
	})
}

// Restore replaces the state with an image's.
func (b *Budgets) Restore(day int64, names []string, uses []BudgetUse) {
	b.reset(day)
	if len(names) > 0 {
		b.names = names
	}
	for i, n := range b.names {
		b.ids[n] = uint32(i)
	}
	for i := range uses {
		u := &uses[i]
		if counts := &b.known.of(u.Tenant, u.Campaign).counts; int(u.Dim) < len(counts) && !b.used(u) {
			b.use(u)
			counts[u.Dim]++
		}
	}
}
