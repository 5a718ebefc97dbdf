package api

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"milliard/internal/catalog"
	"milliard/internal/control"
	"milliard/internal/journal"
)

// Catalog serves the catalog: documents, single entities, keys, and the history of changes. Who makes a change is what
// the header Milliard-Actor says ("admin" without it); Milliard-Why is the reason that the history keeps.
type Catalog struct {
	Control *control.Control
	Timeout time.Duration // of one change; 30 s by default
}

const (
	changeTimeout   = 30 * time.Second
	maxEntityBody   = 256 << 10
	actorHeader     = "Milliard-Actor"
	whyHeader       = "Milliard-Why"
	defaultActor    = "admin"
	defaultListSize = 1000
	maxListSize     = 20_000
)

// Register adds the routes.
func (a *Catalog) Register(mux *http.ServeMux) {
	mux.HandleFunc("POST /v1/catalog/apply", a.apply)
	mux.HandleFunc("GET /v1/catalog/export", a.export)
	mux.HandleFunc("GET /v1/catalog/history", a.history)
	mux.HandleFunc("GET /v1/catalog/{kind}", a.list)
	mux.HandleFunc("GET /v1/catalog/{kind}/{key}", a.get)
	mux.HandleFunc("PUT /v1/catalog/{kind}/{key}", a.put)
	mux.HandleFunc("DELETE /v1/catalog/{kind}/{key}", a.archive)
	mux.HandleFunc("POST /v1/catalog/signing_key/rotate", a.rotate)
	mux.HandleFunc("POST /v1/catalog/api_key", a.createKey)
	mux.HandleFunc("POST /v1/event-types", a.createType)
}

// change is what every handler that changes something needs.
type change struct {
	ctx        context.Context
	actor, why string
}

func (a *Catalog) change(r *http.Request) (change, context.CancelFunc) {
	limit := a.Timeout
	if limit <= 0 {
		limit = changeTimeout
	}
	ctx, cancel := context.WithTimeout(r.Context(), limit)
	c := change{ctx: ctx, actor: r.Header.Get(actorHeader), why: r.Header.Get(whyHeader)}
	if c.actor == "" {
		c.actor = defaultActor
	}
	return c, cancel
}

// tenant finds the tenant that a request is about.
func (a *Catalog) tenant(q url.Values) (*catalog.View, error) {
	v := a.Control.Current()
	if key := q.Get("tenant"); key != "" {
		if t, ok := v.TenantByKey(key); ok {
			return t, nil
		}
		return nil, notFound("tenant", key)
	}
	if t, ok := v.DefaultTenant(); ok {
		return t, nil
	}
	return nil, &FieldError{Field: "tenant", Msg: "there is no tenant yet"}
}

// missing is the answer for a name that the catalog does not have.
type missing struct{ field, name string }

func (e *missing) Error() string { return fmt.Sprintf("there is no %s %.80q", e.field, e.name) }

func notFound(field, name string) error { return &missing{field: field, name: name} }

// fail maps errors to answers. It is the only place that does.
func (a *Catalog) fail(w http.ResponseWriter, err error) {
	var problem *catalog.Problem
	var gone *missing
	var tooLong *errTooLarge
	switch {
	case errors.As(err, &problem):
		WriteJSON(w, http.StatusBadRequest, map[string]any{"error": map[string]string{
			"code": "refused", "tenant": problem.Tenant, "kind": problem.Kind, "key": problem.Key,
			"field": problem.Field, "message": problem.Error(),
		}})
	case errors.As(err, &gone):
		WriteJSON(w, http.StatusNotFound, map[string]any{"error": map[string]string{
			"code": "not_found", "field": gone.field, "message": gone.Error(),
		}})
	case errors.As(err, &tooLong):
		WriteError(w, http.StatusRequestEntityTooLarge, "too_large", err)
	case errors.Is(err, control.ErrTooLarge):
		WriteError(w, http.StatusRequestEntityTooLarge, "too_large", err)
	case errors.Is(err, control.ErrActor):
		WriteError(w, http.StatusBadRequest, "bad_request", &FieldError{Field: actorHeader, Msg: err.Error()})
	case errors.Is(err, journal.ErrUnknown):
		// The caller may try again: applying the same document twice changes nothing.
		w.Header().Set("Retry-After", "1")
		WriteError(w, http.StatusServiceUnavailable, "unknown", err)
	case errors.Is(err, journal.ErrFull), errors.Is(err, journal.ErrStopped), errors.Is(err, journal.ErrUnavailable),
		errors.Is(err, context.DeadlineExceeded):
		w.Header().Set("Retry-After", "5")
		WriteError(w, http.StatusServiceUnavailable, "unavailable", err)
	default:
		WriteError(w, http.StatusInternalServerError, "internal", err) // a FieldError becomes 400
	}
}

