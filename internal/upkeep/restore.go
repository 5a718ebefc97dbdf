package upkeep

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"milliard/internal/archive"
	"milliard/internal/durable"
	"milliard/internal/journal"
	"milliard/internal/journal/jet"
	"milliard/internal/ledger/duck"
)

// Restored says what a restore has made, and what is not there.
type Restored struct {
	Lanes   []RestoredLane `json:"lanes"`
	Missing []string       `json:"missing"` // what the restored directory lacks; empty: it can be served
	Notes   []string       `json:"notes"`
}

// RestoredLane is where a lane stands.
type RestoredLane struct {
	Lane   int    `json:"lane"`
	Ledger uint64 `json:"ledger"` // the ledger has counted to here
	Last   uint64 `json:"last"`   // and catches up to here
}

// Restore makes a data directory out of a backup. The target must be empty or missing: nothing is ever overwritten. The
// journal gets its sequences and stamps back, so what the ledger of the backup had not counted yet is counted once.
func Restore(ctx context.Context, from, to string, log *slog.Logger, say func(what string)) (*Restored, error) {
	say("check the backup")
	m, err := ReadManifest(from)
	if err != nil {
		return nil, err
	}
	if err := m.Check(ctx, from); err != nil {
		return nil, err
	}
	if err := emptyDir(to); err != nil {
		return nil, fmt.Errorf("restore: %w", err)
	}
	for _, f := range m.Files {
		path := filepath.FromSlash(f.Path)
		if filepath.Dir(path) == journalCopy || path == "install.json" {
			continue
		}
		say(f.Path)
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if err := os.MkdirAll(filepath.Join(to, filepath.Dir(path)), 0o700); err != nil {
			return nil, fmt.Errorf("restore: %w", err)
		}
		if err := copySynced(filepath.Join(from, path), filepath.Join(to, path)); err != nil {
			return nil, fmt.Errorf("restore: %w", err)
		}
	}
	say("journal")
	if err := m.restoreJournal(ctx, from, filepath.Join(to, "journal"), log); err != nil {
		return nil, err
	}
	// Last: without it the directory is refused, so that a half restored one is never served.
	if err := copySynced(filepath.Join(from, "install.json"), filepath.Join(to, "install.json")); err != nil {
		return nil, fmt.Errorf("restore: %w", err)
	}
	if err := durable.SyncDir(to); err != nil {
		return nil, err
	}
	r, err := m.restored(to)
	if err == nil && !m.MasterKey {
		r.Notes = append(r.Notes, "the backup holds no master key: serve needs --master-key-file with the installation's own")
	}
	return r, err
}

func (m *Manifest) restoreJournal(ctx context.Context, from, to string, log *slog.Logger) error {
	stored := func(name, id string, first, last uint64) jet.Stored {
		return jet.Stored{
			Name: name, ID: id, First: first, Last: last, Each: func(yield func(m *journal.Message) error) error {
				return readStream(filepath.Join(from, journalCopy, name+streamExt), yield)
			},
		}
	}
	list := []jet.Stored{stored(journal.ControlStream, m.ControlStream, 1, m.Control)}
	for _, l := range m.Lanes {
		list = append(list, stored(fmt.Sprintf("lane-%d", l.Lane), l.Stream, l.First, l.Last))
	}
	return jet.Restore(ctx, jet.Options{
		Dir: to, MaxBytes: copyLimit, InstallID: m.Install, Lanes: len(m.Lanes), Log: log,
	}, list)
}

// restored looks at what stands in a restored directory.
func (m *Manifest) restored(to string) (*Restored, error) {
	r := &Restored{Missing: []string{}, Notes: []string{}}
	arch, err := archive.Open(filepath.Join(to, "archive"))
	if err != nil {
		return nil, err
	}
	for _, l := range m.Lanes {
		r.Lanes = append(r.Lanes, RestoredLane{l.Lane, l.Ledger, l.Last})
		missing, err := uncovered(arch, l.Lane, 1, l.First, l.Last)
		if err != nil {
			return nil, err
		}
		r.Missing = append(r.Missing, missing...)
	}
	return r, nil
}

