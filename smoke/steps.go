package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"math/rand/v2"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The tenants of the steps. Each step has its own where the numbers of one could hide in those of another.
const (
	adsTenant    = "ads"
	pixelTenant  = "pixels"
	clicksTenant = "redirects"
	salesTenant  = "sales"
)

// network is the catalog the steps start from. What the logs name is created by replay. Each tenant has a key with the
// secret secrets give for it.
func network(secrets map[string]string) string {
	var b strings.Builder
	b.WriteString("tenants:\n")
	for _, t := range []struct{ key, zone, currency string }{
		{adsTenant, "Europe/Moscow", "RUB"}, {clicksTenant, "UTC", "USD"}, {salesTenant, "UTC", "USD"}, {pixelTenant, "UTC", "USD"},
	} {
		_, _ = fmt.Fprintf(&b, "  - key: %s\n    name: Recorded %s\n    time_zone: %s\n    currency: %s\n", t.key, t.key, t.zone, t.currency)
		_, _ = fmt.Fprintf(&b, "    api_keys: [{key: smoke, secret: %q, rights: [ingest, backfill, read, catalog]}]\n", secrets[t.key])
	}
	// The last tenant's pixels have a campaign of their own.
	b.WriteString(`    advertisers: [{key: acme, name: Acme}]
    affiliates: [{key: partner, name: Partner}]
    campaigns:
      - key: shoes
        name: Shoes
        advertiser: acme
        landings: [{url: "https://shop.example/landing"}]
        banners: [{key: wide, name: Wide, width: 728, height: 90}]
`)
	return b.String()
}

// replayTwice is steps 1 and 2.
func (r *run) replayTwice(ctx context.Context) error {
	want, err := readAds(r.opt.data)
	if err != nil {
		return err
	}
	r.say("1. replay %d events, kill -9 in the middle", want.rows)
	if err := r.replayAndKill(ctx, want); err != nil {
		return err
	}
	first, err := r.prove(ctx, "step 1")
	if err != nil {
		return err
	}
	valid := map[kind]int64{{"impression", "valid"}: want.views, {"click", "valid"}: want.clicks}
	extra := first.of(adsTenant, "impression", "duplicate") + first.of(adsTenant, "click", "duplicate")
	var d diff
	d.only(first, adsTenant, withDuplicates(adsTenant, valid, first))
	if err := errors.Join(d.err(), r.adsTotals(ctx, want)); err != nil {
		return fmt.Errorf("step 1: %w", err)
	}
	r.say("  views=%d clicks=%d, every day and the spend of %d campaigns exact; %d rows were sent again after the kill",
		want.views, want.clicks, len(want.spend), extra)

	r.say("2. replay the whole file again")
	if err := r.replay(ctx, adsTenant, "ads_events", want.path); err != nil {
		return err
	}
	second, err := r.prove(ctx, "step 2")
	if err != nil {
		return err
	}
	d = diff{}
	for k, n := range valid {
		d.number(adsTenant+" "+k.typ+" valid", second.of(adsTenant, k.typ, "valid"), n)
	}
	twice := second.of(adsTenant, "impression", "duplicate") + second.of(adsTenant, "click", "duplicate")
	d.number("duplicates of the second replay", twice-extra, want.rows)
	if err := errors.Join(d.err(), r.adsTotals(ctx, want)); err != nil {
		return fmt.Errorf("step 2: %w", err)
	}
	r.total("views", second.of(adsTenant, "impression", "valid"))
	r.total("clicks", second.of(adsTenant, "click", "valid"))
	r.total("duplicates", twice-extra)
	return nil
}

// withDuplicates adds the duplicates that a replay may leave: what it sent again because an answer was lost or promised
// nothing.
func withDuplicates(tenant string, valid map[kind]int64, s *state) map[kind]int64 {
	all := maps.Clone(valid)
	for k := range valid {
		dup := kind{k.typ, "duplicate"}
		if n := s.events[tenant][dup]; n > 0 {
			all[dup] = n
		}
	}
	return all
}

