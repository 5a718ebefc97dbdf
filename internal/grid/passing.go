package grid

import (
	"context"
	"errors"
	"fmt"
	"time"

	"milliard/internal/durable"
	"milliard/internal/journal"
	"milliard/internal/ledger"
)

// What is tried again is tried after so long, and twice as long each time up to a limit.
const (
	minRetry = 50 * time.Millisecond
	maxRetry = 2 * time.Second
)

// passing says whether what could not be had from the journal, the archive or the ledger may be had the next time: nobody
// has said that it is missing, damaged or another's. A lane has no deadline, so one that has passed is that of a single
// question.
func passing(err error) bool {
	if errors.Is(err, ErrHalt) || errors.Is(err, journal.ErrGap) || errors.Is(err, journal.ErrStopped) {
		return false // whatever caused it
	}
	return errors.Is(err, journal.ErrUnavailable) || errors.Is(err, ledger.ErrUnavailable) ||
		errors.Is(err, context.DeadlineExceeded) || durable.Passing(err)
}

// halting makes an error one that halts the lane, unless it passes.
func halting(err error) error {
	if passing(err) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrHalt, err)
}

// pause says whether d passed before ctx ended.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
