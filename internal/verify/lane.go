package verify

import (
	"context"
	"errors"
	"fmt"

	"milliard/internal/event"
	"milliard/internal/journal"
)

// campaignSum is what three accounts say of a campaign: its rows in the blocks, its cells and its occurred cells.
type campaignSum struct {
	tenant                event.TenantID
	campaign              event.CampaignID
	rows, cells, occurred wide
}

// lane walks one lane's log: everything up to the position is counted, the rest up to the journal's end is only checked.
func (r *run) lane(ctx context.Context, l *Lane) error {
	at := r.at[l.Number]
	w := &walker{lane: l, archive: r.opt.Archive, pace: r.pace}
	sealed, err := r.opt.Archive.Last(l.Number)
	if err != nil {
		return err
	}
	last, counted := sealed, at.Seq
	if l.Stream != nil {
		st, err := l.Stream.State(ctx)
		if err != nil {
			return err
		}
		last = max(st.Last, sealed)
		r.state(l, st, sealed, at.Seq)
		if at.Stream != "" && at.Stream != st.ID {
			r.find(checkPosition, l.Number, "the ledger counts journal stream %s, this one is %s", at.Stream, st.ID)
		}
	}
	want := counted
	if r.opt.Ledger == nil {
		want = last
	}
	if r.sound {
		w.unsealed = nil
	} else if w.unsealed, err = verdictsOf(ctx, l, want); err != nil && !errors.Is(err, journal.ErrGap) {
		return err // a gap is for the walk to report: there is more to be told than that
	}
	if r.opt.Ledger == nil { // everything that has a verdict
		counted = sealed
		for seq := range w.unsealed {
			counted = max(counted, seq)
		}
	}
	if err := r.abut(l); err != nil {
		return err
	}
	images, err := r.images(l)
	if err != nil {
		return err
	}
	p := &lanePass{r: r, l: l, chain: newChain(l.Gaps...), counted: counted}
	p.until = max(last, counted)
	p.begin()
	next := uint64(1)
	w.bad = func(check string, first, last uint64, err error) {
		r.find(check, l.Number, "sequences %d to %d: %v", first, last, err)
		r.unread = r.unread || first <= counted
		p.chain.tear()
	}
	w.each = func(b *batch) error {
		if b.seq != next && journal.Behind(l.Gaps, next) == b.seq {
			p.chain.tear() // acknowledged
		}
		next = b.seq + 1
		if i, ok := images[b.seq]; ok && i.Hash != b.hash {
			r.find(checkImages, l.Number, "%s was taken of another log", i.Name)
		}
		return p.batch(b)
	}
	if err := w.walk(ctx, 1, p.until); err != nil {
		return err
	}
	p.end()
	r.res.Segments += w.segments
	r.res.Position = append(r.res.Position, At{
		Lane: l.Number, Seq: counted, Hash: fmt.Sprintf("%x", at.Hash), Flush: at.Flush, Last: last,
	})
	if r.opt.Ledger != nil && p.hashAt != at.Hash && at.Seq > 0 && !r.unread {
		r.find(checkPosition, l.Number, "batch %d hashes to %x, the ledger has counted %x", at.Seq, p.hashAt, at.Hash)
	}
	return nil
}

// verdictsOf returns the verdicts that stand in no segment, with an error those that are known all the same.
func verdictsOf(ctx context.Context, l *Lane, until uint64) (map[uint64]Verdicts, error) {
	if l.Unsealed == nil {
		return nil, nil
	}
	list, err := l.Unsealed(ctx, until)
	out := make(map[uint64]Verdicts, len(list))
	for _, v := range list {
		out[v.Seq] = v
	}
	return out, err
}

// state holds what the engine says of the stream against archive and ledger.
func (r *run) state(l *Lane, st journal.State, sealed, at uint64) {
	missing := journal.Missing(l.Gaps, st.First, st.Last)
	if st.Deleted > missing || st.Lost > missing {
		r.find(checkChain, l.Number, "the journal's engine reports %d messages missing inside and %d lost", st.Deleted, st.Lost)
	}
	if st.Last < st.HighWater {
		r.find(checkChain, l.Number, "the journal ends at %d, it was acknowledged to %d", st.Last, st.HighWater)
	}
	if st.Last < at {
		r.find(checkPosition, l.Number, "the journal ends at %d, the ledger has counted to %d", st.Last, at)
	}
	if first := journal.Behind(l.Gaps, sealed+1); st.First > first && st.Last >= st.First {
		r.find(checkArchive, l.Number, "sequences %d to %d stand neither in the archive nor in the journal", first, st.First-1)
	}
}

func (r *run) abut(l *Lane) error {
	segments, err := r.opt.Archive.Segments(l.Number)
	if err != nil {
		return err
	}
	abut(segments, l.Gaps, func(text string) { r.find(checkArchive, l.Number, "%s", text) })
	return nil
}

