package upkeep

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"milliard/internal/archive"
	"milliard/internal/datadir"
	"milliard/internal/durable"
	"milliard/internal/journal"
	"milliard/internal/ledger"
)

// The names within a backup are those of a data directory, but for the journal, which is copied message by message.
const (
	ledgerFile  = "ledger.duckdb"
	journalCopy = "streams"
	streamExt   = ".stream"
	masterFile  = "master.key"
	SpoolDir    = "spool" // of clicks that wait for the journal
)

// Source is the running installation that a backup is made of.
type Source struct {
	Dir     *datadir.Dir
	Ledger  LedgerCopier
	Control journal.Stream
	Streams []journal.Stream         // by lane
	Gaps    map[string][]journal.Gap // by stream: what a repair has acknowledged as lost
	Archive *archive.Archive
	Program string
	Now     func() time.Time
	// HoldSpool keeps the files of the click spool where they are until release is called. nil: nobody removes any.
	HoldSpool func() (release func())
}

// LedgerCopier copies the ledger as of one moment.
type LedgerCopier interface {
	Backup(ctx context.Context, path string) (map[int]ledger.Position, error)
}

// Backup copies a running installation into a directory that must be empty or missing. Nothing stops meanwhile. The order
// makes the copy consistent: images are never ahead of the ledger that is copied after them, the ledger never ahead of
// the journal that is copied after it, and what the journal has been trimmed of stands in the archive, which comes last.
func Backup(ctx context.Context, src *Source, to string, withKey bool, say func(what string)) (*Manifest, error) {
	if err := emptyDir(to); err != nil {
		return nil, fmt.Errorf("backup: %w", err)
	}
	m := &Manifest{Install: src.Dir.Install.ID, Created: src.Now().UTC(), Program: src.Program, MasterKey: withKey}
	if src.HoldSpool != nil {
		defer src.HoldSpool()()
	}
	var at map[int]ledger.Position
	steps := []struct {
		name string
		run  func() error
	}{
		{"images", func() error { return copyImages(ctx, src.Dir.Join("images"), filepath.Join(to, "images")) }},
		{"ledger", func() (err error) {
			at, err = src.Ledger.Backup(ctx, filepath.Join(to, ledgerFile))
			return err
		}},
		{"journal", func() error { return copyStreams(ctx, src, to, at, m) }},
		{"spool", func() error { return copySpool(ctx, src, to) }},
		{"archive", func() error { return copyArchive(ctx, src, to, m) }},
		{"identity", func() error { return copyIdentity(src.Dir, to, withKey) }},
		{"manifest", func() error { return m.write(ctx, to) }},
	}
	for _, s := range steps {
		say(s.name)
		if err := s.run(); err != nil {
			return nil, fmt.Errorf("backup %s: %w", s.name, err)
		}
	}
	return m, nil
}

// emptyDir makes a directory, and refuses one that holds something.
func emptyDir(path string) error {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return err
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Name() != "lost+found" {
			return fmt.Errorf("%s is not empty: it holds %q", path, e.Name())
		}
	}
	return nil
}

// copyImages copies the images of every lane. Their owner replaces them meanwhile; a copy that missed a file is made
// again.
func copyImages(ctx context.Context, from, to string) error {
	for range 10 {
		err := copyTree(ctx, from, to)
		if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err := os.RemoveAll(to); err != nil {
			return err
		}
	}
	return errors.New("images are replaced faster than they are copied")
}

func copyStreams(ctx context.Context, src *Source, to string, at map[int]ledger.Position, m *Manifest) error {
	dir := filepath.Join(to, journalCopy)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	copyOne := func(s journal.Stream) (first, last uint64, id string, err error) {
		st, err := s.State(ctx)
		if err != nil {
			return 0, 0, "", err
		}
		if st.Last < st.HighWater { // a backup holds no high water: what is restored would look whole
			return 0, 0, "", fmt.Errorf("it ends at %d and was acknowledged to %d: repair first", st.Last, st.HighWater)
		}
		first, last, err = writeStream(ctx, s, src.Gaps[s.Name()], filepath.Join(dir, s.Name()+streamExt))
		return first, last, st.ID, err
	}
	for n, s := range src.Streams {
		l := ManifestLane{Lane: n, Ledger: at[n].Seq, Hash: at[n].Hash}
		var err error
		if l.First, l.Last, l.Stream, err = copyOne(s); err != nil {
			return fmt.Errorf("%s: %w", s.Name(), err)
		}
		if l.Ledger > l.Last {
			return fmt.Errorf("%s ends at %d, the ledger has counted to %d", s.Name(), l.Last, l.Ledger)
		}
		m.Lanes = append(m.Lanes, l)
	}
	var err error
	_, m.Control, m.ControlStream, err = copyOne(src.Control)
	return err
}

// copyArchive links the segments, which never change, or copies them when the backup lies on another volume.
func copyArchive(ctx context.Context, src *Source, to string, m *Manifest) error {
	for n := range m.Lanes {
		l := &m.Lanes[n]
		segments, err := src.Archive.Segments(l.Lane)
		if err != nil {
			return err
		}
		dir := filepath.Join(to, "archive", fmt.Sprintf("lane=%d", l.Lane))
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
		for _, s := range segments {
			for _, path := range []string{s.Path, s.Personal()} {
				if err := ctx.Err(); err != nil {
					return err
				}
				if err := linkOrCopy(path, filepath.Join(dir, filepath.Base(path))); err != nil {
					return err
				}
			}
			l.Sealed = s.Last
		}
		if l.First > l.Sealed+1 && l.Last > 0 {
			return fmt.Errorf("lane %d: the journal begins at %d, the archive ends at %d", l.Lane, l.First, l.Sealed)
		}
	}
	return nil
}

func linkOrCopy(from, to string) error {
	if os.Link(from, to) == nil {
		return nil
	}
	return copySynced(from, to)
}

func copyIdentity(d *datadir.Dir, to string, withKey bool) error {
	files := []string{"install.json", "minter", repairsFile}
	if withKey {
		files = append(files, masterFile)
	}
	for _, name := range files {
		err := copySynced(d.Join(name), filepath.Join(to, name))
		if err != nil && (name != repairsFile || !errors.Is(err, fs.ErrNotExist)) {
			return err
		}
	}
	return durable.SyncDir(to)
}
