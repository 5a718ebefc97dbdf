package sim

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"milliard/internal/grid"
	"milliard/internal/journal"
	"milliard/internal/ledger"
)

// oracle watches from outside. Names of invariants are those of docs/faults.md.
type oracle struct {
	w      *world
	models []*model
	hurt   []hurt
	ledger []committedAt
	newest []int // the owner that acquired the lane last
	digest []map[uint64][32]byte
	every  uint64 // a digest is taken at every so many sequences
	upset  bool   // the journal did something after which a producer may have to stop
	behind []lag
	gone   map[int]bool // attempts that were durable until the journal lost its end
}

// hurt says what was damaged for good.
type hurt struct {
	journal, archive bool
	lost             bool // the journal's engine says that messages are gone
}

// committedAt is where the ledger stands in a lane.
type committedAt struct {
	at    ledger.Position
	epoch uint64
}

func newOracle(w *world) *oracle {
	n := w.plan.lanes
	o := &oracle{
		w: w, hurt: make([]hurt, n), ledger: make([]committedAt, n), behind: make([]lag, n), newest: make([]int, n),
		every: []uint64{1, 4, 16}[w.rnd.IntN(3)], gone: map[int]bool{},
	}
	for lane := range n {
		o.models = append(o.models, newModel(lane, w.plan.window, w.plan.tokenLife))
		o.digest = append(o.digest, map[uint64][32]byte{})
	}
	return o
}

// stored notes a message as the journal stored it.
func (o *oracle) stored(lane int, m journal.Message) {
	md := o.models[lane]
	if m.Seq != md.last()+1 {
		o.w.broken("CHAIN", "lane %d: sequence %d stored after %d", lane, m.Seq, md.last())
	}
	data := bytes.Clone(m.Data)
	md.log = append(md.log, &logged{stamp: m.Stamp / 1_000_000, data: data, hash: journal.HashOf(data)})
	o.placed(lane, &m)
	o.w.sum.Batches++
	o.w.note('s', m.Seq)
}

// regressed: the journal has lost everything after last.
func (o *oracle) regressed(lane int, last uint64) {
	for n, at := range o.models[lane].numbers {
		if at.seq > last {
			o.gone[n] = true
		}
	}
	for _, a := range o.w.clients.attempts {
		if a.fate == answered && a.at.lane == lane && a.at.seq > last {
			o.gone[a.number] = true
		}
	}
	o.models[lane].cutTo(last)
	for seq := range o.digest[lane] {
		if seq > last {
			delete(o.digest[lane], seq)
		}
	}
}

// acquires: owner is about to take the lane.
func (o *oracle) acquires(own *owner) { o.newest[own.lane] = own.number }

// recovered: the owner stands at a position again.
func (o *oracle) recovered(own *owner, at ledger.Position) {
	lane := own.lane
	if at.Seq != o.ledger[lane].at.Seq || at.Hash != o.ledger[lane].at.Hash {
		o.w.broken("OFFSET", "lane %d recovered at %d, the ledger has %d", lane, at.Seq, o.ledger[lane].at.Seq)
	}
	if o.hurt[lane].lost {
		for _, a := range o.w.clients.attempts {
			if o.gone[a.number] && a.fate == answered && a.at.lane == lane {
				o.w.broken("DETECT", "lane %d goes on although the journal has lost what was acknowledged, at least event %d", lane, a.number)
			}
		}
	}
	o.sameState(own, at.Seq)
}

