package dashtest

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"milliard/internal/api"
	"milliard/internal/catalog"
	"milliard/internal/dash"
	"milliard/internal/event"
)

// Fake answers the dashboard's questions from a list of cells, in the form of the real API. It knows one zone, UTC.
type Fake struct {
	mu       sync.Mutex
	cells    []Cell
	names    map[string]string // "campaign:spring" → "Spring sale"
	failure  string            // every report fails with this message
	position uint64
	asked    []string // query strings of the reports asked for
}

// Cell is one counter of the fake.
type Cell struct {
	Minute          int64
	Type            event.Type
	Class           event.Class
	Dims            map[string]string // campaign, affiliate, country, …
	N               int64
	Revenue, Payout float64
}

// NewFake returns a fake without any count.
func NewFake() *Fake { return &Fake{names: map[string]string{}} }

// Name gives a key of a dimension its display name.
func (f *Fake) Name(dim, key, name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.names[dim+":"+key] = name
}

// Add counts.
func (f *Fake) Add(cells ...Cell) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.cells = append(f.cells, cells...)
	f.position++
}

// Fail makes every report fail until it is called with an empty message.
func (f *Fake) Fail(message string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.failure = message
}

// Asked returns the query strings of the reports so far.
func (f *Fake) Asked() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.asked)
}

// Live is the dashboard's source of live counts.
func (f *Fake) Live(_ context.Context, since int64) (dash.LiveSnapshot, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := dash.LiveSnapshot{AsOf: time.Now().Add(-400 * time.Millisecond), Lag: 400 * time.Millisecond, Position: f.position}
	for _, c := range f.cells {
		if c.Minute >= since {
			s.Points = append(s.Points, dash.LivePoint{
				Tenant: 1, Minute: c.Minute, Type: c.Type, Class: c.Class, N: event.Micros(c.N) * event.One, Events: c.N,
			})
		}
	}
	return s, nil
}

// Catalog returns a snapshot with the tenants "default" (UTC, EUR) and "second".
func Catalog() (*catalog.Snapshot, error) {
	r := catalog.Record{Actor: "test", Seq: 1}
	for i, after := range []string{
		`{"id":1,"key":"default","name":"Northwind Media","time_zone":"UTC","currency":"EUR","status":"active"}`,
		`{"id":2,"key":"second","name":"Second network","time_zone":"Europe/Berlin","currency":"USD","status":"active"}`,
	} {
		r.Changes = append(r.Changes, catalog.Change{
			Op: "put", Kind: "tenant", Tenant: event.TenantID(i + 1), ID: uint32(i + 1),
			Key: []string{"default", "second"}[i], After: []byte(after),
		})
	}
	return catalog.Empty().Apply(&r)
}

// Register adds GET /v1/report.
func (f *Fake) Register(mux *http.ServeMux) {
	mux.HandleFunc("GET /v1/report", f.report)
}

// line is one row in the making.
type line struct {
	key             []string
	n               map[event.Type]int64
	events          int64
	revenue, payout float64
}

func (f *Fake) report(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked = append(f.asked, r.URL.RawQuery)
	if f.failure != "" {
		api.WriteError(w, http.StatusServiceUnavailable, "unavailable", fmt.Errorf("%s", f.failure))
		return
	}
	q := r.URL.Query()
	now := time.Now().UTC()
	from, to := instant(q.Get("from"), now, false), instant(q.Get("to"), now, true)
	by := strings.FieldsFunc(q.Get("by"), func(c rune) bool { return c == ',' })
	lines, all := map[string]*line{}, &line{n: map[event.Type]int64{}}
	for _, c := range f.cells {
		if q.Get("tenant") == "second" || c.Minute < from || c.Minute >= to || !chosen(&c, q["where"], q.Get("class"), by) {
			continue
		}
		key := make([]string, len(by))
		for i, dim := range by {
			key[i] = c.value(dim)
		}
		l := lines[strings.Join(key, "\x00")]
		if l == nil {
			l = &line{key: key, n: map[event.Type]int64{}}
			lines[strings.Join(key, "\x00")] = l
		}
		for _, sum := range []*line{l, all} {
			sum.n[c.Type] += c.N
			sum.events += c.N
			sum.revenue += c.Revenue
			sum.payout += c.Payout
		}
	}
	rows := make([]map[string]any, 0, len(lines))
	for _, l := range lines {
		row := l.metrics()
		for i, dim := range by {
			row[dim] = l.key[i]
			if dim != "class" && dim != "type" {
				row[dim+"_name"] = cmp.Or(f.names[dim+":"+l.key[i]], l.key[i])
			}
		}
		rows = append(rows, row)
	}
	order(rows, q.Get("order"), by)
	count := len(rows)
	if limit, err := strconv.Atoi(q.Get("limit")); err == nil && limit < count {
		rows = rows[:limit]
	}
	api.WriteJSON(w, http.StatusOK, map[string]any{
		"columns": by, "rows": rows, "totals": all.metrics(), "totals_by_currency": []any{all.metrics()}, "row_count": count,
		"from": time.Unix(from*60, 0).UTC(), "to": time.Unix(to*60, 0).UTC(), "zone": "UTC", "partial": false,
		"fresh": map[string]any{"as_of": now.Add(-600 * time.Millisecond), "lag_ms": 600, "lanes": []any{}},
	})
}

