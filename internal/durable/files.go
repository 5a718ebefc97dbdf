package durable

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Files is the little that images and segments need of a file system. Disk is the real one; the simulation has one in
// memory that can lose, tear and flip.
type Files interface {
	// MakeDir creates a directory and what is missing above it.
	MakeDir(path string) error
	// List returns the names, without the directory, of the files in dir that end in suffix, sorted. A directory that is
	// not there is empty.
	List(dir, suffix string) ([]string, error)
	Read(path string) ([]byte, error)
	// Write replaces a file; when it returns, the new content is durable. A crash leaves the old or the new content.
	Write(path string, data []byte) error
	// Remove removes a file; one that is not there is no error.
	Remove(path string) error
}

// Disk is the operating system's file system.
type Disk struct{}

var _ Files = Disk{}

// MakeDir creates a directory for this user alone.
func (Disk) MakeDir(path string) error {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return fmt.Errorf("make directory: %w", err)
	}
	return nil
}

// List lists a directory.
func (Disk) List(dir, suffix string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list directory: %w", err)
	}
	var names []string
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), suffix) {
			names = append(names, e.Name())
		}
	}
	slices.Sort(names)
	return names, nil
}

// Read reads a whole file.
func (Disk) Read(path string) ([]byte, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read file: %w", err)
	}
	return b, nil
}

// Write is WriteFile.
func (Disk) Write(path string, data []byte) error { return WriteFile(path, data) }

// Remove removes a file and makes that durable with the directory's next Write.
func (Disk) Remove(path string) error {
	if err := Discard(context.Background(), path); err != nil {
		return fmt.Errorf("remove %s: %w", filepath.Base(path), err)
	}
	return nil
}