// replayAndKill replays the ad log, kills the server when a good part of it has been counted, and starts it again. The
// replay has to find its own way through that.
func (r *run) replayAndKill(ctx context.Context, want *adsLog) error {
	replay, err := r.startReplay(ctx, adsTenant, "ads_events", want.path)
	if err != nil {
		return err
	}
	defer replay.abandon()
	// Another place in every run: what survives one instant may not survive the next.
	enough := want.rows/8 + rand.Int64N(want.rows/4)
	for {
		counted, err := r.counted(ctx)
		if err == nil && counted >= enough {
			r.say("  kill -9 after %d events", counted)
			break
		}
		select {
		case <-replay.exited:
			return errors.Join(errors.New("the replay ended before the server was killed"), replay.err, errors.New(replay.tail()))
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(5 * time.Millisecond):
		}
	}
	if err := r.server.kill(); err != nil {
		return err
	}
	if err := r.server.start(ctx); err != nil {
		return err
	}
	return replay.wait(ctx)
}

// counted asks the live counters, which are ahead of SQL, how far the replay is.
func (r *run) counted(ctx context.Context) (int64, error) {
	values, err := r.api.counters(ctx, adsTenant, []kind{{"impression", "valid"}, {"click", "valid"}})
	if err != nil {
		return 0, err
	}
	var sum int64
	for _, v := range values {
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil {
			return 0, err
		}
		sum += n
	}
	return sum, nil
}

// adsTotals compares days and spend with the file.
func (r *run) adsTotals(ctx context.Context, want *adsLog) error {
	whole := url.Values{"from": {"2019-04-01"}, "to": {"2019-04-06"}, "zone": {"Europe/Moscow"}}
	var d diff

	byDay := maps.Clone(whole)
	byDay.Set("by", "day")
	days, err := r.api.report(ctx, adsTenant, byDay)
	if err != nil {
		return err
	}
	seen := map[string]bool{}
	for _, line := range days {
		day := line["day"][:min(10, len(line["day"]))]
		if _, ok := want.days[day]; !ok && line["impressions"] == "0" && line["clicks"] == "0" {
			continue // a day of the range on which nothing happened
		}
		seen[day] = true
		d.text(day+" views", line["impressions"], strconv.FormatInt(want.days[day].views, 10))
		d.text(day+" clicks", line["clicks"], strconv.FormatInt(want.days[day].clicks, 10))
	}
	for _, day := range slices.Sorted(maps.Keys(want.days)) {
		if !seen[day] {
			d.text(day, "nothing", "a line in the report")
		}
	}
	if err := r.adsSpend(ctx, whole, want, &d); err != nil {
		return err
	}
	return d.err()
}

const spendQuery = `
select g.key, sum(case when c.type = 1 and c.revenue = 1 then c.amount else 0 end)::varchar,
       sum(case when c.type = 2 and c.revenue = 2 then c.amount else 0 end)::varchar
from cells c join tenants t on t.id = c.tenant join campaigns g on g.tenant = c.tenant and g.id = c.campaign
where t.key = '` + adsTenant + `' and c.class = 1 group by g.key`

// adsSpend compares what each campaign spent: in SQL to the last decimal, in the report rounded once per line.
func (r *run) adsSpend(ctx context.Context, whole url.Values, want *adsLog, d *diff) error {
	rows, err := r.api.sql(ctx, spendQuery)
	if err != nil {
		return err
	}
	d.number("campaigns with events in SQL", int64(len(rows)), int64(len(want.spend)))
	for _, row := range rows {
		views, ok1 := new(big.Rat).SetString(row[1])
		clicks, ok2 := new(big.Rat).SetString(row[2])
		if !ok1 || !ok2 {
			return fmt.Errorf("spend: row %v", row)
		}
		views.Quo(views, big.NewRat(1_000*1_000_000, 1)) // amounts are millionths, views are paid by the thousand
		clicks.Quo(clicks, big.NewRat(1_000_000, 1))
		exact := views.Add(views, clicks)
		if w := want.spend[row[0]]; w == nil || w.Cmp(exact) != 0 {
			d.text("spend of campaign "+row[0]+" in SQL", exact.FloatString(9), spelled(w))
		}
	}
	byCampaign := maps.Clone(whole)
	byCampaign.Set("by", "campaign")
	lines, err := r.api.report(ctx, adsTenant, byCampaign)
	if err != nil {
		return err
	}
	d.number("campaigns in the report", int64(len(lines)), int64(len(want.spend)))
	for _, line := range lines {
		got, ok := new(big.Rat).SetString(line["revenue"])
		w := want.spend[line["campaign"]]
		if !ok || w == nil || !sameMoney(got, w) {
			d.text("revenue of campaign "+line["campaign"]+" in the report", line["revenue"], spelled(w))
		}
	}
	return nil
}

