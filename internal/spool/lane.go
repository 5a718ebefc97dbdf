package spool

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"milliard/internal/crash"
	"milliard/internal/event"
	"milliard/internal/journal"
)

// Limits of what waits for the committer.
const (
	maxRows   = 1024
	maxStrs   = 64 << 10 // bytes of strings of a batch, before it is closed
	maxGroups = 8
)

// slowFor is how long a spool counts as slow after a slow write; then somebody has to find out whether it still is.
const slowFor = time.Second

// Lane is the spool of one lane.
type Lane struct {
	opt *Options
	m   *metrics
	n   int
	dir string

	busy atomic.Int64 // unix ns when the committer began to write; 0: it does not
	late atomic.Int64 // unix ns when a write ended that had taken longer than a click waits

	wake chan struct{}

	mu      sync.Mutex
	groups  []*group // wait for the committer; the last one grows
	spare   *group
	files   []*file // oldest first
	current *file   // is appended to
	writing bool    // the committer is at it
	held    int     // somebody copies the files: none may be removed
	bytes   int64   // of files
	broken  error
	damaged []string
	number  uint64 // of the newest file
}

// file is one file that is not wholly drained.
type file struct {
	path    string
	name    journal.Incarnation
	frames  []Frame
	stored  int // of them, known to be in the journal
	bytes   int64
	damaged bool // it must stay
	w       Appender
	prev    journal.Hash
}

// group is the events of one batch.
type group struct {
	of      *pending
	rows    [2]event.Builder // by space: minted, foreign
	n       int
	strs    int
	opened  time.Time
	catalog uint64
}

func (g *group) start(now time.Time) {
	g.of = &pending{done: make(chan struct{})}
	g.rows[0].Start(event.Minted, event.ImportID{})
	g.rows[1].Start(event.Foreign, event.ImportID{})
	g.n, g.strs, g.opened, g.catalog = 0, 0, now, 0
}

// open reads the files that are there. Nothing is changed, but for files that hold nothing.
func (l *Lane) open() error {
	if err := l.opt.Disk.MakeDir(l.dir); err != nil {
		return err
	}
	list, err := Scan(l.opt.Disk, l.dir)
	if err != nil {
		return err
	}
	for _, f := range list {
		n, err := strconv.ParseUint(strings.TrimSuffix(filepath.Base(f.Path), fileExt), 10, 64)
		if err != nil {
			continue // not ours
		}
		l.number = max(l.number, n)
		if f.Damage == nil && f.Lane != l.n && len(f.Frames) > 0 {
			f.Damage, f.Good = fmt.Errorf("%w: it belongs to lane %d", ErrFile, f.Lane), 0
		}
		if f.Damage != nil {
			l.damaged = append(l.damaged, fmt.Sprintf("%s: %v", filepath.Base(f.Path), f.Damage))
			l.opt.Log.Error("spool file is damaged: what stands behind the damage waits for a repair", "file", f.Path, "err", f.Damage)
		}
		if f.Torn > 0 {
			l.opt.Log.Warn("spool file ends in the middle of a write", "file", f.Path, "batches", len(f.Frames), "bytes", f.Torn)
		}
		if f.Damage == nil && len(f.Frames) == 0 {
			if err := l.opt.Disk.Remove(f.Path); err != nil { // nobody was told of anything in it
				return err
			}
			continue
		}
		l.bytes += f.Bytes
		l.files = append(l.files, &file{
			path: f.Path, name: f.Incarnation, frames: f.Frames[:f.Good], bytes: f.Bytes, damaged: f.Damage != nil,
		})
	}
	return nil
}

