// Package room says how much of the data directory's volume is free, and when that is so little that the journal must take
// nothing more: the engine stops for good at its first failed write, and a refusal before that heals by itself. It starts no
// goroutine; whoever asks looks, and the answer is kept for a moment.
package room

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// ErrLow is wrapped by what Full returns.
var ErrLow = errors.New("the disk is nearly full")

// Limits of the default floor: a part of the volume, but no more than flushes, images and segments need while nothing is
// taken in.
const (
	floorPart = 20
	maxFloor  = 256 << 20
)

// Limits of what is worth a warning.
const (
	warnPart    = 20
	warnBytes   = 1 << 30
	warnAtMost  = 5       // of a small volume, this part
	plentyBytes = 1 << 30 // above the floor: a look is kept for longer
)

// How long a look is believed.
const (
	briefly = 5 * time.Millisecond
	longer  = 100 * time.Millisecond
)

// Free is how much of a volume is free to us.
type Free struct{ Bytes, Of int64 }

// String says it for a person.
func (f Free) String() string {
	return fmt.Sprintf("%s of %s are free", size(f.Bytes), size(f.Of))
}

func size(n int64) string {
	switch {
	case n >= 10<<30:
		return fmt.Sprintf("%d GiB", n>>30)
	case n >= 10<<20:
		return fmt.Sprintf("%d MiB", n>>20)
	}
	return fmt.Sprintf("%d KiB", n>>10)
}

// Watch looks at one volume.
type Watch struct {
	floor int64
	look  func() (Free, error)
	now   func() time.Time

	mu    sync.Mutex
	last  Free
	err   error
	until time.Time // last and err are believed
}

// New watches the volume that dir is on. floor: 0 for the default, negative for none.
func New(dir string, floorBytes int64) *Watch {
	return newWatch(floorBytes, time.Now, func() (Free, error) {
		var st unix.Statfs_t
		for {
			err := unix.Statfs(dir, &st)
			if err == nil {
				return Free{int64(st.Bavail) * int64(st.Bsize), int64(st.Blocks) * int64(st.Bsize)}, nil
			}
			if !errors.Is(err, unix.EINTR) {
				return Free{}, fmt.Errorf("free room of %s: %w", dir, err)
			}
		}
	})
}

func newWatch(floorBytes int64, now func() time.Time, look func() (Free, error)) *Watch {
	return &Watch{floor: floorBytes, look: look, now: now}
}

// Look returns how much is free.
func (w *Watch) Look() (Free, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := w.now()
	if now.Before(w.until) && now.After(w.until.Add(-longer-briefly)) {
		return w.last, w.err
	}
	w.last, w.err = w.look()
	keep := briefly
	if w.last.Bytes > w.floorOf(w.last)+plentyBytes {
		keep = longer
	}
	w.until = now.Add(keep)
	return w.last, w.err
}

func (w *Watch) floorOf(f Free) int64 {
	if w.floor != 0 {
		return w.floor
	}
	return min(f.Of/floorPart, maxFloor)
}

// Full returns nil, or that less is free than the floor. What cannot be looked at is not full.
func (w *Watch) Full() error {
	f, err := w.Look()
	if floor := w.floorOf(f); err == nil && f.Bytes < floor {
		return fmt.Errorf("%w: %v, %s are kept for counting and sealing", ErrLow, f, size(floor))
	}
	return nil
}

// Low says whether so little is free that somebody should know: less than a twentieth of the volume or less than 1 GiB, but
// of a small volume a fifth.
func (w *Watch) Low() (Free, bool) {
	f, err := w.Look()
	return f, err == nil && f.Bytes < max(f.Of/warnPart, min(warnBytes, f.Of/warnAtMost))
}
