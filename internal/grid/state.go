package grid

import (
	"errors"
	"fmt"
	"time"

	"milliard/internal/count"
	"milliard/internal/dedup"
	"milliard/internal/event"
	"milliard/internal/journal"
	"milliard/internal/judge"
	"milliard/internal/ledger"
	"milliard/internal/planted"
	"milliard/internal/route"
)

// ErrHalt is wrapped by every reason for which a lane stops for good: what is stored is not what must be there. The
// lane never skips by itself.
var ErrHalt = errors.New("lane halted")

// Mark is how far an incarnation's batches have been folded.
type Mark struct {
	Counter uint64
	Hash    journal.Hash
	Closed  int64 // log time, unix ms, at which a successor declared it ended; 0 while it lives
}

// markLife is how long a mark outlives its incarnation, in log time.
const markLife = time.Hour

// Clock limits of log time, see State.advance.
const (
	maxLogStep  = 10 * time.Minute // a larger step needs a tick or a closed record
	maxReceived = time.Minute      // a batch's receive stamp further off log time is clamped
)

// Options are the settings a lane's verdicts depend on; they are fixed for an installation.
type Options struct {
	Lane          int
	Seed          uint64 // of the installation, for keyed hashes
	Window        time.Duration
	MaxHashes     int
	TokenLife     time.Duration // longest life of a token whose id is an event id
	MinuteCells   int           // high-water mark of open cells, and of batches; above it the owner stops reading
	TargetSealed  int           // bytes of batches after which an archive segment is cut
	SealedBatches int           // or batches
	SealedSpan    time.Duration // or log time
	NoDuplicates  bool          // look nothing up and remember no id: only to measure what it costs

	Gaps []journal.Gap // lost sequences that a repair has acknowledged, in order
}

// State is everything a lane's verdicts depend on, and what it has counted since the last flush. It is a pure function
// of image and log: no clock, no I/O, no goroutine. One owner at a time calls it.
type State struct {
	opt    Options
	router route.Router
	rules  judge.Rules

	window  *dedup.Window
	minted  *dedup.Minted
	imports *dedup.Imports
	orders  *dedup.Orders
	budgets *count.Budgets
	marks   map[journal.Incarnation]Mark

	pos        ledger.Position
	lastExpiry int64        // log time of the last sweep of minted ids
	cut        segmentCut   // where the next archive segment will be cut
	unsealed   unsealedList // verdicts of batches that stand in no segment yet
	sealed     uint64       // last sequence that stands in one; not part of an image
	recorded   []byte       // verdicts that the batch at hand has had before and keeps; nil: it is judged
	stamp      int64        // of the message that is being folded, unix ms
	open       *gathering
	counting   bool        // false while folding what the ledger has counted already: the gathering is thrown away
	clamped    uint64      // stamps that were clamped
	block      event.Block // scratch
	row        event.Event // scratch
	group      rowGroup    // scratch
	foldedInfo FoldedInfo  // of the last batch
}

// SealedBatch is one batch's verdicts, waiting to be archived with its bytes.
type SealedBatch struct {
	Seq      uint64
	LogTime  int64
	Verdicts []byte // one event.Class per event; nil for a batch without events or one that was dropped as a repeat
}

// FoldedInfo says what the last Fold did.
type FoldedInfo struct {
	Header   journal.Header
	Dropped  bool // a repeat of a batch that was folded before
	Verdicts []byte
}

// NewState returns the state of an empty lane.
func NewState(opt Options) *State {
	return &State{
		opt:     opt,
		router:  route.Router{Seed: opt.Seed},
		rules:   judge.Rules{Late: opt.Window},
		window:  dedup.NewWindow(opt.Window, opt.MaxHashes),
		minted:  dedup.NewMinted(),
		imports: dedup.NewImports(),
		orders:  dedup.NewOrders(),
		budgets: count.NewBudgets(),
		marks:   make(map[journal.Incarnation]Mark),
		cut:     segmentCut{First: 1},

		unsealed: unsealedList{room: keptSegments * opt.TargetSealed},
		open:     newGathering(ledger.Position{}, count.NewDetails(0)),
	}
}

