package demo

import (
	"fmt"
	"strings"
)

// The small network that the visitors visit. Nothing in it exists.

type campaign struct {
	key, name  string
	advertiser string
	model      string // what the advertiser pays for: cpm, cpc, cpa or revshare
	rate       string
	payoutRate string
	ctr        float64 // share of impressions that are clicked
	cr         float64 // share of clicks that convert
	price      float64 // typical amount of an order, in euros
}

func campaigns() []campaign {
	return []campaign{
		{"boots", "Winter boots", "nordhut", "revshare", "12", "8", 0.018, 0.060, 89},
		{"coffee", "Coffee by post", "roastery", "cpa", "9.50", "6", 0.021, 0.085, 24},
		{"phone-plan", "Phone plan", "telka", "cpa", "38", "26", 0.012, 0.030, 19},
		{"city-break", "City break", "wayfare", "revshare", "7", "5", 0.015, 0.022, 340},
		{"puzzle-game", "Puzzle game", "pixelpond", "cpc", "0.11", "0.07", 0.024, 0.140, 3},
		{"mattress", "Mattress", "restwell", "revshare", "9", "6", 0.011, 0.015, 620},
		{"bank-account", "Bank account", "clearbank", "cpa", "45", "30", 0.009, 0.025, 0},
		{"garden-tools", "Garden tools", "nordhut", "cpc", "0.19", "0.12", 0.014, 0.040, 54},
		{"language-app", "Language app", "pixelpond", "cpa", "6", "4", 0.019, 0.095, 12},
		{"car-rental", "Car rental", "wayfare", "revshare", "6", "4", 0.013, 0.028, 210},
		{"tea", "Green tea", "roastery", "cpc", "0.14", "0.09", 0.017, 0.070, 18},
		{"brand-film", "Brand film", "telka", "cpm", "4.20", "2.90", 0.004, 0.010, 19},
		{"headphones", "Headphones", "nordhut", "revshare", "8", "5", 0.016, 0.035, 129},
		{"insurance", "Bicycle insurance", "clearbank", "cpa", "22", "15", 0.010, 0.032, 0},
		{"pillow", "Pillow", "restwell", "cpm", "3.10", "2.20", 0.008, 0.030, 39},
		{"ferry", "Ferry tickets", "wayfare", "cpc", "0.22", "0.14", 0.012, 0.045, 96},
	}
}

func advertisers() map[string]string {
	return map[string]string{
		"nordhut": "Nordhut", "roastery": "The Roastery", "telka": "Telka", "wayfare": "Wayfare",
		"pixelpond": "Pixelpond", "restwell": "Restwell", "clearbank": "Clearbank",
	}
}

func affiliates() []string {
	return []string{
		"alpine-blog", "deal-radar", "mailloop", "green-guide", "budget-traveller", "gadget-notes",
		"coupon-corner", "morning-paper", "tube-reviews", "student-tips", "price-scout", "long-tail",
	}
}

// banners are the sizes every campaign has.
func banners() []string { return []string{"300x250", "728x90", "160x600"} }

// postbackKey is what an advertiser of the demonstration puts into its postbacks. The server lives for the length of the
// demonstration on this machine, so it need not be a secret.
func postbackKey(advertiser string) string { return "demo-postback-" + advertiser }

// document is the network as `milliard catalog apply` takes it.
func document() string {
	var b strings.Builder
	w := func(format string, args ...any) { _, _ = fmt.Fprintf(&b, format, args...) } // a Builder cannot fail
	w("tenants:\n  - key: default\n    name: Demo network (simulated)\n    time_zone: Europe/Berlin\n    currency: EUR\n")
	w("    goals:\n      - {key: sale, name: Sale}\n      - {key: lead, name: Lead}\n")
	w("    advertisers:\n")
	names := advertisers()
	for _, c := range campaigns() {
		if name, ok := names[c.advertiser]; ok {
			w("      - {key: %s, name: %s, postback_key: %s}\n", c.advertiser, name, postbackKey(c.advertiser))
			delete(names, c.advertiser)
		}
	}
	w("    affiliates:\n")
	for _, a := range affiliates() {
		w("      - {key: %s, name: %s}\n", a, title(a))
	}
	w("    campaigns:\n")
	for _, c := range campaigns() {
		w("      - key: %s\n        name: %s\n        advertiser: %s\n        click_window: 7d\n", c.key, c.name, c.advertiser)
		w("        landings: [{url: \"https://%s.example/%s?from={affiliate_id}\"}]\n", c.advertiser, c.key)
		w("        banners:\n")
		for _, size := range banners() {
			width, height, _ := strings.Cut(size, "x")
			w("          - {key: %s, name: %s, width: %s, height: %s}\n", size, size, width, height)
		}
		w("        prices:\n")
		w("          - {side: revenue, model: %s, rate: %s, currency: EUR}\n", c.model, c.rate)
		w("          - {side: payout, model: %s, rate: %s, currency: EUR}\n", c.model, c.payoutRate)
	}
	return b.String()
}

func title(key string) string {
	words := strings.Split(key, "-")
	words[0] = strings.ToUpper(words[0][:1]) + words[0][1:]
	return strings.Join(words, " ")
}

// Campaigns is how many campaigns the network has.
func Campaigns() int { return len(campaigns()) }
