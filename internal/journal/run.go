package journal

import (
	"context"
	"errors"
	"fmt"
	"time"

	"milliard/internal/crash"
	"milliard/internal/planted"
)

// cycle is where the lane's state machine stands: at most one batch is in flight, and at most one more is encoded and
// waits for its turn. Run owns it.
type cycle struct {
	flight, next *frozen
	tick         bool // log time has stood still for long enough
}

// launch encodes what can be encoded and fixes the bytes of the next batch if none is in flight. It returns that batch,
// which is to be sent, or nil.
func (p *Producer) launch(c *cycle) *frozen {
	if c.next == nil {
		c.next = p.freeze(c.flight != nil, c.tick)
	}
	if c.flight != nil || c.next == nil {
		return nil
	}
	if !c.next.spooled {
		if c.next.head.Kind == KindEvents && len(c.next.held) == 0 {
			p.join(c.next)
		}
		p.seal(c.next)
	}
	crash.Point(crash.JournalFrozen)
	now := p.opt.Now()
	p.flying.Store(&now)
	c.flight, c.next, c.tick = c.next, nil, false
	return c.flight
}

// land takes the result of the batch in flight. After an error the lane has stopped and everybody who waits was told.
func (p *Producer) land(life context.Context, c *cycle, r result) error {
	c.flight, c.tick = nil, false
	p.flying.Store(nil)
	err := p.resolve(life, r)
	if err != nil {
		p.fail(err, c.next)
		c.next = nil
	}
	return err
}

// run turns the state machine of the lane.
func (p *Producer) run(life context.Context) {
	defer close(p.ended)
	defer p.cancel()
	send, results := make(chan *frozen), make(chan result)
	defer close(send)
	go p.attempt(life, send, results)

	idle := time.NewTimer(p.opt.TickEvery)
	defer idle.Stop()
	probe := time.NewTicker(probeEvery) // a full journal is asked again for the sake of the backlog
	defer probe.Stop()
	ending := p.ending
	var c cycle
	for {
		if f := p.launch(&c); f != nil {
			send <- f
			continue // the following batch may be full already
		}
		if c.flight == nil && ending == nil { // nothing in flight, nothing left
			return
		}
		select {
		case <-p.wake:
		case <-probe.C:
			p.roomAgain()
		case <-idle.C:
			c.tick = true
		case <-ending:
			ending = nil
		case r := <-results:
			if p.land(life, &c, r) != nil {
				return
			}
			idle.Reset(p.opt.TickEvery)
		}
	}
}

// attempt sends what it is given until the outcome is known or life ends.
func (p *Producer) attempt(life context.Context, send <-chan *frozen, results chan<- result) {
	for f := range send {
		f.sent = time.Now()
		if planted.Is(planted.AckEarly) && f.of != nil {
			f.of.finish(p.last+1, nil)
		}
		seq, err := p.resend(life, f)
		results <- result{f, seq, err}
	}
}

// resend appends f, and appends it again as long as nobody knows whether it is stored. p.last stands still meanwhile.
func (p *Producer) resend(life context.Context, f *frozen) (uint64, error) {
	backoff := minBackoff
	for {
		ctx, cancel := context.WithTimeout(life, p.opt.AppendTimeout)
		seq, err := p.try(ctx, f)
		cancel()
		if !errors.Is(err, ErrUnknown) {
			return seq, err
		}
		if !pause(life, backoff) {
			return 0, err
		}
		backoff = min(2*backoff, maxBackoff)
	}
}

// pause says whether d passed before life ended.
func pause(life context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-life.Done():
		return false
	}
}

// try appends f once. After ErrUnknown only the same bytes may be sent.
func (p *Producer) try(ctx context.Context, f *frozen) (uint64, error) {
	if p.opt.Room != nil && !f.unknown { // what may be on its way already must be asked for
		if err := p.opt.Room(); err != nil {
			f.cramped = true
			return 0, fmt.Errorf("%w: %w", ErrFull, err)
		}
	}
	crash.Point(crash.JournalBefore)
	seq, err := p.opt.Stream.Append(ctx, p.last, f.msg)
	crash.Point(crash.JournalAfter)
	if errors.Is(err, ErrUnknown) {
		f.unknown = true
		p.stats.failed(err)
		p.log.Warn("append outcome unknown, sending the same bytes again", "counter", f.head.Counter, "err", err)
		if planted.Is(planted.NewIdentity) {
			p.counter, p.prev, p.last = 0, Hash{}, p.last+1
			p.name[0]++
			p.seal(f)
		}
	}
	return seq, err
}

// seal gives f its place in the incarnation and fixes its bytes. It is repeated only if f was never sent.
func (p *Producer) seal(f *frozen) {
	from := time.Now()
	f.head.Lane, f.head.Incarnation = uint16(p.opt.Lane), p.name
	f.head.Counter, f.head.Prev = p.counter+1, p.prev
	f.hash = Seal(f.msg, &f.head)
	now := p.opt.Now()
	f.waited, f.sealed = now.Sub(f.opened), now.UnixMilli()
	p.stats.worked(time.Since(from))
}

