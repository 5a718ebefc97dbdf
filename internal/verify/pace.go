package verify

import (
	"context"
	"time"
)

// pace keeps a run to a number of bytes per second and to a share of the time while others are busy, so that it takes
// little from those who count. It rests after every stretch of work. It belongs to one goroutine.
type pace struct {
	rate  int64   // bytes per second; 0: no limit
	share float64 // of the time, for working; 1 or 0: all of it
	busy  func() bool

	began  time.Time // the limits hold since then
	done   int64
	since  time.Time // the last rest
	asked  time.Time // busy, when and what
	answer bool
}

func newPace(opt *Options) *pace {
	now := time.Now()
	return &pace{rate: opt.BytesPerSecond, share: opt.Share, busy: opt.Busy, began: now, since: now}
}

const (
	stretch  = 10 * time.Millisecond  // how long is worked at most between two rests
	askAgain = 200 * time.Millisecond // how long an answer of busy is believed
)

// limited says whether the limits hold at the moment.
func (p *pace) limited(now time.Time) bool {
	if p.busy == nil {
		return true
	}
	if now.Sub(p.asked) < askAgain {
		return p.answer
	}
	was := p.answer
	p.asked, p.answer = now, p.busy()
	if p.answer && !was {
		p.began, p.done = now, 0 // what was read while nobody was disturbed does not count
	}
	return p.answer
}

// free says that nobody is disturbed by more work than one goroutine does.
func (p *pace) free() bool { return p.share == 0 || !p.limited(time.Now()) }

// wait returns when n more bytes may be read.
func (p *pace) wait(ctx context.Context, n int) error {
	p.done += int64(n)
	now := time.Now()
	worked := now.Sub(p.since)
	if worked < stretch {
		return ctx.Err()
	}
	rest := time.Duration(0)
	if p.limited(now) {
		if p.share > 0 && p.share < 1 {
			rest = time.Duration(float64(worked) * (1/p.share - 1))
		}
		if p.rate > 0 {
			rest = max(rest, time.Duration(float64(p.done)/float64(p.rate)*float64(time.Second))-now.Sub(p.began))
		}
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
