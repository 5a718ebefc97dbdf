package report

import (
	"math/big"

	"milliard/internal/catalog"
	"milliard/internal/event"
)

// Money is summed in units of 10⁻¹⁵, in which every price model is an exact integer: millionths of n times millionths
// of rate are 10⁻¹², per thousand 10⁻¹⁵. It is rounded once, when a line is written.
const (
	moneyScale  = 15
	microsScale = 6
)

// earns returns how much n events of a type, with amounts that sum to amount, earn under a price; nil when the model
// does not pay for that type. Only valid events earn; that is the caller's to check.
func earns(p *catalog.Price, t event.Type, n, amount *big.Int) *big.Int {
	rate := big.NewInt(int64(p.Rate))
	switch p.Model {
	case catalog.CPM:
		if t == event.Impression {
			return rate.Mul(rate, n) // 10⁻⁶ · 10⁻⁶ / 1,000
		}
	case catalog.CPC:
		if t == event.Click {
			return scaled(rate.Mul(rate, n), 1_000)
		}
	case catalog.CPA:
		if t == event.Conversion {
			return scaled(rate.Mul(rate, n), 1_000)
		}
	case catalog.RevShare:
		if t == event.Conversion {
			return scaled(rate.Mul(rate, amount), 10) // percent: / 100
		}
	case catalog.CarriedCPM:
		if t == event.Impression {
			return scaled(rate.Set(amount), 1_000_000) // / 1,000
		}
	case catalog.CarriedCPC:
		if t == event.Click {
			return scaled(rate.Set(amount), 1_000_000_000)
		}
	case catalog.CarriedCPA:
		if t == event.Conversion {
			return scaled(rate.Set(amount), 1_000_000_000)
		}
	}
	return nil
}

func scaled(x *big.Int, by int64) *big.Int { return x.Mul(x, big.NewInt(by)) }

// priceCurrency is what a price is paid in: its own currency, else that of the campaign.
func priceCurrency(p *catalog.Price, campaign string) string {
	if p.Currency != "" {
		return p.Currency
	}
	return campaign
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
