// Package spool keeps clicks that the journal cannot make durable now, until it can. A click is redirected whatever
// happens; if its lane limps, its event is written here, sealed into a batch whose bytes, incarnation, counter and link
// are final. The lane's producer appends those very bytes later (journal.Backlog), so a batch that is appended twice,
// because the program died before its file was removed, is dropped by the mark that owners keep of its incarnation.
//
// The spool shares the journal's disk, so it takes room in advance: files of zeros, which it renames and writes into when
// clicks come. A failed write or sync ends a file, not the spool: it goes on in another one.
//
// Goroutines: one per lane and Spool, the committer; it alone writes. Next and Stored are called by the lane's producer
// and only read and remove. A file is appended to by the process that made it and by no other. What the package must not
// do: give out bytes that are not fsynced, change a batch, write behind a failed write, or let a file's incarnation be
// closed while the file exists.
package spool

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"milliard/internal/event"
	"milliard/internal/journal"
)

// Errors of Add and of a ticket.
var (
	// ErrFull: the spool has reached its limit, or the committer does not keep up. Nothing was written.
	ErrFull = errors.New("click spool is full")
	// ErrBroken: a write or sync has failed a moment ago; nothing is taken until the next attempt. Nothing was written.
	ErrBroken = errors.New("click spool is broken")
	// ErrUnsure: the write or sync of this very event has failed. It may stand in the file all the same.
	ErrUnsure = errors.New("click spool failed to write")
	// ErrLate: the spool did not answer in time. What it was given may still be written.
	ErrLate = errors.New("click spool is slow")
)

// Patience is how long a click waits for the spool.
const Patience = 20 * time.Millisecond

// reserveFiles is the least number of files of a reserve: when one is drained its room is anybody's for a moment, and on a full
// disk it may not come back.
const reserveFiles = 4

// Options are what a spool needs. Only Dir and Lanes must be given.
type Options struct {
	Dir       string
	Lanes     int
	MaxBytes  int64                 // of all files of one lane; default 64 MiB
	FileBytes int64                 // after which the next file is begun; default 4 MiB, and a part of Reserve
	Reserve   int64                 // room on the disk that each lane takes in advance; default none
	Disk      Disk                  // default the operating system's
	Now       func() time.Time      // default time.Now
	Random    io.Reader             // names incarnations; default crypto/rand
	Log       *slog.Logger          // default: discard
	Registry  prometheus.Registerer // nil: nothing is measured
}

func (o *Options) setDefaults() {
	if o.MaxBytes <= 0 {
		o.MaxBytes = 64 << 20
	}
	if o.FileBytes <= 0 {
		o.FileBytes = 4 << 20
	}
	if o.Reserve > 0 {
		o.FileBytes = min(o.FileBytes, max(1, o.Reserve/reserveFiles))
	}
	if o.Disk == nil {
		o.Disk = osDisk{}
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Random == nil {
		o.Random = rand.Reader
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
}

// Spool is the spools of all lanes of a data directory.
type Spool struct {
	opt   Options
	lanes []*Lane

	life   context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

// Open reads what an earlier process has left behind.
func Open(opt Options) (*Spool, error) {
	opt.setDefaults()
	s := &Spool{opt: opt}
	s.life, s.cancel = context.WithCancel(context.Background())
	m := newMetrics()
	for n := range opt.Lanes {
		l := &Lane{opt: &s.opt, m: m, n: n, dir: LaneDir(opt.Dir, n), wake: make(chan struct{}, 1)}
		if err := l.open(); err != nil {
			return nil, fmt.Errorf("spool of lane %d: %w", n, err)
		}
		s.lanes = append(s.lanes, l)
	}
	return s, m.register(opt.Registry, s)
}

// LaneDir is where the files of a lane are.
func LaneDir(dir string, lane int) string { return filepath.Join(dir, fmt.Sprintf("lane-%d", lane)) }

// Start starts the committers. notify is told that a lane's backlog has grown.
func (s *Spool) Start(notify func(lane int)) {
	for _, l := range s.lanes {
		s.wg.Go(func() { s.commit(l, notify) })
	}
}

func (s *Spool) commit(l *Lane, notify func(lane int)) {
	tick := time.NewTicker(refillEvery)
	defer tick.Stop()
	for {
		l.Tend() // after those who wait were answered
		select {
		case <-l.wake:
		case <-tick.C:
		case <-s.life.Done():
			l.Commit()
			return
		}
		if l.Commit() {
			notify(l.n)
		}
	}
}

// Stop writes what was taken and ends the committers. Files that were not drained stay where they are.
func (s *Spool) Stop(context.Context) error {
	s.cancel()
	s.wg.Wait()
	var errs []error
	for _, l := range s.lanes {
		errs = append(errs, l.close())
	}
	return errors.Join(errs...)
}

// Lane returns one lane's spool.
func (s *Spool) Lane(n int) *Lane { return s.lanes[n] }

// Backlogs returns what every lane's producer has to append, by lane.
func (s *Spool) Backlogs() []journal.Backlog {
	out := make([]journal.Backlog, len(s.lanes))
	for i, l := range s.lanes {
		out[i] = l
	}
	return out
}

// Put makes one event durable, or says within ctx why it is not known to be. After ErrFull and ErrBroken, which come at
// once, it is certain that nothing was written.
func (s *Spool) Put(ctx context.Context, lane int, e *event.Event, catalog uint64) error {
	t, err := s.lanes[lane].Add(e, catalog)
	if err != nil {
		return err
	}
	return t.Wait(ctx)
}

// Slow says whether a lane's spool has lately needed longer than a click can wait, or is broken.
func (s *Spool) Slow(lane int) bool { return s.lanes[lane].slow() }

// Status is what a lane's spool holds.
type Status struct {
	Lane    int
	Files   int
	Batches int // durable here and not known to be in the journal
	Events  int64
	Bytes   int64
	Reserve int64     // bytes of room that it has in advance
	NoRoom  error     // why that is less than it should be
	Broken  error     // why the last write failed; the next attempt may be due
	Since   time.Time // when writes began to fail
	Unread  []string  // files that could not be read the last time, and why; they are tried again
	Damaged []string  // files that can be drained only in part, or not at all, and why
}

// Status returns what every lane holds.
func (s *Spool) Status() []Status {
	out := make([]Status, len(s.lanes))
	for i, l := range s.lanes {
		out[i] = l.Status()
	}
	return out
}

// Ticket stands for one event that the spool has taken.
type Ticket struct{ of *pending }

type pending struct {
	done chan struct{}
	err  error
}

// Wait returns nil when the event is durable. When ctx ends first it may become so later.
func (t Ticket) Wait(ctx context.Context) error {
	select {
	case <-t.of.done:
		return t.of.err
	default:
	}
	select {
	case <-t.of.done:
		return t.of.err
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", ErrLate, context.Cause(ctx))
	}
}

// Settled says whether the outcome is known, and what it is.
func (t Ticket) Settled() (bool, error) {
	select {
	case <-t.of.done:
		return true, t.of.err
	default:
		return false, nil
	}
}
