package durable

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"syscall"
	"time"
)

// Leaving are files that somebody else is about to remove. What is held open loses its name and keeps its blocks, and is
// given back piece by piece afterwards. On a file system that tells the disk about free blocks (the mount option discard)
// a large file that goes at once occupies the disk for as long as a millisecond per megabyte, and whoever syncs a small
// file meanwhile waits for that. One goroutine uses it.
type Leaving struct{ files []*os.File }

// givenBack is how much is given back at once: little enough that a sync behind it is hardly late, and more than what
// the disk takes anyway for one such request.
const givenBack = 1 << 20

// Hold opens files that are about to be removed. A file that cannot be opened is left out: it is then removed as usual.
func Hold(paths ...string) *Leaving {
	l := &Leaving{}
	for _, p := range paths {
		if f, err := os.OpenFile(p, os.O_RDWR, 0); err == nil {
			l.files = append(l.files, f)
		}
	}
	return l
}

// Release gives back the blocks of those files that have been removed, in pieces, and rests for twice as long as each
// piece took. A file that still has a name is let go as it is. When ctx ends, the rest goes at once.
func (l *Leaving) Release(ctx context.Context) {
	for _, f := range l.files {
		if info, err := f.Stat(); err == nil && Nameless(info) {
			shrink(ctx, f, info.Size())
		}
		_ = f.Close() // nothing was written
	}
	l.files = nil
}

// Nameless says whether an open file has no name any more: who reads one may find that its end is gone. Where that cannot
// be known it is taken to have one.
func Nameless(info fs.FileInfo) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && st.Nlink == 0
}

func shrink(ctx context.Context, f *os.File, size int64) {
	for size > givenBack && ctx.Err() == nil {
		size -= givenBack
		began := time.Now()
		if f.Truncate(size) != nil {
			return // it goes with the descriptor
		}
		rest := time.NewTimer(2 * time.Since(began))
		select {
		case <-rest.C:
		case <-ctx.Done():
			rest.Stop()
		}
	}
}

// Discard removes a file and gives its blocks back in pieces. One that is not there is no error.
func Discard(ctx context.Context, path string) error {
	l := Hold(path)
	err := os.Remove(path)
	l.Release(ctx)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
