package upkeep_test

import (
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"milliard/internal/upkeep"
)

// backup lets the running server make one.
func (k *kit) backup(withKey bool) string {
	k.t.Helper()
	k.sealed()
	dir := filepath.Join(k.t.TempDir(), "backup")
	body, err := json.Marshal(map[string]any{"dir": dir, "master_key": withKey})
	if err != nil {
		k.t.Fatal(err)
	}
	m := result[upkeep.Manifest](k, k.post(k.s.AdminURL()+"/v1/backup", "application/json", string(body), ""))
	if len(m.Lanes) != 1 || m.Lanes[0].Ledger == 0 || m.Lanes[0].Sealed == 0 || m.Lanes[0].Last < m.Lanes[0].Ledger {
		k.t.Fatalf("manifest %+v", m)
	}
	return dir
}

func (k *kit) restore(from string) (*kit, *upkeep.Restored) {
	k.t.Helper()
	c := *k
	c.dir = filepath.Join(k.t.TempDir(), "restored")
	c.cfg.Data = c.dir
	r, err := upkeep.Restore(k.t.Context(), from, c.dir, slog.New(slog.NewTextHandler(k.t.Output(), nil)), func(string) {})
	if err != nil {
		k.t.Fatal(err)
	}
	return &c, r
}

func TestABackupUnderTrafficIsRestoredExactly(t *testing.T) {
	k := newKit(t)
	k.start()
	for range 3 {
		k.traffic(200)
	}
	stop := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default:
				k.traffic(50)
			}
		}
	}()
	dir := k.backup(true)
	close(stop)
	<-done
	k.mustBeGood(k.verifyOnline())
	k.stop()
	c, r := k.restore(dir)
	if len(r.Missing) > 0 {
		t.Fatalf("missing %v", r.Missing)
	}
	c.mustBeGood(c.verifyOffline()) // as it was copied
	c.start()
	c.traffic(100)
	c.mustBeGood(c.verifyOnline())
	c.stop()
	c.mustBeGood(c.verifyOffline())
}

// TestAnOldLedgerCatchesUp puts the ledger of a backup into the directory that has gone on since.
func TestAnOldLedgerCatchesUp(t *testing.T) {
	k := newKit(t)
	k.start()
	for range 3 {
		k.traffic(200)
	}
	dir := k.backup(false)
	for range 4 {
		k.traffic(300)
	}
	k.stop()
	want := k.verifyOffline()
	k.mustBeGood(want)
	d := k.open()
	r, err := d.RestoreLedger(t.Context(), dir)
	if err != nil || len(r.Missing) > 0 || r.Lanes[0].Last <= r.Lanes[0].Ledger {
		t.Fatalf("%+v, %v", r, err)
	}
	d.Close(t.Context())
	old := k.verifyOffline()
	k.mustBeGood(old)
	if old.Events >= want.Events {
		t.Fatalf("the restored ledger has %d events, the newer one %d", old.Events, want.Events)
	}
	k.start()
	if err := k.s.Flushed(t.Context()); err != nil {
		t.Fatal(err)
	}
	got := k.verifyOnline()
	k.mustBeGood(got)
	if got.Events != want.Events || got.Cells != want.Cells || got.Rows != want.Rows {
		t.Errorf("caught up to %s, want %s", got.Line(), want.Line())
	}
	k.traffic(50)
	k.stop()
	k.mustBeGood(k.verifyOffline())
}

func TestRestoreRefusesWhatIsNotWhole(t *testing.T) {
	k := newKit(t)
	k.start()
	k.traffic(200)
	k.traffic(200)
	dir := k.backup(false)
	k.stop()
	log := slog.New(slog.DiscardHandler)
	try := func(from, to string) error {
		_, err := upkeep.Restore(t.Context(), from, to, log, func(string) {})
		return err
	}
	if err := try(dir, k.dir); err == nil || !strings.Contains(err.Error(), "not empty") {
		t.Errorf("restored over a directory: %v", err)
	}
	m, err := upkeep.ReadManifest(dir)
	if err != nil {
		t.Fatal(err)
	}
	if m.MasterKey {
		t.Error("the master key was copied")
	}
	for _, f := range m.Files {
		if strings.HasSuffix(f.Path, "master.key") {
			t.Errorf("%s was copied", f.Path)
		}
		path := filepath.Join(dir, f.Path)
		body, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		// Segments are links: the damage must not reach the directory.
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		if err := try(dir, filepath.Join(t.TempDir(), "x")); !errors.Is(err, upkeep.ErrBackup) {
			t.Errorf("without %s: %v", f.Path, err)
		}
		bad := append([]byte{}, body...)
		if len(bad) > 0 {
			bad[len(bad)/3] ^= 1
		}
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := try(dir, filepath.Join(t.TempDir(), "x")); len(bad) > 0 && !errors.Is(err, upkeep.ErrBackup) {
			t.Errorf("with a bit flipped in %s: %v", f.Path, err)
		}
		if err := os.WriteFile(path, body, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c, r := k.restore(dir)
	if len(r.Notes) != 1 || !strings.Contains(r.Notes[0], "master key") {
		t.Errorf("notes %v", r.Notes)
	}
	c.cfg.MasterKeyFile = filepath.Join(k.dir, "master.key")
	c.start()
	c.traffic(20)
	c.mustBeGood(c.verifyOnline())
	c.stop()
	if err := os.Remove(filepath.Join(dir, "manifest.json")); err != nil {
		t.Fatal(err)
	}
	if err := try(dir, filepath.Join(t.TempDir(), "x")); !errors.Is(err, upkeep.ErrBackup) {
		t.Errorf("without a manifest: %v", err)
	}
}