// Position returns the last folded position.
func (s *State) Position() ledger.Position { return s.pos }

// Count switches counting on: what was gathered so far is in the ledger, and from here on folded batches grow a new
// generation.
func (s *State) Count() {
	if !s.counting {
		s.counting = true
		s.open = newGathering(s.pos, count.NewDetails(0))
	}
}

// Fold folds the next message of the lane. Any error wraps ErrHalt.
func (s *State) Fold(m *journal.Message) error {
	gap := m.Seq != s.pos.Seq+1
	if gap && journal.Behind(s.opt.Gaps, s.pos.Seq+1) != m.Seq && !planted.Is(planted.SkipOnGap) {
		return fmt.Errorf("%w: sequence %d follows %d", ErrHalt, m.Seq, s.pos.Seq)
	}
	h, body, err := journal.Open(m.Data)
	if err != nil {
		return fmt.Errorf("%w: sequence %d: %w", ErrHalt, m.Seq, err)
	}
	if int(h.Lane) != s.opt.Lane {
		return fmt.Errorf("%w: sequence %d belongs to lane %d", ErrHalt, m.Seq, h.Lane)
	}
	hash := journal.HashOf(m.Data)
	repeat, err := s.checkChain(m.Seq, &h, hash)
	if err != nil {
		return fmt.Errorf("%w: sequence %d: %w", ErrHalt, m.Seq, err)
	}
	if gap { // only now: a lane that halts stands before the gap
		s.skip(m.Seq)
	}
	s.stamp = m.Stamp / int64(time.Millisecond)
	s.advance(s.stamp, h.Kind)
	if h.Spooled { // it was accepted long before it was stored; what its verdict needs is remembered by log time
		s.stamp = min(s.stamp, s.pos.LogTime)
	}
	s.foldedInfo = FoldedInfo{Header: h, Dropped: repeat}
	if !repeat {
		if err := s.foldBody(m.Seq, &h, body); err != nil {
			return fmt.Errorf("%w: sequence %d: %w", ErrHalt, m.Seq, err)
		}
		mark := s.marks[h.Incarnation]
		mark.Counter, mark.Hash = h.Counter, hash
		s.marks[h.Incarnation] = mark
	}
	s.pos.Seq, s.pos.Hash = m.Seq, hash
	if !repeat {
		s.open.events += int64(h.Events)
	}
	if m.Seq > s.sealed {
		s.unsealed.add(SealedBatch{Seq: m.Seq, LogTime: s.pos.LogTime, Verdicts: s.foldedInfo.Verdicts}, m, hash)
	}
	s.cut.add(len(m.Data), s.pos.LogTime, &s.opt, m.Seq, s.sealed)
	return nil
}

// FoldAgain folds a message that was folded before, by a memory that had seen batches which are lost since: it keeps the
// verdicts it was given then.
func (s *State) FoldAgain(m *journal.Message, recorded []byte) error {
	s.recorded = recorded
	err := s.Fold(m)
	s.recorded = nil
	return err
}

// skip steps over an acknowledged gap that lies right before seq. The segment that was growing ends before it.
func (s *State) skip(seq uint64) {
	if s.pos.Seq+1 == seq || journal.Behind(s.opt.Gaps, s.pos.Seq+1) != seq {
		return
	}
	s.cut.end(s.pos.Seq, seq, s.sealed)
	s.pos.Seq, s.pos.Hash = seq-1, journal.Hash{}
}

// resumes says whether a repair has foreseen that an incarnation goes on behind a gap with this batch.
func (s *State) resumes(seq uint64, h *journal.Header) bool {
	for _, g := range s.opt.Gaps {
		for _, r := range g.Resume {
			if g.Last < seq && r.Incarnation == h.Incarnation && r.Counter == h.Counter && r.Prev == h.Prev {
				return true
			}
		}
	}
	return false
}