// images looks at the lane's images and returns the good ones by position.
func (r *run) images(l *Lane) (map[uint64]Image, error) {
	if r.opt.Images == nil {
		return nil, nil
	}
	list, err := r.opt.Images(l.Number)
	if err != nil {
		return nil, err
	}
	good := map[uint64]Image{}
	for _, i := range list {
		r.imagesSeen++
		if i.Err != nil {
			r.find(checkImages, l.Number, "%s: %v", i.Name, i.Err)
		} else if i.Seq > 0 {
			good[i.Seq] = i
		}
	}
	r.details[checkImages] = fmt.Sprintf("%d images and parts", r.imagesSeen)
	return good, nil
}

// lanePass is the walk over one lane.
type lanePass struct {
	r       *run
	l       *Lane
	chain   *chain
	adder   adder
	fast    *logPrint // the adder, unless cells are wanted
	counted uint64    // what stands behind is not in the ledger yet
	until   uint64
	hashAt  journal.Hash
	row     row
	shown   uint64

	unjudged [2]uint64 // first and last sequence of batches whose verdicts are not known
}

// adder adds folded batches up.
type adder interface {
	batch(b *batch) (rows int, err error)
	tallies(b *batch) error
}

// begin chooses the adder. Clicks and sales are added to their own fingerprints.
func (p *lanePass) begin() {
	r, lane := p.r, int32(p.l.Number)
	if r.by != nil {
		p.adder = newRegrouper(r, p.l.Number)
		return
	}
	if r.exact {
		c := newCounter(p.l.Number, r.wantsDims(), r.addLog)
		if !c.rollups {
			c.wanted = r.wantedAt(lane)
		}
		p.adder = c
		return
	}
	p.fast = newLogPrint(r.secret, r.prints, p.l.Number)
	p.adder = p.fast
	if r.opt.Ledger == nil {
		return
	}
	p.fast.click = func(seq uint64, no uint32, e *event.Event, class event.Class, received int64) {
		p.row.ofClick(seq, no, e, class, received)
		r.group(clicks, lane, seq).plus(p.row.hash(r.seed))
	}
	p.fast.sale = func(seq uint64, no uint32, e *event.Event, class event.Class, received int64) {
		p.row.ofSale(seq, no, e, class, received)
		r.group(sales, lane, seq).plus(p.row.hash(r.seed))
	}
}

// end reports what is left to say of the lane.
func (p *lanePass) end() {
	p.sayUnjudged()
	if g, ok := p.adder.(*regrouper); ok {
		g.settle()
	}
	if p.fast == nil {
		return
	}
	for n, key := range p.fast.campaigns.keys {
		s := p.r.campaignOf(event.TenantID(key>>32), event.CampaignID(key))
		s.rows.add(wideOf(p.fast.of[n].events))
	}
}

// batch checks one batch and counts it if the ledger must have it.
func (p *lanePass) batch(b *batch) error {
	r := p.r
	r.res.Batches++
	if int(b.header.Lane) != p.l.Number {
		r.find(checkChain, p.l.Number, "sequence %d belongs to lane %d", b.seq, b.header.Lane)
	}
	repeat, problem := p.chain.follow(b)
	if problem != "" {
		r.find(checkChain, p.l.Number, "sequence %d: %s", b.seq, problem)
	}
	if b.seq == p.counted {
		p.hashAt = b.hash
	}
	if b.seq <= p.counted && !r.sound {
		p.count(b, repeat)
	}
	if p.r.opt.Progress != nil && (b.seq >= p.shown+256 || b.seq == p.until) {
		p.shown = b.seq
		p.r.opt.Progress(Progress{p.l.Number, b.seq, p.until, r.headers})
	}
	return r.sums.settle()
}

// sayUnjudged reports the last run of batches whose verdicts are not known.
func (p *lanePass) sayUnjudged() {
	if p.unjudged[1] == 0 {
		return
	}
	p.r.find(checkConservation, p.l.Number, "sequences %d to %d: their verdicts are recorded nowhere", p.unjudged[0], p.unjudged[1])
	p.r.unread = true
	p.unjudged = [2]uint64{}
}

func (p *lanePass) count(b *batch, repeat bool) {
	r, lane := p.r, p.l.Number
	switch {
	case !b.judged:
		if b.seq != p.unjudged[1]+1 {
			p.sayUnjudged()
			p.unjudged[0] = b.seq
		}
		p.unjudged[1] = b.seq
		return
	case repeat && len(b.classes) > 0:
		r.find(checkConservation, lane, "sequence %d is a repeat but has %d verdicts", b.seq, len(b.classes))
		return
	case repeat:
		return
	case b.header.Kind == journal.KindTallies:
		if err := p.adder.tallies(b); err != nil {
			r.find(checkTallies, lane, "sequence %d: %v", b.seq, err)
		}
		return
	case b.header.Kind != journal.KindEvents:
		return
	}
	r.headers += int64(b.header.Events)
	r.verdicts += int64(len(b.classes))
	for i, c := range b.classes {
		if event.Class(c) < event.Valid || event.Class(c) > event.Undecided {
			r.find(checkConservation, lane, "sequence %d row %d: verdict %d is none", b.seq, i, c)
		}
	}
	rows, err := p.adder.batch(b)
	if err != nil {
		r.find(checkConservation, lane, "sequence %d after %d rows: %v", b.seq, rows, err)
		r.unread = true
	}
}
