package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	_ "github.com/duckdb/duckdb-go/v2" // P7 fills a month of rollups into the ledger before the server opens it
)

// rowP5 reads live counters over HTTP, beside a load, and the same counters from memcached, beside the same load on us: 20,000
// events a second, whichever is read.
func rowP5(ctx context.Context, h *harness) error {
	s := &series{
		name: "P5 live counters, 100 keys per request", unit: "keys/s", peer: "memcached get of 100 keys", goal: "1.0 ×", floor: "0.5 ×",
	}
	return h.with(ctx, setup{name: "p5"}, h.size(), func(srv *subject) error {
		l := h.mix("columnar")
		l.Addr, l.Key = srv.doors, srv.key
		x, err := h.drive(ctx, l)
		if err == nil {
			_, err = srv.settleAndCheck(ctx, x)
		}
		if err != nil {
			return err
		}
		e, path, err := h.expect(ctx, srv)
		if err != nil {
			return err
		}
		mc, addr, err := h.memcached(ctx, e)
		if err != nil {
			return err
		}
		all := []*sent{x}
		rates := map[string][]float64{}
		read := func(ctx context.Context, mode, addr string, s *series) (float64, error) {
			beside := h.steady(ctx, h.beside(srv, h.opt.span+2*besideLead))
			err := pause(ctx, besideLead)
			var r *sent
			if err == nil {
				r, err = h.drive(ctx, load{Mode: mode, Addr: addr, Span: h.opt.span, Conns: 8, Expect: path, Campaigns: 1, Affiliates: 1})
			}
			x, rate, loadErr := beside.wait()
			if err = errors.Join(err, loadErr); err == nil {
				err = beside.covers(r)
			}
			if err != nil {
				return 0, err
			}
			all, rates[mode] = append(all, x), append(rates[mode], rate)
			s.put(mode+"_p99_ms", r.Latency.P99)
			s.put(mode+"_load_p99_ms", x.Latency.P99)
			return float64(r.Requests*keysPerRead) / r.seconds(), nil
		}
		err = h.alternate(ctx, s, func(ctx context.Context, _ int) (float64, error) {
			return read(ctx, "read", srv.adm, s)
		}, func(ctx context.Context, _ int) (float64, error) { return read(ctx, "memget", addr, s) })
		s.put("load_rate", math.Round(median(rates["read"])))
		s.put("peer_load_rate", math.Round(median(rates["memget"])))
		if err == nil && h.opt.profile {
			done := make(chan error, 1)
			go func() { done <- srv.profiled(ctx, "P5", h.opt.span) }()
			_, err = read(ctx, "read", srv.adm, &series{})
			err = errors.Join(err, <-done)
		}
		if err = errors.Join(err, mc.stop()); err != nil {
			return err
		}
		if _, err := srv.settleAndCheck(ctx, all...); err != nil {
			return err
		}
		return h.record(s)
	})
}

// expect reads what the counters are before the readers begin.
func (h *harness) expect(ctx context.Context, srv *subject) (*expected, string, error) {
	rows, err := srv.sql(ctx, `SELECT p.key, sum(c.events)::VARCHAR FROM cells c JOIN campaigns p ON p.id = c.campaign AND p.tenant = c.tenant
WHERE c.class = 1 AND c.type = 1 GROUP BY ALL ORDER BY 1`)
	if err != nil {
		return nil, "", err
	}
	e := &expected{Moving: true}
	for _, r := range rows {
		n, err := whole(r[1])
		if err != nil {
			return nil, "", err
		}
		e.Keys, e.Values = append(e.Keys, fmt.Sprint(r[0])), append(e.Values, n)
	}
	text, err := json.Marshal(e)
	if err != nil {
		return nil, "", err
	}
	path := filepath.Join(h.work, "expect.json")
	return e, path, os.WriteFile(path, text, 0o600)
}

// A month as P7 wants it: 10,000 cells that were active in every minute.
const (
	monthCampaigns = 1000
	monthPairs     = 10 // affiliates per campaign
	perQuarter     = 15 // events of each cell in 15 minutes: one a minute
)

