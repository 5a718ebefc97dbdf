package spool

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"

	"milliard/internal/journal"
)

var _ journal.Backlog = (*Lane)(nil)

// Waiting is how many batches are durable here and not known to be in the journal.
func (l *Lane) Waiting() int { return l.Status().Batches }

// Next returns the oldest batch that is not known to be in the journal. A file is passed over for a while if the system did
// not let it be read, and for good if it is damaged; then it stays, for a repair may still get something out of it.
func (l *Lane) Next() ([]byte, bool) {
	for {
		f, fr, ok := l.head()
		if !ok {
			return nil, false
		}
		b, err := l.read(f, fr)
		if err == nil {
			l.given(f)
			return b, true
		}
		err = fmt.Errorf("frame at byte %d: %w", fr.At, err)
		if errors.Is(err, ErrFile) {
			l.setAside(f, err)
		} else {
			l.putOff(f, err)
		}
	}
}

// read returns the batch of a frame. The error wraps ErrFile if its bytes are not what was written; any other may pass.
func (l *Lane) read(f *file, fr Frame) ([]byte, error) {
	b, err := l.opt.Disk.ReadAt(f.path, fr.At, fr.Bytes)
	if errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%w: %w", ErrFile, err)
	}
	if err != nil {
		return nil, err
	}
	b, _, h, err := parseFrame(b)
	if err == nil && h != fr.Header {
		err = fmt.Errorf("%w: it is not what was written", ErrFile)
	}
	return b, err
}

// head returns the first frame that is not stored, of a file that may be read now.
func (l *Lane) head() (*file, Frame, bool) {
	now := l.opt.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.out = nil
	for _, f := range l.files {
		if f.stored < len(f.frames) && !(f.unread != nil && within(now, f.tried, f.pause)) {
			return f, f.frames[f.stored], true
		}
	}
	return nil, Frame{}, false
}

// given notes that a batch of a file was read and is the one that Stored will be about.
func (l *Lane) given(f *file) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.out, f.unread, f.pause = f, nil, 0
	if slices.ContainsFunc(l.files, func(f *file) bool { return f.unread != nil }) {
		return
	}
	if n, lasted, over := l.unread.Worked(l.opt.Now()); over {
		l.opt.Log.Info("spool files can be read again", "lane", l.n, "failed", n, "after", lasted)
	}
}

// putOff has a file wait for another attempt to read it. Its batches go on waiting, and those of other files go first.
func (l *Lane) putOff(f *file, err error) {
	now := l.opt.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	f.unread, f.tried, f.pause = err, now, longer(f.pause)
	if n, say := l.unread.Failed(now); say {
		l.opt.Log.Error("spool file cannot be read, its clicks are not counted yet; it tries again", "lane", l.n, "file", f.path, "attempts", n, "err", err)
	}
}

// setAside ends the draining of a file.
func (l *Lane) setAside(f *file, err error) {
	l.opt.Log.Error("spool file cannot be drained: it waits for a repair", "file", f.path, "err", err)
	l.mu.Lock()
	defer l.mu.Unlock()
	f.frames, f.damaged, f.unread = f.frames[:f.stored], true, nil
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

// advance counts the batch that was given as stored, and returns a file of which nothing is left and to which nothing can be
// added: the batch's, or one that was being written to when its last batch was stored.
func (l *Lane) advance() *file {
	l.mu.Lock()
	defer l.mu.Unlock()
	if f := l.out; f != nil {
		l.m.drained.Add(float64(f.frames[f.stored].Header.Events))
		f.stored++
		l.out = nil
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
