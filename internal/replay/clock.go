package replay

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// clock reads times.
type clock struct {
	layout string
	zone   *time.Location
	unit   int64 // of whole numbers: how many make a second; 0 for layouts
	local  bool  // the layout has no zone: its times are what clocks on the wall showed
	days   bool  // the layout has no hours
}

func newClock(layout, zone string) (clock, error) {
	c := clock{layout: layout, zone: time.UTC}
	if zone != "" {
		var err error
		if c.zone, err = time.LoadLocation(zone); err != nil {
			return c, fmt.Errorf("zone: %w", err)
		}
	}
	switch layout {
	case "":
		return c, errors.New("layout: is required")
	case "rfc3339":
		c.layout = time.RFC3339
	case "clf":
		c.layout = "02/Jan/2006:15:04:05 -0700"
	case "unix":
		c.unit = 1
	case "unix_ms":
		c.unit = 1e3
	case "unix_us":
		c.unit = 1e6
	default:
		if !strings.Contains(layout, "06") {
			return c, fmt.Errorf("layout: %q is not a Go layout such as 2006-01-02 15:04:05", layout)
		}
		c.local = c.zone != time.UTC && !strings.Contains(layout, "MST") && !strings.Contains(layout, "Z07") &&
			!strings.Contains(layout, "-07")
		c.days = !strings.Contains(layout, "3") && !strings.Contains(layout, "15")
	}
	return c, nil
}

func (c *clock) parse(s string) (int64, error) {
	if c.local {
		return c.parseLocal(s)
	}
	if c.unit == 0 {
		t, err := time.ParseInLocation(c.layout, s, c.zone)
		if err != nil {
			return 0, errors.New("does not have the layout " + c.layout)
		}
		return t.UnixMilli(), nil
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n > 1<<53 || n < -1<<53 {
		return 0, errors.New("is not a whole number of unix time")
	}
	if c.unit == 1 {
		return n * 1000, nil
	}
	return n / (c.unit / 1000), nil
}

// parseLocal reads what a clock on the wall showed. A time in the hour that the clocks leave out in spring is an error: it
// would be moved by an hour, and nobody knows whether it is the zone or the time that is wrong.
func (c *clock) parseLocal(s string) (int64, error) {
	wall, err := time.ParseInLocation(c.layout, s, time.UTC)
	if err != nil {
		return 0, errors.New("does not have the layout " + c.layout)
	}
	year, month, day := wall.Date()
	t := time.Date(year, month, day, wall.Hour(), wall.Minute(), wall.Second(), wall.Nanosecond(), c.zone)
	if t.Hour() == wall.Hour() && t.Minute() == wall.Minute() && t.Day() == day {
		return t.UnixMilli(), nil
	}
	if !c.days {
		return 0, errors.New("does not exist in " + c.zone.String() + ", where the clocks were put forward over it")
	}
	before, after := t.ZoneBounds() // a day without a midnight begins when the clocks are put forward
	if t.Day() == day {
		return before.UnixMilli(), nil
	}
	return after.UnixMilli(), nil
}
