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
	for dim, value := range [...]string{
		ledger.DimCountry: k.Country.String(), ledger.DimDevice: k.Device.String(), ledger.DimSub1: sub1,
	} {
		if dim != 0 && value != "" && b.value(t, c, ledger.Dimension(dim), value) == other {
			bits |= 1 << dim
		}
	}
	return bits
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
