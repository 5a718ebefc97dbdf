package replay

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"
)

// errTemporary is wrapped by errors after which the same request may be sent again: it carries ids, or nothing of it
// was taken.
var errTemporary = errors.New("temporary")

// Waits between two attempts.
const (
	firstWait = 50 * time.Millisecond
	lastWait  = 2 * time.Second
)

// persist calls try until it succeeds, fails for good, or has failed for longer than patience. A server that is killed
// and started again is ridden out in here.
func persist(ctx context.Context, patience time.Duration, retried func(error), try func() error) error {
	wait := firstWait
	var since time.Time
	for {
		err := try()
		if err == nil || !errors.Is(err, errTemporary) {
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		now := time.Now()
		if since.IsZero() {
			since = now
		}
		if now.Sub(since) > patience {
			return fmt.Errorf("given up after %v: %w", patience, err)
		}
		retried(err)
		if err := pause(ctx, wait/2+rand.N(wait/2+1)); err != nil {
			return err
		}
		wait = min(2*wait, lastWait)
	}
}

// pause waits, but not longer than the context lives.
func pause(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
