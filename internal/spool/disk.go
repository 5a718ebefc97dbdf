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
	// ReadAt returns n bytes of a file. It wraps io.EOF if the file ends before them.
	ReadAt(path string, at int64, n int) ([]byte, error)
	// Reserve makes a file of zeros that is not there yet and has its room on the disk already, so that a write into it
	// finds room whatever else fills the disk. It wraps errors.ErrUnsupported where there is no such thing.
	Reserve(path string, sizeBytes int64) error
	// Take gives a reserved file another name, which is durable, and opens it at its beginning.
	Take(from, to string) (Appender, error)
	// Create makes a file that is not there yet. Its name is durable.
	Create(path string) (Appender, error)
	// Remove removes a file. When it returns the name is gone for good.
	Remove(path string) error
}

// Appender is a file that is written from its beginning to its end.
type Appender interface {
	// Append writes behind what was written before; when it returns nil, everything up to there is durable.
	Append(b []byte) error
	// Cut ends the file behind its first n bytes: what was not used is given back. It need not be durable.
	Cut(n int64) error
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

// Reserve makes a file that has its room. It is not synced: the sync of what is written into it covers it, and a power
// cut may take it along.
func (osDisk) Reserve(path string, sizeBytes int64) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("reserve room for clicks: %w", err)
	}
	if err = errors.Join(allocate(f, sizeBytes), f.Close()); err != nil {
		return errors.Join(fmt.Errorf("reserve room for clicks: %w", err), os.Remove(path))
	}
	return nil
}

// Take puts a reserved file to use.
func (osDisk) Take(from, to string) (Appender, error) {
	if err := os.Rename(from, to); err != nil {
		return nil, fmt.Errorf("take a reserved file: %w", err)
	}
	return open(to, os.O_WRONLY)
}

// Create makes a file.
func (osDisk) Create(path string) (Appender, error) {
	return open(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY)
}

// open opens a file whose name is new and makes the name durable.
func open(path string, flag int) (Appender, error) {
	f, err := os.OpenFile(path, flag, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open spool file: %w", err)
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

// Cut gives the rest of the file back.
func (f osFile) Cut(n int64) error { return f.Truncate(n) }

// OS returns the operating system's file system.
func OS() Disk { return osDisk{} }
