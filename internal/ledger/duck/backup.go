package duck

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
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
	at, file, err := l.hold(ctx)
	if err != nil {
		return nil, fmt.Errorf("back up ledger: %w", err)
	}
	err = copyDurably(ctx, file, path)
	if l.letGo() != file {
		err = errors.Join(ErrBackup, err)
	}
	if err == nil {
		err = checkCopy(ctx, path, at, &l.opt)
	}
	if err != nil {
		return nil, fmt.Errorf("back up ledger: %w", errors.Join(err, os.Remove(path)))
	}
	return at, nil
}

// hold makes a checkpoint and keeps further ones back. It returns the file.
func (l *Ledger) hold(ctx context.Context) (map[int]ledger.Position, *os.File, error) {
	if err := l.lock(ctx); err != nil {
		return nil, nil, err
	}
	defer l.unlock()
	if l.held != nil {
		return nil, nil, errors.New("another backup is being made")
	}
	at, err := l.durableLocked(ctx, nil)
	if err != nil {
		return nil, nil, err
	}
	l.held = maps.Clone(at)
	return at, l.file, nil
}

// letGo ends hold and returns the file that is open now: another one if the engine was opened anew, none if the ledger was closed.
func (l *Ledger) letGo() *os.File {
	if _, ok := <-l.write; !ok {
		return nil
	}
	defer l.unlock()
	l.held = nil
	return l.file
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

// copyDurably copies a file, which stays open, and returns when the copy is on disk.
func copyDurably(ctx context.Context, from io.ReaderAt, to string) error {
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, &stoppable{ctx, io.NewSectionReader(from, 0, math.MaxInt64)})
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
