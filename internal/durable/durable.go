// Package durable replaces files so that a crash or a power cut leaves the old or the new content, never a mixture.
package durable

import (
	"fmt"
	"os"
	"path/filepath"

	"milliard/internal/crash"
)

// WriteFile replaces path with data: temporary file, fsync, rename, fsync of the directory.
func WriteFile(path string, data []byte) error {
	tmp := path + ".tmp"
	f, err := os.OpenFile(tmp, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("create file: %w", err)
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		crash.File("written", path)
		err = os.Rename(tmp, path)
		crash.File("renamed", path)
	}
	if err != nil {
		return fmt.Errorf("write file: %w", err)
	}
	return SyncDir(filepath.Dir(path))
}

// SyncDir makes the names in a directory durable.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("open directory: %w", err)
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("sync directory: %w", err)
	}
	return nil
}
