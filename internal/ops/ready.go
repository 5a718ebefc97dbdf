package ops

import (
	"net/http"
	"sync"
	"time"

	"milliard/internal/api"
)

// Ready is what the program says about its own readiness. The doors and the grid stand apart: doors accept and make
// durable while the grid is still catching up behind them.
type Ready struct {
	Doors []Check
	Grid  []Check

	Disk        Disk
	LastDurable time.Time // when the journal last acknowledged a batch; zero: not yet
	LastFlush   time.Time // when the ledger last committed a flush; zero: not yet
	Window      DuplicateWindow
}

// Check is one condition. Reason and Help are for a person: what is wrong, and what to do about it.
type Check struct {
	Name   string     `json:"name"`
	OK     bool       `json:"ok"`
	Reason string     `json:"reason,omitempty"` // why not, or what may soon be the reason
	Since  *time.Time `json:"since,omitempty"`  // seen first; filled in by Ops
	Help   string     `json:"help,omitempty"`
	As     string     `json:"as,omitempty"` // the check that gives the reason, when it is the same
}

// Pass makes a check that holds.
func Pass(name string) Check { return Check{Name: name, OK: true} }

// Warn makes a check that holds, and may soon not.
func Warn(name, reason, help string) Check {
	return Check{Name: name, OK: true, Reason: reason, Help: help}
}

// Fail makes a failed check with its reason.
func Fail(name, reason, help string) Check { return Check{Name: name, Reason: reason, Help: help} }

// FailAs makes a check that has failed for the reason that another one gives.
func FailAs(name, other string) Check { return Check{Name: name, As: other} }

// troubled says whether there is something to be said of the check.
func (c *Check) troubled() bool { return !c.OK || c.Reason != "" }

// Disk is the data directory's volume; zero when it cannot be looked at.
type Disk struct{ FreeBytes, Bytes int64 }

// DuplicateWindow says how far back a repeated foreign id is still recognised.
type DuplicateWindow struct {
	Configured time.Duration // what the setting asks for, in log time
	Covered    time.Duration // what the memory holds now; less than Configured after an early end
	Ids        int64         // foreign ids held
	Limit      int64         // foreign ids that fit
	EarlyEnds  int64         // how often the limit ended a generation before its time
}

type readyPart struct {
	Ready    bool     `json:"ready"`
	Reasons  []string `json:"reasons"`
	Warnings []string `json:"warnings,omitempty"` // it is ready, and something needs care
	Checks   []Check  `json:"checks"`
}

type readyBody struct {
	Ready       bool        `json:"ready"`    // of the part that was asked for
	Degraded    bool        `json:"degraded"` // of any part: something needs care
	Doors       readyPart   `json:"doors"`
	Grid        readyPart   `json:"grid"`
	Disk        readyDisk   `json:"disk"`
	LastDurable *float64    `json:"last_durable_age_seconds"` // null: nothing yet
	LastFlush   *float64    `json:"last_flush_age_seconds"`
	Window      readyWindow `json:"duplicate_window"`
}

type readyDisk struct {
	Free  int64 `json:"free_bytes"`
	Bytes int64 `json:"bytes"`
}

type readyWindow struct {
	Configured float64 `json:"configured_seconds"`
	Covered    float64 `json:"covered_seconds"`
	Ids        int64   `json:"ids"`
	Limit      int64   `json:"limit"`
	EarlyEnds  int64   `json:"early_ends"`
	State      string  `json:"state"` // full: the window is as long as configured or is still filling; shortened
}

// partOf sums a part's checks up. Each trouble is said once: what, since when, what helps.
func (o *Ops) partOf(name string, checks []Check, now time.Time) readyPart {
	p := readyPart{Ready: true, Reasons: []string{}, Checks: make([]Check, len(checks))}
	for i, c := range checks {
		c.Since = o.since.note(name+"/"+c.Name, c.troubled(), now)
		if p.Checks[i] = c; !c.OK {
			p.Ready = false
		}
		if !c.troubled() || c.As != "" {
			continue
		}
		text := c.Name + ": "
		if text += c.Reason; c.Reason == "" {
			text += "not ready"
		}
		if c.Since != nil {
			text += ", since " + c.Since.Format(time.RFC3339)
		}
		if c.Help != "" {
			text += ": " + c.Help
		}
		if c.OK {
			p.Warnings = append(p.Warnings, text)
		} else {
			p.Reasons = append(p.Reasons, text)
		}
	}
	return p
}

// onset remembers since when each trouble is there.
type onset struct {
	mu   sync.Mutex
	seen map[string]time.Time
}

// note returns since when a trouble is there; nil when it is not.
func (s *onset) note(name string, there bool, now time.Time) *time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !there {
		delete(s.seen, name)
		return nil
	}
	at, known := s.seen[name]
	if !known {
		if s.seen == nil {
			s.seen = make(map[string]time.Time)
		}
		at = now.UTC().Truncate(time.Second)
		s.seen[name] = at
	}
	return &at
}

func ageSeconds(now, then time.Time) *float64 {
	if then.IsZero() {
		return nil
	}
	age := max(0, now.Sub(then).Seconds())
	return &age
}

// readyNow answers for one part: doors (what a load balancer asks), grid, or all.
func (o *Ops) readyNow(part string) readyBody {
	r, now := o.cfg.Ready(), o.cfg.Now()
	b := readyBody{
		Doors: o.partOf("doors", r.Doors, now), Grid: o.partOf("grid", r.Grid, now),
		Disk:        readyDisk{r.Disk.FreeBytes, r.Disk.Bytes},
		LastDurable: ageSeconds(now, r.LastDurable), LastFlush: ageSeconds(now, r.LastFlush),
		Window: readyWindow{
			Configured: r.Window.Configured.Seconds(), Covered: r.Window.Covered.Seconds(),
			Ids: r.Window.Ids, Limit: r.Window.Limit, EarlyEnds: r.Window.EarlyEnds, State: "full",
		},
	}
	if r.Window.EarlyEnds > 0 && r.Window.Covered < r.Window.Configured {
		b.Window.State = "shortened"
	}
	b.Degraded = len(b.Doors.Warnings)+len(b.Grid.Warnings) > 0
	switch part {
	case "grid":
		b.Ready = b.Grid.Ready
	case "all":
		b.Ready = b.Doors.Ready && b.Grid.Ready
	default:
		b.Ready = b.Doors.Ready
	}
	return b
}

func (o *Ops) readyz(w http.ResponseWriter, r *http.Request) {
	part := r.FormValue("part")
	switch part {
	case "", "doors", "grid", "all":
	default:
		api.WriteError(w, http.StatusBadRequest, "bad_request",
			&api.FieldError{Field: "part", Msg: "must be doors, grid or all"})
		return
	}
	body, status := o.readyNow(part), http.StatusOK
	if !body.Ready {
		status = http.StatusServiceUnavailable
	}
	w.Header().Set("Cache-Control", "no-store")
	api.WriteJSON(w, status, body)
}
