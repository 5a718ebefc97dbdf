package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// sent is what a client process did, as it says itself: the left side of every check.
type sent struct {
	Events     int64            `json:"events"`    // accepted by the server
	Valid      map[string]int64 `json:"valid"`     // by type: sent for the first time
	Duplicate  map[string]int64 `json:"duplicate"` // by type: repeats
	Forged     int64            `json:"forged"`
	Weighted   int64            `json:"weighted"` // sum over valid events of the campaign's or type's number
	Amount     int64            `json:"amount"`   // millionths, of valid events
	Requests   int64            `json:"requests"`
	Overloaded int64            `json:"overloaded"` // answers 429: nothing was taken, and the same bytes were sent again
	Unknown    int64            `json:"unknown"`    // answers 503: perhaps taken; sent again with the same ids
	Bytes      int64            `json:"bytes"`      // of bodies
	Began      int64            `json:"began"`      // unix nanoseconds of the first request
	Ended      int64            `json:"ended"`      // of the last answer
	CPU        float64          `json:"cpu_seconds"`
	Latency    latency          `json:"latency_ms"`  // of closed loops from sending, of open loops from the due time
	Windows    []latency        `json:"windows_ms"`  // of an open loop, by fifths of its time
	Late       int64            `json:"late"`        // requests that an open loop could not send in time at all
	Wrong      string           `json:"wrong"`       // an answer that must not be
	Refused    int64            `json:"refused"`     // connections refused or broken, where a row expects it
	Durable    int64            `json:"durable_min"` // of a run that was cut: events that were certainly acknowledged
	Most       int64            `json:"durable_max"` // and those that may have been taken
}

// latency is in milliseconds.
type latency struct {
	N     int64   `json:"n"`
	P50   float64 `json:"p50"`
	P99   float64 `json:"p99"`
	P999  float64 `json:"p99.9"`
	P9999 float64 `json:"p99.99"`
	Max   float64 `json:"max"`
}

// add puts several client processes together; latencies keep the worst.
func (s *sent) seconds() float64 { return float64(s.Ended-s.Began) / 1e9 }

// counted is what SQL holds.
type counted struct {
	events   map[string]map[string]int64 // class → type → events
	total    int64
	weighted int64
	amount   int64
	forged   int64
}

const countedQuery = `
SELECT l.name, coalesce(k.key, CASE c.type WHEN 1 THEN 'impression' WHEN 2 THEN 'click' WHEN 3 THEN 'conversion' ELSE c.type::VARCHAR END),
       sum(c.events)::VARCHAR, sum(c.n)::VARCHAR, sum(c.amount)::VARCHAR,
       sum(c.events * coalesce(try_cast(substr(p.key, 2) AS BIGINT), try_cast(substr(k.key, 2) AS BIGINT), 0))::VARCHAR
FROM cells c JOIN classes l ON l.id = c.class
LEFT JOIN campaigns p ON p.tenant = c.tenant AND p.id = c.campaign
LEFT JOIN event_kinds k ON k.tenant = c.tenant AND k.id = c.type
GROUP BY ALL`

// count reads what SQL holds, and checks that every increment is exactly one.
func (s *subject) count(ctx context.Context) (*counted, error) {
	rows, err := s.sql(ctx, countedQuery)
	if err != nil {
		return nil, err
	}
	c := &counted{events: map[string]map[string]int64{}}
	for _, r := range rows {
		var v [4]int64
		for i := range v {
			if v[i], err = whole(r[2+i]); err != nil {
				return nil, err
			}
		}
		class, kind := fmt.Sprint(r[0]), fmt.Sprint(r[1])
		if v[1] != v[0]*1_000_000 {
			return nil, fmt.Errorf("%s %s: %d events have increments of %d millionths", class, kind, v[0], v[1])
		}
		if c.events[class] == nil {
			c.events[class] = map[string]int64{}
		}
		c.events[class][kind] += v[0]
		c.total += v[0]
		if class == "valid" {
			c.amount += v[2]
			c.weighted += v[3]
		}
	}
	rows, err = s.sql(ctx, "SELECT coalesce(sum(n), 0)::VARCHAR FROM tallies WHERE reason = 'forged'")
	if err == nil && len(rows) == 1 {
		c.forged, err = whole(rows[0][0])
	}
	return c, err
}

