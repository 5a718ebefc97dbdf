package spool

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"sync"
	"time"

	"milliard/internal/crash"
	"milliard/internal/event"
	"milliard/internal/journal"
	"milliard/internal/outage"
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

	wake chan struct{}

	failing outage.Outage // of writes
	cramped outage.Outage // of the reserve
	unread  outage.Outage // of reads

	mu      sync.Mutex
	groups  []*group // wait for the committer; the last one grows
	spare   *group
	files   []*file   // oldest first
	current *file     // is appended to
	out     *file     // whose batch was given by Next
	writing bool      // the committer is at it
	busy    time.Time // when it began to write; zero: it does not
	late    time.Time // when a write ended that had taken longer than a click waits
	held    int       // somebody copies the files: none may be removed
	bytes   int64     // of files
	broken  error     // of the last write, which failed then; nothing is taken for pause
	failed  time.Time
	pause   time.Duration
	damaged []string
	number  uint64    // of the newest file
	reserve []string  // files that are nothing yet but room
	noRoom  error     // why the reserve is not whole
	refused time.Time // when the disk had no room
}

// file is one file that is not wholly drained.
type file struct {
	path    string
	name    journal.Incarnation
	frames  []Frame
	stored  int // of them, known to be in the journal
	bytes   int64
	damaged bool  // it must stay
	unread  error // of the last read, which failed then; the next one is due after pause
	tried   time.Time
	pause   time.Duration
	w       Appender
	end     int64 // of what was written; the committer's
	count   int   // of frames that were written; the committer's
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
	if err := l.findReserve(); err != nil {
		return err
	}
	for _, f := range list {
		if !l.numbered(f.Path) {
			continue // not ours
		}
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
	if l.brokenLocked() {
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
	l.wakeUp()
	return Ticket{g.of}, nil
}

func (l *Lane) wakeUp() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
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

// Commit writes everything that waits and answers those who wait for it, a batch with one sync. It says whether it made
// anything durable. One caller at a time.
func (l *Lane) Commit() (durable bool) {
	l.mu.Lock()
	groups := l.groups
	l.groups, l.writing = nil, len(l.groups) > 0
	var broken error
	if l.brokenLocked() {
		broken = l.broken
	}
	l.mu.Unlock()
	for _, g := range groups {
		err := broken
		if err == nil {
			if err = l.commit(g); err == nil {
				durable = true
			} else {
				broken = fmt.Errorf("%w: %w", ErrBroken, err) // of the others it is certain that they were not written
				err = fmt.Errorf("%w: %w", ErrUnsure, err)
			}
		}
		g.of.err = err
		close(g.of.done)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.writing = false
	if l.spare == nil && len(groups) > 0 {
		l.spare = groups[0]
	}
	return durable
}

// commit makes one batch durable.
func (l *Lane) commit(g *group) error {
	began := l.opt.Now()
	l.mu.Lock()
	f := l.current
	l.busy = began
	l.mu.Unlock()
	f, fr, err := l.write(f, g)
	now := l.opt.Now()
	if err == nil {
		crash.Point(crash.SpoolWritten)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.busy = time.Time{}
	if now.Sub(began) > Patience {
		l.late = now
	}
	if err != nil {
		l.breakLocked(err, now)
		return err
	}
	l.keepLocked(f, fr)
	l.mendedLocked(now)
	return nil
}

// write appends one frame to the current file, or to a new one. Behind one that has failed nothing is ever written again:
// after a failed sync nobody knows what of it stands on the disk.
func (l *Lane) write(f *file, g *group) (*file, Frame, error) {
	msg := journal.AppendHeader(nil)
	for i := range g.rows {
		if g.rows[i].Len() > 0 {
			msg = journal.AppendBlock(msg, g.rows[i].Block())
		}
	}
	size := int64(frameBytes + len(msg) + len(endMagic))
	var buf []byte
	if f == nil || f.end+size > l.opt.FileBytes {
		if f != nil {
			_ = l.finish(f) // everything in it is synced
			f.w = nil
		}
		var err error
		if f, err = l.create(); err != nil {
			return nil, Frame{}, err
		}
	}
	if f.end == 0 {
		buf = appendHead(buf, l.n, f.name, l.opt.Now().UnixMilli())
	}
	h := journal.Header{
		Kind: journal.KindEvents, Spooled: true, Lane: uint16(l.n), Incarnation: f.name, Counter: uint64(f.count) + 1,
		Events: uint32(g.n), Received: g.opened.UnixMilli(), Catalog: g.catalog, Prev: f.prev,
	}
	hash := journal.Seal(msg, &h)
	fr := Frame{At: f.end + int64(len(buf)), Bytes: int(size), Header: h, Hash: hash}
	buf = appendFrame(buf, msg)
	if err := f.w.Append(buf); err != nil {
		return nil, Frame{}, errors.Join(err, l.abandon(f))
	}
	f.end, f.prev = fr.At+size, hash
	f.count++
	return f, fr, nil
}

// abandon gives back what a file with a failed write does not need: all of it, if nobody was promised anything in it.
func (l *Lane) abandon(f *file) error {
	if f.count == 0 {
		return errors.Join(f.w.Close(), l.opt.Disk.Remove(f.path))
	}
	return l.finish(f)
}

// finish ends the writing to a file and gives back the room that it has not used.
func (l *Lane) finish(f *file) error {
	return errors.Join(f.w.Cut(f.end), f.w.Close())
}

// create begins a file, which is an incarnation of its own, in room that is reserved if there is any.
func (l *Lane) create() (*file, error) {
	l.mu.Lock()
	f := &file{path: l.nextLocked(fileExt)}
	room := ""
	if k := len(l.reserve); k > 0 {
		room, l.reserve = l.reserve[k-1], l.reserve[:k-1]
	}
	l.mu.Unlock()
	if _, err := io.ReadFull(l.opt.Random, f.name[:]); err != nil {
		return nil, fmt.Errorf("name a spool file: %w", err)
	}
	var err error
	if room == "" {
		f.w, err = l.opt.Disk.Create(f.path)
	} else if f.w, err = l.opt.Disk.Take(room, f.path); err != nil {
		err = errors.Join(err, l.opt.Disk.Remove(room), l.opt.Disk.Remove(f.path)) // nothing was written into it
	}
	return f, err
}

// nextLocked returns the path of a new file.
func (l *Lane) nextLocked(ext string) string {
	l.number++
	return filepath.Join(l.dir, fmt.Sprintf("%010d%s", l.number, ext))
}

// keepLocked makes a durable frame known.
func (l *Lane) keepLocked(f *file, fr Frame) {
	if f.damaged { // found while this was written: what follows the damage waits for a repair too
		return
	}
	if len(f.frames) == 0 {
		l.files = append(l.files, f)
	}
	l.current = f
	was := f.bytes
	f.frames = append(f.frames, fr)
	f.bytes = fr.At + int64(fr.Bytes)
	l.m.written.Add(float64(fr.Header.Events))
	l.bytes += f.bytes - was
}

// Pauses between attempts while every write fails, or every read of a file.
const (
	minPause = time.Second
	maxPause = 30 * time.Second
)

// longer returns the pause that follows a pause.
func longer(pause time.Duration) time.Duration { return min(max(2*pause, minPause), maxPause) }

// breakLocked ends the life of the current file as a place to write to: after a failed sync nobody knows what stands on the
// disk. The next attempt, with a new file, is made after a pause.
func (l *Lane) breakLocked(err error, now time.Time) {
	if l.current != nil {
		l.current.w = nil // abandoned; what is durable in it can still be drained
	}
	l.current = nil
	l.pause = longer(l.pause)
	l.broken, l.failed = fmt.Errorf("%w: %w", ErrBroken, err), now
	l.m.failures.Inc()
	if n, say := l.failing.Failed(now); say {
		l.opt.Log.Error("click spool cannot write, clicks are at risk; it tries again with another file", "lane", l.n, "attempts", n, "err", err)
	}
}

// mendedLocked notes that a write has worked.
func (l *Lane) mendedLocked(now time.Time) {
	l.broken, l.pause = nil, 0
	if n, lasted, over := l.failing.Worked(now); over {
		l.opt.Log.Info("click spool writes again", "lane", l.n, "failed", n, "after", lasted)
	}
}

// brokenLocked says whether the spool takes nothing now. It does again when it is time for another attempt.
func (l *Lane) brokenLocked() bool {
	return l.broken != nil && within(l.opt.Now(), l.failed, l.pause)
}

// within says whether less than d has passed since then. It is over when the clock has stepped back: it must not last for as
// long as the step.
func within(now, then time.Time, d time.Duration) bool {
	passed := now.Sub(then)
	return passed >= 0 && passed < d
}

func (l *Lane) slow() bool {
	now := l.opt.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	return !l.busy.IsZero() && now.Sub(l.busy) > Patience || within(now, l.late, slowFor) || l.brokenLocked()
}

// Status returns what the lane holds.
func (l *Lane) Status() Status {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := Status{
		Lane: l.n, Files: len(l.files), Bytes: l.bytes, Reserve: int64(len(l.reserve)) * l.opt.FileBytes, NoRoom: l.noRoom,
		Broken: l.broken, Since: l.failing.Since(), Damaged: l.damaged,
	}
	for _, f := range l.files {
		if f.unread != nil {
			s.Unread = append(s.Unread, fmt.Sprintf("%s: %v", filepath.Base(f.path), f.unread))
		}
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
	err := l.finish(l.current)
	l.current.w = nil
	return err
}