// checkChain verifies the incarnation's counter and link. repeat is true for a batch that was folded before.
func (s *State) checkChain(seq uint64, h *journal.Header, hash journal.Hash) (repeat bool, err error) {
	mark := s.marks[h.Incarnation] // the zero mark for an unseen incarnation: the first batch must be number 1
	switch {
	case h.Counter > mark.Counter && s.resumes(seq, h):
		return false, nil
	case h.Counter == mark.Counter+1:
		if h.Prev != mark.Hash {
			return false, fmt.Errorf("batch %d of %x does not link to the one before", h.Counter, h.Incarnation)
		}
		return false, nil
	case h.Counter == mark.Counter && h.Counter > 0:
		if hash != mark.Hash {
			return false, fmt.Errorf("batch %d of %x came twice with different bytes", h.Counter, h.Incarnation)
		}
		return true, nil
	case h.Counter < mark.Counter && h.Counter > 0:
		return true, nil
	}
	if planted.Is(planted.SkipOnGap) {
		return false, nil
	}
	return false, fmt.Errorf("batch %d of %x follows %d: a batch is missing", h.Counter, h.Incarnation, mark.Counter)
}

// advance moves log time to the message's stamp: monotone, and no further than maxLogStep unless the message is a tick
// or a closed record, which producers write at start and after a pause.
func (s *State) advance(stamp int64, kind journal.Kind) {
	last := s.pos.LogTime
	if stamp <= last {
		return
	}
	if last != 0 && stamp-last > maxLogStep.Milliseconds() && kind != journal.KindTick && kind != journal.KindClosed {
		s.clamped++
		return
	}
	s.pos.LogTime = stamp
	s.window.Advance(stamp)
	if s.budgets.Due(stamp) {
		s.open.nextDay()
		s.budgets.Advance(stamp)
	}
	if stamp-s.lastExpiry > markLife.Milliseconds() {
		s.lastExpiry = stamp
		s.minted.Expire(s.forgotten())
		for inc, m := range s.marks {
			if m.Closed != 0 && stamp-m.Closed > markLife.Milliseconds() {
				delete(s.marks, inc)
			}
		}
	}
}

// mintedLife is for how long, in ms, an id that we minted is remembered after it was minted: while its token lives, and
// then for as long as an event may have waited between a door, which has looked at the token, and the journal: in the queue
// of a machine that slept, or in the spool.
func (s *State) mintedLife() int64 {
	return (s.opt.TokenLife + s.opt.Window + 2*markLife).Milliseconds()
}

// forgotten is the mint time, unix ms, before which an id that is not remembered may have been used all the same.
func (s *State) forgotten() int64 { return s.lastExpiry - s.mintedLife() }

func (s *State) foldBody(seq uint64, h *journal.Header, body []byte) error {
	switch h.Kind {
	case journal.KindEvents:
		return s.foldEvents(seq, h, body)
	case journal.KindTallies:
		tallies, err := journal.DecodeTallies(body)
		if err != nil {
			return err
		}
		s.open.tallies = append(s.open.tallies, tallies...)
		return nil
	case journal.KindClosed:
		var inc journal.Incarnation
		if copy(inc[:], body) != len(inc) {
			return fmt.Errorf("%w: closed record", journal.ErrBadBatch)
		}
		if m, ok := s.marks[inc]; ok && m.Closed == 0 {
			m.Closed = s.pos.LogTime
			s.marks[inc] = m
		}
		return nil
	case journal.KindTick:
		return nil
	}
	return fmt.Errorf("%w: kind %d", journal.ErrBadBatch, h.Kind)
}

// received returns the batch's receive time in unix ms: the door's stamp, held within a minute of log time unless the
// events waited in the spool.
func (s *State) received(h *journal.Header) int64 {
	r := min(h.Received, s.pos.LogTime)
	if !h.Spooled && r < s.pos.LogTime-maxReceived.Milliseconds() {
		s.clamped++
		r = s.pos.LogTime - maxReceived.Milliseconds()
	}
	return r
}
