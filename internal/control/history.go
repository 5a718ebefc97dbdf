package control

import (
	"context"
	"encoding/json"
	"fmt"

	"milliard/internal/catalog"
)

// HistoryQuery chooses records; empty fields choose all.
type HistoryQuery struct {
	Before uint64 // sequence; 0: from the newest on
	Limit  int    // changes; the record that reaches it is still whole
	Tenant string // key
	Kind   string
	Key    string
}

// HistoryEntry is one change as the audit log shows it. Secrets are left out of Before and After.
type HistoryEntry struct {
	Seq    uint64          `json:"seq"`
	At     int64           `json:"at"` // unix milliseconds
	Actor  string          `json:"actor"`
	Why    string          `json:"why,omitempty"`
	Op     string          `json:"op"`
	Kind   string          `json:"kind"`
	Tenant string          `json:"tenant"`
	ID     uint32          `json:"id"`
	Key    string          `json:"key"`
	Before json.RawMessage `json:"before,omitempty"`
	After  json.RawMessage `json:"after,omitempty"`
}

const (
	defaultHistory = 100
	maxHistory     = 10_000
	maxScanned     = 20_000 // records that one question may read
)

// History returns changes from the control stream itself, newest record first. Next is the Before of the next page, 0
// at the end.
func (c *Control) History(ctx context.Context, q HistoryQuery) (entries []HistoryEntry, next uint64, err error) {
	v := c.Current()
	seq := v.Version()
	if q.Before > 0 {
		seq = min(seq, q.Before-1)
	}
	if q.Limit <= 0 {
		q.Limit = defaultHistory
	}
	q.Limit = min(q.Limit, maxHistory)
	entries = []HistoryEntry{}
	for n := 0; seq > 0 && n < maxScanned && len(entries) < q.Limit; n++ {
		m, err := c.stream.Get(ctx, seq)
		if err != nil {
			return nil, 0, fmt.Errorf("control record %d: %w", seq, err)
		}
		r, err := DecodeRecord(m)
		if err != nil {
			return nil, 0, err
		}
		if entries, err = q.choose(entries, v, r); err != nil {
			return nil, 0, err
		}
		seq--
	}
	if seq > 0 {
		next = seq + 1
	}
	return entries, next, nil
}

// choose appends the changes of r that the query wants.
func (q *HistoryQuery) choose(entries []HistoryEntry, v *View, r *catalog.Record) ([]HistoryEntry, error) {
	for i := range r.Changes {
		ch := &r.Changes[i]
		e := HistoryEntry{
			Seq: r.Seq, At: r.At, Actor: r.Actor, Why: r.Why, Op: ch.Op, Kind: ch.Kind, ID: ch.ID, Key: ch.Key,
		}
		if t, ok := v.Tenant(ch.Tenant); ok {
			e.Tenant = t.Info().Key
		}
		if q.Tenant != "" && q.Tenant != e.Tenant || q.Kind != "" && q.Kind != e.Kind || q.Key != "" && q.Key != e.Key {
			continue
		}
		var err error
		if e.Before, err = redact(ch.Kind, ch.Before); err != nil {
			return nil, err
		}
		if e.After, err = redact(ch.Kind, ch.After); err != nil {
			return nil, err
		}
		entries = append(entries, e)
	}
	return entries, nil
}

// redact replaces what is sealed or hashed in an entity. That it was there, and that it changed, can still be seen by
// the first characters of a hash of it.
func redact(kind string, raw json.RawMessage) (json.RawMessage, error) {
	var secrets []string
	switch kind {
	case catalog.KindAdvertiser:
		secrets = []string{"postback_secret", "postback_key_hash"}
	case catalog.KindAPIKey:
		secrets = []string{"hash"}
	case catalog.KindSigningKey:
		secrets = []string{"secret"}
	}
	if len(raw) == 0 || secrets == nil {
		return raw, nil
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(raw, &fields); err != nil {
		return nil, fmt.Errorf("%s in the history: %w", kind, err)
	}
	for _, name := range secrets {
		if v, ok := fields[name]; ok {
			text, err := json.Marshal("redacted " + catalog.HashSecret(v)[:8])
			if err != nil {
				return nil, err
			}
			fields[name] = text
		}
	}
	return json.Marshal(fields)
}
