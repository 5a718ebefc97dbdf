package datadir

import (
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func open(t *testing.T, path string, lanes int) *Dir {
	t.Helper()
	d, err := Open(path, lanes, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	return d
}

func TestADirectoryKeepsItsIdentity(t *testing.T) {
	path := filepath.Join(t.TempDir(), "data")
	d := open(t, path, 2)
	first := d.Install
	if first.SeedValue() == 0 || len(first.ID) != 32 || first.Lanes != 2 {
		t.Fatalf("%+v", first)
	}
	if _, err := Open(path, 0, time.Now()); !errors.Is(err, ErrHeld) {
		t.Fatalf("a second process: %v", err)
	}
	d.Close()
	if again := open(t, path, 0); again.Install.ID != first.ID || again.Install.Seed != first.Seed || again.Install.Lanes != 2 {
		t.Fatalf("%+v, was %+v", again.Install, first)
	}
}

func TestLanesAreFixed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "data")
	open(t, path, 1).Close()
	if _, err := Open(path, 3, time.Now()); err == nil || !strings.Contains(err.Error(), "fixed at 1") {
		t.Fatal(err)
	}
}

func TestForeignDirectoriesAreRefused(t *testing.T) {
	for name, content := range map[string]string{"file": "x", installFile: "not json"} {
		path := t.TempDir()
		if err := os.WriteFile(filepath.Join(path, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(path, 0, time.Now()); !errors.Is(err, ErrForeign) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestMinterNumbersNeverRepeat(t *testing.T) {
	path := filepath.Join(t.TempDir(), "data")
	seen := make(map[uint32]bool)
	for range 3 {
		d := open(t, path, 0)
		for range 3 {
			n, err := d.NextMinter()
			if err != nil || n == 0 || seen[n] {
				t.Fatalf("minter %d twice, %v", n, err)
			}
			seen[n] = true
		}
		d.Close()
	}
}

func TestADamagedMinterNumberIsRefused(t *testing.T) {
	whole := string(minterText(12))
	for name, content := range map[string]string{
		"lost": "", "another number": strings.Replace(whole, "12", "11", 1), "cut": whole[:1], "cut after the number": whole[:2],
		"cut in the check": whole[:len(whole)-2], "text": "x\n", "no number": "\n",
	} {
		path := filepath.Join(t.TempDir(), "data")
		d := open(t, path, 0)
		if _, err := d.NextMinter(); err != nil {
			t.Fatal(err)
		}
		err := os.WriteFile(d.Join(minterFile), []byte(content), 0o600)
		if name == "lost" {
			err = os.Remove(d.Join(minterFile))
		}
		if err != nil {
			t.Fatal(err)
		}
		if n, err := d.NextMinter(); err == nil || !strings.Contains(err.Error(), minterFile) {
			t.Errorf("%s: minter %d, %v", name, n, err)
		}
	}
}

func TestAnEarlierMinterFileIsRead(t *testing.T) {
	d := open(t, filepath.Join(t.TempDir(), "data"), 0)
	const ahead = 1 << 23 // of the clock
	if err := os.WriteFile(d.Join(minterFile), fmt.Appendf(nil, "%d\n", ahead), 0o600); err != nil {
		t.Fatal(err)
	}
	if n, err := d.NextMinter(); n != ahead+1 || err != nil {
		t.Fatal(n, err)
	}
}

func TestMasterKey(t *testing.T) {
	d := open(t, filepath.Join(t.TempDir(), "data"), 0)
	made, fresh, err := d.MasterKey("", "")
	if err != nil || !fresh || made == [32]byte{} {
		t.Fatal(err)
	}
	if info, err := os.Stat(d.Join(masterFile)); err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("%v %v", info.Mode(), err)
	}
	if again, fresh, err := d.MasterKey("", ""); err != nil || fresh || again != made {
		t.Fatal("another key at the second start")
	}
	if given, _, err := d.MasterKey(base64.StdEncoding.EncodeToString(made[:]), ""); err != nil || given != made {
		t.Fatal(err)
	}
	for _, bad := range []string{"short", strings.Repeat("zz", 32)} {
		if _, _, err := d.MasterKey(bad, ""); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
	if _, _, err := d.MasterKey("", "/does/not/exist"); err == nil {
		t.Error("a missing file was taken")
	}
}

func TestADamagedIdentityIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "data")
	d := open(t, path, 2)
	d.Close()
	file := filepath.Join(path, installFile)
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for i, b := range whole {
		for bit := range 8 {
			spoilt := append([]byte(nil), whole...)
			spoilt[i] = b ^ 1<<bit
			if err := os.WriteFile(file, spoilt, 0o600); err != nil {
				t.Fatal(err)
			}
			again, err := Open(path, 0, time.Now())
			if err != nil {
				continue
			}
			// A flip in the layout, or in what guards the rest, may go unseen: the identity is what it was.
			if again.Install.ID != d.Install.ID || again.Install.Seed != d.Install.Seed || again.Install.Lanes != 2 {
				t.Errorf("bit %d of byte %d (%q): %+v, was %+v", bit, i, whole[max(0, i-8):i+1], again.Install, d.Install)
			}
			again.Close()
		}
	}
}

func TestAnIdentityFromBeforeTheCheckIsRead(t *testing.T) {
	path := t.TempDir()
	old := `{"version":1,"id":"000102030405060708090a0b0c0d0e0f","seed":"0011223344556677","lanes":1,"created":"2026-01-01T00:00:00Z"}`
	if err := os.WriteFile(filepath.Join(path, installFile), []byte(old), 0o600); err != nil {
		t.Fatal(err)
	}
	if d := open(t, path, 0); d.Install.SeedValue() != 0x11223344556677 {
		t.Fatalf("%+v", d.Install)
	}
}

// TestAnOlderMinterNumberIsNoTrap: a directory restored from a backup holds a number that was used since. Tags minted
// with it are out there; to mint the same ids again would make new events duplicates.
func TestAnOlderMinterNumberIsNoTrap(t *testing.T) {
	path := filepath.Join(t.TempDir(), "data")
	backup := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	used := make(map[uint32]bool)
	for i := range 50 { // the days after the backup was made, restarted now and then
		d, err := Open(path, 0, backup.Add(time.Duration(i)*time.Hour))
		if err != nil {
			t.Fatal(err)
		}
		n, err := d.NextMinter()
		if err != nil || used[n] {
			t.Fatalf("minter %d, %v", n, err)
		}
		used[n] = true
		d.Close()
	}
	if err := os.WriteFile(filepath.Join(path, minterFile), minterText(1), 0o600); err != nil { // restored
		t.Fatal(err)
	}
	d, err := Open(path, 0, backup.Add(50*time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if n, err := d.NextMinter(); err != nil || used[n] {
		t.Fatalf("minter %d was used after the backup, %v", n, err)
	}
}
