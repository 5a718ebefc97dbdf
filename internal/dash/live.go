package dash

import (
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"time"

	"milliard/internal/catalog"
	"milliard/internal/event"
)

// liveMinutes is how far back the live chart goes, the running minute included.
const liveMinutes = 60

// rateSeconds is the stretch over which the shown rate is averaged: counts arrive in steps of a flush.
const rateSeconds = 5

// LiveSnapshot is what has been counted lately in all tenants: ledger and generations above it together.
type LiveSnapshot struct {
	AsOf     time.Time // complete up to here; zero before anything was counted
	Lag      time.Duration
	Partial  bool   // a lane has halted
	Position uint64 // anything that moves when counts of any age may have changed, such as the sum of positions
	// Points holds one entry per tenant, minute (from since on), type and class.
	Points []LivePoint
}

// LivePoint is one minute of one type and verdict.
type LivePoint struct {
	Tenant event.TenantID
	Minute int64 // unix minute of the bucket
	Type   event.Type
	Class  event.Class
	N      event.Micros // sum of increments
	Events int64        // number of events
}

// minuteCounts are the columns of the live chart: valid counts of the built-in types, of all others, and refused events.
type minuteCounts struct {
	impressions, clicks, conversions, other event.Micros
	refused                                 int64
}

func (c *minuteCounts) add(p *LivePoint) {
	if p.Class != event.Valid {
		c.refused += p.Events
		return
	}
	switch p.Type {
	case event.Impression:
		c.impressions += p.N
	case event.Click:
		c.clicks += p.N
	case event.Conversion:
		c.conversions += p.N
	default:
		c.other += p.N
	}
}

// appendTo writes an array, because sixty of them travel at once.
func (c minuteCounts) appendTo(dst []byte, minute int64) []byte {
	dst = append(dst, '[')
	dst = strconv.AppendInt(dst, minute, 10)
	for _, n := range []event.Micros{c.impressions, c.clicks, c.conversions, c.other} {
		dst = append(dst, ',')
		dst = append(dst, n.String()...)
	}
	dst = append(dst, ',')
	dst = strconv.AppendInt(dst, c.refused, 10)
	return append(dst, ']')
}

// minuteType names one valid counter of the window.
type minuteType struct {
	minute int64
	kind   event.Type
}

// tenantLive is one tenant's window at one tick.
type tenantLive struct {
	minutes map[int64]minuteCounts
	valid   map[minuteType]event.Micros
	totals  map[event.Type]event.Micros
	classes map[event.Class]int64

	counted map[event.Type]event.Micros // grown since the first tick of this run of ticks
	rates   map[event.Type]float64      // per second; nil until there is something to compare with
	changed []int64                     // minutes that differ from the tick before
}

// history is what a rate is taken from.
type history struct {
	at      time.Time
	counted map[event.Type]event.Micros
}

// split sorts a snapshot's points by tenant.
func split(points []LivePoint, since int64) map[event.TenantID]*tenantLive {
	tenants := map[event.TenantID]*tenantLive{}
	for i := range points {
		p := &points[i]
		if p.Minute < since {
			continue
		}
		t := tenants[p.Tenant]
		if t == nil {
			t = newTenantLive()
			tenants[p.Tenant] = t
		}
		c := t.minutes[p.Minute]
		c.add(p)
		t.minutes[p.Minute] = c
		t.classes[p.Class] += p.Events
		if p.Class == event.Valid {
			t.valid[minuteType{p.Minute, p.Type}] += p.N
			t.totals[p.Type] += p.N
		}
	}
	return tenants
}

func newTenantLive() *tenantLive {
	return &tenantLive{
		minutes: map[int64]minuteCounts{}, valid: map[minuteType]event.Micros{},
		totals: map[event.Type]event.Micros{}, classes: map[event.Class]int64{},
		counted: map[event.Type]event.Micros{},
	}
}

// follow compares t with the tick before. Minutes that left the window do not count as a fall.
func (t *tenantLive) follow(prev *tenantLive) {
	t.counted = maps.Clone(prev.counted)
	for k, n := range t.valid {
		t.counted[k.kind] += max(0, n-prev.valid[k])
	}
	for minute, c := range t.minutes {
		if c != prev.minutes[minute] {
			t.changed = append(t.changed, minute)
		}
	}
	slices.Sort(t.changed)
}

// rate fills in the rates from the oldest history that is not too old.
func (t *tenantLive) rate(past []history, now time.Time) {
	for _, h := range past {
		seconds := now.Sub(h.at).Seconds()
		if seconds <= 0 || seconds > rateSeconds+0.5 {
			continue
		}
		t.rates = map[event.Type]float64{}
		for kind, n := range t.counted {
			if grown := n - h.counted[kind]; grown > 0 {
				t.rates[kind] = float64(grown) / float64(event.One) / seconds
			}
		}
		return
	}
}

// liveMessage is one event of the stream.
type liveMessage struct {
	AsOf     *time.Time             `json:"as_of"` // null before anything was counted
	LagMS    int64                  `json:"lag_ms"`
	Partial  bool                   `json:"partial"`
	Position uint64                 `json:"position"`
	Since    int64                  `json:"since"` // first unix minute of the window
	Until    int64                  `json:"until"` // the running minute
	Full     bool                   `json:"full"`  // minutes holds the whole window, not only what changed
	Totals   map[string]json.Number `json:"totals"`
	Rates    map[string]float64     `json:"rates"` // per second; null before the second tick
	Classes  map[string]int64       `json:"classes"`
	Minutes  json.RawMessage        `json:"minutes"` // [minute, impressions, clicks, conversions, other, refused]
}

func (t *tenantLive) message(s *LiveSnapshot, names *catalog.View, since, until int64, full bool) ([]byte, error) {
	m := liveMessage{
		LagMS: s.Lag.Milliseconds(), Partial: s.Partial, Position: s.Position, Since: since, Until: until, Full: full,
		Totals: map[string]json.Number{}, Classes: map[string]int64{},
	}
	if !s.AsOf.IsZero() {
		at := s.AsOf.UTC()
		m.AsOf = &at
	}
	for kind, n := range t.totals {
		m.Totals[typeKey(names, kind)] = json.Number(n.String())
	}
	for class, n := range t.classes {
		m.Classes[class.String()] = n
	}
	if t.rates != nil {
		m.Rates = map[string]float64{}
		for kind, r := range t.rates {
			m.Rates[typeKey(names, kind)] = r
		}
	}
	minutes := t.changed
	if full {
		minutes = slices.Sorted(maps.Keys(t.minutes))
	}
	list := []byte{'['}
	for i, minute := range minutes {
		if i > 0 {
			list = append(list, ',')
		}
		list = t.minutes[minute].appendTo(list, minute)
	}
	m.Minutes = append(list, ']')
	return json.Marshal(&m)
}

func typeKey(names *catalog.View, kind event.Type) string {
	switch kind {
	case event.Impression:
		return "impression"
	case event.Click:
		return "click"
	case event.Conversion:
		return "conversion"
	}
	if t, ok := names.EventTypeByID(kind); ok {
		return t.Key
	}
	return "type_" + strconv.Itoa(int(kind))
}
