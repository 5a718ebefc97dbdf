package ops

import (
	"fmt"
	"net/http"
	"time"

	"milliard/internal/api"
)

// Ready is what the program says about its own readiness. The doors and the grid stand apart: doors accept and make
// durable while the grid is still catching up behind them.
type Ready struct {
	Doors []Check
	Grid  []Check

	LastDurable time.Time // when the journal last acknowledged a batch; zero: not yet
	LastFlush   time.Time // when the ledger last committed a flush; zero: not yet
	Window      DuplicateWindow
}

// Check is one condition. Reason is for a person and empty when OK.
type Check struct {
	Name   string `json:"name"`
	OK     bool   `json:"ok"`
	Reason string `json:"reason,omitempty"`
}

// Pass makes a check that holds.
func Pass(name string) Check { return Check{Name: name, OK: true} }

// Fail makes a failed check with its reason.
func Fail(name, reason string) Check { return Check{Name: name, Reason: reason} }

// DuplicateWindow says how far back a repeated foreign id is still recognised.
type DuplicateWindow struct {
	Configured time.Duration // what the setting asks for, in log time
	Covered    time.Duration // what the memory holds now; less than Configured after an early end
	Ids        int64         // foreign ids held
	Limit      int64         // foreign ids that fit
	EarlyEnds  int64         // how often the limit ended a generation before its time
}

type readyPart struct {
	Ready   bool     `json:"ready"`
	Reasons []string `json:"reasons"`
	Checks  []Check  `json:"checks"`
}

type readyBody struct {
	Ready       bool        `json:"ready"` // of the part that was asked for
	Doors       readyPart   `json:"doors"`
	Grid        readyPart   `json:"grid"`
	LastDurable *float64    `json:"last_durable_age_seconds"` // null: nothing yet
	LastFlush   *float64    `json:"last_flush_age_seconds"`
	Window      readyWindow `json:"duplicate_window"`
}

type readyWindow struct {
	Configured float64 `json:"configured_seconds"`
	Covered    float64 `json:"covered_seconds"`
	Ids        int64   `json:"ids"`
	Limit      int64   `json:"limit"`
	EarlyEnds  int64   `json:"early_ends"`
	State      string  `json:"state"` // full: the window is as long as configured or is still filling; shortened
}

func partOf(checks []Check) readyPart {
	p := readyPart{Ready: true, Reasons: []string{}, Checks: checks}
	if checks == nil {
		p.Checks = []Check{}
	}
	for _, c := range checks {
		if c.OK {
			continue
		}
		p.Ready = false
		reason := c.Reason
		if reason == "" {
			reason = "not ready"
		}
		p.Reasons = append(p.Reasons, fmt.Sprintf("%s: %s", c.Name, reason))
	}
	return p
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
		Doors: partOf(r.Doors), Grid: partOf(r.Grid),
		LastDurable: ageSeconds(now, r.LastDurable), LastFlush: ageSeconds(now, r.LastFlush),
		Window: readyWindow{
			Configured: r.Window.Configured.Seconds(), Covered: r.Window.Covered.Seconds(),
			Ids: r.Window.Ids, Limit: r.Window.Limit, EarlyEnds: r.Window.EarlyEnds, State: "full",
		},
	}
	if r.Window.EarlyEnds > 0 && r.Window.Covered < r.Window.Configured {
		b.Window.State = "shortened"
	}
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