// uncovered says which of a lane's sequences from..last stand neither in the archive nor in a journal that begins at
// first.
func uncovered(arch *archive.Archive, lane int, from, first, last uint64) (missing []string, err error) {
	segments, err := arch.Segments(lane)
	if err != nil {
		return nil, err
	}
	next := from
	say := func(upTo uint64) {
		if next <= upTo {
			missing = append(missing, fmt.Sprintf("lane %d: batches %d to %d stand neither in the archive nor in the journal", lane, next, upTo))
		}
	}
	for _, s := range segments {
		if s.Last < next || s.First >= first {
			continue
		}
		if s.First > next {
			say(s.First - 1)
		}
		next = s.Last + 1
	}
	if last >= first {
		say(first - 1)
	}
	return missing, nil
}

// RestoreLedger puts the ledger of a backup into the directory of a stopped server in place of its own, which is kept
// aside. The next serve counts what came after, from archive and journal.
func (d *Dir) RestoreLedger(ctx context.Context, from string) (*Restored, error) {
	m, err := ReadManifest(from)
	if err != nil {
		return nil, err
	}
	if m.Install != d.Install.ID {
		return nil, fmt.Errorf("%w: it is of installation %s, the directory of %s", ErrBackup, m.Install, d.Install.ID)
	}
	m.Files = m.below(ledgerFile)
	if len(m.Files) != 1 {
		return nil, fmt.Errorf("%w: it holds no ledger", ErrBackup)
	}
	if err := m.Check(ctx, from); err != nil {
		return nil, err
	}
	r := &Restored{Missing: []string{}, Notes: []string{}}
	for _, l := range m.Lanes {
		st, err := d.Streams[l.Lane].State(ctx)
		if err != nil {
			return nil, err
		}
		if st.ID != l.Stream {
			r.Missing = append(r.Missing, fmt.Sprintf("lane %d: the backup counts journal stream %s, the directory has %s", l.Lane, l.Stream, st.ID))
		}
		if st.Last < l.Ledger {
			r.Missing = append(r.Missing, fmt.Sprintf("lane %d: the ledger has counted to %d, the journal ends at %d", l.Lane, l.Ledger, st.Last))
		}
		missing, err := uncovered(d.Archive, l.Lane, 1, st.First, st.Last)
		if err != nil {
			return nil, err
		}
		r.Missing = append(r.Missing, missing...)
		r.Lanes = append(r.Lanes, RestoredLane{l.Lane, l.Ledger, st.Last})
	}
	if len(r.Missing) > 0 {
		return r, fmt.Errorf("%w: it could not catch up, so nothing was changed", ErrBackup)
	}
	kept, err := d.putLedger(filepath.Join(from, ledgerFile))
	if err == nil && kept != "" {
		r.Notes = append(r.Notes, "the ledger that was there is kept as "+kept)
	}
	return r, err
}

// putLedger puts a copy of a file into the ledger's place and returns the name under which the old one is kept.
func (d *Dir) putLedger(file string) (kept string, err error) {
	next := d.Join(ledgerFile + ".new")
	if err := copySynced(file, next); err != nil {
		return "", fmt.Errorf("copy ledger: %w", err)
	}
	kept, err = d.setLedgerAside()
	if err != nil {
		return "", err
	}
	if err := os.Rename(next, d.Join(ledgerFile)); err != nil {
		return kept, fmt.Errorf("place ledger: %w", err)
	}
	return kept, durable.SyncDir(d.Path)
}

// setLedgerAside renames the ledger and what belongs to it, and returns the new name; empty when there is none.
func (d *Dir) setLedgerAside() (string, error) {
	name := ledgerFile + "." + time.Now().UTC().Format("20060102-150405") + ".kept"
	// The log first: a file without its log is an older ledger, which is safe; a log without its file is not.
	kept := ""
	for _, ext := range []string{".wal", "", ".undo"} {
		err := os.Rename(d.Join(ledgerFile+ext), d.Join(name+ext))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return "", fmt.Errorf("set ledger aside: %w", err)
		}
		if ext == "" {
			kept = name
		}
	}
	return kept, durable.SyncDir(d.Path)
}

var _ LedgerCopier = (*duck.Ledger)(nil)
