package upkeep

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"milliard/internal/durable"
	"milliard/internal/journal"
)

const (
	manifestFile   = "manifest.json"
	manifestFormat = "milliard-backup/1"
)

// Manifest says what a backup is and what every file of it must be. It is written last: a directory without it is no
// backup.
type Manifest struct {
	Format  string         `json:"format"`
	Install string         `json:"install"`
	Created time.Time      `json:"created"`
	Program string         `json:"program"`
	Lanes   []ManifestLane `json:"lanes"`
	Control uint64         `json:"control"` // last control record
	// ControlStream is the id of the control stream.
	ControlStream string         `json:"control_stream"`
	MasterKey     bool           `json:"master_key"`
	Files         []ManifestFile `json:"files"`
}

// ManifestLane is where a lane stood.
type ManifestLane struct {
	Lane   int          `json:"lane"`
	Stream string       `json:"stream"`
	Ledger uint64       `json:"ledger"` // sequence that the copied ledger has counted to
	Hash   journal.Hash `json:"hash"`   // of the batch there
	Sealed uint64       `json:"sealed"` // last sequence of the archive
	First  uint64       `json:"first"`  // of the copied journal
	Last   uint64       `json:"last"`
}

// ManifestFile is one file.
type ManifestFile struct {
	Path   string `json:"path"` // with slashes, relative
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256"`
}

// ErrBackup is wrapped by every reason for which a directory is no whole backup.
var ErrBackup = errors.New("backup unusable")

// ReadManifest reads the manifest of a backup.
func ReadManifest(dir string) (*Manifest, error) {
	body, err := os.ReadFile(filepath.Join(dir, manifestFile))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBackup, err)
	}
	var m Manifest
	if err := json.Unmarshal(body, &m); err != nil || m.Format != manifestFormat {
		return nil, fmt.Errorf("%w: %s is not of format %s", ErrBackup, manifestFile, manifestFormat)
	}
	return &m, nil
}

// Check reads every file of a backup and compares it with the manifest.
func (m *Manifest) Check(ctx context.Context, dir string) error {
	for _, f := range m.Files {
		if err := ctx.Err(); err != nil {
			return err
		}
		if !filepath.IsLocal(filepath.FromSlash(f.Path)) {
			return fmt.Errorf("%w: path %q", ErrBackup, f.Path)
		}
		sum, n, err := digest(filepath.Join(dir, filepath.FromSlash(f.Path)))
		if err != nil {
			return fmt.Errorf("%w: %w", ErrBackup, err)
		}
		if n != f.Bytes || sum != f.SHA256 {
			return fmt.Errorf("%w: %s is not what was copied", ErrBackup, f.Path)
		}
	}
	return nil
}

// has returns the manifest's files below a directory.
func (m *Manifest) below(dir string) []ManifestFile {
	var out []ManifestFile
	for _, f := range m.Files {
		if rel, err := filepath.Rel(dir, filepath.FromSlash(f.Path)); err == nil && filepath.IsLocal(rel) {
			out = append(out, f)
		}
	}
	return out
}

// write lists what stands in dir and writes the manifest.
func (m *Manifest) write(ctx context.Context, dir string) error {
	m.Format, m.Files = manifestFormat, nil
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		sum, n, err := digest(path)
		m.Files = append(m.Files, ManifestFile{filepath.ToSlash(rel), n, sum})
		return err
	})
	if err != nil {
		return fmt.Errorf("digest the copies: %w", err)
	}
	slices.SortFunc(m.Files, func(a, b ManifestFile) int { return compareText(a.Path, b.Path) })
	body, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return fmt.Errorf("encode %s: %w", manifestFile, err)
	}
	return durable.WriteFile(filepath.Join(dir, manifestFile), append(body, '\n'))
}

func compareText(a, b string) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

func digest(path string) (sum string, n int64, err error) {
	f, err := os.Open(path)
	if err != nil {
		return "", 0, err
	}
	defer f.Close()
	h := sha256.New()
	if n, err = io.Copy(h, f); err != nil {
		return "", 0, err
	}
	return hex.EncodeToString(h.Sum(nil)), n, nil
}
