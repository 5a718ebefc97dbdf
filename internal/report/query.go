package report

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"milliard/internal/catalog"
	"milliard/internal/event"
	"milliard/internal/ledger"
)

// Dim is a dimension of a report besides time.
type Dim uint8

// The dimensions.
const (
	Advertiser Dim = iota
	Campaign
	Banner
	Affiliate
	EventType
	Goal
	Class
	Country
	Device
	Sub1
	dimCount
)

func dimNames() []string {
	return []string{"advertiser", "campaign", "banner", "affiliate", "type", "goal", "class", "country", "device", "sub1"}
}

// String returns the dimension as it is written in requests and columns.
func (d Dim) String() string { return dimNames()[d] }

// rollup is the dimension's table part, or 0 for those that every cell has.
func (d Dim) rollup() ledger.Dimension {
	switch d {
	case Country:
		return ledger.DimCountry
	case Device:
		return ledger.DimDevice
	case Sub1:
		return ledger.DimSub1
	case Advertiser, Campaign, Banner, Affiliate, EventType, Goal, Class:
	}
	return 0
}

// named says whether the dimension's rows have a display name beside their key.
func (d Dim) named() bool {
	return d == Advertiser || d == Campaign || d == Banner || d == Affiliate || d == Goal
}

func parseDim(s string) (Dim, bool) {
	i := slices.Index(dimNames(), s)
	return Dim(max(i, 0)), i >= 0
}

// Request is a report as it is asked for, in words. Empty fields have defaults.
type Request struct {
	By    []string // dimensions and at most one grain, in the order of the columns
	From  string   // default: today
	To    string   // default: the end of today
	Zone  string   // IANA; default: the tenant's
	Where []string // "campaign:45061"; values of one dimension are alternatives, dimensions are all demanded
	Time  string   // received (default) or occurred
	Class string   // valid (default), all, or classes separated by commas
	Limit int      // rows shown; default 10,000
	Order []string // columns, "-" before one means descending; default: the dimensions
}

// Limits of a request.
const (
	DefaultLimit = 10_000
	MaxLimit     = 200_000
	maxValues    = 10_000 // alternatives in one filter
)

// Query is a checked request of one tenant.
type Query struct {
	tenant   event.TenantID
	dims     []Dim // in the order asked for, without the grain
	grain    Grain
	grainAt  int // the grain's place among the dimensions
	zone     *time.Location
	from, to int64 // unix minutes
	periods  []period
	occurred bool
	rollup   Dim // the one of country, device and sub1 that is used; dimCount: none
	filters  [dimCount]filter
	limit    int
	order    []order
	columns  []column
	notes    []string // what was understood differently from the words
}

// filter is the allowed values of one dimension; unused when both are nil.
type filter struct {
	ids    []int64
	values []string
}

func (f *filter) used() bool { return f.ids != nil || f.values != nil }

type order struct {
	column int
	desc   bool
}

// Parse checks a request against the tenant's catalog.
func Parse(r Request, names *catalog.View, now time.Time) (*Query, error) {
	q := &Query{tenant: names.Info().ID, rollup: dimCount, limit: r.Limit}
	zoneName := r.Zone
	if zoneName == "" {
		zoneName = names.Info().TimeZone
	}
	zone, err := time.LoadLocation(zoneName)
	if err != nil || zoneName == "Local" {
		return nil, bad("zone", "%q is not an IANA time zone such as Europe/Berlin", clip(zoneName))
	}
	q.zone = zone
	if err := q.parseRange(r, now); err != nil {
		return nil, err
	}
	if err := q.parseBy(r.By); err != nil {
		return nil, err
	}
	if err := q.parseWhere(r, names); err != nil {
		return nil, err
	}
	switch r.Time {
	case "", "received":
	case "occurred":
		q.occurred = true
	default:
		return nil, bad("time", "%q is neither received nor occurred", clip(r.Time))
	}
	switch {
	case q.limit == 0:
		q.limit = DefaultLimit
	case q.limit < 0 || q.limit > MaxLimit:
		return nil, bad("limit", "must be 1 to %d", MaxLimit)
	}
	if err := q.checkTables(r); err != nil {
		return nil, err
	}
	q.columns = q.makeColumns()
	return q, q.parseOrder(r.Order)
}

