package report

import (
	"math"
	"math/big"
	"math/bits"

	"milliard/internal/catalog"
	"milliard/internal/event"
)

// Money is summed in units of 10⁻¹⁵, in which every price model is an exact integer: millionths of n times millionths
// of rate are 10⁻¹², per thousand 10⁻¹⁵. It is rounded once, when a line is written.
const (
	moneyScale  = 15
	microsScale = 6
)

// money15 is a sum of money in 10⁻¹⁵. The zero value is nothing.
type money15 struct {
	wide
	big *big.Int // instead of the words when they cannot hold it; never changed
}

// add adds o.
func (m *money15) add(o *money15) {
	if m.big == nil && o.big == nil {
		sum := m.wide
		sum.add(o.wide)
		if m.hi>>63 != o.hi>>63 || sum.hi>>63 == m.hi>>63 { // no overflow
			m.wide = sum
			return
		}
	}
	m.big = new(big.Int).Add(m.whole(), o.whole())
}

func (m *money15) whole() *big.Int {
	if m.big != nil {
		return m.big
	}
	return m.wide.big()
}

// minus returns m less o.
func (m *money15) minus(o *money15) money15 {
	if m.big == nil && o.big == nil && o.hi != math.MinInt64 {
		lo, borrow := bits.Sub64(0, o.lo, 0)
		out := *m
		out.add(&money15{wide: wide{-o.hi - int64(borrow), lo}})
		return out
	}
	return money15{big: new(big.Int).Sub(m.whole(), o.whole())}
}

// earns returns how much n events of a type, with amounts that sum to amount, earn under a price; false when the model
// does not pay for that type. Only valid events earn; that is the caller's to check.
func earns(p *catalog.Price, t event.Type, n, amount wide) (money15, bool) {
	rate, by, scale := int64(p.Rate), n, uint64(1_000)
	pays := event.Conversion
	switch p.Model {
	case catalog.CPM:
		pays, scale = event.Impression, 1 // 10⁻⁶ · 10⁻⁶ / 1,000
	case catalog.CPC:
		pays = event.Click
	case catalog.CPA:
	case catalog.RevShare:
		by, scale = amount, 10 // percent: / 100
	case catalog.CarriedCPM:
		pays, rate, by, scale = event.Impression, 1, amount, 1_000_000 // / 1,000
	case catalog.CarriedCPC:
		pays, rate, by, scale = event.Click, 1, amount, 1_000_000_000
	case catalog.CarriedCPA:
		rate, by, scale = 1, amount, 1_000_000_000
	default:
		return money15{}, false
	}
	if t != pays {
		return money15{}, false
	}
	return product(rate, by, scale), true
}

// product multiplies, in words if they hold the product.
func product(a int64, b wide, scale uint64) money15 {
	v := int64(b.lo)
	if b.hi == v>>63 && a != math.MinInt64 && v != math.MinInt64 {
		hi, lo := bits.Mul64(uint64(magnitude(a)), uint64(magnitude(v)))
		over, hi := bits.Mul64(hi, scale)
		carry, lo := bits.Mul64(lo, scale)
		hi, more := bits.Add64(hi, carry, 0)
		if over == 0 && more == 0 && hi>>62 == 0 {
			if (a < 0) != (v < 0) {
				var borrow uint64
				lo, borrow = bits.Sub64(0, lo, 0)
				hi, _ = bits.Sub64(0, hi, borrow)
			}
			return money15{wide: wide{int64(hi), lo}}
		}
	}
	x := new(big.Int).Mul(big.NewInt(a), b.big())
	return money15{big: x.Mul(x, new(big.Int).SetUint64(scale))}
}

func magnitude(v int64) int64 {
	if v < 0 {
		return -v
	}
	return v
}

// over divides money by den and rounds half to even; false when words do not hold it.
func (m *money15) over(den uint64) (amount, bool) {
	hi, lo := uint64(m.hi), m.lo
	if m.hi < 0 { // halves go to the even side of either sign alike
		var borrow uint64
		lo, borrow = bits.Sub64(0, lo, 0)
		hi, _ = bits.Sub64(0, hi, borrow)
	}
	if m.big != nil || hi >= den {
		return amount{}, false
	}
	q, r := bits.Div64(hi, lo, den)
	if q > math.MaxInt64-1 {
		return amount{}, false
	}
	if r > den-r || r == den-r && q&1 == 1 {
		q++
	}
	if m.hi < 0 {
		return amount{wide: wideOf(-int64(q))}, true
	}
	return amount{wide: wideOf(int64(q))}, true
}

// campaignCurrency is what a campaign's amounts are in.
func campaignCurrency(names *catalog.View, id event.CampaignID) string {
	if c, ok := names.CampaignByID(id); ok {
		if c.Currency != "" {
			return c.Currency
		}
		if a, ok := names.AdvertiserByID(c.Advertiser); ok && a.Currency != "" {
			return a.Currency
		}
	}
	return names.Info().Currency
}

// severalCurrencies says whether the tenant's campaigns differ in currency, so that amounts must be kept apart.
func severalCurrencies(names *catalog.View) bool {
	for _, c := range names.Campaigns() {
		if campaignCurrency(names, c.ID) != names.Info().Currency {
			return true
		}
	}
	return false
}

// ratio divides a, in units of 10⁻ˢᶜᵃˡᵉ, by b, in millionths, and rounds half to even at six decimals; nil when b is zero.
func ratio(a *big.Int, scale int, b *big.Int) *big.Int {
	if b.Sign() == 0 {
		return nil
	}
	num, den := new(big.Int).Set(a), new(big.Int).Set(b)
	if up := 2*microsScale - scale; up >= 0 {
		num.Mul(num, pow10(up))
	} else {
		den.Mul(den, pow10(-up))
	}
	return divHalfEven(num, den)
}

// divHalfEven returns num / den rounded to the nearest integer, halves to the even one.
func divHalfEven(num, den *big.Int) *big.Int {
	if den.Sign() < 0 {
		num, den = new(big.Int).Neg(num), new(big.Int).Neg(den)
	}
	q, r := new(big.Int).DivMod(num, den, new(big.Int)) // r >= 0
	switch r.Lsh(r, 1).Cmp(den) {
	case 1:
		q.Add(q, big.NewInt(1))
	case 0:
		if q.Bit(0) == 1 {
			q.Add(q, big.NewInt(1))
		}
	}
	return q
}

func pow10(n int) *big.Int { return new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(n)), nil) }

// decimal writes millionths as a plain decimal with at least so many decimals and no further trailing zeros.
func decimal(micros *big.Int, least int) string {
	s := new(big.Int).Abs(micros).String()
	for len(s) <= microsScale {
		s = "0" + s
	}
	whole, frac := s[:len(s)-microsScale], s[len(s)-microsScale:]
	for len(frac) > least && frac[len(frac)-1] == '0' {
		frac = frac[:len(frac)-1]
	}
	if frac != "" {
		whole += "." + frac
	}
	if micros.Sign() < 0 {
		whole = "-" + whole
	}
	return whole
}
