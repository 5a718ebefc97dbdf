package journal

import (
	"cmp"
	"slices"
	"time"

	"milliard/internal/crash"
)

// keepBatches is how many sets of builders are kept for the next batches: one grows while one is encoded, and one more
// for bursts. What an overload made beyond that is left to the garbage collector.
const keepBatches = 3

// freeze takes the next batch and encodes it, outside the lock that adders take. While another batch is in flight it
// takes only a full one; the open one had better go on growing. It returns nil when there is nothing to do.
func (p *Producer) freeze(busy, tick bool) *frozen {
	if busy {
		if b := p.takeUnless(p.strict > 0); b != nil {
			return p.encode(b)
		}
		return nil
	}
	// What was spooled before this process began stands first in its log: log time has hardly moved since those events were
	// accepted, so whatever a verdict needs is still remembered. Later the two take turns.
	if p.strict > 0 || !p.drained {
		if f := p.drain(); f != nil {
			return f
		}
	}
	p.drained = false
	if f := p.own(tick); f != nil {
		return f
	}
	return p.drain()
}

// own returns the lane's own next batch.
func (p *Producer) own(tick bool) *frozen {
	now := p.opt.Now().UnixMilli()
	if now-p.ticked >= farBehind.Milliseconds() && !p.refused { // log time is about to jump: what was accepted before goes before
		if p.strict = p.waiting(); p.strict > 0 {
			if f := p.drain(); f != nil { // or else it cannot be read, perhaps never again: the lane does not wait for that
				return f
			}
		}
	}
	// A new process says first that the old one has ended, or just that it is here: that moves log time. While the
	// journal is full only events, which have waiters, and ticks find out whether there is room again.
	if len(p.closing) > 0 && !p.refused {
		p.first = false
		f := &frozen{head: Header{Kind: KindClosed, Received: now}, closes: true}
		f.msg = AppendClosed(AppendHeader(p.buffer()), p.closing[0])
		return f
	}
	// Owners follow a step of more than ten minutes only from a control record. When the clock jumps, a busy lane has no
	// idle minute in which to write one, so it writes one every minute. It also does when the clock went back: the last tick
	// may have been fixed before and stored after.
	if every := p.opt.TickEvery.Milliseconds(); !p.refused && (now-p.ticked >= every || p.ticked-now >= every) {
		return p.tick(now)
	}
	if ts := p.takeTallies(); len(ts) > 0 {
		crash.Point(crash.JournalTallies)
		msg, err := AppendTallies(AppendHeader(p.buffer()), ts)
		if err == nil {
			return &frozen{head: Header{Kind: KindTallies, Received: now}, tallied: ts, msg: msg}
		}
		p.log.Error("tallies dropped", "err", err)
	}
	if p.heldFirst {
		if f := p.heldAlone(); f != nil {
			return f
		}
		p.heldFirst = false
	}
	if b := p.take(false); b != nil {
		p.first = false
		return p.encode(b)
	}
	if p.holds() {
		if f := p.heldAlone(); f != nil {
			return f
		}
	}
	if tick || p.first {
		return p.tick(now)
	}
	return nil
}

func (p *Producer) tick(now int64) *frozen {
	p.first = false
	return &frozen{head: Header{Kind: KindTick, Received: now}, msg: AppendHeader(p.buffer())}
}

// takeUnless takes a full batch, unless own batches have to wait.
func (p *Producer) takeUnless(later bool) *batch {
	if later {
		return nil
	}
	return p.take(true)
}

// take takes the oldest batch with events off the lane.
func (p *Producer) take(onlyFull bool) *batch {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.full) == 0 {
		if onlyFull || p.open.events == 0 {
			return nil
		}
		p.rollLocked()
	}
	b := p.full[0]
	p.full = slices.Delete(p.full, 0, 1)
	return b
}

// encode makes a frozen batch of b and gives b's memory back.
func (p *Producer) encode(b *batch) *frozen {
	from := time.Now()
	f := &frozen{
		head: Header{
			Kind: KindEvents, Events: uint32(b.events), Received: b.opened.UnixMilli(), Catalog: b.catalog,
		},
		of: b.of, charged: b.charged, opened: b.opened,
	}
	f.msg = b.encode(p.buffer())
	p.mu.Lock()
	if len(p.spare) < keepBatches {
		p.spare = append(p.spare, b)
	}
	p.mu.Unlock()
	p.stats.worked(time.Since(from))
	return f
}

// buffer returns memory for a message.
func (p *Producer) buffer() []byte {
	if n := len(p.bufs); n > 0 {
		b := p.bufs[n-1]
		p.bufs = p.bufs[:n-1]
		return b
	}
	return make([]byte, 0, TargetBatchBytes+TargetBatchBytes/4)
}

// takeTallies empties the tallies, in a fixed order so that equal runs write equal bytes.
func (p *Producer) takeTallies() []Tally {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.tallies) == 0 || p.refused {
		return nil
	}
	ts := make([]Tally, 0, len(p.tallies))
	for k, n := range p.tallies {
		ts = append(ts, Tally{Minute: k.minute, Tenant: k.tenant, Door: k.door, Reason: k.reason, N: n})
	}
	clear(p.tallies)
	slices.SortFunc(ts, func(a, b Tally) int {
		return cmp.Or(cmp.Compare(a.Minute, b.Minute), cmp.Compare(a.Tenant, b.Tenant),
			cmp.Compare(a.Door, b.Door), cmp.Compare(a.Reason, b.Reason))
	})
	return ts
}
