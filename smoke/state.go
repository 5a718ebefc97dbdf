package main

import (
	"bytes"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"
)

// kind is what events are told apart by here.
type kind struct{ typ, class string }

// state is what SQL holds at one position, all of it from one statement and so from one snapshot.
type state struct {
	position uint64
	events   map[string]map[kind]int64 // tenant -> kind -> events
	tallies  map[string]int64          // "tenant reason" -> refused at a door
}

// of returns one number.
func (s *state) of(tenant, typ, class string) int64 { return s.events[tenant][kind{typ, class}] }

// sum is the number of events over all tenants, types and classes.
func (s *state) sum() int64 {
	var n int64
	for _, kinds := range s.events {
		for _, events := range kinds {
			n += events
		}
	}
	return n
}

const stateQuery = `
select 'position' as what, '' as tenant, '' as a, '' as b, coalesce(max(seq), 0)::varchar as n from positions where lane = 0
union all
select 'events', t.key, case c.type when 1 then 'impression' when 2 then 'click' when 3 then 'conversion' end, l.name, sum(c.events)::varchar
from cells c join tenants t on t.id = c.tenant join classes l on l.id = c.class
group by t.key, c.type, l.name
union all
select 'all', '', '', '', coalesce(sum(events), 0)::varchar from cells
union all
select 'tally', coalesce(t.key, ''), x.reason, '', sum(x.n)::varchar from tallies x left join tenants t on t.id = x.tenant group by t.key, x.reason`

// readState reads the state from SQL.
func readState(ctx context.Context, query func(context.Context, string) ([][]string, error)) (*state, error) {
	rows, err := query(ctx, stateQuery)
	if err != nil {
		return nil, err
	}
	s := &state{events: map[string]map[kind]int64{}, tallies: map[string]int64{}}
	var all int64
	for _, row := range rows {
		if len(row) != 5 {
			return nil, fmt.Errorf("state: row %v", row)
		}
		n, err := strconv.ParseInt(row[4], 10, 64)
		if err != nil {
			return nil, fmt.Errorf("state: row %v: %w", row, err)
		}
		switch row[0] {
		case "position":
			s.position = uint64(n)
		case "all":
			all = n
		case "tally":
			s.tallies[row[1]+" "+row[2]] += n
		case "events":
			if s.events[row[1]] == nil {
				s.events[row[1]] = map[kind]int64{}
			}
			s.events[row[1]][kind{row[2], row[3]}] += n
		}
	}
	if all != s.sum() {
		return nil, fmt.Errorf("state: cells hold %d events, but only %d of them join with tenants, types and classes", all, s.sum())
	}
	return s, nil
}

