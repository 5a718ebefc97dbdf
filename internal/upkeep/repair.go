package upkeep

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"milliard/internal/archive"
	"milliard/internal/durable"
	"milliard/internal/grid"
	"milliard/internal/journal"
	"milliard/internal/journal/jet"
	"milliard/internal/ledger"
	"milliard/internal/ledger/duck"
)

// Plan is what a repair would do. It is made without changing anything.
type Plan struct {
	Actions []Action `json:"actions"`
	Needs   []string `json:"needs"` // what cannot be repaired with what is here
	Notes   []string `json:"notes"`
	Lost    uint64   `json:"lost_batches"`

	dir    *Dir
	lanes  []laneRepair
	at     map[int]ledger.Position // of the ledger, as far as it can be read
	ledger error                   // why the ledger is to be rebuilt
}

// Action is one thing that a repair does.
type Action struct {
	Kind string `json:"kind"` // restore_segment, remove_image, acknowledge_gap, rebuild_journal, rebuild_ledger, release_lane
	Lane int    `json:"lane"` // -1: all
	Text string `json:"text"`

	file string      // of a segment or an image
	from string      // where a segment is taken from
	gap  journal.Gap // of acknowledge_gap
	span [2]int64    // unix ms: the last batch before and the first behind the gap
}

// The kinds of actions, in the order in which they are done.
const (
	restoreSegment = "restore_segment"
	removeImage    = "remove_image"
	acknowledge    = "acknowledge_gap"
	rebuildJournal = "rebuild_journal"
	rebuildLedger  = "rebuild_ledger"
	releaseLane    = "release_lane"
	repairSpool    = "repair_spool"
)

// laneRepair is what is known of one lane.
type laneRepair struct {
	n       int
	id      string // of the stream
	sealed  uint64
	known   uint64                     // last sequence that anything has seen
	good    map[uint64]bool            // readable in the journal, above sealed
	rescued map[uint64]journal.Message // found in the engine's files although it does not give them out
	rebuild bool
	lost    []journal.Gap
}

// PlanRepair looks at everything and says what a repair would do. backup, which may be empty, is a backup from which
// damaged archive segments are taken.
func (d *Dir) PlanRepair(ctx context.Context, backup string) (*Plan, error) {
	p := &Plan{Actions: []Action{}, Needs: []string{}, Notes: []string{}, dir: d, at: map[int]ledger.Position{}}
	if l, err := d.ledger(ctx); errors.Is(err, duck.ErrInterrupted) {
		p.need("%v", err)
	} else if err != nil {
		p.ledger = err
	} else {
		p.at, err = l.Positions(ctx)
		if err = errors.Join(err, l.Close()); err != nil {
			p.ledger, p.at = err, map[int]ledger.Position{}
		}
	}
	if err := p.control(ctx); err != nil {
		return nil, err
	}
	for n := range d.Streams {
		if err := p.lane(ctx, n, backup); err != nil {
			return nil, fmt.Errorf("lane %d: %w", n, err)
		}
		if err := p.spool(n); err != nil {
			return nil, fmt.Errorf("spool of lane %d: %w", n, err)
		}
	}
	if err := p.planLedger(ctx); err != nil {
		return nil, err
	}
	slices.SortStableFunc(p.Actions, func(a, b Action) int { return rank(a.Kind) - rank(b.Kind) })
	return p, nil
}

func rank(kind string) int {
	return slices.Index([]string{restoreSegment, removeImage, acknowledge, rebuildJournal, rebuildLedger, repairSpool, releaseLane}, kind)
}

func (p *Plan) do(a Action, format string, args ...any) {
	a.Text = fmt.Sprintf(format, args...)
	p.Actions = append(p.Actions, a)
}

func (p *Plan) need(format string, args ...any) {
	p.Needs = append(p.Needs, fmt.Sprintf(format, args...))
}

