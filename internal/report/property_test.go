package report

import (
	"fmt"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"milliard/internal/catalog"
	"milliard/internal/event"
	"milliard/internal/ledger"
)

// fact is one generated cell in plain words, for a reader that shares no code with the package.
type fact struct {
	ledger.Cell
	occurred int32
	device   string
}

// zones are those whose days are hard: half hours, quarters, a half-hour summer time, changes at midnight and at one
// minute past it.
func zones() []string {
	return []string{
		"UTC", "Europe/Berlin", "Asia/Kathmandu", "America/St_Johns", "Australia/Lord_Howe", "America/Sao_Paulo",
		"Asia/Beirut", "Europe/Moscow", "Atlantic/Azores", "America/New_York",
	}
}

func drawFacts(t *rapid.T, tenant event.TenantID, around int32) []fact {
	n := rapid.IntRange(1, 60).Draw(t, "facts")
	out := make([]fact, n)
	for i := range out {
		f := &out[i]
		f.Tenant = tenant
		f.Bucket = around + int32(rapid.IntRange(-4000, 4000).Draw(t, "bucket"))
		f.occurred = around + int32(rapid.IntRange(-4000, 4000).Draw(t, "occurred"))
		f.Type = rapid.SampledFrom([]event.Type{1, 1, 2, 2, 3, 64 + event.Type(tenant)}).Draw(t, "type")
		f.Class = rapid.SampledFrom([]event.Class{1, 1, 1, 2, 9}).Draw(t, "class")
		f.Campaign = event.CampaignID(rapid.IntRange(0, 3).Draw(t, "campaign"))
		if f.Campaign == 1 || f.Campaign == 2 {
			f.Banner = event.BannerID(rapid.SampledFrom([]uint32{0, uint32(f.Campaign)}).Draw(t, "banner"))
		}
		f.Affiliate = event.AffiliateID(rapid.IntRange(0, 2).Draw(t, "affiliate"))
		f.Goal = event.GoalID(rapid.IntRange(0, 1).Draw(t, "goal"))
		f.Revenue = rapid.SampledFrom([]event.PriceID{0, 1, 2, 3, priceCPM, priceCPC, priceCPA}).Draw(t, "revenue")
		f.Payout = rapid.SampledFrom([]event.PriceID{0, priceShare, priceUSD}).Draw(t, "payout")
		f.N = event.Micros(rapid.Int64Range(-5_000_000, 900_000_000_000).Draw(t, "n"))
		f.Amount = event.Micros(rapid.Int64Range(-50_000_000, 9_000_000_000_000_000).Draw(t, "amount"))
		f.Events = rapid.Int64Range(1, 1000).Draw(t, "events")
		f.device = rapid.SampledFrom([]string{"mobile", "desktop", "unknown"}).Draw(t, "device")
	}
	return out
}

// counts are the flush's parts of facts.
func counts(facts []fact) counted {
	var c counted
	for _, f := range facts {
		c.cells = append(c.cells, f.Cell)
		o := f.Cell
		o.Bucket = f.occurred - ((f.occurred%15)+15)%15
		k := f.Key
		k.Bucket -= ((k.Bucket % 15) + 15) % 15
		if o.Bucket != k.Bucket {
			c.moved = append(c.moved, o, ledger.Cell{Key: k, Value: ledger.Value{N: -f.N, Amount: -f.Amount, Events: -f.Events}})
		}
		if f.device == ledger.DimDevice.Rest() {
			continue
		}
		c.rollups = append(c.rollups, ledger.RollupCell{Dim: ledger.DimDevice, DimValue: f.device, Key: k, Value: f.Value})
	}
	return c
}

