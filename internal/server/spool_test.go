package server_test

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"milliard/internal/event"
	"milliard/internal/journal"
	"milliard/internal/server"
	"milliard/internal/upkeep"
)

// fill writes until the journal has reached its limit: first large batches, then ones of a single event, which fit for longer.
func fill(t *testing.T, s *server.Server) {
	t.Helper()
	rnd := rand.New(rand.NewPCG(1, 2))
	for _, size := range []struct{ events, bytes int }{{100, 2000}, {1, 2000}, {1, 1}} {
		full := false
		for !full {
			events := make([]event.Event, size.events)
			for i := range events {
				ua := make([]byte, size.bytes)
				for k := range ua {
					ua[k] = byte('a' + rnd.IntN(26))
				}
				events[i] = event.Event{
					Space: event.Foreign, Foreign: fmt.Appendf(nil, "fill-%d", rnd.Uint64()), Type: event.Impression, Tenant: 1, Campaign: 1,
					N: event.One, UA: ua, Time: time.Now().UnixMilli(),
				}
			}
			tickets, err := s.Lanes().AddAll(nil, events, 1)
			if err != nil {
				t.Fatal(err)
			}
			for _, ticket := range tickets {
				if err := ticket.Wait(t.Context()); errors.Is(err, journal.ErrFull) {
					full = true
				} else if err != nil {
					t.Fatal(err)
				}
			}
		}
	}
}

// click fires a static click and says whether its redirect is a promise.
func click(t *testing.T, s *server.Server, eid string) bool {
	t.Helper()
	code, head, body := get(t, s.DoorsURL()+"/c/summer/bob?eid="+eid)
	if code != http.StatusFound {
		t.Fatalf("click: %d %s", code, body)
	}
	return head.Get("Milliard-At-Risk") == ""
}

// TestClicksOutliveAFullJournal: the journal is full, so a pixel gets 503; clicks are redirected, say truly that they are not
// at risk, wait in the spool over a restart, and count once when there is room.
func TestClicksOutliveAFullJournal(t *testing.T) {
	dir := t.TempDir()
	cfg := config(t, dir)
	cfg.JournalBytes, cfg.TrimInterval, cfg.LogLevel = 8<<20, time.Hour, "error"
	s := start(t, cfg)
	apply(t, s)
	fill(t, s)
	if code, head, _ := get(t, s.DoorsURL()+"/i/summer/bob"); code != http.StatusServiceUnavailable || head.Get("Retry-After") == "" {
		t.Errorf("pixel: %d %v", code, head)
	}
	promised := map[string]bool{}
	for i := range 40 {
		if eid := fmt.Sprintf("click-%d", i); click(t, s, eid) {
			promised[eid] = true
		}
	}
	if len(promised) == 0 {
		t.Error("every click was at risk")
	}
	code, _, body := get(t, s.AdminURL()+"/readyz?part=all")
	if code != http.StatusServiceUnavailable || !strings.Contains(string(body), "commit: lane 0: journal is full") ||
		!strings.Contains(string(body), "clicks in") {
		t.Errorf("readyz: %d %s", code, body)
	}
	backup := filepath.Join(t.TempDir(), "backup")
	if code, body := post(t, s.AdminURL()+"/v1/backup", "application/json", fmt.Sprintf(`{"dir":%q,"master_key":true}`, backup)); code != http.StatusOK ||
		bytes.Contains(body, []byte(`"error"`)) {
		t.Fatalf("backup: %d %s", code, body)
	}
	stop(t, s)
	cfg.JournalBytes = 1 << 30
	counted(t, cfg, promised)
	cfg.Data = filepath.Join(t.TempDir(), "restored")
	if _, err := upkeep.Restore(t.Context(), backup, cfg.Data, slog.New(slog.DiscardHandler), func(string) {}); err != nil {
		t.Fatal(err)
	}
	counted(t, cfg, promised)
}

// TestADiskThatIsNearlyFull: below the floor nothing is taken but clicks, which are promises; it is said once, and what helps.
func TestADiskThatIsNearlyFull(t *testing.T) {
	cfg := config(t, t.TempDir())
	cfg.DiskFloor, cfg.LogLevel = 1<<60, "error"
	s := start(t, cfg)
	apply(t, s)
	if code, head, _ := get(t, s.DoorsURL()+"/i/summer/bob"); code != http.StatusServiceUnavailable || head.Get("Retry-After") == "" {
		t.Errorf("pixel: %d %v", code, head)
	}
	promised := map[string]bool{}
	for i := range 20 {
		eid := fmt.Sprintf("click-%d", i)
		if promised[eid] = click(t, s, eid); !promised[eid] {
			t.Errorf("%s is at risk", eid)
		}
	}
	code, _, body := get(t, s.AdminURL()+"/readyz")
	if n := bytes.Count(body, []byte("the disk is nearly full")); code != http.StatusServiceUnavailable || n != 2 || // in the reason and in its check
		!bytes.Contains(body, []byte("free room on the disk; it goes on by itself")) {
		t.Errorf("readyz: %d, said %d times: %s", code, n, body)
	}
	stop(t, s)
	cfg.DiskFloor = -1
	counted(t, cfg, promised)
}

// TestASmallJournalHeals: a journal that is full before a segment is complete, or an image due, takes no batch and so moves
// no log time; it must make room all the same.
func TestASmallJournalHeals(t *testing.T) {
	cfg := config(t, t.TempDir())
	cfg.JournalBytes, cfg.TrimInterval, cfg.LogLevel = 8<<20, time.Hour, "error"
	s := start(t, cfg)
	apply(t, s)
	fill(t, s)
	stop(t, s)
	cfg.TrimInterval = 20 * time.Millisecond
	s = start(t, cfg)
	defer stop(t, s)
	for deadline := time.Now().Add(30 * time.Second); ; {
		if code, _, body := get(t, s.DoorsURL()+"/i/summer/bob"); code == http.StatusOK {
			return
		} else if time.Now().After(deadline) {
			t.Fatalf("still full: %d %s", code, body)
		}
	}
}

// counted starts a server and waits until every click that was promised counts, once.
func counted(t *testing.T, cfg server.Config, promised map[string]bool) {
	t.Helper()
	s := start(t, cfg)
	defer stop(t, s)
	for deadline := time.Now().Add(30 * time.Second); ; {
		code, _, body := get(t, s.AdminURL()+"/readyz?part=all")
		n := sum(t, s, fmt.Sprintf(countValid, event.Click))
		if code == http.StatusOK && n >= float64(len(promised)) && n <= 40 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%v of %d clicks are counted; readyz %s", n, len(promised), body)
		}
	}
	before := sum(t, s, fmt.Sprintf(countValid, event.Click))
	for eid := range promised { // it stands in the log: sent again it is a duplicate
		click(t, s, eid)
	}
	if err := s.Flushed(t.Context()); err != nil {
		t.Fatal(err)
	}
	if after := sum(t, s, fmt.Sprintf(countValid, event.Click)); after != before {
		t.Errorf("%v clicks are valid, were %v before those that were answered came again", after, before)
	}
}
