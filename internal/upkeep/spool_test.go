package upkeep_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"milliard/internal/event"
	"milliard/internal/spool"
	"milliard/internal/upkeep"
	"milliard/internal/verify"
)

// spooled leaves n clicks in the spool of a stopped directory, each in a batch of its own.
func (k *kit) spooled(n int) string {
	k.t.Helper()
	s, err := spool.Open(spool.Options{Dir: filepath.Join(k.dir, upkeep.SpoolDir), Lanes: 1})
	if err != nil {
		k.t.Fatal(err)
	}
	for i := range n {
		e := &event.Event{
			Space: event.Foreign, Foreign: fmt.Appendf(nil, "spooled-%d", i), Type: event.Click, Tenant: 1, Campaign: 1, N: event.One,
			Time: time.Now().UnixMilli(),
		}
		if _, err := s.Lane(0).Add(e, 1); err != nil {
			k.t.Fatal(err)
		}
		s.Lane(0).Commit()
	}
	if err := s.Stop(k.t.Context()); err != nil {
		k.t.Fatal(err)
	}
	return k.files(upkeep.SpoolDir, "lane-0", "*.spool")[0]
}

// check returns one check of a result.
func check(r *verify.Result, name string) verify.Check {
	i := slices.IndexFunc(r.Checks, func(c verify.Check) bool { return c.Name == name })
	if i < 0 {
		return verify.Check{}
	}
	return r.Checks[i]
}

// drained waits until the running server has nothing in its spool and the ledger holds so many events.
func (k *kit) drained(want int64) {
	k.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; {
		left, err := filepath.Glob(filepath.Join(k.dir, upkeep.SpoolDir, "lane-0", "*.spool"))
		if err != nil {
			k.t.Fatal(err)
		}
		n := k.verifyOnline().Events
		if len(left) == 0 && n == want {
			return
		}
		if time.Now().After(deadline) || n > want {
			k.t.Fatalf("left in the spool: %v; %d events, must be %d", left, n, want)
		}
	}
}

func TestASpoolOfAStoppedDirectory(t *testing.T) {
	k := newKit(t)
	k.start()
	k.traffic(50)
	before := k.verifyOnline().Events
	k.stop()
	k.spooled(3)
	r := k.verifyOffline()
	k.mustBeGood(r)
	if c := check(r, "spool"); !c.OK || !strings.Contains(c.Detail, "3 clicks in 3 batches") {
		t.Errorf("%+v", c)
	}
	k.start()
	k.drained(before + 3)
	k.mustBeGood(k.verifyOnline())
	k.stop()
	k.mustBeGood(k.verifyOffline())
}

// TestADamagedSpool: what is whole behind the damage is kept under its own name, and what is gone is said.
func TestADamagedSpool(t *testing.T) {
	k := newKit(t)
	k.start()
	k.traffic(50)
	before := k.verifyOnline().Events
	k.stop()
	path := k.spooled(5)
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	second := spool.Parse(path, b).Frames[1]
	b[second.At+int64(second.Bytes)-3] ^= 4
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	if r := k.verifyOffline(); r.OK || check(r, "spool").OK {
		t.Errorf("%+v", r.Checks)
	}
	kinds, p := k.plan("")
	if !slices.Contains(kinds, "repair_spool") || p.Lost != 1 {
		t.Fatalf("%v, %d lost", kinds, p.Lost)
	}
	k.mustBeGood(k.repair(""))
	k.start()
	k.drained(before + 4)
	k.mustBeGood(k.verifyOnline())
	k.stop()
	k.mustBeGood(k.verifyOffline())
}

// TestARottenSpool: the only batch of a file is damaged. It is said, and after a repair nothing is left to be said.
func TestARottenSpool(t *testing.T) {
	k := newKit(t)
	k.start()
	k.traffic(50)
	before := k.verifyOnline().Events
	k.stop()
	path := k.spooled(1)
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)-20] ^= 4
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	if r := k.verifyOffline(); r.OK || check(r, "spool").OK {
		t.Errorf("%+v", r.Checks)
	}
	if kinds, p := k.plan(""); !slices.Contains(kinds, "repair_spool") || p.Lost != 1 {
		t.Fatalf("%v, %d lost", kinds, p.Lost)
	}
	k.mustBeGood(k.repair(""))
	k.start()
	k.drained(before)
	k.mustBeGood(k.verifyOnline())
	k.stop()
	k.mustBeGood(k.verifyOffline())
}

// TestABackupHoldsTheSpool: a click that waits is in the backup, and counts once where it is restored.
func TestABackupHoldsTheSpool(t *testing.T) {
	k := newKit(t)
	k.start()
	for range 3 {
		k.traffic(100)
	}
	dir := k.backup(true)
	k.stop()
	from := k.spooled(2)
	// As if it had been there when the backup was made: the manifest is made for a directory without it.
	c, _ := k.restore(dir)
	to := filepath.Join(c.dir, upkeep.SpoolDir, "lane-0")
	if err := os.MkdirAll(to, 0o700); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(to, filepath.Base(from)), b, 0o600); err != nil {
		t.Fatal(err)
	}
	before := c.verifyOffline().Events
	c.start()
	c.drained(before + 2)
	c.mustBeGood(c.verifyOnline())
}