// TestReportsEqualAPlainSum is the property of the package: whatever is asked for, each line is the exact sum of the
// cells that belong to it, found here with the time package's calendar and big.Rat.
func TestReportsEqualAPlainSum(t *testing.T) {
	b := newBench(t)
	tenant := event.TenantID(0)
	answered := 0
	rapid.Check(t, func(rt *rapid.T) {
		tenant++
		names := network(rt, tenant, "UTC", rapid.Bool().Draw(rt, "mixed"))
		zone := rapid.SampledFrom(zones()).Draw(rt, "zone")
		around := drawCentre(rt, zone)
		var facts []fact
		for range rapid.IntRange(1, 3).Draw(rt, "flushes") {
			part := drawFacts(rt, tenant, around)
			facts = append(facts, part...)
			b.flush(rt, rapid.IntRange(0, 1).Draw(rt, "lane"), time.Unix(int64(around)*60, 0), counts(part))
			if rapid.IntRange(0, 3).Draw(rt, "compact") == 0 {
				if err := b.Compact(rt.Context()); err != nil {
					rt.Fatal(err)
				}
			}
		}
		for range 4 {
			req := drawRequest(rt, around, zone)
			s := New(Config{Reader: b, Now: clock("2026-04-01T12:00:00Z")})
			res, err := s.Report(rt.Context(), names, req)
			if bad, ok := err.(*BadRequest); ok { //nolint:errorlint // it is never wrapped
				explainRefusal(rt, req, bad)
				continue
			}
			if err != nil {
				rt.Fatalf("%+v: %v", req, err)
			}
			answered++
			compareWithPlain(rt, names, facts, req, res)
		}
	})
	if answered == 0 {
		t.Error("every report was refused")
	}
}

// drawCentre picks a minute next to a change of the zone's offset where there is one.
func drawCentre(t *rapid.T, zone string) int32 {
	loc, _ := time.LoadLocation(zone)
	at := time.Unix(rapid.Int64Range(1_100_000_000, 1_780_000_000).Draw(t, "centre"), 0).In(loc)
	if _, end := at.ZoneBounds(); !end.IsZero() && rapid.Bool().Draw(t, "atChange") {
		at = end
	}
	return int32(at.Unix() / 60)
}

func drawRequest(t *rapid.T, around int32, zone string) Request {
	dims := []string{"advertiser", "campaign", "banner", "affiliate", "type", "goal", "class", "device"}
	r := Request{Zone: zone, Limit: MaxLimit}
	for _, d := range dims {
		if rapid.IntRange(0, 3).Draw(t, d) == 0 {
			r.By = append(r.By, d)
		}
	}
	r.By = append(r.By, rapid.SampledFrom([]string{"", "minute", "15min", "hour", "day", "week", "month"}).Draw(t, "grain"))
	step := rapid.SampledFrom([]int32{1, 15, 60}).Draw(t, "step")
	edge := func(lo, hi int32) string {
		m := (around + lo + int32(rapid.IntRange(0, int(hi-lo)).Draw(t, "edge"))) / step * step
		return time.Unix(int64(m)*60, 0).UTC().Format(time.RFC3339)
	}
	r.From, r.To = edge(-4200, 0), edge(61, 4200)
	if rapid.IntRange(0, 3).Draw(t, "dates") == 0 {
		loc, _ := time.LoadLocation(zone)
		day := time.Unix(int64(around)*60, 0).In(loc)
		r.From, r.To = day.Format(time.DateOnly), day.AddDate(0, 0, 1).Format(time.DateOnly)
	}
	r.Class = rapid.SampledFrom([]string{"", "all", "valid", "duplicate,undecided"}).Draw(t, "class")
	r.Time = rapid.SampledFrom([]string{"", "received", "occurred"}).Draw(t, "time")
	for _, w := range []string{"campaign:100", "campaign:-c,3", "affiliate:(none)", "advertiser:acme", "type:click", "device:mobile", "banner:20/wide"} {
		if rapid.IntRange(0, 7).Draw(t, w) == 0 {
			r.Where = append(r.Where, w)
		}
	}
	return r
}