// settled waits until everything that is in the journal now has been counted and written to SQL.
func (r *run) settled(ctx context.Context) (*state, []batch, error) {
	heads, err := r.api.batches(ctx, 0)
	if err != nil {
		return nil, nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, 90*time.Second)
	defer cancel()
	for {
		s, err := readState(ctx, r.api.sql)
		if err == nil && s.position >= uint64(len(heads)) {
			if s.position > uint64(len(heads)) { // a tick came in between
				heads, err = r.api.batches(ctx, 0)
			}
			return s, heads, err
		}
		if err == nil {
			err = fmt.Errorf("SQL has reached batch %d of %d", s.position, len(heads))
		}
		select {
		case <-ctx.Done():
			return nil, nil, fmt.Errorf("the grid does not catch up: %w", err)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// folded sums the events of the batches up to a position. A batch that was repeated counts once.
func folded(heads []batch, position uint64) int64 {
	var n int64
	seen := map[string]bool{}
	for _, b := range heads {
		id := b.Incarnation + " " + strconv.FormatUint(b.Counter, 10)
		if b.Seq > position || b.Kind != "events" || seen[id] {
			continue
		}
		seen[id] = true
		n += b.Events
	}
	return n
}

// prove checks what must hold after every step: conservation, and that reports, live counters and SQL say the same.
func (r *run) prove(ctx context.Context, step string) (*state, error) {
	s, heads, err := r.settled(ctx)
	if err != nil {
		return nil, err
	}
	if left, right := folded(heads, s.position), s.sum(); left != right {
		return nil, fmt.Errorf("%s: conservation at position %d: batch headers hold %d events, SQL has verdicts for %d (%+d)",
			step, s.position, left, right, right-left)
	}
	classic, err := r.classicCounters(ctx)
	if err != nil {
		return nil, err
	}
	var wrong []error
	for _, tenant := range slices.Sorted(maps.Keys(s.events)) {
		wrong = append(wrong, r.agree(ctx, tenant, s.events[tenant], classic))
	}
	if err := errors.Join(wrong...); err != nil {
		return nil, fmt.Errorf("%s: %w", step, err)
	}
	r.say("  conserved at batch %d: %d events have %d verdicts; report = counters = sql for %d tenants",
		s.position, folded(heads, s.position), s.sum(), len(s.events))
	return s, nil
}

const classicQuery = `select t.key, c.event_type, sum(c.count) from counters c join tenants t on t.id = c.tenant group by all`

// classicCounters asks the classic counter table for what is valid, with the command a person would use.
func (r *run) classicCounters(ctx context.Context) (map[string]string, error) {
	out, err := exec.CommandContext(ctx, r.server.binary, "sql", "--admin", r.api.base, "--format", "csv", classicQuery).Output()
	if err != nil {
		return nil, fmt.Errorf("milliard sql: %w", err)
	}
	rows, err := csv.NewReader(bytes.NewReader(out)).ReadAll()
	if err != nil || len(rows) == 0 {
		return nil, fmt.Errorf("milliard sql: answer %.200q: %w", out, err)
	}
	types := map[string]string{"1": "impression", "2": "click", "3": "conversion"}
	sums := map[string]string{}
	for _, row := range rows[1:] {
		whole, _, _ := strings.Cut(row[2], ".") // increments are fractions; here every one is 1
		sums[row[0]+" "+types[row[1]]] = whole
	}
	return sums, nil
}

// agree compares what reports, live counters and the classic table say of a tenant with what SQL says.
func (r *run) agree(ctx context.Context, tenant string, want map[kind]int64, classic map[string]string) error {
	kinds := slices.SortedFunc(maps.Keys(want), func(a, b kind) int {
		return strings.Compare(a.typ+" "+a.class, b.typ+" "+b.class)
	})
	values, err := r.api.counters(ctx, tenant, kinds)
	if err != nil {
		return err
	}
	lines, err := r.api.report(ctx, tenant, url.Values{
		"by": {"type,class"}, "class": {"all"}, "from": {"2000-01-01"}, "to": {"2100-01-01"}, "zone": {"UTC"},
	})
	if err != nil {
		return err
	}
	reported := map[kind]string{}
	for _, line := range lines {
		reported[kind{line["type"], line["class"]}] = line["events"]
	}
	var d diff
	for i, k := range kinds {
		name := tenant + " " + k.typ + " " + k.class
		d.text(name+", live counter", values[i], strconv.FormatInt(want[k], 10))
		d.text(name+", report", reported[k], strconv.FormatInt(want[k], 10))
	}
	d.number(tenant+", lines of the report", int64(len(reported)), int64(len(kinds)))
	totals, err := r.api.totals(ctx, tenant)
	if err != nil {
		return err
	}
	for _, typ := range []string{"impression", "click", "conversion"} {
		valid := strconv.FormatInt(want[kind{typ, "valid"}], 10)
		d.text(tenant+" "+typ+", total of the report", totals[typ+"s"].String(), valid)
		if got := classic[tenant+" "+typ]; got != "" || valid != "0" {
			d.text(tenant+" "+typ+", milliard sql", got, valid)
		}
	}
	return d.err()
}

// diff gathers everything that is not as expected, so that one run shows all of it.
type diff struct{ lines []string }

func (d *diff) text(what, got, want string) {
	if got != want {
		d.lines = append(d.lines, fmt.Sprintf("  %s: got %s, want %s", what, got, want))
	}
}

func (d *diff) number(what string, got, want int64) {
	if got != want {
		d.lines = append(d.lines, fmt.Sprintf("  %s: got %d, want %d (%+d)", what, got, want, got-want))
	}
}

// only checks that a tenant has exactly these events and no others.
func (d *diff) only(s *state, tenant string, want map[kind]int64) {
	for _, k := range slices.SortedFunc(maps.Keys(want), func(a, b kind) int { return strings.Compare(a.typ+a.class, b.typ+b.class) }) {
		d.number(tenant+" "+k.typ+" "+k.class, s.events[tenant][k], want[k])
	}
	for k, n := range s.events[tenant] {
		if _, expected := want[k]; !expected {
			d.number(tenant+" "+k.typ+" "+k.class, n, 0)
		}
	}
}

func (d *diff) err() error {
	if len(d.lines) == 0 {
		return nil
	}
	return errors.New("not as expected:\n" + strings.Join(d.lines, "\n"))
}
