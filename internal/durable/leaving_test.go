package durable_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"milliard/internal/durable"
)

// TestOnlyWhatWasRemovedIsGivenBack: a file that was held and is still there must not lose a byte.
func TestOnlyWhatWasRemovedIsGivenBack(t *testing.T) {
	const size = 3<<20 + 5
	dir := t.TempDir()
	content := bytes.Repeat([]byte{7}, size)
	stays, goes := filepath.Join(dir, "stays"), filepath.Join(dir, "goes")
	for _, p := range []string{stays, goes} {
		if err := os.WriteFile(p, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	watch, err := os.Open(goes)
	if err != nil {
		t.Fatal(err)
	}
	defer watch.Close()

	leaving := durable.Hold(stays, goes, filepath.Join(dir, "never was"))
	if err := os.Remove(goes); err != nil {
		t.Fatal(err)
	}
	if info, err := watch.Stat(); err != nil || info.Size() != size {
		t.Fatalf("the removed file was given back before Release: %v, %v", info, err)
	}
	leaving.Release(t.Context())
	if info, err := watch.Stat(); err != nil || info.Size() > 1<<20 {
		t.Fatalf("after Release %d bytes of the removed file are held, %v", info.Size(), err)
	}
	if b, err := os.ReadFile(stays); err != nil || !bytes.Equal(b, content) {
		t.Fatalf("the file that stays has %d bytes, %v", len(b), err)
	}
}

func TestDiscard(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(path, make([]byte, 2<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time it is not there
		if err := durable.Discard(t.Context(), path); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Fatalf("still there: %v", err)
	}
}
