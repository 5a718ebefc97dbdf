package sim

import (
	"errors"
	"fmt"
	"time"

	"milliard/internal/grid"
	"milliard/internal/journal"
	"milliard/internal/ledger"
	"milliard/internal/spool"
)

// process is one run of the program. A process that is dropped has been killed.
type process struct {
	w      *world
	home   string // where its images are
	minter uint32
	minted [mintSlots]uint64
	lanes  *journal.Lanes
	out    []*sender
	owners []*owner
	asleep int64 // true time until which it is stopped
	born   int   // step

	tally   *tally
	spool   *spool.Spool
	clicks  []*attempt // that a door has not answered
	waiting []*attempt // answers that its clients wait for
	failed  bool       // a stream has told it ErrStopped: no more acknowledgement may follow
}

// mintSlots is how many slots a minter uses here: few, so that the counters in them are dense.
const mintSlots = 4

// sender is a lane's producer.
type sender struct {
	*journal.Steps
	p       *journal.Producer
	settled int64 // true time of the last answer: a lane that is idle for a minute ticks
	stopped bool
}

// owner is a lane's owner.
type owner struct {
	*grid.Steps
	number    int
	lane      int
	recovered bool
	halted    error
}

// Read names incarnations.
func (w *world) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = byte(w.rnd.Uint32())
	}
	return len(b), nil
}

// start starts a process in the newest home.
func (w *world) start() {
	w.minters++
	p := &process{w: w, home: fmt.Sprintf("node-%d", w.nodes), minter: w.minters, born: w.step}
	w.did("%s starts", p.home)
	streams := make([]journal.Stream, len(w.streams))
	for i, s := range w.streams {
		streams[i] = stream{s, w}
	}
	p.spool = w.openSpool(p.home)
	var err error
	p.lanes, err = journal.NewLanes(w.router, streams, nil, journal.ProducerOptions{
		MaxPendingEvents: w.plan.queueEvents, Now: w.wall, Random: w, Log: w.discards,
	}, p.spool.Backlogs()...)
	if err != nil {
		w.broken("SIM", "lanes: %v", err)
	}
	open := w.store.Open()
	for lane, producer := range p.lanes.Producers() {
		steps, err := producer.Steps(w.ctx)
		if err != nil {
			w.broken("SIM", "producer: %v", err)
		}
		p.out = append(p.out, &sender{Steps: steps, p: producer, settled: w.now})
		o := &owner{lane: lane, number: w.sum.Owners}
		w.sum.Owners++
		o.Steps, err = grid.NewSteps(w.laneConfig(lane, p.home, streams[lane], open))
		if err != nil {
			w.broken("SIM", "owner: %v", err)
		}
		p.owners = append(p.owners, o)
	}
	p.tally = &tally{reason: fmt.Sprintf("forged %d", p.minter), alive: true}
	w.tallied = append(w.tallied, p.tally)
	w.procs = append(w.procs, p)
}

// tally is what a process was told to count of what its doors refused.
type tally struct {
	reason string
	n      int64
	alive  bool
}

func (w *world) laneConfig(lane int, home string, stream journal.Stream, l ledger.Ledger) grid.LaneConfig {
	return grid.LaneConfig{
		Options: grid.Options{
			Lane: lane, Seed: w.router.Seed, Window: w.plan.window, MaxHashes: 1 << 16, TokenLife: w.plan.tokenLife,
			MinuteCells: w.plan.openRows, TargetSealed: 1 << 20, SealedBatches: w.plan.segment, SealedSpan: time.Hour,
		},
		Stream: stream, Ledger: l, Archive: w.archive, Files: w.files, ImageDir: fmt.Sprintf("%s/lane-%d", home, lane),
		FlushInterval: time.Second, ImageInterval: w.plan.imageInterval, ImageEvents: w.plan.imageEvents,
		TrimInterval: time.Second, Log: w.discards, Metrics: w.metrics,
	}
}

// kill drops a process. Nobody hears of what it had not answered.
func (w *world) kill(p *process) {
	for i, q := range w.procs {
		if q == p {
			w.procs = append(w.procs[:i], w.procs[i+1:]...)
			w.sum.Crashes++
			break
		}
	}
	for _, a := range p.waiting {
		w.clients.lost(a)
	}
	for _, a := range p.clicks {
		w.clients.lost(a)
	}
	p.waiting, p.clicks, p.tally.alive = nil, nil, false
	if len(w.procs) == 0 { // what was on its way into the journal is gone with the last process
		w.journal = w.journal.Reopen(w.journalOptions())
		w.openStreams()
	}
}

// poll gives clients their answers.
func (p *process) poll() {
	kept := p.waiting[:0]
	for _, a := range p.waiting {
		settled, err := a.ticket.Settled()
		switch {
		case !settled:
			kept = append(kept, a)
		case err == nil:
			if p.failed && p.out[a.lane(p.w)].stopped {
				p.w.broken("FAIL-STOP", "event %d acknowledged after its lane had stopped", a.number)
			}
			p.w.clients.acked(a)
		case errors.Is(err, journal.ErrUnknown), errors.Is(err, journal.ErrStopped):
			p.w.clients.lost(a)
		default:
			p.w.clients.refused(a, err)
		}
	}
	p.waiting = kept
}

