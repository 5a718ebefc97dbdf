package verify

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"milliard/internal/archive"
	"milliard/internal/journal"
)

// batch is one message of the log, from wherever it was read.
type batch struct {
	seq      uint64
	stamp    int64 // unix ns
	logTime  int64 // as recorded; 0 when nobody has recorded it
	header   journal.Header
	hash     journal.Hash
	judged   bool // classes are known
	classes  []byte
	blocks   []archive.Block // events
	body     []byte          // of the other kinds
	size     int
	archived bool
}

// walker yields a lane's batches in order: from the archive what is sealed, else from the journal. What it cannot read
// it reports to bad and skips.
type walker struct {
	lane     *Lane
	archive  *archive.Archive
	unsealed map[uint64]Verdicts
	pace     *pace
	each     func(b *batch) error
	bad      func(check string, first, last uint64, err error)
	segments int64

	list  []archive.Segment // of the lane, as last listed
	ahead *reading          // of the next segment; nil: none
}

// reading is a segment on its way into memory.
type reading struct {
	segment archive.Segment
	done    chan struct{} // closed when the rest is there
	batches []archive.Batch
	err     error
}

// walk yields the batches from..until.
func (w *walker) walk(ctx context.Context, from, until uint64) error {
	defer w.drop()
	next := journal.Behind(w.lane.Gaps, from)
	for next <= until {
		s, ok, err := w.segment(next)
		if err != nil {
			return err
		}
		if ok {
			next, err = w.fromArchive(ctx, s, next, until)
		} else {
			next, err = w.fromJournal(ctx, next, until)
		}
		if err != nil {
			return err
		}
		next = journal.Behind(w.lane.Gaps, next)
	}
	return nil
}

// segment returns the segment that holds seq.
func (w *walker) segment(seq uint64) (archive.Segment, bool, error) {
	if s, ok := w.listed(seq); ok {
		return s, true, nil
	}
	var err error
	if w.list, err = w.archive.Segments(w.lane.Number); err != nil {
		return archive.Segment{}, false, err
	}
	s, ok := w.listed(seq)
	return s, ok, nil
}

func (w *walker) listed(seq uint64) (archive.Segment, bool) {
	for _, s := range w.list {
		if s.First <= seq && seq <= s.Last {
			return s, true
		}
	}
	return archive.Segment{}, false
}

// load returns a segment's batches, and begins to read the next one while they are worked on, if that disturbs nobody.
func (w *walker) load(s archive.Segment, until uint64) ([]archive.Batch, error) {
	l := w.ahead
	w.ahead = nil
	if l == nil || l.segment != s {
		l = w.begin(s)
	}
	<-l.done
	if next, ok := w.listed(s.Last + 1); ok && s.Last < until && w.pace.free() {
		w.ahead = w.begin(next)
	}
	return l.batches, l.err
}

// begin reads one segment.
func (w *walker) begin(s archive.Segment) *reading {
	l := &reading{segment: s, done: make(chan struct{})}
	go func() {
		defer close(l.done)
		l.batches, l.err = readSegment(w.archive, s)
	}()
	return l
}

// drop waits for what is still being read.
func (w *walker) drop() {
	if w.ahead != nil {
		<-w.ahead.done
		w.ahead = nil
	}
}

// fromArchive yields the batches of one segment and returns the sequence behind it. Where the journal still holds them
// too, both must agree.
func (w *walker) fromArchive(ctx context.Context, s archive.Segment, from, until uint64) (uint64, error) {
	batches, err := w.load(s, until)
	if err != nil {
		w.bad(checkArchive, from, min(s.Last, until), err)
		return s.Last + 1, nil
	}
	w.segments++
	both, err := w.journalHashes(ctx, from, min(s.Last, until))
	if err != nil {
		return 0, err
	}
	for i := range batches {
		a := &batches[i]
		if a.Seq < from || a.Seq > until {
			continue
		}
		if h, ok := both[a.Seq]; ok && h != a.Hash {
			w.bad(checkArchive, a.Seq, a.Seq, errors.New("journal and archive hold different batches"))
		}
		b := &batch{
			seq: a.Seq, stamp: a.Stamp, logTime: a.LogTime, header: a.Header, hash: a.Hash, judged: true,
			classes: a.Verdicts, archived: true, size: len(a.Message),
		}
		if b.header.Kind == journal.KindEvents {
			b.blocks = a.Blocks
		} else if len(a.Blocks) == 1 {
			b.body = a.Blocks[0].Main
		}
		if err := w.each(b); err != nil {
			return 0, err
		}
		if err := w.pace.wait(ctx, b.size); err != nil {
			return 0, err
		}
	}
	return s.Last + 1, nil
}

// readSegment reads a segment with its personal part, so that every message hashes to what was sealed.
func readSegment(a *archive.Archive, s archive.Segment) ([]archive.Batch, error) {
	batches, err := a.Read(s, true)
	if err != nil {
		return nil, err
	}
	for i := range batches {
		// Open checks the checksum that the producer wrote: header and body belong together.
		if _, _, err := journal.Open(batches[i].Message); err != nil {
			return nil, fmt.Errorf("sequence %d: %w", batches[i].Seq, err)
		}
	}
	return batches, nil
}

// journalHashes returns the hashes of those sequences that the journal holds as well. Trimming may go on meanwhile.
func (w *walker) journalHashes(ctx context.Context, first, last uint64) (map[uint64]journal.Hash, error) {
	if w.lane.Stream == nil {
		return nil, nil
	}
	out := make(map[uint64]journal.Hash)
	err := w.read(ctx, first, last, true, func(m *journal.Message) error {
		out[m.Seq] = journal.HashOf(m.Data)
		return w.pace.wait(ctx, len(m.Data))
	})
	return out, err
}