// rowP7 asks for reports of two dimensions over a month while events come in. The month is written into the ledger's
// rollups directly: what is measured is reading it.
func rowP7(ctx context.Context, h *harness) error {
	own, err := h.fresh(ctx, setup{name: "p7"}, &catalogSize{campaigns: monthCampaigns, affiliates: 10_000})
	if err != nil {
		return err
	}
	rows, err := fillMonth(ctx, filepath.Join(own.data, "ledger.duckdb"), h.opt.days)
	if err != nil {
		return err
	}
	h.say("  %d days: %s rows of 15 minutes, a quarter as many of an hour", h.opt.days, number(float64(rows)))
	return h.withData(ctx, setup{name: "p7"}, own, func(srv *subject) error { return h.reports(ctx, srv) })
}

// fillMonth writes rollups of whole days before today: per campaign and affiliate one impression a minute.
func fillMonth(ctx context.Context, path string, days int) (rows int64, err error) {
	db, err := sql.Open("duckdb", path)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	today := time.Now().UTC().Truncate(24*time.Hour).Unix() / 60
	for _, t := range []struct {
		table   string
		minutes int64
		events  int
	}{{"cells_15m", 15, perQuarter}, {"cells_1h", 60, 4 * perQuarter}, {"cells_1d", 24 * 60, 96 * perQuarter}} {
		for day := range days { // a day at a time, so that memory stays small
			from := today - int64(days-day)*24*60
			r, err := db.ExecContext(ctx, fmt.Sprintf(`INSERT INTO %s
SELECT 0, 0, b, t.id, 1, 0, 1, p.id, 0, (((p.id - 1) * %d + k) %% 10000 + 1)::UINTEGER, 0, 0, %d * 1000000::BIGINT, 0, %d
FROM range(%d, %d, %d) r(b), tenants t, campaigns p, range(%d) a(k)
WHERE p.tenant = t.id ORDER BY b`,
				t.table, monthPairs, t.events, t.events, from, from+24*60, t.minutes, monthPairs))
			if err != nil {
				return 0, fmt.Errorf("fill %s: %w", t.table, err)
			}
			if n, err := r.RowsAffected(); err == nil && t.minutes == 15 {
				rows += n
			}
		}
	}
	_, err = db.ExecContext(ctx, "CHECKPOINT")
	return rows, err
}

// reports measures both pairs of dimensions, under load, and checks every total.
func (h *harness) reports(ctx context.Context, srv *subject) error {
	today := time.Now().UTC().Truncate(24 * time.Hour)
	day := func(back int) string { return today.AddDate(0, 0, -back).Format("2006-01-02") }
	var all []*sent
	for _, kind := range []struct{ by, zone string }{{"campaign,day", "UTC"}, {"affiliate,campaign", "UTC"}, {"campaign,day", "Europe/Berlin"}} {
		zone, err := time.LoadLocation(kind.zone)
		if err != nil {
			return err
		}
		s := &series{name: "P7 p95 of a report by " + kind.by + ", " + strconv.Itoa(h.opt.days) + " days", unit: "ms", less: true, goal: "50 ms", floor: "200 ms"}
		if kind.zone != "UTC" {
			s.name, s.goal, s.floor = s.name+" of "+kind.zone, "", ""
		}
		// No two reports in a row are the same: they differ in their days and in their order.
		path := func(i int) (string, int64) {
			q := url.Values{
				"by": {kind.by}, "from": {day(h.opt.days)}, "to": {day(1 + i%2)}, "zone": {kind.zone}, "limit": {"200000"},
				"order": {[...]string{"", "-campaign", "-impressions"}[i%3]},
			}
			y, m, d := today.Date() // what was written ends and begins with days of UTC, the report with the zone's
			from := maxTime(today.AddDate(0, 0, -h.opt.days), time.Date(y, m, d-h.opt.days, 0, 0, 0, 0, zone))
			to := minTime(today, time.Date(y, m, d-i%2, 0, 0, 0, 0, zone))
			return "/v1/report?" + q.Encode(), int64(to.Sub(from).Minutes()) * monthCampaigns * monthPairs
		}
		var p50, answers, rates []float64
		fewest := math.MaxInt
		for range h.opt.rounds {
			if err := h.idle(ctx); err != nil {
				return err
			}
			s.far()
			took, x, rate, err := h.underLoad(ctx, srv, path)
			if err != nil {
				return err
			}
			s.far()
			all, rates, answers = append(all, x), append(rates, rate), append(answers, x.Latency.P99)
			s.ours, p50, fewest = append(s.ours, quantile(took, 0.95)), append(p50, median(took)), min(fewest, len(took))
		}
		if h.opt.profile {
			x, err := h.profileReports(ctx, srv, "P7 "+strings.ReplaceAll(kind.by+" "+kind.zone, "/", "-"), path)
			if err != nil {
				return err
			}
			all = append(all, x)
		}
		s.put("p50_ms", median(p50))
		s.put("reports_per_run", fewest)
		s.put("load_rate", math.Round(median(rates)))
		s.put("load_p99_ms", median(answers))
		if _, err := srv.settleAndCheck(ctx, all...); err != nil {
			return err
		}
		if err := h.record(s); err != nil {
			return err
		}
	}
	return nil
}

