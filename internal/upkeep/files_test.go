package upkeep

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"milliard/internal/durable"
)

// TestAFileThatGoesIsNotCopiedInPart: the owner of an image removes it while it is being copied, and its end is given back
// first. The copy must not pass for the image.
func TestAFileThatGoesIsNotCopiedInPart(t *testing.T) {
	for _, when := range []string{"before the copy", "within the copy"} {
		dir := t.TempDir()
		path := filepath.Join(dir, "image")
		if err := os.WriteFile(path, make([]byte, 3<<20), 0o600); err != nil {
			t.Fatal(err)
		}
		in, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer in.Close()
		goes := func() {
			if err := durable.Discard(t.Context(), path); err != nil {
				t.Error(err)
			}
		}
		if when == "before the copy" {
			goes()
			err = copyOpened(in, filepath.Join(dir, "copy"), (*os.File).Sync)
		} else {
			pipe := filepath.Join(dir, "pipe") // opening it waits for who reads it: until the file has gone
			if err := unix.Mkfifo(pipe, 0o600); err != nil {
				t.Fatal(err)
			}
			go func() {
				goes()
				if out, err := os.Open(pipe); err == nil {
					_, _ = io.Copy(io.Discard, out)
					_ = out.Close()
				}
			}()
			err = copyOpened(in, pipe, func(*os.File) error { return nil })
		}
		if !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", when, err)
		}
	}
}

func TestAWholeFileIsCopied(t *testing.T) {
	dir := t.TempDir()
	from, to := filepath.Join(dir, "from"), filepath.Join(dir, "to")
	for _, content := range []string{"", "content"} {
		if err := os.WriteFile(from, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := copySynced(from, to); err != nil {
			t.Fatal(err)
		}
		if b, err := os.ReadFile(to); err != nil || string(b) != content {
			t.Fatalf("%q, %v", b, err)
		}
	}
}
