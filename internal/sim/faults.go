package sim

import (
	"errors"
	"strings"
	"time"

	"milliard/internal/journal"
	jmem "milliard/internal/journal/mem"
	"milliard/internal/ledger"
	lmem "milliard/internal/ledger/mem"
	"milliard/internal/route"
)

// plan is how a history is set up: which faults it has and how often. Each fault is on in a part of the seeds only, so
// that some histories are about one of them and the seldom ones are not drowned.
type plan struct {
	lanes         int
	steps         int
	burst         int
	queueEvents   int
	openRows      int
	segment       int
	window        time.Duration
	tokenLife     time.Duration
	imageInterval time.Duration
	imageEvents   int64
	foreignIDs    int
	orders        int
	pauseMillis   int64
	longMillis    int64

	appendFault, flushFault, diskError, crashInside float64 // per call
	crash, powerCut, pause, second, clock, catalog  float64 // per step
	restore, damageLive                             float64 // per step
	damageImage, damageArchive, damageJournal       float64 // per crash
	journalStops, keepRunning                       bool

	clicks, spoolError    float64 // of new events and retries; per write and read
	spoolBytes, spoolFile int64
	spoolRoom             int64   // that a lane's spool takes in advance
	spoolFull             float64 // per attempt to take some
}

// draw makes the plan.
func (w *world) draw() {
	r := w.rnd
	w.router = route.Router{Seed: r.Uint64()}
	w.now = 1_760_000_000_000 + r.Int64N(86_400_000)
	pick := func(values ...float64) float64 { return values[r.IntN(len(values))] }
	hours := func(values ...int) time.Duration { return time.Duration(values[r.IntN(len(values))]) * time.Hour }
	w.plan = plan{
		lanes: 1 + r.IntN(3), steps: 150 + r.IntN(350), burst: 1 + r.IntN(6), queueEvents: int(pick(8, 60, 1000)),
		openRows: int(pick(12, 60, 1<<20)), segment: 2 + r.IntN(8), window: hours(1, 2, 26), tokenLife: hours(1, 24),
		imageInterval: time.Duration(pick(0, 10, 60)) * time.Second, imageEvents: 1 << 40, foreignIDs: 10 + r.IntN(80),
		orders: 3 + r.IntN(10), pauseMillis: 120_000 + r.Int64N(900_000), longMillis: 600_000 + r.Int64N(4*3_600_000),

		appendFault: pick(0, 0.05, 0.3), flushFault: pick(0, 0.1, 0.5), diskError: pick(0, 0, 0.1), crashInside: pick(0, 0.01, 0.05),
		crash: pick(0, 0.01, 0.04), powerCut: pick(0, 0, 0.01), pause: pick(0, 0, 0.02), second: pick(0, 0, 0.01),
		clock: pick(0, 0, 0.02), catalog: pick(0, 0.02), damageImage: pick(0, 0, 0.5), damageArchive: pick(0, 0, 0, 0.3),
		damageJournal: pick(0, 0, 0, 0, 0.3), journalStops: r.IntN(2) == 0, restore: pick(0, 0, 0, 0, 0.01),
		damageLive: pick(0, 0, 0, 0, 0.01), keepRunning: r.IntN(2) == 0,
		clicks: pick(0, 0.3, 0.8), spoolError: pick(0, 0, 0.05), spoolBytes: int64(pick(3_000, 1<<20)), spoolFile: int64(pick(500, 8<<10)),
		spoolRoom: int64(pick(0, 700, 20<<10)), spoolFull: pick(0, 0.3),
	}
}

func (w *world) fault(name string) {
	if w.sum.Faults == nil {
		w.sum.Faults = map[string]int{}
	}
	w.sum.Faults[name]++
	w.did("fault: %s", name)
}

// act makes one step of somebody.
func (w *world) act() {
	w.disturb()
	if len(w.procs) == 0 {
		if w.chance(0.3) {
			w.start()
		}
		return
	}
	p := w.procs[w.rnd.IntN(len(w.procs))]
	if p.asleep > w.now {
		return
	}
	if p.broken() && w.chance(0.05) {
		w.did("%s is restarted because it is broken", p.home)
		w.kill(p)
		return
	}
	lane := w.rnd.IntN(w.plan.lanes)
	who := w.rnd.IntN(11)
	w.note('a', uint64(who*8+lane))
	w.inStep(p, func() {
		switch {
		case who < 3:
			w.clients.act(p)
		case who < 6:
			p.send(p.out[lane])
		case who == 10:
			p.commitSpool(lane)
		default:
			p.own(p.owners[lane])
		}
	})
}