func (q *Query) parseRange(r Request, now time.Time) error {
	from, to := r.From, r.To
	if from == "" {
		from = "today"
	}
	if to == "" {
		to = "today"
	}
	var err error
	if q.from, err = parseInstant("from", from, q.zone, now); err != nil {
		return err
	}
	if q.to, err = parseInstant("to", to, q.zone, now); err != nil {
		return err
	}
	if q.from >= q.to {
		return bad("to", "the range is empty: from %s to %s", minuteText(q.from), minuteText(q.to))
	}
	if q.periods, err = periods(q.zone, q.from, q.to); err != nil {
		return bad("zone", "%v; use UTC", err)
	}
	return nil
}

func minuteText(m int64) string { return time.Unix(m*60, 0).UTC().Format("2006-01-02T15:04Z07:00") }

func (q *Query) parseBy(by []string) error {
	for _, word := range by {
		if word == "" {
			continue
		}
		if g, ok := parseGrain(word); ok {
			if q.grain != NoGrain {
				return bad("by", "%s and %s: one time grain at a time", q.grain, g)
			}
			q.grain, q.grainAt = g, len(q.dims)
			continue
		}
		d, ok := parseDim(word)
		if !ok {
			return bad("by", "%q is no dimension; there are %s and the grains %s", clip(word),
				strings.Join(dimNames(), ", "), "minute, 15min, hour, day, week, month")
		}
		if slices.Contains(q.dims, d) {
			return bad("by", "%s is named twice", d)
		}
		if err := q.useRollup("by", d); err != nil {
			return err
		}
		q.dims = append(q.dims, d)
	}
	return nil
}

// useRollup notes that the dimension's own rollup is needed. Each rollup splits the counters by one of them only.
func (q *Query) useRollup(field string, d Dim) error {
	if d.rollup() == 0 || d == q.rollup {
		return nil
	}
	if q.rollup != dimCount {
		return bad(field, "%s and %s: only one of country, device and sub1 can be used in one report, filters included", q.rollup, d)
	}
	q.rollup = d
	return nil
}

// checkTables refuses what no table holds and says what is possible instead.
func (q *Query) checkTables(r Request) error {
	const quarter = 15
	what := ""
	switch {
	case q.occurred && q.rollup != dimCount:
		return bad("time", "%s is kept by time of receipt only; use time=received", q.rollup)
	case q.occurred:
		what = "time=occurred"
	case q.rollup != dimCount:
		what = q.rollup.String()
	default:
		return nil
	}
	if err := q.widen(r, what, quarter); err != nil {
		return err
	}
	switch {
	case q.grain == Minute:
		return bad("by", "%s is counted in quarters of an hour; use 15min or coarser", what)
	case q.from%quarter != 0:
		return bad("from", "%s is counted in quarters of an hour; %s is not on one", what, minuteText(q.from))
	case q.to%quarter != 0:
		return bad("to", "%s is counted in quarters of an hour; %s is not on one", what, minuteText(q.to))
	case !aligned(q.grain, q.periods, quarter):
		return bad("zone", "%s is counted in quarters of an hour, and %s is not a multiple of them from UTC then", what, q.zone)
	}
	return nil
}

// widen moves ends that were given relative to now out to whole units, and notes it: "two hours ago" is not meant to the
// minute, an instant is.
func (q *Query) widen(r Request, what string, unit int64) error {
	from, to := q.from, q.to
	if _, relative := parseAgo(r.From); relative {
		from = floorDiv(from, unit) * unit
	}
	if _, relative := parseAgo(r.To); relative {
		to = -floorDiv(-to, unit) * unit
	}
	if from == q.from && to == q.to {
		return nil
	}
	q.from, q.to = from, to
	q.notes = append(q.notes, fmt.Sprintf("%s is counted in quarters of an hour: the range was widened to %s to %s", what, minuteText(from), minuteText(to)))
	var err error
	if q.periods, err = periods(q.zone, from, to); err != nil {
		return bad("zone", "%v; use UTC", err)
	}
	return nil
}