// check compares what was sent with what was counted, exactly: by class and type, per campaign as a weighted sum, and
// the money.
func (s *subject) check(ctx context.Context, all ...*sent) error {
	c, err := s.count(ctx)
	if err != nil {
		return fmt.Errorf("check: %w", err)
	}
	var want sent
	want.Valid, want.Duplicate = map[string]int64{}, map[string]int64{}
	for _, x := range all {
		if x.Wrong != "" {
			return fmt.Errorf("check: an answer was wrong: %s", x.Wrong)
		}
		for k, n := range x.Valid {
			want.Valid[k] += n
		}
		for k, n := range x.Duplicate {
			want.Duplicate[k] += n
		}
		want.Events += x.Events
		want.Weighted += x.Weighted
		want.Amount += x.Amount
		want.Forged += x.Forged
		want.Unknown += x.Unknown
	}
	if want.Unknown > 0 {
		if err := s.h.strict(fmt.Errorf("check: %d answers were 503: whether their events were counted twice cannot be seen", want.Unknown)); err != nil {
			return err
		}
	}
	var wrong []string
	differ := func(what string, got, want int64) {
		if got != want {
			wrong = append(wrong, fmt.Sprintf("%s: counted %d, sent %d (%+d)", what, got, want, got-want))
		}
	}
	if s.setup.noDedupe {
		differ("all", c.total, want.Events)
	} else {
		s.checkClasses(c, &want, differ)
	}
	if len(wrong) > 0 {
		return errors.New("check: totals differ:\n  " + strings.Join(wrong, "\n  "))
	}
	s.h.say("  exact: %s events counted as sent, %s of them duplicates, %s forged", number(float64(c.total)),
		number(float64(sum(c.events["duplicate"]))), number(float64(c.forged)))
	return nil
}

func (s *subject) checkClasses(c *counted, want *sent, differ func(string, int64, int64)) {
	for k := range merge(c.events["valid"], want.Valid) {
		differ("valid "+k, c.events["valid"][k], want.Valid[k])
	}
	if want.Unknown == 0 { // what was sent again after a 503 may have been taken before: then it is a duplicate, never a count
		for k := range merge(c.events["duplicate"], want.Duplicate) {
			differ("duplicate "+k, c.events["duplicate"][k], want.Duplicate[k])
		}
		differ("all", c.total, want.Events)
	}
	for class, kinds := range c.events {
		if class != "valid" && class != "duplicate" {
			differ(class, sum(kinds), 0)
		}
	}
	differ("campaigns, weighted", c.weighted, want.Weighted)
	differ("amount", c.amount, want.Amount)
	differ("forged", c.forged, want.Forged)
}

func merge(a, b map[string]int64) map[string]bool {
	out := map[string]bool{}
	for k := range a {
		out[k] = true
	}
	for k := range b {
		out[k] = true
	}
	return out
}

func sum(m map[string]int64) int64 {
	var n int64
	for _, v := range m {
		n += v
	}
	return n
}

// settleAndCheck waits for SQL, checks the totals, and returns when SQL had everything.
func (s *subject) settleAndCheck(ctx context.Context, all ...*sent) (time.Time, error) {
	at, err := s.settled(ctx, 10*time.Minute)
	if err != nil {
		return at, err
	}
	for _, x := range all {
		if x.Forged > 0 { // tallies go out once a second
			select {
			case <-ctx.Done():
				return at, ctx.Err()
			case <-time.After(1500 * time.Millisecond):
			}
			if _, err := s.settled(ctx, time.Minute); err != nil {
				return at, err
			}
			break
		}
	}
	return at, s.check(ctx, all...)
}

// bytesPerEvent is what lies on disk, journal and archive together, per event.
func (s *subject) bytesPerEvent(events int64) map[string]string {
	out := map[string]string{}
	for _, part := range []string{"journal", "archive", "images"} {
		out[part+"_bytes_per_event"] = strconv.FormatFloat(float64(diskOf(s.dir+"/"+part))/float64(max(1, events)), 'f', 1, 64)
	}
	out["ledger_bytes_per_event"] = strconv.FormatFloat(float64(diskOf(s.dir+"/ledger.duckdb"))/float64(max(1, events)), 'f', 1, 64)
	return out
}
