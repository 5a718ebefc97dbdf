package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"

	"milliard/internal/archive"
	"milliard/internal/journal"
	"milliard/internal/journal/jet"
)

// message is one batch as it stands in archive or journal.
type message struct {
	data     []byte
	verdicts []byte // of a sealed one
	sealed   bool
}

// rawLog is every batch of every lane, from sequence 1 on.
type rawLog map[int][]message

// install is what the program has written about its directory.
type install struct {
	ID    string `json:"id"`
	Lanes int    `json:"lanes"`
}

// readRaw reads archive and journal of a directory that no process holds. What base has is not read again. problems are
// holes and differences; an error means that something cannot be read at all.
func readRaw(ctx context.Context, data string, base rawLog) (log rawLog, problems []string, err error) {
	var in install
	raw, err := os.ReadFile(filepath.Join(data, "install.json"))
	if err == nil {
		err = json.Unmarshal(raw, &in)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("read install.json: %w", err)
	}
	store, err := archive.Open(filepath.Join(data, "archive"))
	if err != nil {
		return nil, nil, err
	}
	j, err := jet.Open(ctx, jet.Options{
		Dir: filepath.Join(data, "journal"), MaxBytes: 1 << 30, InstallID: in.ID, Lanes: in.Lanes,
		Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return nil, nil, err
	}
	log = rawLog{}
	for lane := range in.Lanes {
		l := rawLane{lane: lane, batches: slices.Clone(base[lane]), base: uint64(len(base[lane]))}
		if err = l.sealed(store); err == nil {
			err = l.tail(ctx, j)
		}
		if err != nil {
			err = fmt.Errorf("lane %d: %w", lane, err)
			break
		}
		log[lane] = l.batches
		problems = append(problems, l.problems...)
	}
	return log, problems, errors.Join(err, j.Close(ctx))
}

type rawLane struct {
	lane     int
	batches  []message
	base     uint64
	sealedTo uint64
	problems []string
}

func (l *rawLane) problem(format string, args ...any) {
	l.problems = append(l.problems, fmt.Sprintf("lane %d: ", l.lane)+fmt.Sprintf(format, args...))
}

// put adds the next batch, or compares one that is known already.
func (l *rawLane) put(seq uint64, m message, where string) {
	switch n := uint64(len(l.batches)); {
	case seq <= n && !bytes.Equal(l.batches[seq-1].data, m.data):
		l.problem("batch %d in the %s is not the one that was stored", seq, where)
		if seq <= l.base {
			l.batches[seq-1] = m
		}
	case seq <= n:
		if m.sealed {
			l.batches[seq-1] = m
		}
	case seq == n+1:
		l.batches = append(l.batches, m)
	default:
		l.problem("batches %d to %d are missing before the %s", n+1, seq-1, where)
		for uint64(len(l.batches)) < seq-1 {
			l.batches = append(l.batches, message{})
		}
		l.batches = append(l.batches, m)
	}
}

func (l *rawLane) sealed(store *archive.Archive) error {
	segments, err := store.Segments(l.lane)
	if err != nil {
		return err
	}
	for _, s := range segments {
		l.sealedTo = s.Last
		if s.Last <= l.base && l.batches[s.Last-1].sealed {
			continue // base has it
		}
		batches, err := store.Read(s, true)
		if err != nil {
			return err
		}
		for i := range batches {
			l.put(batches[i].Seq, message{batches[i].Message, batches[i].Verdicts, true}, "archive")
		}
	}
	return nil
}

// end looks whether the journal still ends as it did when base was read. What is gone is gone, and what stands there now is
// what counts: the batches that stood there before are lost, and their numbers were given out again.
func (l *rawLane) end(ctx context.Context, stream journal.Stream, st journal.State) error {
	if st.Last < l.base {
		l.problem("the journal ends at %d, it had %d", st.Last, l.base)
		l.batches = l.batches[:max(st.Last, l.sealedTo)]
	}
	other := uint64(0)
	for at := min(l.base, st.Last); at >= max(st.First, 1) && at > l.sealedTo; at-- {
		m, err := stream.Get(ctx, at)
		if err != nil && !errors.Is(err, journal.ErrGap) {
			return fmt.Errorf("sequence %d: %w", at, err)
		}
		if err != nil || bytes.Equal(m.Data, l.batches[at-1].data) {
			break // damage is met by who reads on
		}
		l.batches[at-1] = message{data: m.Data}
		other++
	}
	if other > 0 {
		l.problem("the last %d of %d batches are others than were stored", other, l.base)
	}
	return nil
}

func (l *rawLane) tail(ctx context.Context, j journal.Journal) error {
	stream, err := j.Stream(fmt.Sprintf("lane-%d", l.lane))
	if err != nil {
		return err
	}
	st, err := stream.State(ctx)
	if err != nil {
		return err
	}
	if err := l.end(ctx, stream, st); err != nil {
		return err
	}
	from := max(st.First, l.base+1)
	if l.base == 0 && (st.Deleted > 0 || st.Lost > 0) {
		l.problem("the journal misses %d inside and has lost %d", st.Deleted, st.Lost)
	}
	if from > st.Last {
		return nil
	}
	reader, err := stream.Read(ctx, from)
	if err != nil {
		return err
	}
	defer func() { _ = reader.Close() }() // it was only read
	for at := from; at <= st.Last; at++ {
		m, err := reader.Next(ctx)
		if err != nil {
			return fmt.Errorf("sequence %d: %w", at, err)
		}
		l.put(at, message{data: m.Data}, "journal")
	}
	return nil
}
