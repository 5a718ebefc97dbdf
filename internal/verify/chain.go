package verify

import (
	"fmt"
	"time"

	"milliard/internal/journal"
)

// chain follows a lane's batches: every incarnation counts 1, 2, 3 … and each of its batches names the hash of the one
// before; log time follows the stamps.
type chain struct {
	marks   map[journal.Incarnation]mark
	logTime int64
	torn    int  // how many holes there were: behind each, counters may jump once
	hole    bool // right behind one
	gaps    []journal.Gap
}

type mark struct {
	counter uint64
	hash    journal.Hash
	torn    int
}

// maxStep is how far log time moves at once without a tick or a closed record.
const maxStep = 10 * time.Minute

func newChain(gaps ...journal.Gap) *chain {
	return &chain{marks: map[journal.Incarnation]mark{}, gaps: gaps}
}

// resumes says whether a repair has foreseen that an incarnation goes on with this batch.
func (c *chain) resumes(h *journal.Header) bool {
	for _, g := range c.gaps {
		for _, r := range g.Resume {
			if r.Incarnation == h.Incarnation && r.Counter == h.Counter && r.Prev == h.Prev {
				return true
			}
		}
	}
	return false
}

// tear says that batches are missing here.
func (c *chain) tear() { c.torn, c.hole = c.torn+1, true }

// follow checks the next batch. repeat is true when it had been folded before, and so counts for nothing.
func (c *chain) follow(b *batch) (repeat bool, problem string) {
	h := &b.header
	m := c.marks[h.Incarnation]
	c.advance(b)
	switch {
	case b.judged && b.logTime != c.logTime:
		problem = fmt.Sprintf("log time %d was recorded as %d", c.logTime, b.logTime)
		c.logTime = b.logTime // what was counted by it is checked next
	case !b.judged:
		b.logTime = c.logTime
	}
	switch {
	case h.Counter == 0:
		return false, fmt.Sprintf("batch 0 of %x", h.Incarnation)
	case h.Counter <= m.counter:
		if h.Counter == m.counter && b.hash != m.hash {
			problem = fmt.Sprintf("batch %d of %x came twice with different bytes", h.Counter, h.Incarnation)
		}
		return true, problem
	case c.resumes(h):
	case m.torn < c.torn: // the first of this incarnation behind a hole
	case h.Counter != m.counter+1:
		problem = fmt.Sprintf("batch %d of %x follows %d: a batch is missing", h.Counter, h.Incarnation, m.counter)
	case h.Prev != m.hash:
		problem = fmt.Sprintf("batch %d of %x does not link to the one before", h.Counter, h.Incarnation)
	}
	c.marks[h.Incarnation] = mark{h.Counter, b.hash, c.torn}
	return false, problem
}

// advance moves log time. Behind a hole the recorded one is taken: what was lost may have moved it.
func (c *chain) advance(b *batch) {
	if c.hole {
		c.hole = false
		c.logTime = max(c.logTime, b.logTime)
	}
	stamp := b.stamp / int64(time.Millisecond)
	if stamp <= c.logTime {
		return
	}
	if c.logTime != 0 && stamp-c.logTime > maxStep.Milliseconds() && b.header.Kind != journal.KindTick &&
		b.header.Kind != journal.KindClosed {
		return
	}
	c.logTime = stamp
}
