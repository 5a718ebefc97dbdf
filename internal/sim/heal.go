package sim

import (
	"errors"

	"milliard/internal/ledger"
)

// heal ends all faults and lets the system do its work: everybody must get an answer and the ledger must reach the end
// of every lane that is not damaged.
func (w *world) heal() {
	w.calm, w.skew, w.frozen = true, 0, 0
	w.did("no more faults")
	if len(w.procs) != 1 || len(w.strayed("")) > 0 || w.procs[0].broken() || !w.plan.keepRunning {
		for len(w.procs) > 0 {
			w.kill(w.procs[0])
		}
		w.start()
	}
	const rounds = 3000
	idle := false
	for range rounds {
		w.step++
		w.now += 50
		if len(w.procs) == 0 {
			w.start()
		}
		p := w.procs[0]
		if w.round(p) {
			if idle {
				w.orderly(p)
				return
			}
			// After a refusal only events and the tick of an idle minute find out that there is room again.
			idle = true
			w.now += 61_000
		}
		for lane, s := range p.out {
			if s.stopped || errors.Is(p.owners[lane].halted, ledger.ErrFenced) {
				w.kill(p)
				break
			}
		}
	}
	p := w.procs[0]
	for lane := range w.plan.lanes {
		st := p.owners[lane].Status()
		w.did("lane %d: journal %d, folded %d, committed %d, halted %v", lane, w.state(lane).Last, st.Folded.Seq, st.Committed.Seq, st.Halted)
	}
	w.broken("HEAL", "%d events have no answer, or a lane lags, long after the last fault", w.clients.open())
}

// open is how many events have no answer.
func (c *clients) open() int {
	n := 0
	for _, it := range c.due {
		if !it.done {
			n++
		}
	}
	return n
}

// round lets everybody do a step, and says whether nothing is left to do.
func (w *world) round(p *process) bool {
	for range 8 {
		if !w.clients.retry(p) {
			break
		}
	}
	w.clients.timeOut()
	for lane := range p.out {
		p.commitSpool(lane)
	}
	done := w.clients.open() == 0 && len(p.clicks) == 0
	before := w.sum.Batches
	for lane, s := range p.out {
		p.send(s)
		own := p.owners[lane]
		done = done && p.spool.Lane(lane).Waiting() == 0
		if own.halted != nil {
			continue
		}
		if !own.recovered {
			p.recover(own)
			done = false
			continue
		}
		for range 20 {
			if !p.fold(own) {
				break
			}
		}
		if own.halted != nil {
			continue
		}
		own.Swap()
		p.flush(own)
		if own.halted == nil && w.step%7 == 0 {
			p.save(own)
			p.seal(own)
			p.trim(own)
		}
		s.Freeze() // is there something left to write?
		st := own.Status()
		done = done && !s.InFlight() && s.p.Pending() == 0 && st.Committed.Seq == w.state(lane).Last
	}
	return done && w.sum.Batches == before // a lane that still writes has something left
}

// orderly stops the process as an operator would, and starts it once more: it must stand where it stood.
func (w *world) orderly(p *process) {
	w.oracle.tallied()
	for _, own := range p.owners {
		if own.halted == nil {
			if err := own.LastImage(); err != nil {
				w.broken("IMAGE", "last image: %v", err)
			}
		}
	}
	w.kill(p)
	w.start()
	p = w.procs[0]
	for _, own := range p.owners {
		p.recover(own)
	}
}
