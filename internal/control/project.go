package control

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"milliard/internal/catalog"
	"milliard/internal/journal"
	"milliard/internal/outage"
)

// Projector is the part of the ledger that holds the catalog as SQL.
type Projector interface {
	ControlPosition(ctx context.Context) (uint64, error)
	Project(ctx context.Context, records []catalog.Record, through uint64) error
}

// ErrAhead: the ledger shows control records that the stream does not have.
var ErrAhead = errors.New("the ledger is ahead of the control stream: not the same installation")

const (
	projectBytes = 1 << 20 // of records in one transaction
	minRetry     = 100 * time.Millisecond
	maxRetry     = 5 * time.Second
	// compareEvery is how often the ledger's position is looked at while nothing changes: a running server's ledger may
	// have to be opened without its log, and goes back.
	compareEvery = 10 * time.Second
)

// Projection says how the projection of control records into the ledger is doing.
type Projection struct {
	Behind uint64 // records in force that the ledger is not known to hold
	Err    error  // what it last failed with; nil when it works
	Ended  bool   // Err does not pass: nothing is projected until the next start
}

// projecting is what Project notes for Projection. mu is a leaf.
type projecting struct {
	failing outage.Outage

	mu    sync.Mutex
	at    uint64
	err   error
	ended bool
}

// Projection may be asked for at any time.
func (c *Control) Projection() Projection {
	p := &c.projecting
	p.mu.Lock()
	defer p.mu.Unlock()
	v := c.Version()
	return Projection{Behind: v - min(p.at, v), Err: p.err, Ended: p.ended}
}

// Project follows the control stream into the ledger until ctx ends; then it returns nil. What fails is tried again, from
// where the ledger then is; only what cannot pass is returned. It also notices records that are stored but not yet in force
// here, because the journal's answer was lost, and brings them into force.
func (c *Control) Project(ctx context.Context, l Projector) error {
	for wait := minRetry; ctx.Err() == nil; wait = min(2*wait, maxRetry) {
		err := c.project(ctx, l)
		if c.projecting.failing.Since().IsZero() {
			wait = minRetry // it has worked meanwhile
		}
		if ctx.Err() == nil && c.failed(err) {
			return err
		}
		pause(ctx, wait)
	}
	return nil // told to stop; what it was doing then is done again at the next start
}

// failed notes why the projection has stopped, and says whether that is for good.
func (c *Control) failed(err error) (ended bool) {
	ended = slices.ContainsFunc([]error{journal.ErrGap, journal.ErrStopped, catalog.ErrRecord, ErrAhead}, func(last error) bool {
		return errors.Is(err, last)
	})
	p := &c.projecting
	p.mu.Lock()
	p.err, p.ended = err, ended
	p.mu.Unlock()
	if n, say := p.failing.Failed(time.Now()); say && !ended {
		c.log.Warn("control records cannot be projected, trying again", "attempts", n, "err", err)
	}
	return ended
}

// reached notes how far the ledger is. The projection works when that is all there is.
func (c *Control) reached(at uint64) {
	caughtUp := at >= c.Version()
	p := &c.projecting
	p.mu.Lock()
	p.at = at
	if caughtUp {
		p.err = nil
	}
	p.mu.Unlock()
	if !caughtUp {
		return
	}
	if n, lasted, over := p.failing.Worked(time.Now()); over {
		c.log.Info("control records are projected again", "failed", n, "after", lasted)
	}
}

// project goes on from where the ledger is until something fails.
func (c *Control) project(ctx context.Context, l Projector) error {
	at, err := l.ControlPosition(ctx)
	if err != nil {
		return err
	}
	if at > c.Version() { // a record may have been projected that could not be brought into force here
		if err := c.follow(ctx); err != nil {
			return err
		}
	}
	if v := c.Version(); at > v {
		return fmt.Errorf("%w: it is at record %d, the stream ends at %d", ErrAhead, at, v)
	}
	r, err := c.stream.Read(ctx, at+1)
	if err != nil {
		return fmt.Errorf("read control stream: %w", err)
	}
	for err == nil {
		c.reached(at)
		at, err = c.projectSome(ctx, l, r, at)
	}
	return errors.Join(err, r.Close())
}

// projectSome waits for a record, takes what else is there, and projects it. It returns how far the ledger then is.
func (c *Control) projectSome(ctx context.Context, l Projector, r journal.Reader, at uint64) (uint64, error) {
	idle, cancel := context.WithTimeout(ctx, compareEvery)
	defer cancel()
	m, err := r.Next(idle)
	if idle.Err() != nil && errors.Is(err, context.DeadlineExceeded) {
		return at, compare(ctx, l, at)
	}
	if err != nil {
		return at, err
	}
	var records []catalog.Record
	size, ok := 0, true
	for ok && err == nil {
		rec, derr := DecodeRecord(m)
		if derr != nil {
			return at, derr
		}
		records = append(records, *rec)
		if size += len(m.Data); size >= projectBytes {
			break
		}
		m, ok, err = r.TryNext()
	}
	if err != nil {
		return at, err
	}
	through := records[len(records)-1].Seq
	if through > c.Version() {
		if err := c.follow(ctx); err != nil {
			c.log.Error("stored control records are not in force yet", "through", through, "err", err)
		}
	}
	return through, l.Project(ctx, records, through)
}

// compare looks whether the ledger is where it was left.
func compare(ctx context.Context, l Projector, at uint64) error {
	now, err := l.ControlPosition(ctx)
	if err == nil && now != at {
		err = fmt.Errorf("the ledger is at control record %d, it had been at %d", now, at)
	}
	return err
}

// follow brings into force what is stored.
func (c *Control) follow(ctx context.Context) error {
	if err := c.take(ctx); err != nil {
		return err
	}
	defer c.release()
	return c.catchUp(ctx)
}
