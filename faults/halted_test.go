package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"milliard/internal/event"
	"milliard/internal/journal/jet"
	"milliard/internal/spool"
)

// TestWhatWaitsInTheSpoolIsNotLost: a directory whose program does not start any more has clicks in the spool's files. Those
// in whole frames were kept, also behind a damage; one that was drained already is there once; the others are lost.
func TestWhatWaitsInTheSpoolIsNotLost(t *testing.T) {
	for name, c := range map[string]struct {
		drained int // batches of the spool that are in the journal too
		spoil   func(b []byte) []byte
		lost    string
		events  int
	}{
		"whole":           {0, func(b []byte) []byte { return b }, "", 4},
		"drained in part": {2, func(b []byte) []byte { return b }, "", 4},
		"in its room":     {0, func(b []byte) []byte { return append(b, make([]byte, 5000)...) }, "", 4},
		"torn":            {0, func(b []byte) []byte { return b[:len(b)-1] }, "F2/click-3", 3},
		"rotten": {0, func(b []byte) []byte {
			b[frameAt(b, 1)+40] ^= 1
			return b
		}, "F2/click-1", 3},
		"rotten and drained": {2, func(b []byte) []byte {
			b[frameAt(b, 1)+40] ^= 1
			return b
		}, "", 4},
		"another length": {0, func(b []byte) []byte {
			b[frameAt(b, 2)+7] = 0xff
			return b
		}, "F2/click-2", 3},
		"gone": {0, func([]byte) []byte { return nil }, "F2/click-0 F2/click-1 F2/click-2 F2/click-3", 0},
	} {
		t.Run(name, func(t *testing.T) {
			data := t.TempDir()
			clients := spoolClicks(t, data, 4, c.drained, c.spoil)
			f, err := judgeHalted(t.Context(), data, clients)
			if err != nil {
				t.Fatal(err)
			}
			var lost []string
			for _, n := range f.Notes {
				if id, ok := strings.CutPrefix(n, "lost: "); ok {
					id, _, _ = strings.Cut(id, " ")
					lost = append(lost, id)
				}
			}
			slices.Sort(lost)
			if strings.Join(lost, " ") != c.lost || f.Lost != len(lost) || f.Events != c.events || f.Double+f.Wrong > 0 || f.Acked != 4 {
				t.Errorf("%+v", f)
			}
		})
	}
}

// frameAt is where the n-th frame of a spool file begins.
func frameAt(b []byte, n int) int {
	at := 0
	for i := range n + 1 {
		at += strings.Index(string(b[at:]), "MLS2")
		if i < n {
			at += 4
		}
	}
	return at
}

// spoolClicks writes a directory with so many clicks in one file of the spool, each in a batch of its own, the first of them
// in the journal as well. It returns the log of the clients, who were promised every one.
func spoolClicks(t *testing.T, data string, clicks, drained int, spoil func(b []byte) []byte) (clientLogPath string) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.WriteFile(filepath.Join(data, "install.json"), []byte(`{"id":"test","lanes":1}`), 0o600))
	clientLogPath = filepath.Join(t.TempDir(), "clients.log")
	log, err := openClientLog(clientLogPath)
	must(err)
	s, err := spool.Open(spool.Options{Dir: filepath.Join(data, "spool"), Lanes: 1})
	must(err)
	for i := range clicks {
		id := fmt.Sprintf("click-%d", i)
		req, err := log.sent([]string{"F2/" + id})
		must(err)
		ticket, err := s.Lane(0).Add(&event.Event{Space: event.Foreign, Foreign: []byte(id), Type: event.Click, Tenant: firstTenant, N: event.One}, 1)
		must(err)
		s.Lane(0).Commit()
		must(ticket.Wait(t.Context()))
		must(log.line("A", fmt.Sprint(req), "302", "1", "1"))
	}
	must(log.close())
	var batches [][]byte
	release := s.Hold() // as a crash between the journal and the removal
	for range drained {
		msg, ok := s.Lane(0).Next()
		if !ok {
			t.Fatal("nothing to drain")
		}
		batches = append(batches, msg)
		s.Lane(0).Stored()
	}
	must(s.Stop(context.Background()))
	release()
	appendAll(t, data, batches)
	paths, err := filepath.Glob(filepath.Join(data, "spool", "lane-0", "*.spool"))
	must(err)
	if len(paths) != 1 {
		t.Fatalf("%v", paths)
	}
	b, err := os.ReadFile(paths[0])
	must(err)
	if b = spoil(b); b == nil {
		must(os.Remove(paths[0]))
		return clientLogPath
	}
	must(os.WriteFile(paths[0], b, 0o600))
	return clientLogPath
}

// appendAll writes batches into the journal of a directory.
func appendAll(t *testing.T, data string, batches [][]byte) {
	t.Helper()
	j, err := jet.Open(t.Context(), jet.Options{
		Dir: filepath.Join(data, "journal"), MaxBytes: 1 << 30, InstallID: "test", Lanes: 1, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	stream, err := j.Stream("lane-0")
	for i := 0; err == nil && i < len(batches); i++ {
		_, err = stream.Append(t.Context(), uint64(i), batches[i])
	}
	if err = errors.Join(err, j.Close(t.Context())); err != nil {
		t.Fatal(err)
	}
}
