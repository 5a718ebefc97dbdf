package report

import (
	"fmt"
	"strings"
	"time"
)

// Grain is how finely a report splits time.
type Grain uint8

// The grains.
const (
	NoGrain Grain = iota
	Minute
	Quarter // 15 minutes
	Hour
	Day
	Week // starts on Monday
	Month
)

func grainNames() [7]string {
	return [...]string{"", "minute", "15min", "hour", "day", "week", "month"}
}

// String returns the grain as it is written in requests.
func (g Grain) String() string { return grainNames()[g] }

func parseGrain(s string) (Grain, bool) {
	for i, name := range grainNames() {
		if s != "" && name == s {
			return Grain(i), true
		}
	}
	return NoGrain, false
}

// minutes is the grain's length in local minutes; days, weeks and months are found from the local day number.
func (g Grain) minutes() int64 {
	switch g {
	case Minute:
		return 1
	case Quarter:
		return 15
	case Hour:
		return 60
	case Day, Week, Month, NoGrain:
	}
	return dayMinutes
}

func (g Grain) withinDay() bool { return g == Minute || g == Quarter || g == Hour }

const dayMinutes = 24 * 60

// period is a stretch of time in which the zone's offset from UTC does not change, in unix minutes. Inside one period
// local time is UTC plus a constant, so a bucket's place in the local calendar is plain integer arithmetic: that is
// exact for every zone, and needs no time zone support in the SQL engine.
type period struct{ from, to, offset int64 }

// periods cuts [from, to) where the zone's offset changes. Zones whose offset or change is not on a whole minute
// (local mean time, before 1972 at the latest) cannot be counted exactly in minutes and are refused.
func periods(zone *time.Location, from, to int64) ([]period, error) {
	var out []period
	for at := from; at < to; {
		t := time.Unix(at*60, 0).In(zone)
		_, seconds := t.Zone()
		_, end := t.ZoneBounds()
		until := to
		if !end.IsZero() && end.Unix() < to*60 {
			// Some zone files end with a change that changes nothing, at the last second of 32 bits.
			if _, next := end.In(zone).Zone(); end.Unix()%60 != 0 && next != seconds {
				return nil, fmt.Errorf("zone %s changes its offset within a minute in %d", zone, end.Year())
			}
			until = -floorDiv(-end.Unix(), 60)
		}
		if seconds%60 != 0 {
			return nil, fmt.Errorf("zone %s is not a whole number of minutes from UTC in %d", zone, t.Year())
		}
		offset := int64(seconds / 60)
		if n := len(out); n > 0 && out[n-1].offset == offset {
			out[n-1].to = until // only the zone's name or rule changed
		} else {
			out = append(out, period{at, until, offset})
		}
		at = until
	}
	return out, nil
}

// aligned says whether every boundary between buckets of the grain lies on a multiple of unit minutes, so that a
// table of that bucket width can tell the buckets apart.
func aligned(g Grain, ps []period, unit int64) bool {
	if g == NoGrain {
		return true
	}
	if g.minutes()%unit != 0 {
		return false
	}
	for i, p := range ps {
		if p.offset%unit != 0 || i > 0 && p.from%unit != 0 {
			return false
		}
	}
	return true
}

// offsetSQL is the zone's offset at column bucket as an integer expression.
func offsetSQL(ps []period) string {
	if len(ps) == 1 {
		return fmt.Sprintf("(%d)", ps[0].offset)
	}
	var b strings.Builder
	b.WriteString("CASE")
	for _, p := range ps[:len(ps)-1] {
		fmt.Fprintf(&b, " WHEN bucket < %d THEN %d", p.to, p.offset)
	}
	fmt.Fprintf(&b, " ELSE %d END", ps[len(ps)-1].offset)
	return b.String()
}

// timeSQL is the number of the local bucket of the grain. One day is added before dividing, because local times just
// after the epoch may be negative and SQL division rounds towards zero.
func timeSQL(g Grain, offset string) string {
	local := fmt.Sprintf("(bucket + %s + %d)", offset, dayMinutes)
	day := fmt.Sprintf("(%s // %d - 1)", local, dayMinutes)
	switch g {
	case Minute, Quarter, Hour:
		return fmt.Sprintf("(%s // %d - %d)", local, g.minutes(), dayMinutes/g.minutes())
	case Week:
		return fmt.Sprintf("((%s + %d) // 7)", day, epochWeekday)
	case Month:
		date := fmt.Sprintf("(DATE '1970-01-01' + CAST(%s AS INTEGER))", day)
		return fmt.Sprintf("(year(%s) * 12 + month(%s) - 1)", date, date)
	case Day, NoGrain:
	}
	return day
}

// epochWeekday is how many days after a Monday the epoch was: it was a Thursday.
const epochWeekday = 3

// label names bucket n of the grain: dates for days, the Monday for weeks, "2026-04" for months, and RFC 3339 with the
// offset below a day, which tells the two hours apart when clocks are set back.
func label(g Grain, n, offset int64) string {
	day := func(d int64) string { return time.Unix(d*dayMinutes*60, 0).UTC().Format(time.DateOnly) }
	switch g {
	case Minute, Quarter, Hour:
		zone := time.FixedZone("", int(offset*60))
		return time.Unix((n*g.minutes()-offset)*60, 0).In(zone).Format("2006-01-02T15:04Z07:00")
	case Day:
		return day(n)
	case Week:
		return day(n*7 - epochWeekday)
	case Month:
		return fmt.Sprintf("%04d-%02d", n/12, n%12+1)
	case NoGrain:
	}
	return ""
}

// dayStart returns the first unix minute at which the local date is that date or later. Not every day begins at
// midnight: where clocks are set forward at midnight it begins at one o'clock.
func dayStart(zone *time.Location, year int, month time.Month, day int) (int64, error) {
	midnight := time.Date(year, month, day, 0, 0, 0, 0, time.UTC).Unix() / 60
	ps, err := periods(zone, midnight-2*dayMinutes, midnight+2*dayMinutes)
	if err != nil {
		return 0, err
	}
	for _, p := range ps {
		if at := max(midnight-p.offset, p.from); at < p.to {
			return at, nil
		}
	}
	return midnight, nil
}
