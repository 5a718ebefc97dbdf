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
	for {
		locked, err := mendFiles(opt)
		if err != nil {
			return nil, err
		}
		db, err := tryEngine(ctx, opt)
		switch {
		case err == nil && !locked: // who had it has gone since, and has perhaps left something half done
			if err := db.Close(); err != nil {
				return nil, err
			}
		case err == nil || opt.ReadOnly:
			return db, err
		default:
			return withoutLog(ctx, opt, err)
		}
	}
}

// mendFiles mends what the engine would not, unless another process has the ledger open: then locked is false. This process
// must not: closing the file here gives back the engine's lock of it.
func mendFiles(opt *Options) (locked bool, err error) {
	mode, lock := os.O_RDWR, int16(unix.F_WRLCK)
	if opt.ReadOnly {
		mode, lock = os.O_RDONLY, unix.F_RDLCK
	}
	f, err := os.OpenFile(opt.Path, mode, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("mend: %w", err)
	}
	switch err = unix.FcntlFlock(f.Fd(), unix.F_SETLK, &unix.Flock_t{Type: lock}); {
	case err == nil:
		locked, err = true, mendLocked(f, opt)
	case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EACCES):
		err = nil // the engine says who has it
	default:
		err = fmt.Errorf("mend: lock: %w", err)
	}
	return locked, errors.Join(err, f.Close())
}

func mendLocked(f *os.File, opt *Options) error {
	blocks, folded, err := settleCheckpoint(f, opt.ReadOnly)
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