// disturb brings on what happens to a process from outside.
func (w *world) disturb() {
	pl := &w.plan
	if w.chance(pl.clock) {
		w.jumpClock()
	}
	if w.chance(pl.catalog) { // a control record; batches that were resolved before it are still on their way
		w.catalog++
		w.sum.CatalogChanges++
	}
	if len(w.procs) == 0 {
		return
	}
	p := w.procs[w.rnd.IntN(len(w.procs))]
	switch {
	case w.chance(pl.crash):
		w.fault("crash")
		w.kill(p)
		if len(w.procs) == 0 {
			w.damage()
		}
	case w.chance(pl.powerCut):
		w.fault("power cut")
		w.sum.PowerCuts++
		for len(w.procs) > 0 {
			w.kill(w.procs[0])
		}
		w.cutPower()
		w.damage()
	case w.chance(pl.restore):
		w.restore()
	case w.chance(pl.damageLive):
		lane := w.rnd.IntN(w.plan.lanes)
		if st := w.state(lane); st.Last >= st.First {
			w.hurtRunning(lane, st)
		}
	case w.chance(pl.pause):
		w.fault("pause")
		p.asleep = w.now + w.rnd.Int64N(600_000)
	case len(w.procs) == 1 && w.chance(pl.second): // somebody believes that the first is dead, and is wrong
		w.fault("stale owner")
		if w.chance(0.5) {
			p.asleep = w.now + w.rnd.Int64N(60_000)
		}
		w.nodes++
		w.start()
	case len(w.procs) == 2 && w.chance(0.02):
		w.kill(w.procs[w.rnd.IntN(2)])
	}
}

// cutPower takes what was written and not synced: removals of files, what the ledger had not made durable, and the last
// message of a lane if nobody has been told of it and nobody has read it.
func (w *world) cutPower() {
	w.files.powerCut()
	w.store.PowerCut()
	w.oracle.ledgerWentBack()
	for lane, md := range w.oracle.models {
		if last := md.last(); md.next <= last && w.state(lane).First < last && w.chance(0.5) && !w.clients.told(lane, last) {
			w.fault("last message never synced")
			w.streams[lane].Unwrite()
			md.cutTo(last - 1)
		}
	}
}

// told says whether anybody was told that the message is durable.
func (c *clients) told(lane int, seq uint64) bool {
	for _, a := range c.attempts {
		if a.fate == answered && a.at.lane == lane && a.at.seq == seq {
			return true
		}
	}
	return false
}

// restore puts an older copy of the ledger in place, or makes one.
func (w *world) restore() {
	if w.backup == nil || w.chance(0.5) {
		b := w.store.Save()
		w.backup = &b
		return
	}
	w.fault("ledger restored from a backup")
	for len(w.procs) > 0 {
		w.kill(w.procs[0])
	}
	w.store.Restore(*w.backup)
	w.oracle.ledgerWentBack()
}

// jumpClock moves, freezes or heals everybody's clock.
func (w *world) jumpClock() {
	w.sum.ClockJumps++
	w.frozen = 0
	switch w.rnd.IntN(5) {
	case 0:
		w.fault("clock +1 h")
		w.skew = 3_600_000
	case 1:
		w.fault("clock -1 h")
		w.skew = -3_600_000
	case 2:
		w.fault("clock frozen")
		w.frozen = w.now + w.skew
	default:
		w.skew = w.rnd.Int64N(2_000) - 1_000
	}
}

// onAppend is what an append meets.
func (w *world) onAppend(stream string, last uint64, data []byte) jmem.Fault {
	if h, err := journal.PeekHeader(data); err == nil && w.Tracing {
		w.did("%s: append after %d: %s of %d events, batch %d of %x", stream, last, h.Kind, h.Events, h.Counter, h.Incarnation[:2])
	}
	if w.calm || !w.chance(w.plan.appendFault) {
		return jmem.Fault{}
	}
	names := []string{"answer lost", "message lost", "message late", "message twice", "journal full", "journal stops", "journal stops after storing"}
	actions := []jmem.Action{jmem.LoseAck, jmem.LoseMessage, jmem.Late, jmem.Twice, jmem.Full, jmem.Stop, jmem.StopAfterSave}
	n := w.rnd.IntN(4 * len(actions))
	switch {
	case n < len(actions):
	case n < 3*len(actions):
		n %= 3 // mostly the outcomes that nobody knows
	default:
		n = 4
	}
	if n >= 5 && !w.plan.journalStops || n == 3 && !w.chance(0.3) {
		n = 0
	}
	w.fault(names[n])
	if n == 3 || n >= 5 {
		w.oracle.upset = true
	}
	return jmem.Fault{Action: actions[n]}
}