// folded: an owner has folded a message.
func (o *oracle) folded(own *owner, at ledger.Position, info *grid.FoldedInfo) {
	md := o.models[own.lane]
	if at.Seq == md.next {
		if text := md.fold(at.Seq, info.Verdicts); text != "" {
			invariant := "CHAIN"
			if strings.HasPrefix(text, "attempt") { // once in a frozen batch or once in the spool, never both
				invariant = "NO-DOUBLE"
			}
			o.w.broken(invariant, "lane %d: %s", own.lane, text)
		}
		o.catalogs(md.at(at.Seq))
		o.clock(own.lane, md.at(at.Seq))
	}
	l := md.at(at.Seq)
	if l == nil || !l.folded {
		o.w.broken("CHAIN", "lane %d folds %d, which is not next", own.lane, at.Seq)
		return
	}
	if text := l.same(at, info.Dropped, info.Verdicts); text != "" {
		o.w.broken("SAME-VERDICT", "lane %d, sequence %d: %s", own.lane, at.Seq, text)
	}
	if at.Seq%o.every == 0 {
		o.sameState(own, at.Seq)
	}
	if rows := own.Status().OpenRows; rows > o.w.plan.openRows+8*len(l.rows)+len(l.tallies)+1 {
		o.w.broken("BOUNDED", "lane %d: %d rows wait, the limit is %d", own.lane, rows, o.w.plan.openRows)
	}
}

// catalogs: an event cannot have been resolved with a record that its batch says was not yet in force.
func (o *oracle) catalogs(l *logged) {
	for i := range l.rows {
		if v := uint64(l.rows[i].e.Revenue-1) / 2; v > l.head.Catalog {
			o.w.broken("CATALOG", "a batch of catalog %d holds an event resolved with %d", l.head.Catalog, v)
		}
	}
}

// clock: log time may stand still while the clock goes back, and until the next tick when it goes ahead; but a lane that is
// busy must follow.
func (o *oracle) clock(lane int, l *logged) {
	if l.head.Spooled { // what waited goes before what moves log time
		return
	}
	b := &o.behind[lane]
	if l.stamp-l.logTime <= 10*60_000 {
		*b = lag{}
		return
	}
	if b.batches++; b.batches == 1 {
		b.since = l.stamp
	}
	if l.stamp-b.since > 90_000 {
		b.late++ // one may have been in flight and one encoded when the tick became due
	}
	if b.late > 3 {
		o.w.broken("CLOCK", "lane %d: log time is %d s behind since %d batches", lane, (l.stamp-l.logTime)/1000, b.batches)
	}
}

// lag is how long a lane's log time has been far behind the stamps.
type lag struct {
	batches, late int
	since         int64
}

// sameState compares the state's hash with that of whoever was at this position before.
func (o *oracle) sameState(own *owner, seq uint64) {
	d := own.Digest()
	if was, known := o.digest[own.lane][seq]; known && was != d {
		o.w.broken("SAME-VERDICT", "lane %d: another state at %d than before", own.lane, seq)
	}
	o.digest[own.lane][seq] = d
}

// committed: the ledger has written a generation.
func (o *oracle) committed(g *ledger.Generation) {
	c := &o.ledger[g.Lane]
	o.w.note('c', g.To.Seq)
	switch {
	case g.From.Seq != c.at.Seq || g.From.Flush != c.at.Flush:
		o.w.broken("OFFSET", "lane %d: a flush from %d, the ledger stands at %d", g.Lane, g.From.Seq, c.at.Seq)
	case g.Epoch < c.epoch:
		o.w.broken("ONE-WRITER", "lane %d: epoch %d commits after %d", g.Lane, g.Epoch, c.epoch)
	}
	if text := o.models[g.Lane].differs(g, true); text != "" {
		o.w.broken("FOLD", "lane %d: %s", g.Lane, text)
	}
	c.at, c.epoch = g.To, g.Epoch
}

// ledgerWentBack: a power cut took what was not durable.
func (o *oracle) ledgerWentBack() {
	positions, err := o.w.store.Open().Positions(o.w.ctx)
	if err != nil {
		o.w.broken("SIM", "positions: %v", err)
	}
	for lane := range o.ledger {
		o.ledger[lane] = committedAt{at: positions[lane]}
	}
}

// producerStopped: a lane takes no events any more.
func (o *oracle) producerStopped(p *process, err error) {
	if !o.upset && len(o.w.procs) == 1 && o.w.nodes == 0 && !o.anyHurt() {
		o.w.broken("AVAILABLE", "%s: a producer stopped for no reason: %v", p.home, err)
	}
}

