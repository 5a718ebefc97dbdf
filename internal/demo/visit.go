package demo

import (
	"math"
	"math/rand/v2"
	"strconv"
	"time"
)

// visit is one simulated visitor who sees one banner, and everything that will come of it. All of it is decided when
// the visit begins, so that one seed gives one history.
type visit struct {
	campaign  campaign
	banner    string
	affiliate string
	sub1      string
	agent     string
	country   string

	forged     bool // the tag's token has been tampered with
	repeated   bool // the page is loaded again from the browser's history: the same pixel fires twice
	static     bool // clicks a static link in a text instead of a banner; there is no impression
	clicks     bool
	clickAfter time.Duration

	converts     bool
	convertAfter time.Duration
	goal         string
	order        string // empty: the shop sends none
	amount       string
	reposted     bool // the shop sends its postback twice
}

// The shares of what is not an honest visitor doing one thing once.
const (
	botShare      = 0.03
	forgedShare   = 0.006
	repeatedShare = 0.02
	staticShare   = 0.01
	repostedShare = 0.05
)

// model draws visits. It has one user.
type model struct {
	rng        *rand.Rand
	campaigns  []campaign
	affiliates []string
	pick       *rand.Zipf // campaigns: a few get most of the traffic
	send       *rand.Zipf // affiliates likewise
	orders     int
	run        string // makes order ids of two runs different
}

func newModel(seed uint64) *model {
	rng := rand.New(rand.NewPCG(seed, seed^0x9e3779b97f4a7c15))
	m := &model{rng: rng, campaigns: campaigns(), affiliates: affiliates(), run: strconv.FormatUint(seed%46656, 36)}
	m.pick = rand.NewZipf(rng, 1.25, 2, uint64(len(m.campaigns)-1))
	m.send = rand.NewZipf(rng, 1.35, 2, uint64(len(m.affiliates)-1))
	return m
}

// next draws one visit.
func (m *model) next() visit {
	c := m.campaigns[m.pick.Uint64()]
	v := visit{
		campaign:  c,
		banner:    banners()[m.rng.IntN(len(banners()))],
		affiliate: m.affiliates[m.send.Uint64()],
		sub1:      "placement-" + strconv.Itoa(1+m.rng.IntN(9)),
		agent:     browsers()[m.rng.IntN(len(browsers()))],
		country:   m.country(),
		forged:    m.chance(forgedShare),
		repeated:  m.chance(repeatedShare),
		static:    m.chance(staticShare),
	}
	v.clicks = v.static || m.chance(c.ctr)
	v.clickAfter = m.delay(4*time.Second, 0.8, time.Minute)
	if m.chance(botShare) { // sees many pages, clicks out of proportion, buys nothing
		v.agent = bots()[m.rng.IntN(len(bots()))]
		v.clicks = v.static || m.chance(3*c.ctr)
		v.clickAfter = m.delay(200*time.Millisecond, 0.3, time.Second)
		return v
	}
	if v.converts = m.chance(c.cr); v.converts {
		m.buy(&v)
	}
	return v
}

// buy decides what is bought, when, and how the shop tells.
func (m *model) buy(v *visit) {
	v.convertAfter = m.delay(40*time.Second, 1.1, 20*time.Minute)
	v.goal, v.amount = "sale", "0"
	if v.campaign.model == "cpa" {
		v.goal = "lead"
	}
	if v.campaign.price > 0 {
		cents := int64(100 * v.campaign.price * math.Exp(0.4*m.rng.NormFloat64()))
		v.amount = strconv.FormatInt(cents/100, 10) + "." + strconv.FormatInt(cents/10%10, 10) + "9"
	}
	m.orders++
	v.order = "D" + m.run + "-" + strconv.Itoa(m.orders)
	v.reposted = m.chance(repostedShare)
}

func (m *model) chance(p float64) bool { return m.rng.Float64() < p }

// delay draws from a log-normal distribution: most people act soon, some much later.
func (m *model) delay(median time.Duration, spread float64, longest time.Duration) time.Duration {
	d := time.Duration(float64(median) * math.Exp(spread*m.rng.NormFloat64()))
	return min(d, longest)
}

func (m *model) country() string {
	table := []struct {
		code  string
		share float64
	}{
		{"DE", 0.34},
		{"AT", 0.10},
		{"CH", 0.09},
		{"NL", 0.08},
		{"FR", 0.08},
		{"GB", 0.08},
		{"PL", 0.07},
		{"SE", 0.05},
		{"ES", 0.05},
		{"IT", 0.04},
		{"US", 0.02},
	}
	x := m.rng.Float64()
	for _, row := range table {
		if x -= row.share; x < 0 {
			return row.code
		}
	}
	return "DE"
}

// wait draws the time to the next visit at a rate per second: visitors do not know of each other.
func (m *model) wait(rate float64) time.Duration {
	return time.Duration(m.rng.ExpFloat64() / rate * float64(time.Second))
}

// dayLength is how long a simulated day takes.
const dayLength = 10 * time.Minute

// load is the daily curve: how busy the network is after a while, against its average of 1. The day starts at eight in
// the morning, so that the first minute shows something.
func load(since time.Duration) float64 {
	hourly := [24]float64{
		0.62, 0.42, 0.31, 0.27, 0.29, 0.41, 0.63, 0.86, 1.02, 1.10, 1.13, 1.15,
		1.19, 1.16, 1.13, 1.14, 1.18, 1.24, 1.33, 1.46, 1.52, 1.43, 1.17, 0.84,
	}
	hour := 8 + 24*float64(since%dayLength)/float64(dayLength)
	whole := int(hour)
	part := hour - float64(whole)
	return hourly[whole%24]*(1-part) + hourly[(whole+1)%24]*part
}

func browsers() []string {
	return []string{
		"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/138.0.0.0 Safari/537.36",
		"Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.5 Mobile/15E148 Safari/604.1",
		"Mozilla/5.0 (Linux; Android 15; Pixel 9) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/138.0.0.0 Mobile Safari/537.36",
		"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.5 Safari/605.1.15",
		"Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
		"Mozilla/5.0 (iPad; CPU OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.5 Mobile/15E148 Safari/604.1",
	}
}

func bots() []string {
	return []string{
		"ExampleBot/2.1 (+https://bot.example/about)",
		"python-requests/2.32.4",
		"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) HeadlessChrome/138.0.0.0 Safari/537.36",
	}
}