func maxTime(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func minTime(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// asked is one report, checked.
type asked struct{ began, ended time.Time }

// ask makes one report after the other until the load is over.
func (h *harness) ask(ctx context.Context, srv *subject, path func(int) (string, int64), over <-chan struct{}) ([]asked, error) {
	var all []asked
	for i := 0; ; i++ {
		select {
		case <-over:
			return all, nil
		default:
		}
		question, want := path(i)
		a := asked{began: time.Now()}
		text, err := srv.get(ctx, question)
		a.ended = time.Now()
		if err != nil {
			return nil, err
		}
		all = append(all, a)
		var r struct {
			Totals struct {
				Impressions json.Number `json:"impressions"`
			} `json:"totals"`
		}
		if err := json.Unmarshal(text, &r); err != nil {
			return nil, fmt.Errorf("report: %w", err)
		}
		if r.Totals.Impressions.String() != strconv.FormatInt(want, 10) {
			return nil, fmt.Errorf("report: %s impressions, %d were written", r.Totals.Impressions, want)
		}
	}
}

// underLoad makes reports while 20,000 events a second come in, and returns how many milliseconds each took that began
// and ended under that load; what was sent, and its rate.
func (h *harness) underLoad(ctx context.Context, srv *subject, path func(int) (string, int64)) ([]float64, *sent, float64, error) {
	l := h.beside(srv, h.opt.span)
	l.Campaigns = monthCampaigns
	s := h.steady(ctx, l)
	all, err := h.ask(ctx, srv, path, s.over)
	x, rate, loadErr := s.wait()
	if err = errors.Join(err, loadErr); err != nil {
		return nil, nil, 0, err
	}
	var took []float64
	for _, a := range all {
		if a.began.UnixNano() >= x.Began && a.ended.UnixNano() <= x.Ended {
			took = append(took, float64(a.ended.Sub(a.began).Microseconds())/1000)
		}
	}
	if len(took) == 0 {
		if err := h.strict(fmt.Errorf("none of %d reports began and ended under the load of %s", len(all), l.Span)); err != nil {
			return nil, nil, 0, err
		}
		for _, a := range all {
			took = append(took, float64(a.ended.Sub(a.began).Microseconds())/1000)
		}
	}
	return took, x, rate, nil
}

// profileReports is a run that is not measured, and returns what was sent in it.
func (h *harness) profileReports(ctx context.Context, srv *subject, name string, path func(int) (string, int64)) (*sent, error) {
	done := make(chan error, 1)
	go func() { done <- srv.profiled(ctx, name, h.opt.span-time.Second) }()
	_, x, _, err := h.underLoad(ctx, srv, path)
	return x, errors.Join(err, <-done)
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
