package server_test

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"milliard/internal/server"
)

// gridReasons are what /readyz says about the grid.
func gridReasons(t *testing.T, s *server.Server) string {
	t.Helper()
	_, _, body := get(t, s.AdminURL()+"/readyz?part=grid")
	var ready struct {
		Grid struct{ Reasons []string }
	}
	if err := json.Unmarshal(body, &ready); err != nil {
		t.Fatal(err)
	}
	return strings.Join(ready.Grid.Reasons, "; ")
}

// TestTheScrubberFindsRottenBits damages a sealed segment of a running server, and mends it.
func TestTheScrubberFindsRottenBits(t *testing.T) {
	c := config(t, t.TempDir())
	c.ScrubEvery, c.ScrubRate, c.LogLevel = 10*time.Millisecond, 1<<30, "debug"
	s := start(t, c)
	apply(t, s)
	segments := func() []string {
		list, err := filepath.Glob(filepath.Join(c.Data, "archive", "lane=0", "*.zst"))
		if err != nil {
			t.Fatal(err)
		}
		return list
	}
	deadline := time.Now().Add(20 * time.Second)
	for len(segments()) < 4 && time.Now().Before(deadline) {
		if code, _, _ := get(t, s.DoorsURL()+"/i/summer/bob"); code != http.StatusOK {
			t.Fatal(code)
		}
	}
	until := func(what string, cond func() bool) {
		t.Helper()
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for end := time.After(20 * time.Second); !cond(); {
			select {
			case <-tick.C:
			case <-end:
				t.Fatalf("timed out: %s; readyz says %q", what, gridReasons(t, s))
			}
		}
	}
	metric := func(line string) bool {
		_, _, body := get(t, s.AdminURL()+"/metrics")
		return strings.Contains(string(body), "\n"+line)
	}
	until("a first reading", func() bool { return metric(`milliard_scrub_runs_total{result="sound"}`) })
	if reasons := gridReasons(t, s); reasons != "" {
		t.Fatalf("accused without damage: %s", reasons)
	}
	for _, path := range segments()[:2] {
		good, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		bad := append([]byte{}, good...)
		bad[len(bad)/2] ^= 1
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		until("the damage is found", func() bool {
			return strings.Contains(gridReasons(t, s), "log: ") && metric("milliard_scrub_findings 1")
		})
		if err := os.WriteFile(path, good, 0o600); err != nil {
			t.Fatal(err)
		}
		until("it is good again", func() bool { return gridReasons(t, s) == "" })
	}
}