// Add takes one event. It copies what it keeps and waits for no I/O.
func (l *Lane) Add(e *event.Event, catalog uint64) (Ticket, error) {
	if e.Space == event.Imported || e.Sale() {
		return Ticket{}, errors.New("the spool is for clicks")
	}
	strs := len(e.Foreign) + len(e.Source) + len(e.Subs) + len(e.Ref) + len(e.Referrer) + len(e.IP) + len(e.UA) + len(e.Visitor)
	if strs > journal.MaxEventBytes {
		return Ticket{}, journal.ErrTooLarge
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.broken != nil {
		return Ticket{}, l.broken
	}
	g, err := l.groupLocked(strs)
	if err != nil {
		return Ticket{}, err
	}
	at := 0
	if e.Space == event.Foreign {
		at = 1
	}
	g.rows[at].Append(e)
	g.n++
	g.strs += strs
	g.catalog = max(g.catalog, catalog)
	select {
	case l.wake <- struct{}{}:
	default:
	}
	return Ticket{g.of}, nil
}

// groupLocked returns the group that one more event goes to.
func (l *Lane) groupLocked(strs int) (*group, error) {
	waiting := int64(0)
	for _, g := range l.groups {
		waiting += int64(g.strs + 200*g.n)
	}
	if l.bytes+waiting+int64(strs) > l.opt.MaxBytes {
		return nil, ErrFull
	}
	if k := len(l.groups); k > 0 {
		if g := l.groups[k-1]; g.n < maxRows && g.strs+strs <= maxStrs+journal.MaxEventBytes/2 {
			return g, nil
		}
		if k == maxGroups {
			return nil, ErrFull
		}
	}
	g := l.spare
	if l.spare = nil; g == nil {
		g = new(group)
	}
	g.start(l.opt.Now())
	l.groups = append(l.groups, g)
	return g, nil
}

// Commit writes everything that waits with one sync and answers those who wait for it. It says whether there was
// anything. One caller at a time.
func (l *Lane) Commit() bool {
	l.mu.Lock()
	groups, f := l.groups, l.current
	l.groups, l.writing = nil, len(groups) > 0
	broken := l.broken
	l.mu.Unlock()
	if len(groups) == 0 {
		return false
	}
	began := l.opt.Now()
	l.busy.Store(began.UnixNano())
	var err error
	var frames []Frame
	if err = broken; err == nil {
		f, frames, err = l.write(f, groups)
	}
	l.busy.Store(0)
	if now := l.opt.Now(); now.Sub(began) > Patience {
		l.late.Store(now.UnixNano())
	}
	if err == nil {
		crash.Point(crash.SpoolWritten)
	}
	l.mu.Lock()
	l.writing = false
	if err != nil {
		l.breakLocked(err)
		err = fmt.Errorf("%w: %w", ErrUnsure, err)
	} else {
		l.keepLocked(f, frames)
	}
	if l.spare == nil {
		l.spare = groups[0]
	}
	waiters := make([]*pending, len(groups))
	for i, g := range groups {
		waiters[i] = g.of
	}
	l.mu.Unlock()
	for _, of := range waiters {
		of.err = err
		close(of.done)
	}
	return err == nil
}

// write appends one frame per group to the current file, or to a new one.
func (l *Lane) write(f *file, groups []*group) (*file, []Frame, error) {
	var buf []byte
	if f == nil || f.bytes >= l.opt.FileBytes {
		var err error
		if f, err = l.create(); err != nil {
			return nil, nil, err
		}
		buf = appendHead(buf, l.n, f.name, l.opt.Now().UnixMilli())
	}
	counter, prev := uint64(len(f.frames)), f.prev
	var frames []Frame
	for _, g := range groups {
		h := journal.Header{
			Kind: journal.KindEvents, Spooled: true, Lane: uint16(l.n), Incarnation: f.name, Counter: counter + 1,
			Events: uint32(g.n), Received: g.opened.UnixMilli(), Catalog: g.catalog, Prev: prev,
		}
		msg := journal.AppendHeader(nil)
		for i := range g.rows {
			if g.rows[i].Len() > 0 {
				msg = journal.AppendBlock(msg, g.rows[i].Block())
			}
		}
		prev = journal.Seal(msg, &h)
		counter++
		fr := Frame{At: f.bytes + int64(len(buf)), Header: h, Hash: prev}
		at := len(buf)
		buf = appendFrame(buf, msg)
		fr.Bytes = len(buf) - at
		frames = append(frames, fr)
	}
	if err := f.w.Append(buf); err != nil {
		return nil, nil, errors.Join(err, f.w.Close())
	}
	return f, frames, nil
}

// create begins a file, which is an incarnation of its own.
func (l *Lane) create() (*file, error) {
	l.mu.Lock()
	l.number++
	f := &file{path: filepath.Join(l.dir, fmt.Sprintf("%010d%s", l.number, fileExt))}
	l.mu.Unlock()
	if _, err := io.ReadFull(l.opt.Random, f.name[:]); err != nil {
		return nil, fmt.Errorf("name a spool file: %w", err)
	}
	w, err := l.opt.Disk.Create(f.path)
	f.w = w
	return f, err
}

// keepLocked makes durable frames known.
func (l *Lane) keepLocked(f *file, frames []Frame) {
	if f.damaged { // found while this was written: what follows the damage waits for a repair too
		return
	}
	if f != l.current {
		l.files = append(l.files, f)
		if old := l.current; old != nil && old.w != nil {
			_ = old.w.Close() // everything in it is synced
			old.w = nil
		}
		l.current = f
	}
	was := f.bytes
	if len(f.frames) == 0 {
		f.bytes = headBytes
	}
	for i := range frames {
		f.frames = append(f.frames, frames[i])
		f.bytes = frames[i].At + int64(frames[i].Bytes)
		l.m.written.Add(float64(frames[i].Header.Events))
	}
	f.prev = frames[len(frames)-1].Hash
	l.bytes += f.bytes - was
}

// breakLocked ends the spool's life as a place to write to: after a failed sync nobody knows what stands on the disk.
func (l *Lane) breakLocked(err error) {
	l.current = nil // what is durable in it can still be drained
	if l.broken != nil {
		return
	}
	l.broken = fmt.Errorf("%w: %w", ErrBroken, err)
	l.m.failures.Inc()
	l.opt.Log.Error("click spool is out of order until a restart", "lane", l.n, "err", err)
}

func (l *Lane) slow() bool {
	now := l.opt.Now().UnixNano()
	if began := l.busy.Load(); began != 0 && now-began > int64(Patience) {
		return true
	}
	if late := l.late.Load(); late != 0 && now-late < int64(slowFor) {
		return true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.broken != nil
}

// Status returns what the lane holds.
func (l *Lane) Status() Status {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := Status{Lane: l.n, Files: len(l.files), Bytes: l.bytes, Broken: l.broken, Damaged: l.damaged}
	for _, f := range l.files {
		for i := f.stored; i < len(f.frames); i++ {
			s.Batches++
			s.Events += int64(f.frames[i].Header.Events)
		}
	}
	return s
}

func (l *Lane) close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.current == nil || l.current.w == nil {
		return nil
	}
	w := l.current.w
	l.current.w = nil
	return w.Close()
}
