// Package upkeep works on data directories that no server holds: it opens them for reading without changing a byte,
// verifies and recounts them, repairs them when told to, and moves backups. A running server does the same things
// through its own parts; this package is the composition root of the offline commands, as server is of serve.
//
// Nothing here runs while a server holds the directory: whoever opens one takes its lock.
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
	"milliard/internal/datadir"
	"milliard/internal/grid"
	"milliard/internal/journal"
	"milliard/internal/journal/jet"
	"milliard/internal/ledger/duck"
	"milliard/internal/verify"
)

// Settings are those of the server that verdicts and segments depend on. They are fixed for an installation: offline
// commands must be given what serve was given.
type Settings struct {
	Window    time.Duration `help:"How long foreign ids are remembered, in log time." default:"26h"`
	WindowIDs int           `name:"window-ids" help:"Most foreign ids remembered per lane." default:"67108864"`
	SealBytes int           `help:"Bytes of batches after which an archive segment is cut." default:"33554432"`
	SealSpan  time.Duration `help:"Log time after which an archive segment is cut." default:"5m"`
}

// sealBatches is after how many batches a segment is cut.
const sealBatches = 4096

// Grid returns the grid's settings for one lane.
func (s *Settings) Grid(lane int, seed uint64) grid.Options {
	return grid.Options{
		Lane: lane, Seed: seed, Window: s.Window, MaxHashes: s.WindowIDs, TokenLife: s.Window,
		TargetSealed: s.SealBytes, SealedBatches: sealBatches, SealedSpan: s.SealSpan,
	}
}

// Dir is an open data directory.
type Dir struct {
	*datadir.Dir
	Settings Settings
	Archive  *archive.Archive
	Control  journal.Stream
	Streams  []journal.Stream // by lane

	log     *slog.Logger
	repairs *Repairs
	journal *jet.Journal
	scratch string // copies; removed by Close
}

// ErrNoDirectory: there is no installation at the path.
var ErrNoDirectory = errors.New("no Milliard data directory")

// HighWaterDir, in the journal's directory, holds how far each of its streams was acknowledged: on its disk, because appends
// wait for it.
const HighWaterDir = "highwater"

// copyLimit is the size of a journal that is opened although its files may be of any size: it only has to be large.
const copyLimit = 1 << 42

// Open takes the directory's lock and opens it for reading. The journal's engine mends what it finds when it opens a
// store, so it is given a copy below scratch (the system's temporary directory when empty); nothing of the directory is
// changed, but for what FinishRepair does.
func Open(ctx context.Context, path string, set Settings, scratch string, log *slog.Logger) (_ *Dir, err error) {
	if _, err := os.Stat(filepath.Join(path, "install.json")); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoDirectory, err)
	}
	held, err := datadir.Open(path, 0, time.Now())
	if err != nil {
		return nil, err
	}
	d := &Dir{Dir: held, Settings: set, log: log}
	defer func() {
		if err != nil {
			err = errors.Join(err, d.Close(ctx))
		}
	}()
	if err := FinishRepair(d.Path); err != nil {
		return nil, err
	}
	if d.scratch, err = os.MkdirTemp(scratch, "milliard-"); err != nil {
		return nil, fmt.Errorf("scratch directory: %w", err)
	}
	if d.Archive, err = archive.Open(d.Join("archive")); err != nil {
		return nil, err
	}
	return d, d.openJournal(ctx)
}

// reopen looks at the directory anew, after it has been changed.
func (d *Dir) reopen(ctx context.Context) error {
	if err := d.journal.Close(ctx); err != nil {
		return err
	}
	return d.openJournal(ctx)
}

// openJournal copies the journal and opens the copy.
func (d *Dir) openJournal(ctx context.Context) (err error) {
	if d.repairs, err = ReadRepairs(d.Path); err != nil {
		return err
	}
	dir, err := os.MkdirTemp(d.scratch, "journal-")
	if err != nil {
		return fmt.Errorf("scratch directory: %w", err)
	}
	if err := copyTree(ctx, d.Join("journal", "store"), filepath.Join(dir, "store")); err != nil {
		return fmt.Errorf("copy journal: %w", err)
	}
	d.Streams = nil
	d.journal, err = jet.Open(ctx, jet.Options{
		Dir: dir, MaxBytes: copyLimit, InstallID: d.Install.ID, Lanes: d.Install.Lanes, Log: d.log, Gaps: d.repairs.Streams(),
		HighWater: d.Join("journal", HighWaterDir),
	})
	if err != nil {
		return err
	}
	if d.Control, err = d.journal.Stream(journal.ControlStream); err != nil {
		return err
	}
	for lane := range d.Install.Lanes {
		s, err := d.journal.Stream(fmt.Sprintf("lane-%d", lane))
		if err != nil {
			return err
		}
		d.Streams = append(d.Streams, s)
	}
	return nil
}

