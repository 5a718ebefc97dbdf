package duck

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"

	"milliard/internal/durable"
	"milliard/internal/ledger"
)

// ErrBackup: the file changed while it was copied; the backup has to be made again.
var ErrBackup = errors.New("the ledger's file changed while it was copied")

// Backup copies the ledger's file as of a checkpoint to path, which must not be there, and returns the positions that the
// copy holds. Flushes go on meanwhile: between two checkpoints they are written beside what the last one holds. No
// checkpoint is made until the copy is complete; Durable then answers with the last one's positions. One backup at a time.
func (l *Ledger) Backup(ctx context.Context, path string) (map[int]ledger.Position, error) {
	at, epoch, err := l.hold(ctx)
	if err != nil {
		return nil, fmt.Errorf("back up ledger: %w", err)
	}
	err = copyDurably(ctx, l.opt.Path, path)
	if now := l.letGo(); err == nil && now != epoch {
		err = ErrBackup
	}
	if err == nil {
		err = checkCopy(ctx, path, at, &l.opt)
	}
	if err != nil {
		return nil, fmt.Errorf("back up ledger: %w", errors.Join(err, os.Remove(path)))
	}
	return at, nil
}

// hold makes a checkpoint and keeps further ones back.
func (l *Ledger) hold(ctx context.Context) (map[int]ledger.Position, uint64, error) {
	if err := l.lock(ctx); err != nil {
		return nil, 0, err
	}
	defer l.unlock()
	if l.held != nil {
		return nil, 0, errors.New("another backup is being made")
	}
	at, err := l.durableLocked(ctx)
	if err != nil {
		return nil, 0, err
	}
	l.held = maps.Clone(at)
	return at, l.opened, nil
}

// letGo ends hold and returns how often the engine has been opened: closing it would have made a checkpoint.
func (l *Ledger) letGo() uint64 {
	<-l.write
	defer l.unlock()
	l.held = nil
	return l.opened
}

// checkCopy opens the copy for reading: it must hold the very positions.
func checkCopy(ctx context.Context, path string, want map[int]ledger.Position, opt *Options) error {
	c, err := Open(ctx, Options{Path: path, ReadOnly: true, MemoryLimit: opt.MemoryLimit / 4, Log: opt.Log})
	if err != nil {
		return err
	}
	at, err := c.Positions(ctx)
	if err == nil && !maps.Equal(at, want) {
		err = fmt.Errorf("%w: the copy stands at %v, not at %v", ErrBackup, at, want)
	}
	return errors.Join(err, c.Close())
}

// copyDurably copies a file and returns when the copy is on disk.
func copyDurably(ctx context.Context, from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, &stoppable{ctx, in})
	if err == nil {
		err = out.Sync()
	}
	if err = errors.Join(err, out.Close()); err != nil {
		return err
	}
	return durable.SyncDir(filepath.Dir(to))
}

// stoppable ends a long copy with its context.
type stoppable struct {
	ctx context.Context
	r   io.Reader
}

func (s *stoppable) Read(p []byte) (int, error) {
	if err := s.ctx.Err(); err != nil {
		return 0, err
	}
	return s.r.Read(p)
}
