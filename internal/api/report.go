package api

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"milliard/internal/catalog"
	"milliard/internal/ledger"
	"milliard/internal/report"
)

// AdHoc runs a user's statement; the ledger does.
type AdHoc interface {
	AdHoc(ctx context.Context, query string, limit ledger.AdHocLimit) (*ledger.Table, error)
}

// Report serves reports, counters and SQL.
type Report struct {
	Service *report.Service
	Catalog func() *catalog.Snapshot
	SQL     AdHoc
	Timeout time.Duration // of one report or one question for counters; 30 s by default

	asking askings
}

const (
	reportTimeout  = 30 * time.Second
	maxCounterBody = 4 << 20
	maxSQLBody     = 128 << 10
)

// Register adds the routes.
func (a *Report) Register(mux *http.ServeMux) {
	mux.HandleFunc("GET /v1/report", a.report)
	mux.HandleFunc("GET /v1/counters", a.counter)
	mux.HandleFunc("POST /v1/counters", a.counters)
	mux.HandleFunc("POST /v1/sql", a.sql)
}

func (a *Report) limit() time.Duration {
	if a.Timeout <= 0 {
		return reportTimeout
	}
	return a.Timeout
}

func (a *Report) context(r *http.Request) (context.Context, context.CancelFunc) {
	return context.WithTimeout(r.Context(), a.limit())
}

// view finds the tenant that a request is about.
func (a *Report) view(q url.Values) (*catalog.View, error) {
	s := a.Catalog()
	key := q.Get("tenant")
	if key == "" {
		if v, ok := s.DefaultTenant(); ok {
			return v, nil
		}
		return nil, &FieldError{Field: "tenant", Msg: "there is no tenant yet"}
	}
	if v, ok := s.TenantByKey(key); ok {
		return v, nil
	}
	return nil, &FieldError{Field: "tenant", Msg: fmt.Sprintf("there is no tenant %.60q", key)}
}

// query checks that a request has only parameters that are known: a misspelt filter must not widen an answer.
func query(r *http.Request, known ...string) (url.Values, error) {
	q, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, &FieldError{Msg: "the query string is not valid: " + err.Error()}
	}
	for name := range q {
		if !slices.Contains(known, name) {
			return nil, &FieldError{Field: fmt.Sprintf("%.60s", name), Msg: "unknown parameter; there are " + strings.Join(known, ", ")}
		}
	}
	return q, nil
}

func (a *Report) report(w http.ResponseWriter, r *http.Request) {
	q, err := query(r, "from", "to", "zone", "by", "where", "time", "class", "format", "limit", "order", "tenant")
	if err != nil {
		WriteError(w, http.StatusBadRequest, "bad_request", err)
		return
	}
	names, err := a.view(q)
	if err != nil {
		WriteError(w, http.StatusBadRequest, "bad_request", err)
		return
	}
	req := report.Request{
		By: words(q["by"]), From: q.Get("from"), To: q.Get("to"), Zone: q.Get("zone"), Time: q.Get("time"),
		Class: strings.Join(words(q["class"]), ","), Order: words(q["order"]),
	}
	for _, s := range q["where"] {
		req.Where = append(req.Where, report.SplitWhere(s)...)
	}
	if s := q.Get("limit"); s != "" {
		if req.Limit, err = strconv.Atoi(s); err != nil || req.Limit < 1 {
			WriteError(w, http.StatusBadRequest, "bad_request", &FieldError{Field: "limit", Msg: fmt.Sprintf("%.60q is not a number above 0", s)})
			return
		}
	}
	write, ok := reportFormats()[q.Get("format")]
	if !ok {
		WriteError(w, http.StatusBadRequest, "bad_request", &FieldError{Field: "format", Msg: "there are json, csv and table"})
		return
	}
	ctx, cancel := a.context(r)
	defer cancel()
	res, err := a.Service.Report(ctx, names, req)
	if err != nil {
		writeReportError(w, err)
		return
	}
	w.Header().Set("Cache-Control", "no-store")
	if res.Fresh.AsOf != nil {
		w.Header().Set("Milliard-As-Of", res.Fresh.AsOf.Format(time.RFC3339Nano))
	}
	if res.Partial {
		w.Header().Set("Milliard-Partial", "true")
	}
	write(w, res)
}