// sameMoney says whether a line shows the exact amount rounded to the decimals it shows, at least to the cent.
func sameMoney(shown, exact *big.Rat) bool {
	for decimals := 2; decimals <= 9; decimals++ {
		if shown.FloatString(decimals) == exact.FloatString(decimals) && shown.FloatString(9) == padded(shown.FloatString(decimals), 9-decimals) {
			return true
		}
	}
	return false
}

func padded(s string, zeros int) string { return s + strings.Repeat("0", zeros) }

func spelled(x *big.Rat) string {
	if x == nil {
		return "no such campaign"
	}
	return x.FloatString(9)
}

// pixels is step 3.
func (r *run) pixels(ctx context.Context) error {
	const bad, live = 1_000, 10_000
	r.say("3. %d forged and %d expired tokens; %d live pixels, each sent twice, a kill -9 in between", bad, bad, live)
	before, err := r.prove(ctx, "before step 3")
	if err != nil {
		return err
	}
	expiring, err := r.doors.mint(ctx, pixelTenant, "shoes", "wide", "partner", bad, time.Second)
	if err != nil {
		return err
	}
	expired := time.After(2100 * time.Millisecond) // a token dies at a whole second
	tokens, err := r.doors.mint(ctx, pixelTenant, "shoes", "wide", "partner", live, 24*time.Hour)
	if err != nil {
		return err
	}
	if err := r.doors.pixels(ctx, forged(tokens[:bad])); err != nil {
		return err
	}
	select {
	case <-expired:
	case <-ctx.Done():
		return ctx.Err()
	}
	if err := r.doors.pixels(ctx, expiring); err != nil {
		return err
	}
	s, err := r.tallied(ctx, before, bad)
	if err != nil {
		return err
	}
	var d diff
	d.only(s, pixelTenant, map[kind]int64{{"impression", "expired"}: bad})
	d.unmoved(before, s, pixelTenant)
	if err := d.err(); err != nil {
		return fmt.Errorf("step 3, bad tokens: %w", err)
	}

	if err := r.doors.pixels(ctx, tokens); err != nil {
		return err
	}
	if err := r.server.kill(); err != nil {
		return err
	}
	if err := r.server.start(ctx); err != nil {
		return err
	}
	if err := r.doors.pixels(ctx, tokens); err != nil {
		return err
	}
	after, err := r.prove(ctx, "step 3")
	if err != nil {
		return err
	}
	d.only(after, pixelTenant, map[kind]int64{
		{"impression", "expired"}: bad, {"impression", "valid"}: live, {"impression", "duplicate"}: live,
	})
	d.unmoved(before, after, pixelTenant)
	d.number("forged after the kill", after.forged()-before.forged(), bad)
	if err := d.err(); err != nil {
		return fmt.Errorf("step 3: %w", err)
	}
	r.total("forged", after.forged()-before.forged())
	r.total("expired", after.of(pixelTenant, "impression", "expired"))
	r.total("pixels", after.of(pixelTenant, "impression", "valid"))
	return nil
}

// tallied waits for the doors' tallies, which are journaled once a second.
func (r *run) tallied(ctx context.Context, before *state, bad int64) (*state, error) {
	deadline := time.After(20 * time.Second)
	for {
		s, err := readState(ctx, r.api.sql)
		if err != nil {
			return nil, err
		}
		if n := s.forged() - before.forged(); n >= bad {
			var d diff
			d.number("forged tokens tallied", n, bad)
			if err := d.err(); err != nil {
				return nil, err
			}
			return r.prove(ctx, "step 3, bad tokens")
		}
		select {
		case <-deadline:
			return nil, fmt.Errorf("step 3: %d forged tokens sent, %d tallied", bad, s.forged()-before.forged())
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(300 * time.Millisecond):
		}
	}
}

// forged is what the doors have refused as forged, whatever the tenant: a forged token's tenant is only a claim.
func (s *state) forged() int64 {
	var n int64
	for what, count := range s.tallies {
		if strings.HasSuffix(what, " forged") {
			n += count
		}
	}
	return n
}

// unmoved checks that nothing of other tenants has changed.
func (d *diff) unmoved(before, after *state, but string) {
	for tenant := range after.events {
		if tenant != but {
			d.only(after, tenant, before.events[tenant])
		}
	}
}