// flag reads a parameter that is on or off.
func flag(q url.Values, name string) (bool, error) {
	s := q.Get(name)
	if s == "" {
		return false, nil
	}
	on, err := strconv.ParseBool(s)
	if err != nil {
		return false, &FieldError{Field: name, Msg: "is not 1 or 0"}
	}
	return on, nil
}

// apply makes the catalog as a YAML or JSON document says.
func (a *Catalog) apply(w http.ResponseWriter, r *http.Request) {
	res, err := a.applyDocument(w, r)
	if err != nil {
		a.fail(w, err)
		return
	}
	WriteJSON(w, http.StatusOK, res)
}

func (a *Catalog) applyDocument(w http.ResponseWriter, r *http.Request) (*control.Result, error) {
	q, err := query(r, "skip_invalid", "dry_run", "tenant")
	if err != nil {
		return nil, err
	}
	skip, err := flag(q, "skip_invalid")
	if err != nil {
		return nil, err
	}
	dry, err := flag(q, "dry_run")
	if err != nil {
		return nil, err
	}
	var body bytes.Buffer
	if err := readBody(w, r, catalog.MaxDocument, &body); err != nil {
		return nil, readError(err)
	}
	doc, err := catalog.ParseDocument(body.Bytes())
	if err != nil {
		return nil, &FieldError{Field: "body", Msg: err.Error()}
	}
	if key := q.Get("tenant"); key != "" {
		for i := range doc.Tenants {
			if doc.Tenants[i].Key == "" {
				doc.Tenants[i].Key = key
			}
		}
	}
	var opts []control.ApplyOption
	if skip {
		opts = append(opts, control.SkipInvalid())
	}
	if dry {
		opts = append(opts, control.DryRun())
	}
	c, cancel := a.change(r)
	defer cancel()
	res, err := a.Control.Apply(c.ctx, c.actor, c.why, doc, opts...)
	return &res, err
}

// readError keeps a limit that was exceeded apart from a connection that broke.
func readError(err error) error {
	if _, ok := errors.AsType[*errTooLarge](err); ok {
		return err
	}
	return &FieldError{Field: "body", Msg: "cannot be read"}
}

// export answers the catalog as a document, of one tenant if it is named.
func (a *Catalog) export(w http.ResponseWriter, r *http.Request) {
	q, err := query(r, "format", "tenant")
	if err != nil {
		a.fail(w, err)
		return
	}
	doc := catalog.Export(a.Control.Current().Snapshot)
	if q.Get("tenant") != "" {
		v, err := a.tenant(q)
		if err != nil {
			a.fail(w, err)
			return
		}
		doc = &catalog.Document{Tenants: []catalog.TenantDoc{v.Export()}}
	}
	switch q.Get("format") {
	case "", "yaml":
		text, err := doc.YAML()
		if err != nil {
			a.fail(w, err)
			return
		}
		w.Header().Set("Content-Type", "application/yaml; charset=utf-8")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		_, _ = w.Write(text) // the client has gone; there is nobody left to tell
	case "json":
		WriteJSON(w, http.StatusOK, doc)
	default:
		a.fail(w, &FieldError{Field: "format", Msg: "there are yaml and json"})
	}
}