// reportFormats are the forms of an answer. Tables are built before the first byte is sent, so that an error can
// still be told; JSON, which cannot fail by then, is sent while it is made.
func reportFormats() map[string]func(http.ResponseWriter, *report.Result) {
	text := func(kind string, form func(*report.Result, io.Writer) error) func(http.ResponseWriter, *report.Result) {
		return func(w http.ResponseWriter, res *report.Result) {
			var b bytes.Buffer
			if err := form(res, &b); err != nil {
				WriteError(w, http.StatusInternalServerError, "internal", err)
				return
			}
			w.Header().Set("Content-Type", kind)
			w.Header().Set("X-Content-Type-Options", "nosniff")
			_, _ = w.Write(b.Bytes()) // the client has gone; there is nobody left to tell
		}
	}
	jsonForm := func(w http.ResponseWriter, res *report.Result) {
		w.Header().Set("Content-Type", "application/json; charset=utf-8")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		began := beginning{Writer: w}
		if err := res.WriteJSON(&began); err != nil && !began.yes { // else the client has gone; there is nobody left to tell
			WriteError(w, http.StatusInternalServerError, "internal", err)
		}
	}
	return map[string]func(http.ResponseWriter, *report.Result){
		"":      jsonForm,
		"json":  jsonForm,
		"csv":   text("text/csv; charset=utf-8", (*report.Result).WriteCSV),
		"table": text("text/plain; charset=utf-8", (*report.Result).WriteTable),
	}
}

// beginning says whether anything was written yet.
type beginning struct {
	io.Writer
	yes bool
}

func (b *beginning) Write(p []byte) (int, error) {
	b.yes = true
	return b.Writer.Write(p)
}

// words splits comma lists.
func words(lists []string) []string {
	var out []string
	for _, l := range lists {
		for s := range strings.SplitSeq(l, ",") {
			if s = strings.TrimSpace(s); s != "" {
				out = append(out, s)
			}
		}
	}
	return out
}

// counter answers GET: one counter, its value beside the freshness.
func (a *Report) counter(w http.ResponseWriter, r *http.Request) {
	q, err := query(r, "type", "campaign", "affiliate", "banner", "class", "from", "to", "tenant")
	if err != nil {
		WriteError(w, http.StatusBadRequest, "bad_request", err)
		return
	}
	res, ok := a.count(w, r, q, []report.CounterKey{{
		Type: q.Get("type"), Campaign: q.Get("campaign"), Affiliate: q.Get("affiliate"), Banner: q.Get("banner"),
		Class: q.Get("class"), From: q.Get("from"), To: q.Get("to"),
	}})
	if !ok {
		return
	}
	WriteJSON(w, http.StatusOK, struct {
		report.Count
		AsOf    *time.Time   `json:"as_of"`
		Fresh   report.Fresh `json:"fresh"`
		Partial bool         `json:"partial"`
	}{res.Values[0], res.AsOf, res.Fresh, res.Partial})
}

func (a *Report) count(w http.ResponseWriter, r *http.Request, q url.Values, keys []report.CounterKey) (*report.Counts, bool) {
	names, err := a.view(q)
	if err != nil {
		WriteError(w, http.StatusBadRequest, "bad_request", err)
		return nil, false
	}
	ctx, cancel := a.context(r)
	defer cancel()
	res, err := a.Service.Counters(ctx, names, keys)
	if err != nil {
		writeReportError(w, err)
		return nil, false
	}
	w.Header().Set("Cache-Control", "no-store")
	return res, true
}

// sql runs a user's statement. It sees every tenant: the admin side belongs to the installation's operator.
func (a *Report) sql(w http.ResponseWriter, r *http.Request) {
	var in struct {
		Query     string `json:"query"`
		MaxRows   int    `json:"max_rows"`
		TimeoutMS int64  `json:"timeout_ms"`
	}
	if !readJSON(w, r, maxSQLBody, &in) {
		return
	}
	for _, bad := range []struct {
		wrong bool
		field string
		msg   string
	}{
		{strings.TrimSpace(in.Query) == "", "query", "is required"},
		{in.MaxRows < 0, "max_rows", "is negative"},
		{in.TimeoutMS < 0, "timeout_ms", "is negative"},
	} {
		if bad.wrong {
			WriteError(w, http.StatusBadRequest, "bad_request", &FieldError{Field: bad.field, Msg: bad.msg})
			return
		}
	}
	table, err := a.SQL.AdHoc(r.Context(), in.Query, ledger.AdHocLimit{Rows: in.MaxRows, Timeout: in.TimeoutMS})
	switch {
	case err == nil:
		w.Header().Set("Cache-Control", "no-store")
		WriteJSON(w, http.StatusOK, table)
	case errors.Is(err, ledger.ErrBadQuery):
		WriteError(w, http.StatusBadRequest, "bad_query", err)
	case errors.Is(err, context.DeadlineExceeded):
		WriteError(w, http.StatusBadRequest, "query_timeout", err)
	default:
		writeReportError(w, err)
	}
}

func writeReportError(w http.ResponseWriter, err error) {
	var bad *report.BadRequest
	switch {
	case errors.As(err, &bad):
		WriteError(w, http.StatusBadRequest, "bad_request", &FieldError{Field: bad.Field, Msg: bad.Msg})
	case errors.Is(err, report.ErrTooMany):
		WriteError(w, http.StatusBadRequest, "too_many_groups", err)
	case errors.Is(err, ledger.ErrUnavailable), errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		w.Header().Set("Retry-After", "1")
		WriteError(w, http.StatusServiceUnavailable, "unavailable", err)
	default:
		WriteError(w, http.StatusInternalServerError, "internal", err)
	}
}
