package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"milliard/internal/catalog"
)

// admin talks to the admin side of a server.
type admin struct {
	base string
	http *http.Client
}

func newAdmin(base string) *admin {
	return &admin{base: base, http: &http.Client{Timeout: 2 * time.Minute}}
}

func (a *admin) do(ctx context.Context, method, path string, body []byte) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, a.base+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	req.Header.Set("Milliard-Actor", "bench")
	resp, err := a.http.Do(req)
	if err != nil {
		return nil, err
	}
	text, err := io.ReadAll(resp.Body)
	if err := errors.Join(err, resp.Body.Close()); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if resp.StatusCode/100 != 2 {
		return text, fmt.Errorf("%s: %s: %.300s", path, resp.Status, bytes.TrimSpace(text))
	}
	return text, nil
}

func (a *admin) get(ctx context.Context, path string) ([]byte, error) {
	return a.do(ctx, http.MethodGet, path, nil)
}

func (a *admin) post(ctx context.Context, path string, body []byte) ([]byte, error) {
	return a.do(ctx, http.MethodPost, path, body)
}

// sql returns the rows of a statement. Whole numbers must be selected as text: JSON numbers are read as floats.
func (a *admin) sql(ctx context.Context, query string) ([][]any, error) {
	body, err := json.Marshal(map[string]any{"query": query, "max_rows": 200_000, "timeout_ms": 60_000})
	if err != nil {
		return nil, err
	}
	text, err := a.post(ctx, "/v1/sql", body)
	if err != nil {
		return nil, err
	}
	var t struct {
		Rows      [][]any `json:"rows"`
		Truncated bool    `json:"truncated"`
	}
	if err := json.Unmarshal(text, &t); err != nil {
		return nil, fmt.Errorf("sql: %w", err)
	}
	if t.Truncated {
		return nil, errors.New("sql: the answer was cut")
	}
	return t.Rows, nil
}

// number reads a cell that was selected as text.
func whole(v any) (int64, error) {
	s, ok := v.(string)
	if !ok {
		return 0, fmt.Errorf("sql: %v is not text", v)
	}
	return strconv.ParseInt(s, 10, 64)
}

// status is the part of /v1/status that a measurement needs.
type status struct {
	Lanes []struct {
		Lane    int    `json:"lane"`
		State   string `json:"state"`
		Reason  string `json:"reason"`
		Journal uint64 `json:"journal_seq"`
		Folded  uint64 `json:"folded_seq"`
		Flushed uint64 `json:"flushed_seq"`
		Sealed  uint64 `json:"sealed_seq"`
		Queued  int64  `json:"queued_events"`
		Dirty   int64  `json:"dirty_cells"`
	} `json:"lanes"`
	Ready struct {
		Doors struct {
			Ready bool `json:"ready"`
		} `json:"doors"`
		Grid struct {
			Ready   bool     `json:"ready"`
			Reasons []string `json:"reasons"`
		} `json:"grid"`
		Window struct {
			Covered   float64 `json:"covered_seconds"`
			IDs       int64   `json:"ids"`
			Limit     int64   `json:"limit"`
			EarlyEnds int64   `json:"early_ends"`
		} `json:"duplicate_window"`
	} `json:"ready"`
}

func (a *admin) status(ctx context.Context) (*status, error) {
	text, err := a.get(ctx, "/v1/status")
	if err != nil {
		return nil, err
	}
	var s status
	if err := json.Unmarshal(text, &s); err != nil {
		return nil, fmt.Errorf("status: %w", err)
	}
	return &s, nil
}

// settled waits until everything that is durable is in SQL, and returns when that was.
func (a *admin) settled(ctx context.Context, within time.Duration) (time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	for {
		s, err := a.status(ctx)
		now := time.Now()
		if err != nil {
			return now, fmt.Errorf("settle: %w", err)
		}
		behind := uint64(0)
		for _, l := range s.Lanes {
			if l.State == "halted" {
				return now, fmt.Errorf("lane %d is halted: %s", l.Lane, l.Reason)
			}
			behind += max(l.Journal, l.Flushed) - l.Flushed
			if l.Queued > 0 {
				behind++
			}
		}
		if behind == 0 && s.Ready.Grid.Ready {
			return now, nil
		}
		select {
		case <-ctx.Done():
			return now, fmt.Errorf("settle: %d batches are not in SQL: %w", behind, ctx.Err())
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// catalogSize says how many of what a catalog has.
type catalogSize struct{ campaigns, affiliates, types int }

// fill makes the catalog and an API key.
func (s *subject) fill(ctx context.Context, c *catalogSize) error {
	names := newNames(c)
	const chunk = 20_000
	for at := 0; at < max(len(names.campaigns), len(names.affiliates), len(names.types)); at += chunk {
		t := catalog.TenantDoc{Advertisers: []catalog.AdvertiserDoc{{Key: "bench"}}}
		for _, key := range part(names.campaigns, at, chunk) {
			t.Campaigns = append(t.Campaigns, catalog.CampaignDoc{
				Key: key, Advertiser: "bench", Landings: []catalog.Landing{{URL: "https://shop.example/" + key}},
			})
		}
		for _, key := range part(names.affiliates, at, chunk) {
			t.Affiliates = append(t.Affiliates, catalog.AffiliateDoc{Key: key})
		}
		for _, key := range part(names.types, at, chunk) {
			t.EventTypes = append(t.EventTypes, catalog.EventTypeDoc{Key: key})
		}
		body, err := json.Marshal(catalog.Document{Tenants: []catalog.TenantDoc{t}})
		if err != nil {
			return fmt.Errorf("catalog: %w", err)
		}
		if _, err := s.post(ctx, "/v1/catalog/apply", body); err != nil {
			return fmt.Errorf("catalog: %w", err)
		}
	}
	if err := s.projected(ctx, c); err != nil { // or its projection into SQL would run beside the load
		return fmt.Errorf("catalog: %w", err)
	}
	return s.createKey(ctx)
}

// projected waits until the whole catalog is in SQL.
func (s *subject) projected(ctx context.Context, c *catalogSize) error {
	for {
		rows, err := s.sql(ctx, `SELECT (SELECT count(*) FROM campaigns)::VARCHAR, (SELECT count(*) FROM affiliates)::VARCHAR,
(SELECT count(*) FROM event_kinds WHERE id > 3)::VARCHAR`)
		if err != nil {
			return err
		}
		if len(rows) == 1 && rows[0][0] == strconv.Itoa(c.campaigns) && rows[0][1] == strconv.Itoa(c.affiliates) && rows[0][2] == strconv.Itoa(c.types) {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("SQL has %v: %w", rows, ctx.Err())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func part(all []string, at, n int) []string {
	return all[min(at, len(all)):min(at+n, len(all))]
}

func (s *subject) createKey(ctx context.Context) error {
	text, err := s.post(ctx, "/v1/catalog/api_key", []byte(`{"key":"bench","rights":["ingest"]}`))
	if err != nil {
		return fmt.Errorf("API key: %w", err)
	}
	var key struct {
		Secret string `json:"secret"`
	}
	if err := json.Unmarshal(text, &key); err != nil || key.Secret == "" {
		return fmt.Errorf("API key: %.100q: %w", text, err)
	}
	s.key = key.Secret
	return nil
}