func (o *oracle) anyHurt() bool {
	for _, h := range o.hurt {
		if h.journal {
			return true
		}
	}
	return false
}

// laneHalted: a lane may halt because it is somebody else's, or because something is damaged.
func (o *oracle) laneHalted(own *owner, err error) {
	newest := o.newest[own.lane] == own.number
	h := o.hurt[own.lane]
	switch {
	case errors.Is(err, ledger.ErrFenced) && newest:
		o.w.broken("ONE-WRITER", "lane %d: its newest owner is fenced: %v", own.lane, err)
	case errors.Is(err, journal.ErrStopped) && o.upset: // until a restart
	case o.w.nodes > 0 && strings.Contains(err.Error(), "was trimmed below"): // by the owner that does not know it is stale
	case newest && !h.journal && !h.archive:
		o.w.broken("AVAILABLE", "lane %d halted, and nothing is damaged: %v", own.lane, err)
	}
}

// trimmed: what is gone from the journal must be counted for good, sealed, and below two images.
func (o *oracle) trimmed(p *process, lane int, first uint64) {
	if safe := o.w.store.Safe()[lane].Seq; safe < first {
		o.w.broken("TRIM", "lane %d trimmed below %d, durably counted to %d", lane, first, safe)
	}
	names, _ := o.w.files.List(fmt.Sprintf("%s/lane-%d", p.home, lane), ".image")
	above := 0
	for _, n := range names {
		var seq uint64
		if _, err := fmt.Sscanf(n, "%d.image", &seq); err == nil && seq >= first {
			above++
		}
	}
	if above < 2 {
		o.w.broken("TRIM", "lane %d trimmed below %d with %d images at or above it", lane, first, above)
	}
	segments, err := o.w.archive.Segments(lane)
	if err != nil || !o.hurt[lane].archive && (len(segments) == 0 || segments[len(segments)-1].Last < first) {
		o.w.broken("TRIM", "lane %d trimmed below %d, which is not sealed", lane, first)
	}
}

// watch looks at the world between two steps, as a reader of live counters does: the ledger's snapshot and the chain of
// generations that starts at its position.
func (o *oracle) watch() {
	w := o.w
	if len(w.procs) == 0 || !w.chance(0.04) {
		return
	}
	p := w.procs[w.rnd.IntN(len(w.procs))]
	own := p.owners[w.rnd.IntN(len(p.owners))]
	if !own.recovered || own.halted != nil {
		return
	}
	w.sum.Live++
	at := o.ledger[own.lane].at
	for _, g := range own.Pending() {
		if g.From.Seq != at.Seq {
			continue
		}
		if text := o.models[own.lane].differs(g, false); text != "" {
			w.broken("LIVE", "lane %d: %s", own.lane, text)
		}
		at = g.To
	}
	if st := own.Status(); at.Seq != st.Folded.Seq && o.newest[own.lane] == own.number {
		w.broken("LIVE", "lane %d: folded to %d, a reader sees %d", own.lane, st.Folded.Seq, at.Seq)
	}
}

// imaged: an image was written. Nothing that the ledger does not have may be in it.
func (o *oracle) imaged(own *owner) {
	if images := own.Status().Images; len(images) > 0 && images[0] > o.ledger[own.lane].at.Seq && o.newest[own.lane] == own.number {
		o.w.broken("IMAGE", "lane %d: an image at %d, the ledger stands at %d", own.lane, images[0], o.ledger[own.lane].at.Seq)
	}
}

// tallied: what the doors refused is in the log as often as they said so; what a process had taken when it died may be
// missing.
func (o *oracle) tallied() {
	stands := map[string]int64{}
	for _, md := range o.models {
		for _, l := range md.log[:md.next-1] {
			for _, t := range l.tallies {
				stands[t.Reason] += t.N
			}
		}
	}
	for _, p := range o.w.tallied {
		whole := o.models[0].next > o.models[0].last()
		if is := stands[p.reason]; is > p.n || is < p.n && p.alive && whole {
			o.w.broken("BALANCE", "tallies of %s: %d counted, %d stand in the log", p.reason, p.n, is)
		}
	}
}