// control looks at the control stream: it is the audit log, and nothing can make it up.
func (p *Plan) control(ctx context.Context) error {
	st, err := p.dir.Control.State(ctx)
	if err != nil {
		return err
	}
	if st.Last < st.HighWater {
		p.need("the control stream ends at %d and was acknowledged to %d: restore a backup", st.Last, st.HighWater)
	}
	if st.Last == 0 || st.First != 1 || st.Deleted > 0 || st.Lost > 0 {
		p.need("the control stream begins at %d, ends at %d and lacks %d records: restore a backup", st.First, st.Last, st.Deleted)
	}
	return nil
}

func (p *Plan) lane(ctx context.Context, n int, backup string) error {
	l := laneRepair{n: n, good: map[uint64]bool{}, rescued: map[uint64]journal.Message{}}
	st, err := p.dir.Streams[n].State(ctx)
	if err != nil {
		return err
	}
	if l.sealed, err = p.archive(ctx, n, st.First, backup); err != nil {
		return err
	}
	images, err := grid.CheckImages(durable.Disk{}, p.dir.Join("images", fmt.Sprintf("lane-%d", n)), n)
	if err != nil {
		return err
	}
	if err := p.journal(ctx, &l, images); err != nil {
		return err
	}
	for _, i := range images {
		name := filepath.Join("images", fmt.Sprintf("lane-%d", n), i.Name)
		if i.Err != nil {
			p.do(Action{Kind: removeImage, Lane: n, file: name}, "remove %s: %v", name, i.Err)
		} else if i.Seq > 0 && journal.Behind(l.lost, i.Seq) != i.Seq {
			p.do(Action{Kind: removeImage, Lane: n, file: name}, "remove %s: the batch it was taken at is lost", name)
		}
	}
	p.lanes = append(p.lanes, l)
	return p.release(n)
}

