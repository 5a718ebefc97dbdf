// Package report answers questions about what has been counted: reports over any dimension, time grain, zone and
// filter, and live counters. It builds SQL over one ledger snapshot, fetches exact integers and does all money in Go,
// so that no SQL dialect ever rounds a price.
//
// It owns no goroutine; every call runs on its caller's goroutine. Its only state is the sums that it keeps for counters,
// which any of its callers brings up to date. It must not
// write to the ledger, parse HTTP or hold a snapshot open while it computes.
package report

import (
	"context"
	"errors"
	"fmt"
	"sync"
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
	Mark(i int) (ledger.Mark, bool) // of the i-th lane, without waiting; false behind the last
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
	// Settled says that everything a lane had accepted when it was asked stands at or below seq; nil: nobody knows, and an
	// answer is complete up to the log's time.
	Settled func(lane int) (seq uint64, ok bool)
	Halted  func() []int // lanes that have stopped: their numbers may be behind; nil: none
	// Feed is told of what the ledger takes. With it, and with Live, counters that are asked for again are answered from
	// memory.
	Feed *Feed
	// Show is how long such an answer may be given again although more was folded; 50 ms by default, never when negative.
	Show time.Duration
}

// Service answers reports and counters. It is safe for concurrent use.
type Service struct {
	reader    Reader
	live      Live
	now       func() time.Time
	halted    func() []int
	settled   func(lane int) (seq uint64, ok bool)
	horizons  horizons
	epoch     time.Time  // what the monotonic clock counts from
	zones     sync.Map   // name → *time.Location: loading one reads a file
	residents *residents // nil: every answer is read from the ledger
}

// New returns a service.
func New(c Config) *Service {
	s := &Service{reader: c.Reader, live: c.Live, now: c.Now, halted: c.Halted, settled: c.Settled, horizons: horizons{of: map[int][]horizon{}}, epoch: time.Now()}
	if c.Feed != nil && c.Live != nil {
		if c.Show == 0 {
			c.Show = showFor
		}
		s.residents = &residents{
			feed: c.Feed, show: c.Show, tables: map[tableKey]*table{}, asked: map[tableKey]int64{}, wide: map[tableKey]int64{},
		}
	}
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
	var groups *cells
	var fresh Fresh
	err = s.reader.Snapshot(ctx, func(tx ledger.Querier) error {
		var err error
		if fresh, err = readFresh(ctx, tx); err != nil {
			return err
		}
		marks, err := readMarks(ctx, tx)
		if err != nil {
			return err
		}
		groups, err = q.fetch(ctx, tx, names, marks)
		return err
	})
	if err != nil {
		return nil, err
	}
	s.judge(&fresh, now, s.halted())
	res := q.merge(names, groups)
	res.Fresh, res.Partial = fresh, fresh.partial
	return res, nil
}
