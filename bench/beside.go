package main

import (
	"context"
	"fmt"
	"math"
	"time"
)

// The load that comes in beside readers: the mix of the other rows at a rate that does not depend on what is read.
const (
	besideRate  = 20_000
	besideQuick = 2_000
	besideConns = 16                     // so that an answer may take 160 ms before the load falls behind
	besideOff   = 0.05                   // how far the achieved rate may be from it
	besideLead  = 500 * time.Millisecond // the load begins before the readers, and ends after them
)

// beside is a load for the given time.
func (h *harness) beside(srv *subject, span time.Duration) load {
	l := h.mix("columnar")
	l.Addr, l.Key, l.Span = srv.doors, srv.key, span
	l.Rate, l.Conns, l.Batch = besideRate, besideConns, 200
	if h.opt.quick {
		l.Rate = besideQuick
	}
	return l
}

// steady is a load that is running.
type steady struct {
	h    *harness
	load load
	over chan struct{} // closed when it has ended
	sent *sent
	err  error
}

func (h *harness) steady(ctx context.Context, l load) *steady {
	s := &steady{h: h, load: l, over: make(chan struct{})}
	go func() {
		s.sent, s.err = h.drive(ctx, l)
		close(s.over)
	}()
	return s
}

// wait returns what was sent and how fast, in events per second. Another rate than was asked for is an error.
func (s *steady) wait() (*sent, float64, error) {
	<-s.over
	if s.err != nil {
		return nil, 0, s.err
	}
	rate := float64(s.sent.Events) / max(s.sent.seconds(), s.load.Span.Seconds())
	if math.Abs(rate/s.load.Rate-1) > besideOff {
		return s.sent, rate, s.h.strict(fmt.Errorf("the load beside the readers was %.0f events/s, not %.0f", rate, s.load.Rate))
	}
	return s.sent, rate, nil
}

// covers says whether the load ran during all of a reader's time.
func (s *steady) covers(x *sent) error {
	if s.sent.Began > x.Began || s.sent.Ended < x.Ended {
		return s.h.strict(fmt.Errorf("the load ran from %d ms after the readers' begin to %d ms before their end",
			(s.sent.Began-x.Began)/1e6, (x.Ended-s.sent.Ended)/1e6))
	}
	return nil
}

// strict keeps an error about how a number came about; a quick run, which publishes none, only shows it.
func (h *harness) strict(err error) error {
	if h.opt.quick {
		h.say("  %v", err)
		return nil
	}
	return err
}
