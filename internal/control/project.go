package control

import (
	"context"
	"errors"
	"fmt"
	"time"

	"milliard/internal/catalog"
	"milliard/internal/journal"
	"milliard/internal/ledger"
)

// Projector is the part of the ledger that holds the catalog as SQL.
type Projector interface {
	ControlPosition(ctx context.Context) (uint64, error)
	Project(ctx context.Context, records []catalog.Record, through uint64) error
}

const (
	projectBytes = 1 << 20 // of records in one transaction
	minRetry     = 100 * time.Millisecond
	maxRetry     = 5 * time.Second
)

// Project follows the control stream into the ledger until ctx ends; then it returns nil. While the ledger is not
// available it waits and tries again. It also notices records that are stored but not yet in force here, because the
// journal's answer was lost, and brings them into force.
func (c *Control) Project(ctx context.Context, l Projector) error {
	if err := c.project(ctx, l); ctx.Err() == nil {
		return err
	}
	return nil // told to stop; what it was doing then is done again at the next start
}

func (c *Control) project(ctx context.Context, l Projector) error {
	var from uint64
	err := c.retry(ctx, "control position of the ledger", func() (err error) {
		from, err = l.ControlPosition(ctx)
		return err
	})
	if err != nil {
		return fmt.Errorf("control position: %w", err)
	}
	if v := c.Version(); from > v {
		return fmt.Errorf("the ledger is at control record %d, the control stream ends at %d: not the same installation", from, v)
	}
	r, err := c.stream.Read(ctx, from+1)
	if err != nil {
		return fmt.Errorf("read control stream: %w", err)
	}
	for err == nil {
		err = c.projectSome(ctx, l, r)
	}
	return errors.Join(err, r.Close())
}

// projectSome waits for a record, takes what else is there, and projects it.
func (c *Control) projectSome(ctx context.Context, l Projector, r journal.Reader) error {
	m, err := r.Next(ctx)
	if err != nil {
		return err
	}
	var records []catalog.Record
	size, ok := 0, true
	for ok && err == nil {
		rec, derr := DecodeRecord(m)
		if derr != nil {
			return derr
		}
		records = append(records, *rec)
		if size += len(m.Data); size >= projectBytes {
			break
		}
		m, ok, err = r.TryNext()
	}
	if err != nil {
		return err
	}
	through := records[len(records)-1].Seq
	if through > c.Version() {
		if err := c.follow(ctx); err != nil {
			c.log.Error("stored control records are not in force yet", "through", through, "err", err)
		}
	}
	return c.retry(ctx, "project control records", func() error { return l.Project(ctx, records, through) })
}

// follow brings into force what is stored.
func (c *Control) follow(ctx context.Context) error {
	if err := c.take(ctx); err != nil {
		return err
	}
	defer c.release()
	return c.catchUp(ctx)
}

// retry repeats f while the ledger is not available.
func (c *Control) retry(ctx context.Context, what string, f func() error) error {
	wait := minRetry
	for {
		err := f()
		if !errors.Is(err, ledger.ErrUnavailable) {
			return err
		}
		c.log.Warn("ledger not available, trying again", "what", what, "err", err)
		if !pause(ctx, wait) {
			return ctx.Err()
		}
		wait = min(2*wait, maxRetry)
	}
}
