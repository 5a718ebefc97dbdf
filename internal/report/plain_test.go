package report

import (
	"fmt"
	"math/big"
	"slices"
	"strings"
	"time"

	"pgregory.net/rapid"

	"milliard/internal/catalog"
	"milliard/internal/event"
)

// plainDecimal rounds to six decimals, halves to the even neighbour, by looking at the two neighbours.
func plainDecimal(x *big.Rat, least int) string {
	scaledUp := new(big.Rat).Mul(x, big.NewRat(1_000_000, 1))
	low := new(big.Int).Div(scaledUp.Num(), scaledUp.Denom()) // Euclidean: the lower neighbour
	below := new(big.Rat).Sub(scaledUp, new(big.Rat).SetInt(low))
	switch below.Cmp(big.NewRat(1, 2)) {
	case 1:
		low.Add(low, big.NewInt(1))
	case 0:
		if low.Bit(0) == 1 {
			low.Add(low, big.NewInt(1))
		}
	}
	s := new(big.Rat).SetFrac(low, big.NewInt(1_000_000)).FloatString(6)
	for strings.HasSuffix(s, "0") && len(s)-strings.IndexByte(s, '.')-1 > least {
		s = s[:len(s)-1]
	}
	return strings.TrimSuffix(s, ".")
}

func plainReport(t *rapid.T, names *catalog.View, facts []fact, r Request, res *Result) map[string]*plainLine {
	out := map[string]*plainLine{}
	from, to := res.From.Unix()/60, res.To.Unix()/60
	for _, f := range facts {
		at := int64(f.Bucket)
		if r.Time == "occurred" {
			at = int64(f.occurred)
		}
		if at < from || at >= to || !plainWanted(f, r) {
			continue
		}
		currency := "EUR"
		if c, ok := names.CampaignByID(f.Campaign); ok {
			currency = c.Currency
		}
		prefix := plainKey(t, names, f, r, at)
		line := func(currency string) *plainLine {
			k := prefix + currency
			if out[k] == nil {
				out[k] = &plainLine{counts: map[string]*big.Rat{}, revenue: new(big.Rat), payout: new(big.Rat)}
			}
			return out[k]
		}
		n, amount := big.NewRat(int64(f.N), 1_000_000), big.NewRat(int64(f.Amount), 1_000_000)
		l := line(currency)
		switch f.Type {
		case event.Impression:
			l.count("impressions", n)
		case event.Click:
			l.count("clicks", n)
		case event.Conversion:
			l.count("conversions", n)
		}
		l.count("n", n)
		l.count("amount", amount)
		l.count("events", big.NewRat(f.Events, 1))
		if f.Class != event.Valid {
			continue
		}
		if x, cur := plainMoney(f, f.Revenue, n, amount); x != nil {
			l := line(firstWord(cur, currency))
			l.revenue.Add(l.revenue, x)
		}
		if x, cur := plainMoney(f, f.Payout, n, amount); x != nil {
			l := line(firstWord(cur, currency))
			l.payout.Add(l.payout, x)
		}
	}
	return out
}

func firstWord(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

func plainMoney(f fact, p event.PriceID, n, amount *big.Rat) (*big.Rat, string) {
	type model struct {
		typ      event.Type
		of       *big.Rat
		factor   *big.Rat
		currency string
	}
	m, ok := map[event.PriceID]model{
		1:          {event.Impression, amount, big.NewRat(1, 1000), ""},
		2:          {event.Click, amount, big.NewRat(1, 1), ""},
		3:          {event.Conversion, amount, big.NewRat(1, 1), ""},
		priceCPM:   {event.Impression, n, big.NewRat(25, 10_000), "EUR"},
		priceCPC:   {event.Click, n, big.NewRat(333_333, 1_000_000), "EUR"},
		priceCPA:   {event.Conversion, n, big.NewRat(7, 1), "EUR"},
		priceShare: {event.Conversion, amount, big.NewRat(125, 1000), ""},
		priceUSD:   {event.Click, n, big.NewRat(1, 10), "USD"},
	}[p]
	if !ok || m.typ != f.Type {
		return nil, ""
	}
	return new(big.Rat).Mul(m.of, m.factor), m.currency
}

func plainWanted(f fact, r Request) bool {
	switch {
	case r.Class == "duplicate,undecided" && f.Class != event.Duplicate && f.Class != event.Undecided,
		r.Class == "valid" && f.Class != event.Valid,
		r.Class == "" && !slices.Contains(r.By, "class") && f.Class != event.Valid:
		return false
	}
	campaign, campaigns := false, false
	for _, w := range r.Where {
		ok := true
		switch w {
		case "campaign:100":
			campaigns, campaign = true, campaign || f.Campaign == 1
		case "campaign:-c,3":
			campaigns, campaign = true, campaign || f.Campaign == 3
		case "affiliate:(none)":
			ok = f.Affiliate == 0
		case "advertiser:acme":
			ok = f.Campaign == 1 || f.Campaign == 2
		case "type:click":
			ok = f.Type == event.Click
		case "device:mobile":
			ok = f.device == "mobile"
		case "banner:20/wide":
			ok = f.Banner == 2
		}
		if !ok {
			return false
		}
	}
	return !campaigns || campaign
}

func plainKey(t *rapid.T, names *catalog.View, f fact, r Request, at int64) string {
	var key []string
	for _, d := range r.By {
		s := ""
		switch d {
		case "":
			continue
		case "advertiser":
			s = [...]string{"(none)", "acme", "acme", "brand"}[f.Campaign]
		case "campaign":
			s = [...]string{"(none)", "100", "20", "-c,3"}[f.Campaign]
		case "banner":
			s = [...]string{"(none)", "100/wide", "20/wide"}[f.Banner]
			if slices.Contains(r.By, "campaign") && f.Banner > 0 {
				s = "wide"
			}
		case "affiliate":
			s = [...]string{"(none)", "anna", "bob"}[f.Affiliate]
		case "type":
			s = map[event.Type]string{1: "impression", 2: "click", 3: "conversion"}[f.Type]
			if s == "" {
				s = "ping"
			}
		case "goal":
			s = [...]string{"(none)", "sale"}[f.Goal]
		case "class":
			s = f.Class.String()
		case "device":
			s = f.device
		default:
			s = plainTime(t, d, r.Zone, at)
		}
		key = append(key, s)
	}
	if len(key) == 0 {
		return ""
	}
	return strings.Join(key, "|") + "|"
}

func plainTime(t *rapid.T, grain, zone string, minute int64) string {
	loc, err := time.LoadLocation(zone)
	if err != nil {
		t.Fatal(err)
	}
	at := time.Unix(minute*60, 0).In(loc)
	clockText := func(m int) string { return at.Format("2006-01-02T15:") + fmt.Sprintf("%02d", m) + at.Format("Z07:00") }
	switch grain {
	case "minute":
		return clockText(at.Minute())
	case "15min":
		return clockText(at.Minute() / 15 * 15)
	case "hour":
		return clockText(0)
	case "day":
		return at.Format(time.DateOnly)
	case "week":
		day := time.Date(at.Year(), at.Month(), at.Day(), 12, 0, 0, 0, time.UTC)
		for day.Weekday() != time.Monday {
			day = day.AddDate(0, 0, -1)
		}
		return day.Format(time.DateOnly)
	}
	return at.Format("2006-01")
}
