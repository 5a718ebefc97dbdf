package ops

import (
	"encoding/json"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// TestATroubleIsSaidOnce: what is wrong, since when, what helps; not four times the same path.
func TestATroubleIsSaidOnce(t *testing.T) {
	ready := &Ready{
		Doors: []Check{
			Fail("journal", "stream lane-0: write /data/1.blk: no space left on device", "free room, then restart"), FailAs("lanes", "journal"),
			Warn("disk", "3 MiB of 64 MiB are free", "free room"),
		},
		Disk: Disk{FreeBytes: 3 << 20, Bytes: 64 << 20},
	}
	_, h, _ := newOps(t, ready)
	w := get(t, h, "/readyz")
	var body readyBody
	if err := json.Unmarshal(w.Body.Bytes(), &body); err != nil {
		t.Fatal(err)
	}
	want := "journal: stream lane-0: write /data/1.blk: no space left on device, since 2026-09-21T14:13:20Z: free room, then restart"
	if w.Code != 503 || len(body.Doors.Reasons) != 1 || body.Doors.Reasons[0] != want {
		t.Errorf("%d, %q", w.Code, body.Doors.Reasons)
	}
	if !body.Degraded || len(body.Doors.Warnings) != 1 || body.Disk.Free != 3<<20 {
		t.Errorf("%+v", body)
	}
	if c := body.Doors.Checks[1]; c.OK || c.As != "journal" || c.Reason != "" {
		t.Errorf("%+v", c)
	}
	ready.Doors = ready.Doors[2:]
	if got := get(t, h, "/readyz"); got.Code != 200 || !strings.Contains(got.Body.String(), `"warnings":["disk: 3 MiB`) {
		t.Errorf("a warning: %d %s", got.Code, got.Body)
	}
	metrics := get(t, h, "/metrics").Body.String()
	for _, want := range []string{`milliard_degraded{part="doors"} 1`, `milliard_degraded{part="grid"} 0`, "milliard_disk_free_bytes 3.145728e+06"} {
		if !strings.Contains(metrics, want) {
			t.Errorf("metrics lack %s", want)
		}
	}
	var text strings.Builder
	s := Status{Ready: body}
	s.Ready.Doors.Ready = true
	if err := Render(&text, &s, 0, false); err != nil || !strings.Contains(text.String(), "doors ready, but disk: 3 MiB") {
		t.Errorf("%v\n%s", err, text.String())
	}
}

// TestTheBeginningOfATroubleIsNoted: nobody need ask while it begins, and one that is over begins anew.
func TestTheBeginningOfATroubleIsNoted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ready := Ready{Doors: []Check{Pass("journal")}}
		o, err := New(Config{Registry: prometheus.NewRegistry(), Ready: func() Ready { return ready }})
		if err != nil {
			t.Fatal(err)
		}
		if err := o.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		since := func() *time.Time {
			w := httptest.NewRecorder()
			o.readyz(w, httptest.NewRequest("GET", "/readyz", nil))
			var body readyBody
			if err := json.Unmarshal(w.Body.Bytes(), &body); err != nil {
				t.Fatal(err)
			}
			return body.Doors.Checks[0].Since
		}
		wait := func(d time.Duration) { time.Sleep(d); synctest.Wait() } // the bubble's clock
		wait(time.Minute + time.Millisecond)
		began := time.Now()
		ready.Doors[0] = Fail("journal", "stopped", "")
		wait(time.Hour)
		if at := since(); at == nil || at.Sub(began).Abs() > lookEvery*tickInterval {
			t.Errorf("began %v, said %v", began, at)
		}
		ready.Doors[0] = Pass("journal")
		if at := since(); at != nil {
			t.Errorf("over, said %v", at)
		}
		ready.Doors[0] = Fail("journal", "stopped", "")
		if at := since(); at == nil || time.Since(*at) > tickInterval {
			t.Errorf("the next one: %v", at)
		}
		if err := o.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
}