// read yields what the journal holds of first..last. With trimmed set, sequences below the journal's first are left out
// in silence; every other one that is missing is reported.
func (w *walker) read(ctx context.Context, first, last uint64, trimmed bool, each func(m *journal.Message) error) error {
	for next := journal.Behind(w.lane.Gaps, first); next <= last; next = journal.Behind(w.lane.Gaps, next) {
		st, err := w.lane.Stream.State(ctx)
		if err != nil {
			return err
		}
		if next < st.First {
			if trimmed {
				next = st.First
				continue
			}
			return nil // the caller looks into the archive again
		}
		if next > st.Last {
			w.bad(checkChain, next, last, fmt.Errorf("the journal ends at %d", st.Last))
			return nil
		}
		got, err := w.readRun(ctx, next, min(last, st.Last), each)
		if err == nil {
			next = got
			continue
		}
		if !errors.Is(err, journal.ErrGap) {
			return err
		}
		if next = journal.Behind(w.lane.Gaps, got); next != got {
			continue // acknowledged
		}
		if st, again := w.lane.Stream.State(ctx); again != nil || got < st.First {
			next = got // trimmed under our feet
			if again != nil {
				return again
			}
			continue
		}
		if next, err = w.hole(ctx, got, last, each); err != nil {
			return err
		}
	}
	return nil
}

// readRun reads on until last or an error and returns the next sequence.
func (w *walker) readRun(ctx context.Context, next, last uint64, each func(m *journal.Message) error) (uint64, error) {
	reader, err := w.lane.Stream.Read(ctx, next)
	if err != nil {
		return next, err
	}
	defer reader.Close()
	for next <= last {
		m, err := reader.Next(ctx)
		if err != nil {
			return next, err
		}
		if m.Seq != next {
			return next, fmt.Errorf("%w: %d where %d was expected", journal.ErrGap, m.Seq, next)
		}
		if err := each(&m); err != nil {
			return next, err
		}
		next++
	}
	return next, nil
}

// hole reports the missing sequences from first on and returns the next one to read, at most last+1.
func (w *walker) hole(ctx context.Context, first, last uint64, each func(m *journal.Message) error) (uint64, error) {
	for next := first; next <= last; next++ {
		m, err := w.lane.Stream.Get(ctx, next)
		switch {
		case err == nil && next == first: // the reader was wrong, not the journal
			return next + 1, each(&m)
		case err == nil:
			w.bad(checkChain, first, next-1, errors.New("missing or damaged in the journal"))
			return next, nil
		case !errors.Is(err, journal.ErrGap):
			return next, err
		}
	}
	w.bad(checkChain, first, last, errors.New("missing or damaged in the journal"))
	return last + 1, nil
}

// fromJournal yields batches that are not sealed and returns the sequence behind the last one.
func (w *walker) fromJournal(ctx context.Context, from, until uint64) (uint64, error) {
	if w.lane.Stream == nil {
		w.bad(checkArchive, from, until, errors.New("not in the archive"))
		return until + 1, nil
	}
	next := from
	err := w.read(ctx, from, until, false, func(m *journal.Message) error {
		b, err := w.open(m)
		next = m.Seq + 1
		if err != nil {
			w.bad(checkChain, m.Seq, m.Seq, err)
			return nil
		}
		if err := w.each(b); err != nil {
			return err
		}
		return w.pace.wait(ctx, b.size)
	})
	if err != nil {
		return 0, err
	}
	if next > until {
		return next, nil
	}
	// What is left was trimmed, or is missing and has been reported.
	if st, err := w.lane.Stream.State(ctx); err != nil || next >= st.First {
		return until + 1, err
	}
	if _, sealed, err := w.segment(next); err != nil || sealed {
		return next, err
	}
	st, err := w.lane.Stream.State(ctx)
	if err != nil {
		return 0, err
	}
	w.bad(checkArchive, next, min(until, st.First-1), errors.New("neither in the journal nor in the archive"))
	return max(st.First, next+1), nil
}

// open checks a message and splits it.
func (w *walker) open(m *journal.Message) (*batch, error) {
	h, body, err := journal.Open(m.Data)
	if err != nil {
		return nil, err
	}
	b := &batch{seq: m.Seq, stamp: m.Stamp, header: h, hash: journal.HashOf(m.Data), size: len(m.Data)}
	if v, ok := w.unsealed[m.Seq]; ok {
		b.judged, b.logTime, b.classes = true, v.LogTime, v.Classes
	}
	if h.Kind != journal.KindEvents {
		b.body = body
		return b, nil
	}
	for {
		main, personal, rest, ok, err := journal.NextBlock(body)
		if err != nil {
			return nil, err
		}
		if !ok {
			return b, nil
		}
		b.blocks = append(b.blocks, archive.Block{Main: main, Personal: personal})
		body = rest
	}
}

// abut checks that a lane's segments follow each other.
func abut(segments []archive.Segment, gaps []journal.Gap, found func(text string)) {
	next := uint64(1)
	for _, s := range segments {
		next = journal.Behind(gaps, next)
		name := filepath.Base(s.Path)
		switch {
		case s.Last < s.First:
			found(fmt.Sprintf("segment %s ends before it begins", name))
		case s.First > next:
			found(fmt.Sprintf("sequences %d to %d stand in no segment", next, s.First-1))
		case s.First < next:
			found(fmt.Sprintf("segment %s overlaps the one before, which ends at %d", name, next-1))
		}
		next = max(next, s.Last+1)
	}
}
