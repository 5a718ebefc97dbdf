package main

import (
	"context"
	"time"
)

// pace is the schedule of one connection of an open loop of batches: a batch is due when the events before it were due,
// so that the connections together make the rate, however full their batches are. A connection that was held up sends
// what was due meanwhile, and never more. Without a rate everything is due at once.
type pace struct {
	start time.Time
	end   time.Time
	each  float64 // nanoseconds between two events of this connection; 0: a closed loop
	made  int     // events
}

// pace staggers the connections by equal parts of a batch.
func (r *loadRun) pace(worker int) *pace {
	if r.Rate <= 0 {
		return &pace{}
	}
	p := &pace{end: r.end, each: float64(r.Conns) / r.Rate * float64(time.Second)}
	p.start = r.start.Add(time.Duration(p.each * float64(r.Batch) * float64(worker) / float64(r.Conns)))
	return p
}

// wait returns when the next batch is due, and the time it was due; ok is false when nothing is due any more.
func (p *pace) wait(ctx context.Context) (due time.Time, ok bool, err error) {
	if p.each == 0 {
		return time.Time{}, true, nil
	}
	due = p.start.Add(time.Duration(p.each * float64(p.made)))
	if !due.Before(p.end) {
		return due, false, nil
	}
	left := time.Until(due)
	if left <= 0 {
		return due, true, ctx.Err()
	}
	timer := time.NewTimer(left)
	defer timer.Stop()
	select {
	case <-timer.C:
		return due, true, nil
	case <-ctx.Done():
		return due, false, ctx.Err()
	}
}