// explainRefusal checks that a refusal is one of those that are documented.
func explainRefusal(t *rapid.T, r Request, err *BadRequest) {
	uses := r.Time == "occurred" || slices.Contains(r.By, "device") || slices.Contains(r.Where, "device:mobile")
	if !uses || !strings.Contains(err.Msg, "quarters of an hour") && !strings.Contains(err.Msg, "time of receipt only") {
		t.Fatalf("%+v refused: %v", r, err)
	}
}

// plainLine is a line of the expected answer.
type plainLine struct {
	counts          map[string]*big.Rat
	revenue, payout *big.Rat
}

func compareWithPlain(t *rapid.T, names *catalog.View, facts []fact, r Request, res *Result) {
	want := plainReport(t, names, facts, r, res)
	got := map[string]string{}
	var dims []string
	for _, c := range res.Columns {
		if _, isMetric := res.Totals.Get(c); !isMetric || c == "currency" {
			dims = append(dims, c)
		}
	}
	res.Fill()
	for _, row := range res.Rows {
		var key []string
		for _, d := range dims {
			if v, _ := row.Get(d); !strings.HasSuffix(d, "_name") {
				key = append(key, v.Text)
			}
		}
		k := strings.Join(key, "|")
		if _, twice := got[k]; twice {
			t.Fatalf("%+v: two lines for %s", r, k)
		}
		got[k] = metricsText(row)
	}
	expected := map[string]string{}
	total := &plainLine{counts: map[string]*big.Rat{}, revenue: new(big.Rat), payout: new(big.Rat)}
	for k, l := range want {
		expected[k] = l.text()
		for name, x := range l.counts {
			total.count(name, x)
		}
		total.revenue.Add(total.revenue, l.revenue)
		total.payout.Add(total.payout, l.payout)
	}
	for _, k := range sortedKeys(expected) {
		if got[k] != expected[k] {
			t.Fatalf("%+v\nline %s\n got %s\nwant %s", r, k, got[k], expected[k])
		}
	}
	if len(got) != len(expected) {
		t.Fatalf("%+v: lines %v, want %v", r, sortedKeys(got), sortedKeys(expected))
	}
	if len(res.CurrencyTotals) == 1 {
		if g := metricsText(res.Totals); g != total.text() {
			t.Fatalf("%+v: totals %s, want %s", r, g, total.text())
		}
	}
}

func metricsText(row Row) string {
	var out []string
	for _, c := range []string{"impressions", "clicks", "conversions", "n", "amount", "events", "CTR", "CR", "EPC", "eCPM", "revenue", "payout", "profit"} {
		v, _ := row.Get(c)
		out = append(out, c+"="+v.Text)
	}
	return strings.Join(out, " ")
}

func (l *plainLine) count(name string, x *big.Rat) {
	if l.counts[name] == nil {
		l.counts[name] = new(big.Rat)
	}
	l.counts[name].Add(l.counts[name], x)
}

func (l *plainLine) get(name string) *big.Rat {
	if x := l.counts[name]; x != nil {
		return x
	}
	return new(big.Rat)
}

func (l *plainLine) text() string {
	div := func(a, b *big.Rat, least int) string {
		if b.Sign() == 0 {
			return ""
		}
		return plainDecimal(new(big.Rat).Quo(a, b), least)
	}
	i, c, v := l.get("impressions"), l.get("clicks"), l.get("conversions")
	thousand := new(big.Rat).Mul(l.revenue, big.NewRat(1000, 1))
	return fmt.Sprintf("impressions=%s clicks=%s conversions=%s n=%s amount=%s events=%s CTR=%s CR=%s EPC=%s eCPM=%s revenue=%s payout=%s profit=%s",
		plainDecimal(i, 0), plainDecimal(c, 0), plainDecimal(v, 0), plainDecimal(l.get("n"), 0), plainDecimal(l.get("amount"), 2),
		plainDecimal(l.get("events"), 0), div(c, i, 0), div(v, c, 0), div(l.revenue, c, 2), div(thousand, i, 2),
		plainDecimal(l.revenue, 2), plainDecimal(l.payout, 2), plainDecimal(new(big.Rat).Sub(l.revenue, l.payout), 2))
}
