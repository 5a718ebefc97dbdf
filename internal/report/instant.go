package report

import (
	"strconv"
	"strings"
	"time"
)

// The range of instants a report accepts: unix minutes that are not negative in any zone and fit a bucket column.
const (
	firstMinute = 2 * dayMinutes
	lastMinute  = 130 * 366 * dayMinutes // the year 2100
)

// parseInstant reads one end of a range and returns unix minutes. A date means its first minute as "from" and its end
// as "to", so that from=2026-04-01 to=2026-04-03 is three days. Everything else is an instant, and "to" is exclusive.
func parseInstant(field, s string, zone *time.Location, now time.Time) (int64, error) {
	end := field == "to"
	if date, ok := parseDate(s, now.In(zone)); ok {
		if _, err := inRange(field, s, date.Unix()/60); err != nil {
			return 0, err
		}
		y, m, d := date.Date()
		if end {
			d++
		}
		at, err := dayStart(zone, y, m, d)
		if err != nil {
			return 0, bad("zone", "%v; use UTC", err)
		}
		return inRange(field, s, at)
	}
	if ago, ok := parseAgo(s); ok {
		t := now.Add(-ago)
		at := floorDiv(t.Unix(), 60)
		if end && (t.Unix()%60 != 0 || t.Nanosecond() != 0) {
			at++ // the running minute is wanted
		}
		return inRange(field, s, at)
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04Z07:00", "2006-01-02T15:04:05", "2006-01-02T15:04", "2006-01-02 15:04:05", "2006-01-02 15:04"} {
		t, err := time.ParseInLocation(layout, s, zone)
		if err != nil {
			continue
		}
		if t.Second() != 0 || t.Nanosecond() != 0 {
			return 0, bad(field, "%q is not on a whole minute; counters are one minute fine", clip(s))
		}
		return inRange(field, s, floorDiv(t.Unix(), 60))
	}
	return 0, bad(field, "%q is not a time: give RFC 3339, a date such as 2026-04-01, today, yesterday, now, or -15m, -2h, -7d, -4w", clip(s))
}

func inRange(field, s string, minute int64) (int64, error) {
	if minute < firstMinute || minute > lastMinute {
		return 0, bad(field, "%q is outside 1970-01-03 to 2100-01-01", clip(s))
	}
	return minute, nil
}

// parseDate reads the forms that mean a whole local day.
func parseDate(s string, local time.Time) (time.Time, bool) {
	y, m, d := local.Date()
	back := -1
	switch s {
	case "today":
		back = 0
	case "yesterday":
		back = 1
	}
	if n, unit, ok := splitAgo(s); ok && n <= 40_000 {
		switch unit {
		case 'd':
			back = n
		case 'w':
			back = 7 * n
		}
	}
	if back >= 0 {
		return time.Date(y, m, d-back, 0, 0, 0, 0, time.UTC), true
	}
	t, err := time.Parse(time.DateOnly, s)
	return t, err == nil
}

// parseAgo reads the forms that mean an instant before now.
func parseAgo(s string) (time.Duration, bool) {
	if s == "now" {
		return 0, true
	}
	n, unit, ok := splitAgo(s)
	switch {
	case !ok:
	case unit == 'm':
		return time.Duration(n) * time.Minute, true
	case unit == 'h':
		return time.Duration(n) * time.Hour, true
	}
	return 0, false
}

// splitAgo reads "-15m": a whole number and one of the units m h d w.
func splitAgo(s string) (n int, unit byte, ok bool) {
	if len(s) < 3 || s[0] != '-' {
		return 0, 0, false
	}
	unit = s[len(s)-1]
	n, err := strconv.Atoi(s[1 : len(s)-1])
	if err != nil || n < 0 || n > 1_000_000 || s[1] == '+' || s[1] == '-' || !strings.ContainsRune("mhdw", rune(unit)) {
		return 0, 0, false
	}
	return n, unit, true
}

func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b != 0 && (a < 0) != (b < 0) {
		q--
	}
	return q
}

// clip shortens what a user sent before it is repeated in an error.
func clip(s string) string {
	if len(s) > 60 {
		return s[:60] + "…"
	}
	return s
}
