package grid

import (
	"context"
	"errors"
	"time"

	"milliard/internal/durable"
	"milliard/internal/journal"
)

// What is tried again is tried after so long, and twice as long each time up to a limit.
const (
	minRetry = 50 * time.Millisecond
	maxRetry = 2 * time.Second
)

// passing says whether what could not be read from the journal or the archive may be there the next time: nobody has said
// that it is missing or damaged.
func passing(err error) bool {
	if errors.Is(err, ErrHalt) || errors.Is(err, journal.ErrGap) || errors.Is(err, journal.ErrStopped) {
		return false // whatever caused it
	}
	return errors.Is(err, journal.ErrUnavailable) || durable.Passing(err)
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