// release plans to let a lane go on that has marked its halt: what its journal has lost cannot always be seen any more.
func (p *Plan) release(n int) error {
	name := grid.HaltFile(p.dir.Streams[n].Name())
	why, err := os.ReadFile(p.dir.Join(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	p.do(Action{Kind: releaseLane, Lane: n, file: name}, "let lane %d go on, which is halted because of this: %s", n, bytes.TrimSpace(why))
	return nil
}

// archive checks a lane's segments, and returns the last sequence that they will hold. What is damaged or missing is
// taken from the backup if it has it; what the journal was trimmed of, below first, must have been sealed.
func (p *Plan) archive(ctx context.Context, n int, first uint64, backup string) (sealed uint64, err error) {
	segments, err := p.dir.Archive.Segments(n)
	if err != nil {
		return 0, err
	}
	other := map[uint64]archive.Segment{} // of the backup, by first sequence
	if backup != "" {
		a, err := archive.Open(filepath.Join(backup, "archive"))
		if err != nil {
			return 0, err
		}
		list, err := a.Segments(n)
		if err != nil {
			return 0, err
		}
		for _, s := range list {
			if _, err := a.Read(s, true); err == nil {
				other[s.First] = s
			}
		}
	}
	take := func(first, last uint64, why string) {
		for next := first; next <= last; {
			s, ok := other[next]
			if !ok {
				p.need("lane %d: batches %d to %d: %s; give a backup that holds them (--from)", n, next, last, why)
				return
			}
			p.do(Action{Kind: restoreSegment, Lane: n, from: s.Path}, "take segment %s from the backup: %s", filepath.Base(s.Path), why)
			next = s.Last + 1
		}
	}
	next := uint64(1)
	for _, s := range segments {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		if next = journal.Behind(p.dir.repairs.Lane(n), next); s.First > next {
			take(next, s.First-1, "their segments are missing")
		}
		if _, err := p.dir.Archive.Read(s, true); err != nil {
			take(s.First, s.Last, err.Error())
		}
		next = s.Last + 1
	}
	for next < first { // the newest ones
		s, ok := other[next]
		if !ok {
			break // the engine's files may still hold the batches
		}
		take(s.First, s.Last, "it is missing")
		next = s.Last + 1
	}
	return next - 1, nil
}

// journal finds out what of the journal behind the archive can be read, and what is lost.
func (p *Plan) journal(ctx context.Context, l *laneRepair, images []grid.ImageInfo) error {
	s, gaps := p.dir.Streams[l.n], p.dir.repairs.Lane(l.n)
	st, err := s.State(ctx)
	if err != nil {
		return err
	}
	l.id = st.ID
	missing := journal.Missing(gaps, st.First, st.Last)
	l.rebuild = st.Deleted > missing || st.Lost > missing
	bad, err := readable(ctx, s, gaps, max(st.First, 1), st.Last, l.sealed, l.good)
	if err != nil {
		return err
	}
	rescued, err := jet.Salvage(p.dir.Join("journal"), l.n)
	if err != nil {
		return err
	}
	l.known = max(st.Last, l.sealed, st.HighWater)
	for _, m := range rescued {
		if m.Seq > l.sealed && !l.good[m.Seq] {
			l.rescued[m.Seq] = m
		}
		l.known = max(l.known, m.Seq)
	}
	if at := p.at[l.n]; at.Stream == l.id || at.Stream == "" {
		l.known = max(l.known, at.Seq)
	}
	for _, i := range images {
		if i.Err == nil {
			l.known = max(l.known, i.Seq)
		}
	}
	l.rebuild = l.rebuild || bad > 0 || l.known > st.Last || (st.First > journal.Behind(gaps, l.sealed+1) && st.Last > 0)
	if !l.rebuild {
		return nil
	}
	l.findLost(gaps)
	if err := p.resume(ctx, l, gaps); err != nil {
		return err
	}
	for _, g := range l.lost {
		p.Lost += g.Last - g.First + 1
		a := Action{Kind: acknowledge, Lane: l.n, gap: g}
		a.span = p.span(ctx, l, g)
		p.do(a, "acknowledge that batches %d to %d are lost for good (%s), record them as downtime, go on behind them", g.First, g.Last, window(a.span))
	}
	p.do(Action{Kind: rebuildJournal, Lane: l.n},
		"make the journal anew from batch %d to %d: %d that the engine gives out, %d found in its files, %d lost; the old one is kept aside",
		l.sealed+1, l.known, len(l.good), len(l.rescued), lostIn(l.lost))
	return nil
}

func lostIn(gaps []journal.Gap) (n uint64) {
	for _, g := range gaps {
		n += g.Last - g.First + 1
	}
	return n
}

// readable fills good with the sequences above sealed that the engine gives out whole, and returns how many it does not.
func readable(ctx context.Context, s journal.Stream, gaps []journal.Gap, first, last, sealed uint64, good map[uint64]bool) (bad int, err error) {
	for seq := journal.Behind(gaps, first); seq <= last; seq = journal.Behind(gaps, seq+1) {
		m, err := s.Get(ctx, seq)
		if err == nil {
			_, _, err = journal.Open(m.Data)
		} else if !errors.Is(err, journal.ErrGap) {
			return bad, err
		}
		if err != nil {
			bad++
		} else if seq > sealed {
			good[seq] = true
		}
	}
	return bad, nil
}

// findLost makes ranges of what nobody has.
func (l *laneRepair) findLost(gaps []journal.Gap) {
	for seq := journal.Behind(gaps, l.sealed+1); seq <= l.known; seq = journal.Behind(gaps, seq+1) {
		if _, ok := l.rescued[seq]; ok || l.good[seq] {
			continue
		}
		if n := len(l.lost); n > 0 && l.lost[n-1].Last == seq-1 {
			l.lost[n-1].Last = seq
		} else {
			l.lost = append(l.lost, journal.Gap{First: seq, Last: seq})
		}
	}
}

// message returns a batch above the archive's end.
func (p *Plan) message(ctx context.Context, l *laneRepair, seq uint64) (m journal.Message, err error) {
	if m, ok := l.rescued[seq]; ok {
		return m, nil
	}
	return p.dir.Streams[l.n].Get(ctx, seq)
}

// resume finds the batches behind each lost range with which an incarnation goes on: their counters jump.
func (p *Plan) resume(ctx context.Context, l *laneRepair, gaps []journal.Gap) error {
	if len(l.lost) == 0 {
		return nil
	}
	marks := map[journal.Incarnation]journal.Resume{} // the last batch of each, its hash in Prev
	segments, err := p.dir.Archive.Segments(l.n)
	if err != nil {
		return err
	}
	for _, s := range segments {
		batches, err := p.dir.Archive.Read(s, false)
		if err != nil {
			continue // it has been reported
		}
		for i := range batches {
			h := &batches[i].Header
			marks[h.Incarnation] = journal.Resume{Incarnation: h.Incarnation, Counter: h.Counter, Prev: batches[i].Hash}
		}
	}
	at := -1 // of the last lost range that has been passed
	for seq := l.sealed + 1; seq <= l.known; seq++ {
		if at+1 < len(l.lost) && l.lost[at+1].First == seq {
			at++
			seq = l.lost[at].Last
			continue
		}
		if behind := journal.Behind(gaps, seq); behind != seq {
			seq = behind - 1
			continue
		}
		m, err := p.message(ctx, l, seq)
		if err != nil {
			return err
		}
		h, _, err := journal.Open(m.Data)
		if err != nil {
			return err
		}
		mark := marks[h.Incarnation]
		if at >= 0 && h.Counter > mark.Counter && (h.Counter != mark.Counter+1 || h.Prev != mark.Prev) {
			l.lost[at].Resume = append(l.lost[at].Resume, journal.Resume{Incarnation: h.Incarnation, Counter: h.Counter, Prev: h.Prev})
		}
		if h.Counter > mark.Counter {
			marks[h.Incarnation] = journal.Resume{Incarnation: h.Incarnation, Counter: h.Counter, Prev: journal.HashOf(m.Data)}
		}
	}
	return nil
}

// span returns when the batches around a lost range were stored; 0 where there is none.
func (p *Plan) span(ctx context.Context, l *laneRepair, g journal.Gap) (span [2]int64) {
	stamp := func(seq uint64) int64 {
		if m, err := p.message(ctx, l, seq); err == nil {
			return m.Stamp / 1e6
		}
		return 0
	}
	span[0], span[1] = stamp(g.First-1), stamp(g.Last+1)
	if at := p.at[l.n]; span[1] == 0 && at.Seq >= g.Last {
		span[1] = at.LogTime
	}
	return span
}

func window(span [2]int64) string {
	return fmt.Sprintf("between %s and %s", instant(span[0]), instant(span[1]))
}

// planLedger decides whether the ledger is to be written again.
func (p *Plan) planLedger(ctx context.Context) error {
	broken := len(p.Needs) > 0
	if p.ledger == nil && !broken && !p.has(rebuildJournal) && !p.has(restoreSegment) { // else it is compared at the end
		res, err := p.dir.Verify(ctx, nil)
		if err != nil {
			return err
		}
		for _, f := range res.Findings {
			if f.Check != "images" && f.Check != checkSpool && p.ledger == nil {
				p.ledger = fmt.Errorf("it is not what the log says: %s", f.Text)
			}
		}
	}
	for _, l := range p.lanes {
		for _, g := range l.lost {
			if p.ledger == nil && g.First <= p.at[l.n].Seq {
				p.ledger = fmt.Errorf("it has counted batches %d to %d, which are lost: their counts stay in the ledger that is kept aside", g.First, min(g.Last, p.at[l.n].Seq))
			}
		}
	}
	switch {
	case p.ledger == nil:
	case broken:
		p.need("the ledger is to be rebuilt (%v), which needs the whole log", p.ledger)
	default:
		p.do(Action{Kind: rebuildLedger, Lane: -1}, "write the ledger anew from archive and journal: %v; the old one is kept aside", p.ledger)
	}
	return nil
}

// Write shows a plan to people.
func (p *Plan) Write(w io.Writer) error {
	var b strings.Builder
	for i, a := range p.Actions {
		lane := ""
		if a.Lane >= 0 {
			lane = fmt.Sprintf(" lane %d", a.Lane)
		}
		fmt.Fprintf(&b, "%d. %s%s: %s\n", i+1, a.Kind, lane, a.Text)
	}
	for _, n := range p.Needs {
		fmt.Fprintf(&b, "! %s\n", n)
	}
	for _, n := range p.Notes {
		fmt.Fprintln(&b, n)
	}
	_, err := io.WriteString(w, b.String())
	return err
}