// Close removes the copies and gives the directory free.
func (d *Dir) Close(ctx context.Context) error {
	var errs []error
	if d.journal != nil {
		errs = append(errs, d.journal.Close(context.WithoutCancel(ctx)))
	}
	if d.scratch != "" {
		errs = append(errs, os.RemoveAll(d.scratch))
	}
	return errors.Join(append(errs, d.Dir.Close())...)
}

// ledgerMemory is what the ledger's engine may use for reading tables in bounded stretches.
const ledgerMemory = 512 << 20

// ledger opens the ledger's file for reading.
func (d *Dir) ledger(ctx context.Context) (*duck.Ledger, error) {
	return duck.Open(ctx, duck.Options{Path: d.Join("ledger.duckdb"), ReadOnly: true, MemoryLimit: ledgerMemory, Log: d.log})
}

// lane returns a lane's settings for the grid.
func (d *Dir) lane(n int) *grid.LaneConfig {
	opt := d.Settings.Grid(n, d.Install.SeedValue())
	opt.Gaps = d.repairs.Lane(n)
	return &grid.LaneConfig{
		Options: opt, Stream: d.Streams[n], Archive: d.Archive,
		ImageDir: d.Join("images", d.Streams[n].Name()), Log: d.log,
	}
}

// anyImage lets every image be used.
const anyImage = ^uint64(0)

// lanes describes the lanes for verify. Verdicts that stand in no segment are worked out again from an image at or below
// limit.
func (d *Dir) lanes(limit func(lane int) uint64) []verify.Lane {
	var out []verify.Lane
	for n := range d.Streams {
		out = append(out, verify.Lane{
			Number: n, Stream: d.Streams[n], Gaps: d.repairs.Lane(n),
			Unsealed: func(ctx context.Context, seq uint64) ([]verify.Verdicts, error) {
				return d.unsealed(ctx, n, limit(n), seq)
			},
		})
	}
	return out
}

func (d *Dir) unsealed(ctx context.Context, lane int, limit, seq uint64) ([]verify.Verdicts, error) {
	st, err := d.Streams[lane].State(ctx)
	if err != nil {
		return nil, err
	}
	var out []verify.Verdicts
	_, err = grid.Replay(ctx, d.lane(lane), limit, min(seq, st.Last), func(b grid.SealedBatch) error {
		out = append(out, verify.Verdicts{Seq: b.Seq, LogTime: b.LogTime, Classes: b.Verdicts})
		return nil
	})
	return out, err
}

// Verify compares ledger and log.
func (d *Dir) Verify(ctx context.Context, progress func(verify.Progress)) (*verify.Result, error) {
	l, err := d.ledger(ctx)
	if err != nil {
		return nil, err
	}
	at, err := l.Positions(ctx)
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	res, err := verify.Run(ctx, verify.Options{
		Lanes: d.lanes(func(lane int) uint64 { return at[lane].Seq }), Archive: d.Archive, Ledger: l, Control: d.Control,
		Images: Images(d.Dir), Scratch: d.scratch, Progress: progress,
	})
	if err == nil {
		err = d.verifySpool(res)
	}
	return res, errors.Join(err, l.Close())
}

// Recount adds the log up without opening the ledger.
func (d *Dir) Recount(ctx context.Context, by []string, progress func(verify.Progress)) (*verify.Recounted, error) {
	return verify.Recount(ctx, verify.Options{
		Lanes: d.lanes(func(int) uint64 { return anyImage }), Archive: d.Archive, Scratch: d.scratch, Progress: progress,
	}, by)
}

// copyTree copies a directory. One that is not there is empty.
func copyTree(ctx context.Context, from, to string) error {
	if err := os.MkdirAll(to, 0o700); err != nil {
		return err
	}
	err := filepath.WalkDir(from, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			if errors.Is(err, fs.ErrNotExist) && path == from {
				return fs.SkipAll
			}
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		if e.IsDir() {
			return os.MkdirAll(filepath.Join(to, rel), 0o700)
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		return copyFile(path, filepath.Join(to, rel))
	})
	return err
}
