package journal

import (
	"io"
	"time"

	"milliard/internal/crash"
	"milliard/internal/planted"
)

// Backlog is batches of a lane that were made durable somewhere else because the journal could not: their bytes are fixed
// and their incarnations are their own. The lane appends them as soon as it can, with one batch in flight as always. Run
// alone calls it, but for Waiting.
type Backlog interface {
	// Next returns the oldest batch that is not known to be stored and can be read now: there may be none although some
	// wait. The bytes are the caller's.
	Next() (msg []byte, ok bool)
	// Stored says that the batch that Next returned last is durable in the journal. done tells that it was the last of its
	// incarnation and that nothing of it is kept any more: the incarnation has ended.
	Stored() (ended Incarnation, done bool)
	// Waiting is how many batches there are.
	Waiting() int
}

// probeEvery is how often a full journal is asked whether it has room for the backlog.
const probeEvery = time.Second

// farBehind is how far a lane's log time may be behind before the whole backlog goes before the record that moves it: by
// then ids that the backlog's events use could be forgotten.
const farBehind = 10 * time.Minute

func (p *Producer) waiting() int {
	if p.opt.Backlog == nil {
		return 0
	}
	return p.opt.Backlog.Waiting()
}

// drain returns the next batch of the backlog, or nil.
func (p *Producer) drain() *frozen {
	if p.opt.Backlog == nil {
		return nil
	}
	now := p.opt.Now()
	if since := now.Sub(p.probed); p.refused && since >= 0 && since < probeEvery {
		return nil
	}
	f := &frozen{spooled: true, opened: now}
	ok := true
	if p.again != nil {
		f.msg, p.again = p.again, nil
	} else if f.msg, ok = p.opt.Backlog.Next(); !ok {
		p.strict = 0
		return nil
	}
	f.head, _ = PeekHeader(f.msg) // whoever keeps it has checked it
	f.hash = HashOf(f.msg)
	p.probed, p.drained = now, true
	return f
}

// storedSpooled notes that a batch of the backlog is durable.
func (p *Producer) storedSpooled(f *frozen) {
	crash.Point(crash.SpoolDrained)
	if planted.Is(planted.SpoolTwice) && !f.head.isAgain() {
		p.feedAgain(f)
		return
	}
	p.strict = max(0, p.strict-1)
	if ended, done := p.opt.Backlog.Stored(); done {
		crash.Point(crash.SpoolRemoved)
		p.closing = append(p.closing, ended)
	}
}

// isAgain recognises what the planted bug has fed for the second time.
func (h *Header) isAgain() bool {
	return h.Counter == 1 && h.Incarnation[0] == 0xEE && h.Incarnation[1] == 0xEE
}

// feedAgain is the planted bug: the same events go out once more under another name.
func (p *Producer) feedAgain(f *frozen) {
	h := f.head
	if _, err := io.ReadFull(p.opt.Random, h.Incarnation[:]); err != nil {
		return
	}
	h.Incarnation[0], h.Incarnation[1], h.Counter, h.Prev = 0xEE, 0xEE, 1, Hash{}
	p.again = append([]byte(nil), f.msg...)
	Seal(p.again, &h)
}
