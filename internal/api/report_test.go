package api_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"milliard/internal/api"
	"milliard/internal/catalog"
	"milliard/internal/event"
	"milliard/internal/ledger"
	"milliard/internal/ledger/duck"
	"milliard/internal/report"
)

// reportSide is the admin side's report routes over a real ledger. The classic queries speak of "the last minutes", so
// its cells lie around now.
func reportSide(t *testing.T) (get func(method, path, body string) (int, string), now time.Time) {
	t.Helper()
	ctx := t.Context()
	l, err := duck.Open(ctx, duck.Options{Path: filepath.Join(t.TempDir(), "ledger.duckdb")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	put := func(kind string, id uint32, key string, v any) catalog.Change {
		after, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return catalog.Change{Op: catalog.OpPut, Kind: kind, Tenant: 1, ID: id, Key: key, After: after}
	}
	rec := catalog.Record{Seq: 1, Changes: []catalog.Change{
		put("tenant", 1, "main", &catalog.Tenant{ID: 1, Key: "main", TimeZone: "UTC", Currency: "USD", Status: catalog.Active}),
		put("advertiser", 1, "acme", &catalog.Advertiser{ID: 1, Key: "acme", Status: catalog.Active}),
		put("campaign", 1, "shoes", &catalog.Campaign{ID: 1, Key: "shoes", Name: "Shoes", Advertiser: 1, Currency: "USD", Status: catalog.Active}),
		put("event_type", 64, "login", &catalog.EventType{ID: 64, Key: "login", Name: "User login"}),
	}}
	snapshot, err := catalog.Empty().Apply(&rec)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Project(ctx, []catalog.Record{rec}, 1); err != nil {
		t.Fatal(err)
	}
	now = time.Now().UTC().Truncate(time.Minute)
	cell := func(ago int32, typ event.Type, class event.Class, n event.Micros) ledger.Cell {
		return ledger.Cell{
			Key:   ledger.Key{Bucket: int32(now.Unix()/60) - ago, Tenant: 1, Type: typ, Class: class, Campaign: 1, Revenue: catalog.PriceCarriedCPC},
			Value: ledger.Value{N: n, Amount: n / 10, Events: 1},
		}
	}
	epoch, at, err := l.Acquire(ctx, 0)
	if err != nil {
		t.Fatal(err)
	}
	to := at
	to.Seq, to.Flush, to.LogTime = 1, 1, now.UnixMilli()
	err = l.Flush(ctx, &ledger.Generation{Lane: 0, Epoch: epoch, From: at, To: to, Cells: []ledger.Cell{
		cell(0, event.Click, event.Valid, 2*event.One), cell(1, event.Click, event.Valid, event.One),
		cell(1, 64, event.Valid, 40*event.One), cell(2, event.Impression, event.Valid, 7*event.One),
		cell(2, event.Impression, event.Duplicate, 5*event.One), cell(1, 64, event.Valid, 500_000),
		cell(3000, event.Impression, event.Valid, 100*event.One),
	}})
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	side := &api.Report{
		Service: report.New(report.Config{Reader: l, Now: time.Now}),
		Catalog: func() *catalog.Snapshot { return snapshot },
		SQL:     l,
	}
	side.Register(mux)
	return func(method, path, body string) (int, string) {
		t.Helper()
		rec := httptest.NewRecorder()
		mux.ServeHTTP(rec, httptest.NewRequestWithContext(t.Context(), method, path, strings.NewReader(body)))
		out, err := io.ReadAll(rec.Result().Body)
		if err != nil {
			t.Fatal(err)
		}
		return rec.Code, string(out)
	}, now
}

// TestClassicQueries are those of the minute-bucket counter table that every such system once had.
func TestClassicQueries(t *testing.T) {
	do, now := reportSide(t)
	since := now.Add(-10 * time.Minute).Format(time.DateTime)
	for name, tc := range map[string]struct {
		query string
		want  [][]string
	}{
		"counts by type for the last minutes": {
			`SELECT e.name, sum(c.count) AS count FROM counters c JOIN event_types e ON e.id = c.event_type
			 WHERE c.time_bucket >= TIMESTAMP '` + since + `' GROUP BY e.name ORDER BY lower(e.name)`,
			[][]string{{"click", "3"}, {"impression", "7"}, {"User login", "40.5"}},
		},
		"top types of an hour with their names": {
			`SELECT e.name, c.event_type, sum(c.count) AS count FROM counters c JOIN event_types e ON e.id = c.event_type
			 WHERE c.time_bucket > TIMESTAMP '` + now.Add(-time.Hour).Format(time.DateTime) + `'
			 GROUP BY e.name, c.event_type ORDER BY count DESC LIMIT 2`,
			[][]string{{"User login", "64", "40.5"}, {"impression", "1", "7"}},
		},
		"a day by minute": {
			`SELECT strftime(time_bucket, '%H:%M') AS minute, sum(count) AS count FROM counters
			 WHERE time_bucket >= TIMESTAMP '` + since + `' AND event_type = 2 GROUP BY time_bucket ORDER BY time_bucket`,
			[][]string{{now.Add(-time.Minute).Format("15:04"), "1"}, {now.Format("15:04"), "2"}},
		},
	} {
		body, err := json.Marshal(map[string]any{"query": tc.query})
		if err != nil {
			t.Fatal(err)
		}
		status, answer := do(http.MethodPost, "/v1/sql", string(body))
		var table struct{ Rows [][]any }
		dec := json.NewDecoder(strings.NewReader(answer))
		dec.UseNumber()
		if err := dec.Decode(&table); err != nil || status != http.StatusOK {
			t.Errorf("%s: %d %s", name, status, answer)
			continue
		}
		if got, want := sameDigits(table.Rows), fmt.Sprint(tc.want); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
}

// sameDigits writes rows without the zeros that a decimal's scale adds.
func sameDigits(rows [][]any) string {
	out := make([][]string, len(rows))
	for i, row := range rows {
		for _, v := range row {
			s := fmt.Sprint(v)
			if whole, frac, ok := strings.Cut(s, "."); ok {
				s = strings.TrimSuffix(whole+"."+strings.TrimRight(frac, "0"), ".")
			}
			out[i] = append(out[i], s)
		}
	}
	return fmt.Sprint(out)
}

func TestReportRoutes(t *testing.T) {
	do, _ := reportSide(t)
	for _, tc := range []struct {
		method, path, body string
		status             int
		says               string
	}{
		{"GET", "/v1/report?by=campaign,type&from=-7d&where=type:click", "", 200, `"campaign":"shoes","campaign_name":"Shoes","type":"click","impressions":0,"clicks":3`},
		{"GET", "/v1/report?by=campaign,type&from=-7d&where=type:click", "", 200, `"revenue":"0.30"`},
		{"GET", "/v1/report?by=type&from=-7d&class=all&format=csv&order=-n", "", 200, "\nimpression,112,0,0,3,112,11.20,"},
		{"GET", "/v1/report?by=type&from=-7d&format=table", "", 200, "complete up to"},
		{"GET", "/v1/report?by=day&tenant=main&from=-7d", "", 200, `"totals_by_currency":[{`},
		{"GET", "/v1/report?format=pdf", "", 400, `"field":"format"`},
		{"GET", "/v1/report?tenant=other", "", 400, `"field":"tenant"`},
		{"GET", "/v1/report?form=2026-01-01", "", 400, `"field":"form"`},
		{"GET", "/v1/report?limit=many", "", 400, `"field":"limit"`},
		{"GET", "/v1/report?where=campaign:boots", "", 400, `there is no campaign \"boots\"`},
		{"GET", "/v1/report?by=%zz", "", 400, "query string"},
		{"POST", "/v1/sql", `{"query":1}`, 400, `"field":"query","message":"has the wrong type: number"`},
		{"POST", "/v1/sql", `{"query":"select 1","bogus":1}`, 400, `"field":"bogus","message":"unknown field"`},
		{"POST", "/v1/sql", `[]`, 400, `"field":"body","message":"has the wrong type: array"`},
		{"GET", "/v1/counters?type=impression", "", 200, `{"n":107,"events":2,"as_of":"`},
		{"GET", "/v1/counters?type=login&from=-10m", "", 200, `"n":40.5`},
		{"GET", "/v1/counters?type=view", "", 400, `"field":"type"`},
		{"GET", "/v1/counters?typ=view", "", 400, `"field":"typ"`},
		{"POST", "/v1/counters", `{"keys":[{"type":"click"},{"class":"all"}]}`, 200, `{"values":[{"n":3,"events":2},{"n":155.5,"events":7}],"as_of":"`},
		{"POST", "/v1/counters", `{"keys":[{"kind":"click"}]}`, 400, "kind"},
		{"POST", "/v1/counters", `{"keys":[]}`, 400, `"field":"keys"`},
		{"POST", "/v1/counters", `{"keys":[{}]} x`, 400, "more than one"},
		{"POST", "/v1/sql", `{"query":"select 9223372036854775807::hugeint + 1 as x"}`, 200, `9223372036854775808`},
		{"POST", "/v1/sql", `{"query":"select nothing from nowhere"}`, 400, "nowhere"},
		{"POST", "/v1/sql", `{"query":"drop table cells"}`, 400, `"code":"bad_query"`},
		{"POST", "/v1/sql", `{"query":"select * from read_text('/etc/passwd')"}`, 400, `"code":"bad_query"`},
		{"POST", "/v1/sql", `{"query":"select count(*) from range(100000000000)", "timeout_ms":50}`, 400, `"code":"query_timeout"`},
		{"POST", "/v1/sql", `{"query":"select * from range(10)", "max_rows":3}`, 200, `"truncated":true`},
		{"POST", "/v1/sql", `{"query":"  "}`, 400, `"field":"query"`},
		{"POST", "/v1/sql", `{"query":"select 1","max_rows":-1}`, 400, `"field":"max_rows"`},
		{"POST", "/v1/sql", `{"query":"` + strings.Repeat("x", 200<<10) + `"}`, 413, "larger"},
	} {
		if status, answer := do(tc.method, tc.path, tc.body); status != tc.status || !strings.Contains(answer, tc.says) {
			t.Errorf("%s %s %.200s: %d %.600s; want %d …%s…", tc.method, tc.path, tc.body, status, answer, tc.status, tc.says)
		}
	}
}