// send is one step of a producer.
func (p *process) send(s *sender) {
	w := p.w
	if s.stopped {
		return
	}
	if w.now-s.settled >= time.Minute.Milliseconds() {
		s.Tick()
		s.settled = w.now
	}
	s.Freeze()
	if !s.InFlight() || w.chance(0.2) {
		return
	}
	if !s.Send(w.ctx) || w.chance(0.2) {
		return // unknown, or the answer is read later
	}
	s.settled = w.now
	err := s.Resolve(w.ctx)
	if err != nil {
		s.stopped, p.failed = true, true
		w.did("%s: producer stopped: %v", p.home, err)
		w.oracle.producerStopped(p, err)
	}
	p.poll()
	p.answerClicks()
	if n := s.p.Pending(); n > int64(w.plan.queueEvents) || n < 0 {
		w.broken("BOUNDED", "%d events wait in a queue of %d", n, w.plan.queueEvents)
	}
}

// broken says whether the process must be restarted to work again.
func (p *process) broken() bool {
	for i := range p.out {
		if p.out[i].stopped || p.owners[i].halted != nil {
			return true
		}
	}
	return false
}

// recover is the owner's start.
func (p *process) recover(o *owner) {
	w := p.w
	w.oracle.acquires(o)
	err := o.Recover(w.ctx)
	w.sum.Recoveries++
	if err != nil {
		p.halt(o, err)
		return
	}
	o.recovered = true
	st := o.Status()
	w.did("%s: lane %d recovered at %d", p.home, o.lane, st.Folded.Seq)
	w.oracle.recovered(o, st.Folded)
}

func (p *process) halt(o *owner, err error) {
	w := p.w
	o.halted = err
	w.sum.Halts++
	w.did("%s: lane %d halted: %v", p.home, o.lane, err)
	if !errors.Is(err, grid.ErrHalt) {
		w.broken("DETECT", "lane %d stopped for another reason than a halt: %v", o.lane, err)
	}
	w.oracle.laneHalted(o, err)
}

// own is one step of an owner, chosen at random among those that its goroutines could make now.
func (p *process) own(o *owner) {
	w := p.w
	if o.halted != nil {
		if o.recovered && !errors.Is(o.halted, ledger.ErrFenced) && w.chance(0.2) { // what was folded is good
			o.Swap()
			p.flush(o)
		}
		return
	}
	if !o.recovered {
		p.recover(o)
		return
	}
	switch n := w.rnd.IntN(100); {
	case n < 50:
		p.fold(o)
	case n < 62:
		o.Swap()
		w.did("%s: lane %d swaps", p.home, o.lane)
	case n < 80:
		p.flush(o)
	case n < 88:
		p.save(o)
	case n < 91:
		p.watch(o)
	case n < 95:
		p.seal(o)
	default:
		p.trim(o)
	}
}

func (p *process) fold(o *owner) bool {
	w := p.w
	ok, err := o.Fold(w.ctx)
	if err != nil {
		p.halt(o, err)
		return false
	}
	if ok {
		at, info := o.Verdicts()
		w.note('f', at.Seq)
		w.oracle.folded(o, at, &info)
		w.did("%s: lane %d folds %d %v, log time %s", p.home, o.lane, at.Seq, info.Verdicts, time.UnixMilli(at.LogTime).UTC().Format("15:04:05.000"))
	}
	return ok
}

func (p *process) flush(o *owner) {
	w := p.w
	tried, err := o.Flush(w.ctx)
	if !tried {
		return
	}
	w.sum.Flushes++
	w.did("%s: lane %d flushes: %v", p.home, o.lane, err)
	switch {
	case errors.Is(err, grid.ErrHalt):
		o.Halt(err)
		p.halt(o, err)
	case w.dieAfterFlush:
		w.dieAfterFlush = false
		panic(killed{"after COMMIT"})
	}
}

func (p *process) watch(o *owner) {
	if err := o.Watch(p.w.ctx); err != nil {
		o.Halt(err)
		p.halt(o, err)
	}
}

func (p *process) save(o *owner) {
	w := p.w
	ok, err := o.Save()
	if ok {
		w.sum.Images++
		w.did("%s: lane %d image: %v", p.home, o.lane, err)
		if err == nil {
			w.oracle.imaged(o)
		}
	}
	if err != nil && (w.calm || !errors.Is(err, errDisk)) {
		w.broken("IMAGE", "lane %d: %v", o.lane, err)
	}
}

func (p *process) seal(o *owner) {
	w := p.w
	before := o.Status().Sealed
	err := o.Seal(w.ctx)
	if after := o.Status().Sealed; after > before {
		w.sum.Segments++
		w.did("%s: lane %d sealed to %d: %v", p.home, o.lane, after, err)
	}
	if err != nil && !errors.Is(err, errDisk) && !w.oracle.hurt[o.lane].journal && len(w.procs) == 1 {
		w.broken("ARCHIVE", "lane %d: %v", o.lane, err)
	}
}

func (p *process) trim(o *owner) {
	w := p.w
	before := w.first(o.lane)
	err := o.Trim(w.ctx)
	after := w.first(o.lane)
	if after > before {
		w.sum.Trims++
		w.did("%s: lane %d trimmed below %d: %v", p.home, o.lane, after, err)
		w.oracle.trimmed(p, o.lane, after)
	}
	if err != nil && !w.oracle.hurt[o.lane].journal {
		w.broken("TRIM", "lane %d: %v", o.lane, err)
	}
}

func (w *world) state(lane int) journal.State {
	st, err := w.streams[lane].State(w.ctx)
	if err != nil {
		w.broken("SIM", "state: %v", err)
	}
	return st
}

func (w *world) first(lane int) uint64 { return w.state(lane).First }
