package spool

import (
	"fmt"
	"path/filepath"
	"slices"

	"milliard/internal/journal"
)

var _ journal.Backlog = (*Lane)(nil)

// Waiting is how many batches are durable here and not known to be in the journal.
func (l *Lane) Waiting() int { return l.Status().Batches }

// Next returns the oldest batch that is not known to be in the journal. A file that cannot be read is passed over and
// stays: a repair may still get something out of it.
func (l *Lane) Next() ([]byte, bool) {
	for {
		f, fr, ok := l.head()
		if !ok {
			return nil, false
		}
		b, err := l.opt.Disk.ReadAt(f.path, fr.At, fr.Bytes)
		if err == nil {
			var h journal.Header
			if b, _, h, err = parseFrame(b); err == nil && h == fr.Header {
				return b, true
			}
		}
		l.setAside(f, fmt.Errorf("frame at byte %d: %w", fr.At, errOr(err)))
	}
}

func errOr(err error) error {
	if err == nil {
		return fmt.Errorf("%w: it is not what was written", ErrFile)
	}
	return err
}

// head returns the first frame that is not stored.
func (l *Lane) head() (*file, Frame, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, f := range l.files {
		if f.stored < len(f.frames) {
			return f, f.frames[f.stored], true
		}
	}
	return nil, Frame{}, false
}

// setAside ends the draining of a file.
func (l *Lane) setAside(f *file, err error) {
	l.opt.Log.Error("spool file cannot be drained: it waits for a repair", "file", f.path, "err", err)
	l.mu.Lock()
	defer l.mu.Unlock()
	f.frames, f.damaged = f.frames[:f.stored], true
	if f == l.current {
		l.current = nil
	}
	l.damaged = append(l.damaged, fmt.Sprintf("%s: %v", filepath.Base(f.path), err))
}

// Stored says that the batch of Next is in the journal. Behind its last batch a file is removed, and only then its
// incarnation has ended: as long as the file exists, its batches may be appended again, and the mark that drops them must
// live.
func (l *Lane) Stored() (ended journal.Incarnation, done bool) {
	f := l.advance()
	if f == nil {
		return ended, false
	}
	if f.w != nil {
		_ = f.w.Close() // everything in it is synced
		f.w = nil
	}
	if err := l.opt.Disk.Remove(f.path); err != nil {
		l.opt.Log.Error("a drained spool file cannot be removed: it will be drained again after a restart, and dropped", "file", f.path, "err", err)
		return ended, false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.bytes -= f.bytes
	l.wakeUp() // the reserve may have its room back
	return f.name, true
}

// advance counts the head as stored, and returns a file of which nothing is left and to which nothing can be added: the
// head's, or one that was being written to when its last batch was stored.
func (l *Lane) advance() *file {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, f := range l.files {
		if f.stored < len(f.frames) {
			l.m.drained.Add(float64(f.frames[f.stored].Header.Events))
			f.stored++
			break
		}
	}
	if l.held > 0 {
		return nil
	}
	at := slices.IndexFunc(l.files, func(f *file) bool {
		return f.stored == len(f.frames) && !f.damaged && !(f == l.current && l.writing)
	})
	if at < 0 {
		return nil
	}
	f := l.files[at]
	if f == l.current {
		l.current = nil
	}
	l.files = slices.Delete(l.files, at, at+1)
	return f
}

// Hold keeps every file where it is until release is called: a backup copies them.
func (s *Spool) Hold() (release func()) {
	add := func(n int) {
		for _, l := range s.lanes {
			l.mu.Lock()
			l.held += n
			l.mu.Unlock()
		}
	}
	add(1)
	return func() { add(-1) }
}
