package spool

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"milliard/internal/durable"
)

// Disk is the little that a spool needs of a file system; the simulation has one in memory.
type Disk interface {
	MakeDir(path string) error
	// List returns the names of the files in dir that end in suffix, sorted. A directory that is not there is empty.
	List(dir, suffix string) ([]string, error)
	Read(path string) ([]byte, error)
	ReadAt(path string, at int64, n int) ([]byte, error)
	// Create makes a file that is not there yet. Its name is durable.
	Create(path string) (Appender, error)
	// Remove removes a file. When it returns the name is gone for good.
	Remove(path string) error
}

// Appender is a file that grows.
type Appender interface {
	// Append writes at the end; when it returns nil, everything up to there is durable.
	Append(b []byte) error
	Close() error
}

// osDisk is the operating system's file system.
type osDisk struct{ durable.Disk }

// ReadAt reads a part of a file.
func (osDisk) ReadAt(path string, at int64, n int) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open spool file: %w", err)
	}
	defer f.Close()
	b := make([]byte, n)
	if _, err := f.ReadAt(b, at); err != nil {
		return nil, fmt.Errorf("read spool file: %w", err)
	}
	return b, nil
}

// Create makes a file.
func (osDisk) Create(path string) (Appender, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("create spool file: %w", err)
	}
	if err := durable.SyncDir(filepath.Dir(path)); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return osFile{f}, nil
}

// Remove removes a file for good.
func (osDisk) Remove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove spool file: %w", err)
	}
	return durable.SyncDir(filepath.Dir(path))
}

type osFile struct{ *os.File }

// Append writes and syncs.
func (f osFile) Append(b []byte) error {
	if _, err := f.Write(b); err != nil {
		return fmt.Errorf("write spool file: %w", err)
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("sync spool file: %w", err)
	}
	return nil
}

// OS returns the operating system's file system.
func OS() Disk { return osDisk{} }