// onStore shows the oracle what was stored. The process may die before it hears of it.
func (w *world) onStore(stream string, m journal.Message) {
	lane := int(stream[len("lane-")] - '0')
	w.oracle.stored(lane, m)
	if !w.calm && w.acting && w.chance(w.plan.crashInside) {
		panic(killed{"after its message was stored"})
	}
}

// flushFault is what a flush meets.
func (w *world) flushFault() lmem.Outcome {
	if !w.chance(w.plan.flushFault) {
		return lmem.Outcome{Write: true}
	}
	switch w.rnd.IntN(3) {
	case 0:
		w.fault("flush aborted")
		return lmem.Outcome{Err: ledger.ErrUnavailable}
	case 1:
		w.fault("commit unknown, written")
		return lmem.Outcome{Write: true, Err: ledger.ErrUnresolved}
	default:
		w.fault("commit unknown, not written")
		return lmem.Outcome{Err: ledger.ErrUnresolved}
	}
}

// damage hurts what is stored, while no process runs.
func (w *world) damage() {
	if w.chance(w.plan.damageImage) {
		if what := w.files.damage("lane-"); strings.HasPrefix(what, "node-") {
			w.fault("image damaged")
			w.did("%s", what)
			w.sum.Damages++
		}
	}
	lane := w.rnd.IntN(w.plan.lanes)
	hurt := &w.oracle.hurt[lane]
	if w.chance(w.plan.damageArchive) {
		if what := w.files.damage("archive/lane=" + string(rune('0'+lane))); what != "" {
			w.fault("archive damaged")
			w.did("%s", what)
			hurt.archive = true
			w.sum.Damages++
		}
	}
	if st := w.state(lane); w.chance(w.plan.damageJournal) && st.Last >= st.First {
		w.hurtJournal(lane, st)
	}
}

// hurtRunning hurts one message while it may be read.
func (w *world) hurtRunning(lane int, st journal.State) {
	seq := max(st.First, st.Last-min(st.Last, w.rnd.Uint64N(8)))
	s := w.streams[lane]
	if _, err := s.Get(w.ctx, seq); errors.Is(err, journal.ErrGap) {
		return
	}
	w.sum.Damages++
	w.oracle.hurt[lane].journal = true
	switch w.rnd.IntN(3) {
	case 0:
		w.fault("record missing, running")
		s.Delete(seq)
	case 1:
		w.fault("record torn, running")
		s.Tear(seq, 1+w.rnd.IntN(journal.HeaderBytes))
	default:
		w.fault("record flipped, running")
		s.Corrupt(seq, func(b []byte) { b[w.rnd.IntN(len(b))] ^= 1 << w.rnd.IntN(8) })
	}
	w.did("lane %d: damage at %d of %d to %d", lane, seq, st.First, st.Last)
}

func (w *world) hurtJournal(lane int, st journal.State) {
	seq := st.First + w.rnd.Uint64N(st.Last-st.First+1)
	s, hurt := w.streams[lane], &w.oracle.hurt[lane]
	if _, err := s.Get(w.ctx, seq); errors.Is(err, journal.ErrGap) {
		return // is gone already
	}
	w.sum.Damages++
	hurt.journal = true
	switch w.rnd.IntN(4) {
	case 0:
		w.fault("record missing")
		s.Delete(seq)
		hurt.lost = true
	case 1:
		w.fault("record torn")
		s.Tear(seq, 1+w.rnd.IntN(journal.HeaderBytes))
	case 2:
		w.fault("record flipped")
		s.Corrupt(seq, func(b []byte) { b[w.rnd.IntN(len(b))] ^= 1 << w.rnd.IntN(8) })
	default:
		if seq == st.Last {
			return
		}
		w.fault("journal regressed")
		s.Regress(seq)
		hurt.lost = true
		w.oracle.regressed(lane, seq)
	}
	w.did("lane %d: damage at %d of %d to %d", lane, seq, st.First, st.Last)
}
