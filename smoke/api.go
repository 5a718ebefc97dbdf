package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// api talks to the admin side.
type api struct {
	base string
	http *http.Client
}

func newAPI(addr string) *api {
	return &api{base: "http://" + addr, http: &http.Client{Timeout: 60 * time.Second}}
}

func (a *api) do(ctx context.Context, method, path, contentType string, body []byte) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, a.base+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	resp, err := a.http.Do(req)
	if err != nil {
		return nil, err
	}
	answer, err := io.ReadAll(resp.Body)
	if err := errors.Join(err, resp.Body.Close()); err != nil {
		return nil, fmt.Errorf("%s %s: %w", method, path, err)
	}
	if resp.StatusCode/100 != 2 {
		return nil, fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, bytes.TrimSpace(answer))
	}
	return answer, nil
}

func (a *api) postJSON(ctx context.Context, path string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	answer, err := a.do(ctx, http.MethodPost, path, "application/json", body)
	if err != nil {
		return err
	}
	dec := json.NewDecoder(bytes.NewReader(answer))
	dec.UseNumber()
	if err := dec.Decode(out); err != nil {
		return fmt.Errorf("POST %s: answer: %w", path, err)
	}
	return nil
}

// sql runs a statement and returns its rows as text, so that no number passes through a float.
func (a *api) sql(ctx context.Context, query string) ([][]string, error) {
	var table struct {
		Rows      [][]any `json:"rows"`
		Truncated bool    `json:"truncated"`
	}
	if err := a.postJSON(ctx, "/v1/sql", map[string]any{"query": query, "timeout_ms": 20_000}, &table); err != nil {
		return nil, err
	}
	if table.Truncated {
		return nil, fmt.Errorf("sql: more rows than are answered: %s", query)
	}
	rows := make([][]string, len(table.Rows))
	for i, row := range table.Rows {
		for _, cell := range row {
			rows[i] = append(rows[i], fmt.Sprint(cell))
		}
	}
	return rows, nil
}

// report asks for a report as CSV and returns its lines by column name.
func (a *api) report(ctx context.Context, tenant string, q url.Values) ([]map[string]string, error) {
	q.Set("tenant", tenant)
	q.Set("format", "csv")
	q.Set("limit", "100000")
	answer, err := a.do(ctx, http.MethodGet, "/v1/report?"+q.Encode(), "", nil)
	if err != nil {
		return nil, err
	}
	all, err := csv.NewReader(bytes.NewReader(answer)).ReadAll()
	if err != nil {
		return nil, fmt.Errorf("report: %w", err)
	}
	if len(all) == 0 {
		return nil, errors.New("report: no header")
	}
	rows := make([]map[string]string, 0, len(all)-1)
	for _, cells := range all[1:] {
		row := make(map[string]string, len(cells))
		for i, name := range all[0] {
			row[strings.ToLower(name)] = cells[i]
		}
		rows = append(rows, row)
	}
	return rows, nil
}

// totals asks for a report without dimensions, as JSON.
func (a *api) totals(ctx context.Context, tenant string) (map[string]json.Number, error) {
	q := url.Values{"tenant": {tenant}, "from": {"2000-01-01"}, "to": {"2100-01-01"}}
	answer, err := a.do(ctx, http.MethodGet, "/v1/report?"+q.Encode(), "", nil)
	if err != nil {
		return nil, err
	}
	var out struct {
		Totals struct {
			Impressions json.Number `json:"impressions"`
			Clicks      json.Number `json:"clicks"`
			Conversions json.Number `json:"conversions"`
		} `json:"totals"`
	}
	if err := json.Unmarshal(answer, &out); err != nil {
		return nil, fmt.Errorf("report: %w", err)
	}
	return map[string]json.Number{
		"impressions": out.Totals.Impressions, "clicks": out.Totals.Clicks, "conversions": out.Totals.Conversions,
	}, nil
}

// counters asks for many live counters of a tenant at once: how many events of a type got a class.
func (a *api) counters(ctx context.Context, tenant string, keys []kind) ([]string, error) {
	type key struct {
		Type  string `json:"type"`
		Class string `json:"class"`
	}
	in := struct {
		Keys []key `json:"keys"`
	}{}
	for _, k := range keys {
		in.Keys = append(in.Keys, key{k.typ, k.class})
	}
	var out struct {
		Values []struct {
			Events json.Number `json:"events"`
		} `json:"values"`
	}
	if err := a.postJSON(ctx, "/v1/counters?tenant="+url.QueryEscape(tenant), in, &out); err != nil {
		return nil, err
	}
	if len(out.Values) != len(keys) {
		return nil, fmt.Errorf("counters: %d answers to %d keys", len(out.Values), len(keys))
	}
	values := make([]string, len(keys))
	for i, v := range out.Values {
		values[i] = v.Events.String()
	}
	return values, nil
}

// batch is what a batch header says.
type batch struct {
	Seq         uint64 `json:"seq"`
	Kind        string `json:"kind"`
	Incarnation string `json:"incarnation"`
	Counter     uint64 `json:"counter"`
	Events      int64  `json:"events"`
}

// batches reads the headers of every batch of a lane from its beginning.
func (a *api) batches(ctx context.Context, lane int) ([]batch, error) {
	answer, err := a.do(ctx, http.MethodGet, "/v1/journal/"+strconv.Itoa(lane)+"/batches?from=1", "", nil)
	if err != nil {
		return nil, err
	}
	var all []batch
	lines := bufio.NewScanner(bytes.NewReader(answer))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var b batch
		if err := json.Unmarshal(lines.Bytes(), &b); err != nil {
			return nil, fmt.Errorf("batch header %.200q: %w", lines.Text(), err)
		}
		if want := uint64(len(all) + 1); b.Seq != want {
			return nil, fmt.Errorf("where batch header %d should stand: %.300s", want, lines.Text())
		}
		all = append(all, b)
	}
	return all, lines.Err()
}

// apply sends a catalog document.
func (a *api) apply(ctx context.Context, yaml string) error {
	_, err := a.do(ctx, http.MethodPost, "/v1/catalog/apply", "application/yaml", []byte(yaml))
	return err
}
