// Package report answers questions about what has been counted: reports over any dimension, time grain, zone and
// filter, and live counters. It builds SQL over one ledger snapshot, fetches exact integers and does all money in Go,
// so that no SQL dialect ever rounds a price.
//
// It owns no goroutine and no state besides its configuration; every call runs on its caller's goroutine. It must not
// write to the ledger, parse HTTP or hold a snapshot open while it computes.
package report

import (
	"context"
	"errors"
	"fmt"
	"time"

	"milliard/internal/catalog"
	"milliard/internal/ledger"
)

// Reader is the part of the ledger that reports need.
type Reader interface {
	Snapshot(ctx context.Context, read func(q ledger.Querier) error) error
}

// Live gives the generations that a lane's owner still keeps: every one above the committed position, the open one as
// a frozen copy. A generation may already be committed when it is looked at.
type Live interface {
	Pending() []*ledger.Generation
}

// BadRequest is a question that cannot be answered as it was put: which part of it, and what would be possible.
type BadRequest struct {
	Field string
	Msg   string
}

func (e *BadRequest) Error() string {
	if e.Field == "" {
		return e.Msg
	}
	return e.Field + ": " + e.Msg
}

func bad(field, format string, args ...any) error {
	return &BadRequest{Field: field, Msg: fmt.Sprintf(format, args...)}
}

// ErrTooMany: the answer would have more groups than are held in memory.
var ErrTooMany = errors.New("too many groups")

// maxGroups bounds what one report may fetch before it is merged into lines.
const maxGroups = 2_000_000

// Config is what a Service is made of. Reader and Now are required.
type Config struct {
	Reader Reader
	Live   Live             // nil: counters know only what is committed
	Now    func() time.Time // the wall clock, for "today" and for the lag
	Halted func() []int     // lanes that have stopped: their numbers may be behind; nil: none
}

// Service answers reports and counters. It is safe for concurrent use.
type Service struct {
	reader Reader
	live   Live
	now    func() time.Time
	halted func() []int
}

// New returns a service.
func New(c Config) *Service {
	s := &Service{reader: c.Reader, live: c.Live, now: c.Now, halted: c.Halted}
	if s.now == nil {
		s.now = time.Now
	}
	if s.halted == nil {
		s.halted = func() []int { return nil }
	}
	return s
}

// Report answers one request for one tenant. A *BadRequest says what is wrong with the question.
func (s *Service) Report(ctx context.Context, names *catalog.View, r Request) (*Result, error) {
	now := s.now()
	q, err := Parse(r, names, now)
	if err != nil {
		return nil, err
	}
	stmt, args := q.build(names)
	var cells []cell
	var fresh Fresh
	err = s.reader.Snapshot(ctx, func(tx ledger.Querier) error {
		var err error
		if fresh, err = readFresh(ctx, tx); err != nil {
			return err
		}
		cells, err = q.fetch(ctx, tx, names, stmt, args)
		return err
	})
	if err != nil {
		return nil, err
	}
	fresh.judge(now, s.halted())
	res := q.merge(names, cells)
	res.Fresh, res.Partial = fresh, fresh.partial
	return res, nil
}