func (l *line) metrics() map[string]any {
	i, c, v := l.n[event.Impression], l.n[event.Click], l.n[event.Conversion]
	ratio := func(a, b float64) any {
		if b == 0 {
			return nil
		}
		return a / b
	}
	money := func(v any) any {
		if x, ok := v.(float64); ok {
			return strconv.FormatFloat(x, 'f', 4, 64)
		}
		return nil
	}
	var n int64
	for _, x := range l.n {
		n += x
	}
	return map[string]any{
		"impressions": i, "clicks": c, "conversions": v, "events": l.events, "n": n, "amount": "0.00",
		"CTR": ratio(float64(c), float64(i)), "CR": ratio(float64(v), float64(c)),
		"EPC": money(ratio(l.revenue, float64(c))), "eCPM": money(ratio(l.revenue*1000, float64(i))),
		"revenue": money(l.revenue), "payout": money(l.payout), "profit": money(l.revenue - l.payout), "currency": "EUR",
	}
}

func (c *Cell) value(dim string) string {
	t := time.Unix(c.Minute*60, 0).UTC()
	switch dim {
	case "class":
		return c.Class.String()
	case "type":
		return map[event.Type]string{event.Impression: "impression", event.Click: "click", event.Conversion: "conversion"}[c.Type]
	case "minute":
		return t.Format("2006-01-02T15:04Z07:00")
	case "15min":
		return t.Truncate(15 * time.Minute).Format("2006-01-02T15:04Z07:00")
	case "hour":
		return t.Truncate(time.Hour).Format("2006-01-02T15:04Z07:00")
	case "day":
		return t.Format(time.DateOnly)
	case "week":
		return t.AddDate(0, 0, -(int(t.Weekday())+6)%7).Format(time.DateOnly)
	case "month":
		return t.Format("2006-01")
	}
	return cmp.Or(c.Dims[dim], "(none)")
}

func chosen(c *Cell, where []string, class string, by []string) bool {
	byClass := slices.Contains(by, "class") || class == "all"
	for _, cond := range where {
		dim, key, _ := strings.Cut(cond, ":")
		byClass = byClass || dim == "class"
		if c.value(dim) != key {
			return false
		}
	}
	return byClass || c.Class == event.Valid
}

func order(rows []map[string]any, text string, by []string) {
	words := append(strings.FieldsFunc(text, func(c rune) bool { return c == ',' }), by...)
	slices.SortFunc(rows, func(a, b map[string]any) int {
		for _, word := range words {
			name, desc := strings.CutPrefix(word, "-")
			c := compare(a[name], b[name])
			if desc {
				c = -c
			}
			if c != 0 {
				return c
			}
		}
		return 0
	})
}

func compare(a, b any) int {
	number := func(v any) (float64, bool) {
		x, err := strconv.ParseFloat(fmt.Sprint(v), 64)
		return x, err == nil
	}
	if x, ok := number(a); ok {
		if y, ok := number(b); ok {
			return cmp.Compare(x, y)
		}
	}
	return cmp.Compare(fmt.Sprint(a), fmt.Sprint(b))
}

// instant reads the forms of from and to that the dashboard sends, as unix minutes.
func instant(s string, now time.Time, end bool) int64 {
	day := now.Truncate(24 * time.Hour)
	whole := func(t time.Time) int64 {
		if end {
			t = t.AddDate(0, 0, 1)
		}
		return t.Unix() / 60
	}
	switch s {
	case "now":
		return now.Unix()/60 + 1
	case "today":
		return whole(day)
	case "yesterday":
		return whole(day.AddDate(0, 0, -1))
	}
	if n, err := strconv.Atoi(strings.Trim(s, "-hd")); err == nil && strings.HasPrefix(s, "-") {
		if strings.HasSuffix(s, "h") {
			return now.Unix()/60 - int64(n)*60
		}
		return whole(day.AddDate(0, 0, -n))
	}
	if t, err := time.Parse(time.DateOnly, s); err == nil {
		return whole(t)
	}
	t, _ := time.Parse("2006-01-02T15:04Z07:00", s) // a wrong form gives an empty range, which a test notices
	return t.Unix() / 60
}
