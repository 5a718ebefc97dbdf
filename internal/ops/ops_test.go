package ops

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"milliard/internal/stage"
)

var now = time.Unix(1_790_000_000, 0).UTC()

// newOps returns Ops over a fixed clock whose readiness the test may change.
func newOps(t *testing.T, ready *Ready) (*Ops, http.Handler, *stage.Set) {
	t.Helper()
	set := &stage.Set{}
	clock := now
	o, err := New(Config{
		Registry: prometheus.NewRegistry(), Stages: set, Version: "1.0", Mode: "embedded",
		Ready: func() Ready { return *ready },
		Lanes: func() []Lane {
			return []Lane{{Lane: 0, State: LaneHalted, Reason: "journal gap\x1b[2J", Journal: 12, Folded: 9, Flushed: 8, Queued: 3, QueueSize: 100, LagMillis: 1500}}
		},
		Now: func() time.Time { return clock },
	})
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	o.Register(mux)
	return o, mux, set
}

func get(t *testing.T, h http.Handler, path string) *httptest.ResponseRecorder {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
	return w
}

func TestReadyzKeepsDoorsAndGridApart(t *testing.T) {
	ready := &Ready{
		Doors:       []Check{Pass("journal"), Pass("catalog")},
		Grid:        []Check{Fail("lane 0", "catching up, 1,200 batches behind", "")},
		LastDurable: now.Add(-1500 * time.Millisecond),
		Window:      DuplicateWindow{Configured: 26 * time.Hour, Covered: 20 * time.Hour, Ids: 64, Limit: 64, EarlyEnds: 2},
	}
	_, h, _ := newOps(t, ready)
	for path, want := range map[string]int{
		"/readyz": 200, "/readyz?part=doors": 200, "/readyz?part=grid": 503, "/readyz?part=all": 503, "/readyz?part=x": 400,
	} {
		if got := get(t, h, path).Code; got != want {
			t.Errorf("GET %s = %d, want %d", path, got, want)
		}
	}
	var body readyBody
	if err := json.Unmarshal(get(t, h, "/readyz").Body.Bytes(), &body); err != nil {
		t.Fatal(err)
	}
	if !body.Ready || !body.Doors.Ready || body.Grid.Ready {
		t.Errorf("parts: %+v", body)
	}
	if len(body.Grid.Reasons) != 1 || body.Grid.Reasons[0] != "lane 0: catching up, 1,200 batches behind, since "+now.Format(time.RFC3339) {
		t.Errorf("reasons of the grid: %q", body.Grid.Reasons)
	}
	if body.LastDurable == nil || *body.LastDurable != 1.5 || body.LastFlush != nil {
		t.Errorf("ages: durable %v, flush %v", body.LastDurable, body.LastFlush)
	}
	if body.Window.State != "shortened" || body.Window.EarlyEnds != 2 || body.Window.Covered != 72000 {
		t.Errorf("window: %+v", body.Window)
	}
	ready.Doors[0] = Fail("journal", "stream stopped: fsync failed", "")
	if got := get(t, h, "/readyz").Code; got != 503 {
		t.Errorf("with a stopped journal readyz answers %d", got)
	}
	if got := get(t, h, "/healthz").Code; got != 200 {
		t.Errorf("liveness answers %d while not ready", got)
	}
}

func TestMetricsNameStagesLanesAndReadiness(t *testing.T) {
	_, h, set := newOps(t, &Ready{Doors: []Check{Pass("journal")}, LastFlush: now.Add(-2 * time.Second)})
	set.New(stage.Flush, "ledger", 1).Observe(30*time.Millisecond, 500)
	body := get(t, h, "/metrics").Body.String()
	for _, want := range []string{
		`milliard_stage_events_total{instance="ledger",stage="flush"} 500`,
		`milliard_stage_busy_seconds_total{instance="ledger",stage="flush"} 0.03`,
		`milliard_stage_seconds_count{instance="ledger",stage="flush"} 1`,
		`milliard_ready{part="doors"} 1`, `milliard_last_flush_age_seconds 2`,
		`milliard_lane_sequence{lane="0",reached="flushed"} 8`, `milliard_lane_halted{lane="0"} 1`,
		`milliard_lane_lag_seconds{lane="0"} 1.5`, `milliard_build_info{`, `go_goroutines`,
	} {
		if !strings.Contains(body, want) {
			t.Errorf("metrics lack %s", want)
		}
	}
	if strings.Contains(body, "milliard_last_durable_age_seconds ") && !strings.Contains(body, "# HELP milliard_last_durable") {
		t.Error("an age is shown although nothing was durable yet")
	}
}

func TestStatusNamesTheBottleneckAndRenders(t *testing.T) {
	_, h, set := newOps(t, &Ready{Doors: []Check{Pass("journal")}, Grid: []Check{Fail("lane 0", "halted", "")}})
	flush := set.New(stage.Flush, "ledger", 1)
	set.New(stage.Collect, "pixel", 2)
	set.Tick(now.Add(-10 * time.Second))
	for range 90 {
		flush.Observe(100*time.Millisecond, 1000)
	}
	var s Status
	if err := json.Unmarshal(get(t, h, "/v1/status").Body.Bytes(), &s); err != nil {
		t.Fatal(err)
	}
	if s.Bottleneck != stage.Flush || len(s.Stages) != 2 || s.Stages[0].Stage != stage.Collect {
		t.Fatalf("status: %+v", s)
	}
	if u := s.Stages[1].Last10s.Utilisation; u < 0.899 || u > 0.901 {
		t.Errorf("utilisation of the flush = %v", u)
	}
	var text strings.Builder
	if err := Render(&text, &s, 0, false); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"doors ready", "grid not ready: lane 0: halted", "< bottleneck", "90%", "9000", "halted", "1.5s", "none yet"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("the page lacks %q:\n%s", want, text.String())
		}
	}
	if strings.Contains(text.String(), "\x1b") {
		t.Error("a reason can move the terminal's cursor")
	}
	text.Reset()
	if err := Render(&text, &s, 40, false); err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(text.String()) {
		if n := len([]rune(strings.TrimSuffix(line, "\n"))); n > 40 {
			t.Errorf("a line of %d columns on a terminal of 40", n)
		}
	}
}

func TestProfilesAreServed(t *testing.T) {
	_, h, _ := newOps(t, &Ready{})
	for _, path := range []string{"/debug/pprof/", "/debug/pprof/goroutine?debug=1", "/debug/pprof/cmdline"} {
		if got := get(t, h, path).Code; got != 200 {
			t.Errorf("GET %s = %d", path, got)
		}
	}
}

func TestStartTicksAndStopWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		set := &stage.Set{}
		o, err := New(Config{Registry: prometheus.NewRegistry(), Stages: set, Ready: func() Ready { return Ready{} }})
		if err != nil {
			t.Fatal(err)
		}
		if err := o.Stop(t.Context()); err != nil {
			t.Fatalf("stop before start: %v", err)
		}
		r := set.New(stage.Own, "lane-0", 1)
		if err := o.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := o.Start(t.Context()); err == nil {
			t.Error("a second start is accepted")
		}
		synctest.Wait()
		r.Observe(time.Second, 5)
		<-time.After(5 * time.Second)
		synctest.Wait()
		if got := o.Status().Stages[0].Last10s; got.Events != 5 || got.Seconds != 5 {
			t.Errorf("window after five ticks: %+v", got)
		}
		for range 2 {
			if err := o.Stop(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	})
}