// history answers the audit log, newest first.
func (a *Catalog) history(w http.ResponseWriter, r *http.Request) {
	q, err := query(r, "before", "limit", "tenant", "kind", "key")
	if err != nil {
		a.fail(w, err)
		return
	}
	hq := control.HistoryQuery{Tenant: q.Get("tenant"), Kind: q.Get("kind"), Key: q.Get("key")}
	if s := q.Get("before"); s != "" {
		if hq.Before, err = strconv.ParseUint(s, 10, 64); err != nil {
			a.fail(w, &FieldError{Field: "before", Msg: "is not a sequence number"})
			return
		}
	}
	if hq.Limit, err = limit(q); err != nil {
		a.fail(w, err)
		return
	}
	c, cancel := a.change(r)
	defer cancel()
	entries, next, err := a.Control.History(c.ctx, hq)
	if err != nil {
		a.fail(w, err)
		return
	}
	answer := map[string]any{"items": entries}
	if next > 0 {
		answer["next"] = next
	}
	WriteJSON(w, http.StatusOK, answer)
}

func limit(q url.Values) (int, error) {
	s := q.Get("limit")
	if s == "" {
		return 0, nil
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 {
		return 0, &FieldError{Field: "limit", Msg: "is not a number above 0"}
	}
	return n, nil
}

// rotate makes a new signing key the one that mints.
func (a *Catalog) rotate(w http.ResponseWriter, r *http.Request) {
	q, err := query(r, "tenant")
	if err != nil {
		a.fail(w, err)
		return
	}
	v, err := a.tenant(q)
	if err != nil {
		a.fail(w, err)
		return
	}
	c, cancel := a.change(r)
	defer cancel()
	key, err := a.Control.RotateSigningKey(c.ctx, c.actor, v.Info().ID)
	if err != nil {
		a.fail(w, err)
		return
	}
	WriteJSON(w, http.StatusOK, signingKeyItem(&key))
}

// createKey makes an API key. Its secret is in this answer and nowhere else.
func (a *Catalog) createKey(w http.ResponseWriter, r *http.Request) {
	var body struct {
		Key    string          `json:"key"`
		Rights []catalog.Right `json:"rights"`
	}
	q, err := query(r, "tenant")
	if err == nil {
		err = decodeBody(w, r, &body)
	}
	if err != nil {
		a.fail(w, err)
		return
	}
	v, err := a.tenant(q)
	if err != nil {
		a.fail(w, err)
		return
	}
	c, cancel := a.change(r)
	defer cancel()
	secret, err := a.Control.CreateAPIKey(c.ctx, c.actor, v.Info().ID, body.Key, body.Rights)
	if err != nil {
		a.fail(w, err)
		return
	}
	w.Header().Set("Cache-Control", "no-store")
	WriteJSON(w, http.StatusOK, map[string]any{
		"tenant": v.Info().Key, "key": body.Key, "rights": body.Rights, "secret": secret,
	})
}

// createType registers a custom event type, or answers the one that exists.
func (a *Catalog) createType(w http.ResponseWriter, r *http.Request) {
	var body struct {
		Key  string `json:"key"`
		Name string `json:"name"`
	}
	q, err := query(r, "tenant")
	if err == nil {
		err = decodeBody(w, r, &body)
	}
	if err != nil {
		a.fail(w, err)
		return
	}
	v, err := a.tenant(q)
	if err != nil {
		a.fail(w, err)
		return
	}
	c, cancel := a.change(r)
	defer cancel()
	t, err := a.Control.RegisterEventType(c.ctx, c.actor, v.Info().ID, body.Key, body.Name)
	if err != nil {
		a.fail(w, err)
		return
	}
	WriteJSON(w, http.StatusOK, t)
}

// decodeBody reads one JSON object. Unknown fields are errors that name the field.
func decodeBody(w http.ResponseWriter, r *http.Request, into any) error {
	var body bytes.Buffer
	if err := readBody(w, r, maxEntityBody, &body); err != nil {
		return readError(err)
	}
	if err := decodeJSON(body.Bytes(), into); err != nil {
		return bodyError(err)
	}
	return nil
}
