package count

import (
	"cmp"
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
	day    int64
	names  []string
	ids    map[string]uint32
	used   map[budgetKey]struct{}
	counts map[campaignDim]int
	common commonUses
}

type campaignDim struct {
	Tenant   event.TenantID
	Campaign event.CampaignID
	Dim      ledger.Dimension
}

type budgetKey struct {
	campaignDim
	value uint32
}

// NewBudgets returns empty budgets.
func NewBudgets() *Budgets {
	b := &Budgets{}
	b.reset(0)
	return b
}

func (b *Budgets) reset(day int64) {
	b.day = day
	b.names = []string{ledger.OtherValue}
	b.ids = map[string]uint32{ledger.OtherValue: other}
	b.used = make(map[budgetKey]struct{})
	b.counts = make(map[campaignDim]int)
	b.common = commonUses{at: make(map[uint64]uint32)}
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
	key := budgetKey{campaignDim{t, c, dim}, id}
	if known {
		if _, ok := b.used[key]; ok {
			return id
		}
	}
	if b.counts[key.campaignDim] >= budgetOf(dim) {
		return other
	}
	if !known {
		id = uint32(len(b.names))
		b.names = append(b.names, value)
		b.ids[value] = id
		key.value = id
	}
	b.used[key] = struct{}{}
	b.counts[key.campaignDim]++
	return id
}

func budgetOf(dim ledger.Dimension) int {
	switch dim {
	case ledger.DimCountry:
		return CountryBudget
	case ledger.DimDevice:
		return DeviceBudget
	default:
		return Sub1Budget
	}
}

// others returns, as bits by dimension, which of a detail's values are counted under ledger.OtherValue.
func (b *Budgets) others(k *Detail, sub1 string) (bits uint8) {
	t, c := k.Cell.Tenant, k.Cell.Campaign
	known := b.common.of(t, c)
	if word, bit := countryBit(k.Country); known.countries[word]&bit == 0 {
		if b.value(t, c, ledger.DimCountry, k.Country.String()) == other {
			bits |= 1 << ledger.DimCountry
		} else {
			known.countries[word] |= bit
		}
	}
	if bit := uint64(1) << k.Device; known.devices&bit == 0 { // 0 for what no device is
		if b.value(t, c, ledger.DimDevice, k.Device.String()) == other {
			bits |= 1 << ledger.DimDevice
		} else {
			known.devices |= bit
		}
	}
	if sub1 != "" && b.value(t, c, ledger.DimSub1, sub1) == other {
		bits |= 1 << ledger.DimSub1
	}
	return bits
}

// commonUses says of countries and devices that a campaign has used them, without a look at their names: nearly every new
// detail has ones that were used before. What it does not know is looked up, so it is no state.
type commonUses struct {
	at   map[uint64]uint32 // tenant and campaign → place in list
	list []commonUse
}

type commonUse struct {
	countries [12]uint64
	devices   uint64
}

func (u *commonUses) of(t event.TenantID, c event.CampaignID) *commonUse {
	key := uint64(t)<<32 | uint64(c)
	at, ok := u.at[key]
	if !ok {
		at = uint32(len(u.list))
		u.list = append(u.list, commonUse{})
		u.at[key] = at
	}
	return &u.list[at]
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

// State returns the state for an image.
func (b *Budgets) State() (day int64, names []string, used []BudgetUse) {
	for k := range b.used {
		used = append(used, BudgetUse{k.Tenant, k.Campaign, k.Dim, k.value})
	}
	slices.SortFunc(used, func(x, y BudgetUse) int {
		return cmp.Or(cmp.Compare(x.Tenant, y.Tenant), cmp.Compare(x.Campaign, y.Campaign), cmp.Compare(x.Dim, y.Dim), cmp.Compare(x.Value, y.Value))
	})
	return b.day, slices.Clone(b.names), used
}

// Restore replaces the state with an image's.
func (b *Budgets) Restore(day int64, names []string, used []BudgetUse) {
	b.reset(day)
	if len(names) > 0 {
		b.names = names
	}
	for i, n := range b.names {
		b.ids[n] = uint32(i)
	}
	for _, u := range used {
		cd := campaignDim{u.Tenant, u.Campaign, u.Dim}
		b.used[budgetKey{cd, u.Value}] = struct{}{}
		b.counts[cd]++
	}
}