// resolve takes the result of the batch in flight. An error means that the lane can go on no more.
func (p *Producer) resolve(life context.Context, r result) error {
	f := r.f
	if r.err == nil {
		if r.seq != p.last+1 {
			r.err = fmt.Errorf("%w: appended after %d, stored as %d", ErrConflict, p.last, r.seq)
		} else {
			p.last, p.refused, p.cramped = r.seq, false, false
			p.reached.Store(r.seq) // before anybody is told, see Settled
			p.jammed.Store(false)
			if f.spooled {
				p.storedSpooled(f)
			} else {
				p.counter, p.prev = f.head.Counter, f.hash
			}
			if f.head.Kind == KindTick || f.head.Kind == KindClosed {
				p.ticked = f.sealed
			}
			if f.closes {
				p.closing = p.closing[1:]
			}
			p.stats.stored(f, r.seq)
			p.settle(f, r.seq, nil)
			return nil
		}
	}
	p.stats.failed(r.err)
	p.jammed.Store(true) // before the waiters are told: the batch may be stored all the same, see Settled
	switch {
	case errors.Is(r.err, ErrFull):
		return p.refuse(life, f, r.err)
	case errors.Is(r.err, ErrUnknown): // life has ended
		p.settle(f, 0, r.err)
		return fmt.Errorf("%w while its last batch was unanswered", ErrStopped)
	case errors.Is(r.err, ErrStopped):
		p.settle(f, 0, r.err)
		return r.err
	}
	err := fmt.Errorf("%w: %w", ErrStopped, r.err)
	p.settle(f, 0, err)
	return err
}

// refuse ends the incarnation after a batch was not stored for want of room. The waiters are told so, unless an
// earlier attempt had no answer: then nobody may claim that the events are not stored.
func (p *Producer) refuse(life context.Context, f *frozen, cause error) error {
	if f.unknown {
		cause = fmt.Errorf("%w: then %w", ErrUnknown, cause)
	}
	p.said.warn(p, f, cause)
	p.settle(f, 0, cause)
	p.refused, p.cramped = true, f.cramped
	if !f.spooled { // what the backlog holds is sent again as it is
		if err := p.rename(); err != nil {
			return fmt.Errorf("%w: %w", ErrStopped, err)
		}
	}
	last, err := p.last, error(nil)
	if f.unknown { // if not, the stream stands where it stood: nobody else writes to it
		if last, err = p.whereabouts(life); err != nil {
			return err
		}
	}
	if last == p.last {
		for _, t := range f.tallied {
			p.putBack(t)
		}
	}
	p.last = last
	return nil
}

// whereabouts asks where the stream ends until it is told, as beside a trim it may not be at once, or life ends.
func (p *Producer) whereabouts(life context.Context) (uint64, error) {
	backoff := minBackoff
	for {
		ctx, cancel := context.WithTimeout(life, p.opt.AppendTimeout)
		st, err := p.opt.Stream.State(ctx)
		cancel()
		switch {
		case err == nil && st.Last >= p.last:
			return st.Last, nil
		case err == nil:
			return 0, fmt.Errorf("%w: %w: it ended at %d and ends at %d", ErrStopped, ErrGap, p.last, st.Last)
		case errors.Is(err, ErrStopped):
			return 0, err
		}
		p.stats.failed(err)
		p.log.Warn("where the journal ends is unknown, asking again", "err", err)
		if !pause(life, backoff) {
			return 0, fmt.Errorf("%w: %w", ErrStopped, err)
		}
		backoff = min(2*backoff, maxBackoff)
	}
}

// roomAgain lets a lane try again that has refused for want of disk: nobody may send anything to one that is not ready.
func (p *Producer) roomAgain() {
	if p.cramped && p.opt.Room() == nil {
		p.cramped, p.refused = false, false
		p.jammed.Store(false)
	}
}

// putBack returns a tally that was not stored to those that wait.
func (p *Producer) putBack(t Tally) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.tallies) < maxTallies {
		p.tallies[tallyKey{t.Minute, t.Tenant, t.Door, t.Reason}] += t.N
	}
}

// settle answers everybody who waits for f and takes its memory back.
func (p *Producer) settle(f *frozen, seq uint64, err error) {
	if f.of != nil {
		if !planted.Is(planted.AckEarly) {
			f.of.finish(seq, err)
		}
	}
	for _, of := range f.held {
		of.finish(seq, err)
	}
	if f.charged > 0 {
		p.release(int(f.head.Events), f.charged)
	}
	if len(p.bufs) < 3 {
		p.bufs = append(p.bufs, f.msg[:0])
	}
	f.msg = nil
}

// fail stops the lane: nothing is taken any more and whoever waits is told.
func (p *Producer) fail(cause error, next *frozen) {
	p.log.Error("lane stopped", "err", cause)
	p.mu.Lock()
	p.broken = cause
	if p.stopped == nil {
		p.stopped = cause
	}
	left, held := append(p.full, p.open), p.held
	p.full, p.open, p.held = nil, new(batch), nil
	p.open.reset(p.opt.Lane)
	p.mu.Unlock()
	if next != nil {
		p.settle(next, 0, cause)
	}
	for _, s := range held {
		s.of.unsent = true
		s.of.finish(0, cause)
		p.release(s.left, s.charged)
	}
	for _, b := range left {
		b.of.finish(0, cause)
		p.release(b.events, b.charged)
	}
}