// end checks what every client was told against log, ledger and archive, after everything has healed.
func (o *oracle) end() {
	w := o.w
	events := map[int]int64{}
	for _, g := range w.store.Flushed() {
		for i := range g.Cells {
			events[g.Lane] += g.Cells[i].Events
		}
	}
	counts := map[string]int{}
	for lane, md := range o.models {
		var folded int64
		for seq := uint64(1); seq <= o.ledger[lane].at.Seq; seq++ {
			if l := md.at(seq); l != nil && !l.repeat {
				folded += int64(l.head.Events)
			}
		}
		if folded != events[lane] && !o.hurt[lane].lost {
			w.broken("BALANCE", "lane %d: %d events in folded batches, %d in cells", lane, folded, events[lane])
		}
		for id, n := range md.valid {
			counts[id] += n
		}
	}
	for lane, md := range o.models {
		early := 0 // the wait begins at the door: the machine may have slept before the spool had the click
		for n, at := range md.outlived {
			if n >= len(w.clients.attempts) || at-w.clients.attempts[n].sent <= md.wait {
				early++
			}
		}
		w.sum.Outlived += early
		// A clock that jumps, or the spool of a home that was given up and is found hours later, can make it so.
		if early > 0 && w.nodes == 0 && w.sum.ClockJumps == 0 {
			w.broken("EXPIRED", "lane %d: %d clicks were accepted, waited in the spool, and expired", lane, early)
		}
	}
	for _, a := range w.clients.attempts {
		o.attempt(a)
	}
	o.tallied()
	for id, n := range counts {
		if n > 1 {
			name := "NO-DOUBLE"
			if strings.HasPrefix(id, "order") || strings.HasPrefix(id, "click") {
				name = "ORDER-ONCE"
			}
			w.broken(name, "%s is counted %d times", id, n)
		}
	}
	if w.seed%4 == 0 {
		o.archived()
	}
}

// attempt: durable is there exactly where it was said to be; refused is not there.
func (o *oracle) attempt(a *attempt) {
	lane := a.lane(o.w)
	md := o.models[lane]
	at, there := md.numbers[a.number]
	if md.next <= md.last() { // the lane has halted: not all of it is folded
		if l := md.at(a.at.seq); a.fate == answered && !o.gone[a.number] && (l == nil || int(a.at.row) >= 1<<20) {
			o.w.broken("NO-LOSS", "event %d was acknowledged at %d, which is not in the log", a.number, a.at.seq)
		}
		return
	}
	switch {
	case o.gone[a.number]:
	case a.fate == answered && (!there || at != a.at):
		o.w.broken("NO-LOSS", "event %d was acknowledged at %+v and is at %+v, %v", a.number, a.at, at, there)
	case a.fate == refused && there:
		o.w.broken("BALANCE", "event %d was refused and stands at %+v", a.number, at)
	}
}

// archived: segments abut, and hold the log and the verdicts.
func (o *oracle) archived() {
	for lane, md := range o.models {
		if o.hurt[lane].archive || o.hurt[lane].journal {
			continue
		}
		segments, err := o.w.archive.Segments(lane)
		if err != nil {
			o.w.broken("ARCHIVE", "lane %d: %v", lane, err)
		}
		next := uint64(1)
		for _, s := range segments {
			batches, err := o.w.archive.Read(s, true)
			if err != nil || s.First != next {
				o.w.broken("ARCHIVE", "lane %d: segment %d to %d after %d: %v", lane, s.First, s.Last, next-1, err)
			}
			for i := range batches {
				l := md.at(batches[i].Seq)
				if l == nil || !bytes.Equal(l.data, batches[i].Message) || !bytes.Equal(l.verdicts, batches[i].Verdicts) || l.logTime != batches[i].LogTime {
					o.w.broken("ARCHIVE", "lane %d: sequence %d is not what was folded", lane, batches[i].Seq)
				}
			}
			next = s.Last + 1
		}
	}
}
