package verify

import (
	"context"
	"time"
)

// pace keeps a run to a number of bytes per second and to a share of the time, so that it takes little from those who
// count. It rests after every stretch of work.
type pace struct {
	rate  int64   // bytes per second; 0: no limit
	share float64 // of the time, for working; 1 or 0: all of it

	began time.Time
	done  int64
	since time.Time // the last rest
}

func newPace(rate int64, share float64) *pace {
	now := time.Now()
	return &pace{rate: rate, share: share, began: now, since: now}
}

// stretch is how long is worked at most between two rests.
const stretch = 10 * time.Millisecond

// wait returns when n more bytes may be read.
func (p *pace) wait(ctx context.Context, n int) error {
	p.done += int64(n)
	now := time.Now()
	worked := now.Sub(p.since)
	if worked < stretch {
		return ctx.Err()
	}
	rest := time.Duration(0)
	if p.share > 0 && p.share < 1 {
		rest = time.Duration(float64(worked) * (1/p.share - 1))
	}
	if p.rate > 0 {
		rest = max(rest, time.Duration(float64(p.done)/float64(p.rate)*float64(time.Second))-now.Sub(p.began))
	}
	if rest > 0 {
		t := time.NewTimer(rest)
		defer t.Stop()
		select {
		case <-t.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	p.since = time.Now()
	return ctx.Err()
}
