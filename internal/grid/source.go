package grid

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"milliard/internal/archive"
	"milliard/internal/journal"
)

// source yields a lane's messages in order from a sequence on: from the archive what the journal no longer holds, then
// from the journal, and over the gaps that a repair has acknowledged. It is the owner's; one caller at a time.
type source struct {
	lane   int
	stream journal.Stream
	arch   *archive.Archive
	gaps   []journal.Gap
	ctx    context.Context // of the lane: opening a reader outlives no call, but TryNext has no context of its own
	next   uint64
	first  uint64          // of the journal when the source was made; nothing is trimmed before it has been folded
	sealed []archive.Batch // of the segment at hand, from next on
	reader journal.Reader
	last   *archive.Batch // the last message, if it came from the archive
}

func newSource(ctx context.Context, cfg *LaneConfig, from, first uint64) *source {
	return &source{
		lane: cfg.Lane, stream: cfg.Stream, arch: cfg.Archive, gaps: cfg.Gaps, ctx: context.WithoutCancel(ctx), next: from, first: first,
	}
}

var _ journal.Reader = (*source)(nil)

// Next waits for the next message.
func (s *source) Next(ctx context.Context) (journal.Message, error) {
	for {
		m, ok, err := s.archived()
		if ok || err != nil {
			return m, err
		}
		m, err = s.reader.Next(ctx)
		if again, err := s.over(err); !again {
			return s.took(m, err), err
		}
	}
}

// TryNext returns the next message when it is here.
func (s *source) TryNext() (journal.Message, bool, error) {
	for {
		m, ok, err := s.archived()
		if ok || err != nil {
			return m, ok, err
		}
		m, ok, err = s.reader.TryNext()
		again, err := s.over(err)
		if again {
			continue
		}
		if ok && err == nil {
			m = s.took(m, nil)
		}
		return m, ok, err
	}
}

func (s *source) took(m journal.Message, err error) journal.Message {
	if err == nil {
		s.next, s.last = m.Seq+1, nil
	}
	return m
}

// over steps over an acknowledged gap when the journal says that something is missing, and says whether it did.
func (s *source) over(err error) (again bool, _ error) {
	if err == nil || !errors.Is(err, journal.ErrGap) {
		return false, err
	}
	behind := journal.Behind(s.gaps, s.next)
	if behind == s.next {
		return false, err
	}
	s.next = behind
	return true, s.Close()
}

// archived returns the next message if it is to come from the archive, and otherwise sees to it that there is a reader.
func (s *source) archived() (m journal.Message, ok bool, err error) {
	if s.reader != nil {
		return m, false, nil
	}
	s.next = journal.Behind(s.gaps, s.next)
	if len(s.sealed) == 0 && s.next < s.first {
		if err := s.load(); err != nil {
			return m, false, err
		}
	}
	if len(s.sealed) > 0 {
		b := s.sealed[0]
		s.sealed, s.last, s.next = s.sealed[1:], &b, b.Seq+1
		return journal.Message{Seq: b.Seq, Stamp: b.Stamp, Data: b.Message}, true, nil
	}
	s.reader, err = s.stream.Read(s.ctx, s.next)
	return m, false, err
}

// load reads the segment that holds the next message.
func (s *source) load() error {
	segments, err := s.arch.Segments(s.lane)
	if err != nil {
		return err
	}
	for _, seg := range segments {
		if s.next < seg.First || s.next > seg.Last {
			continue
		}
		batches, err := s.arch.Read(seg, true)
		if err != nil {
			return err
		}
		s.sealed = batches[s.next-seg.First:]
		return nil
	}
	return fmt.Errorf("%w: batches %d to %d stand neither in the journal nor in the archive", journal.ErrGap, s.next, s.first-1)
}

// fold folds the last message. What is known to be lost may have claimed ids: behind it a batch of the archive keeps the
// verdicts that were recorded. Everything else is judged again, and must come out the same.
func (s *source) fold(st *State, m *journal.Message) error {
	if b := s.last; b != nil && s.behindLoss(b.Seq) && len(b.Verdicts) > 0 {
		return st.FoldAgain(m, b.Verdicts)
	}
	if err := st.Fold(m); err != nil {
		return err
	}
	return s.check(&st.foldedInfo)
}

// behindLoss says whether batches before seq are lost. A gap of no batch only says where counters jump.
func (s *source) behindLoss(seq uint64) bool {
	return slices.ContainsFunc(s.gaps, func(g journal.Gap) bool { return g.First <= g.Last && g.First < seq })
}

// check holds what has been decided about the last message against what was recorded when it was first folded.
func (s *source) check(info *FoldedInfo) error {
	if b := s.last; b != nil && !bytes.Equal(b.Verdicts, info.Verdicts) {
		return fmt.Errorf("%w: sequence %d: the verdicts differ from the recorded ones; has a setting such as the window been changed?", ErrHalt, b.Seq)
	}
	return nil
}

// Close ends the reader, if there is one.
func (s *source) Close() error {
	if s.reader == nil {
		return nil
	}
	r := s.reader
	s.reader = nil
	return r.Close()
}