// redirects is the first half of step 4.
func (r *run) redirects(ctx context.Context) error {
	want, err := readRedirects(r.opt.data)
	if err != nil {
		return err
	}
	r.say("4. %d recorded redirects through GET /c", want.clicks)
	summary, err := r.replaySummary(ctx, clicksTenant, "usagov_clicks", want.path)
	if err != nil {
		return err
	}
	s, err := r.prove(ctx, "step 4, redirects")
	if err != nil {
		return err
	}
	d := redirected(want, summary, s)
	if err := d.err(); err != nil {
		return fmt.Errorf("step 4: %w\nreplay said:\n%s", err, summary.text)
	}
	if summary.atRisk > 0 {
		r.say("  %d redirects came before their click was durable, and said so; %d of the clicks were counted and sent again",
			summary.atRisk, s.of(clicksTenant, "click", "duplicate"))
	}
	r.total("redirects", s.of(clicksTenant, "click", "valid"))
	return nil
}

// redirected compares the redirects with the file. A visitor does not wait for a slow disk: a redirect may come before its
// click is durable, and says so. Replay sends such a click again, and it may have been counted: then it is a duplicate.
func redirected(want *redirectLog, said *summary, s *state) diff {
	var d diff
	clicks := want.clicks - want.refused
	d.only(s, clicksTenant, withDuplicates(clicksTenant, map[kind]int64{{"click", "valid"}: clicks}, s))
	if n := s.of(clicksTenant, "click", "duplicate"); n > said.atRisk {
		d.number("clicks sent again", n, said.atRisk)
	}
	d.number("redirects in the client's log", said.redirects, clicks+said.atRisk)
	d.number("answers in the client's log", said.answers, clicks+said.atRisk)
	d.number("lines that replay reports as no event", said.skipped, want.heartbeats)
	d.number("clicks that replay reports as refused", said.refused, want.refused)
	return d
}

// purchases is the second half of step 4.
func (r *run) purchases(ctx context.Context) error {
	want, err := readPurchases(r.opt.data)
	if err != nil {
		return err
	}
	r.say("   %d recorded purchases through postbacks", want.purchases)
	if err := r.replay(ctx, salesTenant, "puffy_affiliate", want.paths...); err != nil {
		return err
	}
	s, err := r.prove(ctx, "step 4, purchases")
	if err != nil {
		return err
	}
	var d diff
	d.only(s, salesTenant, map[kind]int64{
		{"conversion", "valid"}: want.orders, {"conversion", "duplicate"}: want.purchases - want.orders,
	})
	rows, err := r.api.sql(ctx, `select l.name, count(*)::varchar, sum(s.amount)::varchar,
		sum(case when s.click_time = 0 then 1 else 0 end)::varchar
		from sales s join tenants t on t.id = s.tenant join classes l on l.id = s.class where t.key = '`+salesTenant+`' group by l.name`)
	if err != nil {
		return err
	}
	for _, row := range rows {
		switch row[0] {
		case "valid":
			d.text("sales kept as valid", row[1], strconv.FormatInt(want.orders, 10))
			d.text("valid sales without a click", row[3], strconv.FormatInt(want.orders, 10))
			amount, _ := new(big.Rat).SetString(row[2])
			if amount == nil || new(big.Rat).Mul(want.revenue, big.NewRat(1_000_000, 1)).Cmp(amount) != 0 {
				d.text("amount of the valid sales in millionths", row[2], want.revenue.FloatString(2))
			}
			r.totals = append(r.totals, "revenue="+want.revenue.FloatString(2))
		case "duplicate":
			d.text("sales kept as evidence of a reused order id", row[1], strconv.FormatInt(want.purchases-want.orders, 10))
		default:
			d.text("sales of class "+row[0], row[1], "0")
		}
	}
	lines, err := r.api.report(ctx, salesTenant, url.Values{"by": {"type"}, "from": {"2000-01-01"}, "to": {"2100-01-01"}})
	if err != nil {
		return err
	}
	for _, line := range lines {
		if amount, ok := new(big.Rat).SetString(line["amount"]); line["type"] == "conversion" && (!ok || amount.Cmp(want.revenue) != 0) {
			d.text("amount in the report", line["amount"], want.revenue.FloatString(2))
		}
	}
	if err := d.err(); err != nil {
		return fmt.Errorf("step 4: %w", err)
	}
	r.total("sales", s.of(salesTenant, "conversion", "valid"))
	return nil
}
