package duck

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// mendEngine opens the engine. What a kill or a power cut has left half done in the ledger's files is mended first.
func mendEngine(ctx context.Context, opt *Options) (*sql.DB, error) {
	if err := mendFiles(opt); err != nil {
		return nil, err
	}
	db, err := tryEngine(ctx, opt)
	if err == nil || opt.ReadOnly {
		return db, err
	}
	return withoutLog(ctx, opt, err)
}

// mendFiles mends what the engine would not, unless another process has the ledger open. This process must not: closing
// the file here gives back the engine's lock of it.
func mendFiles(opt *Options) error {
	mode, lock := os.O_RDWR, int16(unix.F_WRLCK)
	if opt.ReadOnly {
		mode, lock = os.O_RDONLY, unix.F_RDLCK
	}
	f, err := os.OpenFile(opt.Path, mode, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("mend: %w", err)
	}
	if unix.FcntlFlock(f.Fd(), unix.F_SETLK, &unix.Flock_t{Type: lock}) == nil { // else the engine says who has it
		err = mendLocked(f, opt)
	}
	return errors.Join(err, f.Close())
}

func mendLocked(f *os.File, opt *Options) error {
	blocks, folded, err := settleCheckpoint(f, opt.ReadOnly, opt.Log)
	if err != nil {
		return err
	}
	var cut int64
	if !folded {
		if cut, err = cutUncommitted(logPath(opt.Path), opt.ReadOnly); err != nil {
			return fmt.Errorf("cut what was not committed off the ledger's log: %w", err)
		}
	}
	switch {
	case opt.ReadOnly && folded:
		return fmt.Errorf("%w (its log had not been removed)", ErrInterrupted)
	case opt.ReadOnly && len(blocks) > 0:
		return fmt.Errorf("%w (blocks %d)", ErrInterrupted, blocks)
	case opt.ReadOnly && cut > 0:
		return fmt.Errorf("%w (the last %d bytes of its log)", ErrInterrupted, cut)
	}
	if len(blocks) > 0 {
		opt.Log.Warn("the ledger's last checkpoint had been interrupted while it wrote over blocks of the file: they are as they were before it",
			"blocks", blocks)
	}
	if cut > 0 {
		opt.Log.Warn("the ledger's last commit had been interrupted: it is undone", "bytes", cut)
	}
	return nil
}
