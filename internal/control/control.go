// Package control owns the control stream: every change of the catalog is a record there, durable before it is in force,
// and the stream is never trimmed, so that it is also the audit log. The current state is an immutable View behind an
// atomic pointer. Changes take turns; nobody waits for the journal while holding a lock. Control starts no goroutine:
// Project is a loop that its caller runs in one of its own.
package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"
	"unicode"
	"unicode/utf8"

	"milliard/internal/catalog"
	"milliard/internal/crash"
	"milliard/internal/journal"
)

// Limits of a record.
const (
	MaxRecord = 256 << 10 // bytes; Apply splits larger documents
	maxActor  = 255
	maxWhy    = 1000
)

// Errors of the package. Those of the journal and *catalog.Problem come through wrapped.
var (
	// ErrTooLarge: one change does not fit a record.
	ErrTooLarge = errors.New("control record too large")
	// ErrActor: a record must say who made it, in plain text.
	ErrActor = errors.New("actor or reason is missing, too long or not plain text")
)

// errMoved: somebody else appended to the stream first; the change must be worked out again.
var errMoved = errors.New("control stream moved")

const (
	attemptTimeout = 5 * time.Second // of one append
	retryPause     = 50 * time.Millisecond
)

// Control is the writer and holder of the catalog.
type Control struct {
	stream journal.Stream
	seal   *sealer
	now    func() time.Time
	log    *slog.Logger

	current    atomic.Pointer[View]
	projecting projecting

	// turn holds one token; whoever has taken it may append, and owns the fields below.
	turn      chan struct{}
	last      uint64 // sequence of the last record that is folded
	unsettled bool   // a record was given up unanswered: it may stand at last+1, now or soon
}

// Open reads the whole control stream and returns the catalog that it makes. The first start creates the tenant
// "default". It fails with ErrMasterKey when the stream's secrets were sealed under another master key.
func Open(
	ctx context.Context, stream journal.Stream, master [32]byte, now func() time.Time, log *slog.Logger,
) (*Control, error) {
	seal, err := newSealer(master)
	if err != nil {
		return nil, err
	}
	c := &Control{stream: stream, seal: seal, now: now, log: log, turn: make(chan struct{}, 1)}
	c.turn <- struct{}{}
	s, err := readAll(ctx, stream)
	if err != nil {
		return nil, fmt.Errorf("read control stream: %w", err)
	}
	v, err := wholeView(s, seal)
	if err != nil {
		return nil, fmt.Errorf("open secrets of the catalog: %w", err)
	}
	c.current.Store(v)
	c.last = s.Version()
	if _, ok := s.DefaultTenant(); !ok {
		if _, err := c.EnsureTenant(ctx, "start", "default"); err != nil {
			return nil, fmt.Errorf("create the default tenant: %w", err)
		}
	}
	log.Info("catalog loaded", "version", c.Version(), "tenants", len(c.Current().Tenants()))
	return c, nil
}

func readAll(ctx context.Context, stream journal.Stream) (*catalog.Snapshot, error) {
	s := catalog.Empty()
	st, err := stream.State(ctx)
	if err != nil {
		return nil, err
	}
	if st.Last < st.HighWater {
		return nil, fmt.Errorf("ends at %d, was acknowledged to %d: %w", st.Last, st.HighWater, journal.ErrGap)
	}
	if st.Last < max(st.First, 1) {
		if st.Last > 0 {
			return nil, fmt.Errorf("its %d records are gone: %w", st.Last, journal.ErrGap)
		}
		return s, nil
	}
	if st.First > 1 || st.Deleted > 0 {
		return nil, fmt.Errorf("starts at %d with %d deleted records: %w", st.First, st.Deleted, journal.ErrGap)
	}
	r, err := stream.Read(ctx, 1)
	if err != nil {
		return nil, err
	}
	for s.Version() < st.Last && err == nil {
		var m journal.Message
		if m, err = r.Next(ctx); err == nil {
			s, err = foldMessage(s, m)
		}
	}
	return s, errors.Join(err, r.Close())
}

// DecodeRecord reads a control record as it stands in the stream.
func DecodeRecord(m journal.Message) (*catalog.Record, error) {
	var r catalog.Record
	if err := json.Unmarshal(m.Data, &r); err != nil {
		return nil, fmt.Errorf("control record %d: %w: %w", m.Seq, catalog.ErrRecord, err)
	}
	r.Seq = m.Seq
	return &r, nil
}

func foldMessage(s *catalog.Snapshot, m journal.Message) (*catalog.Snapshot, error) {
	r, err := DecodeRecord(m)
	if err != nil {
		return nil, err
	}
	next, err := s.Apply(r)
	if err != nil {
		return nil, fmt.Errorf("control %w", err)
	}
	return next, nil
}

// Current returns the view in force.
func (c *Control) Current() *View { return c.current.Load() }

// Version returns the catalog version in force.
func (c *Control) Version() uint64 { return c.current.Load().Version() }

// Change makes one atomic change: build gets the snapshot it will be applied to, and may be called again when another
// process was faster. It returns when the record is durable and in force. Without changes nothing is written and the
// record has sequence 0. journal.ErrUnknown means that ctx ended before the journal answered: the record may still come
// into force.
func (c *Control) Change(
	ctx context.Context, actor, why string, build func(*catalog.Snapshot) ([]catalog.Change, error),
) (catalog.Record, error) {
	if err := c.take(ctx); err != nil {
		return catalog.Record{}, err
	}
	defer c.release()
	for {
		changes, err := build(c.Current().Snapshot)
		if err != nil || len(changes) == 0 {
			return catalog.Record{}, err
		}
		if changes, err = c.withSigningKeys(changes); err != nil {
			return catalog.Record{}, err
		}
		r, err := c.commit(ctx, actor, why, changes)
		if !errors.Is(err, errMoved) {
			return r, err
		}
	}
}

// take waits for the turn. When an earlier change was given up unanswered, it looks whether that was stored after all.
// If that record is still on its way it can only land at last+1, where it and the next change exclude each other: the
// loser gets journal.ErrConflict. So it need not be sent again, and does not come into force hours later.
func (c *Control) take(ctx context.Context) error {
	select {
	case <-c.turn:
	case <-ctx.Done():
		return fmt.Errorf("wait for the catalog: %w", ctx.Err())
	}
	if !c.unsettled {
		return nil
	}
	if err := c.catchUp(ctx); err != nil {
		c.release()
		return err
	}
	c.unsettled = false
	return nil
}

func (c *Control) release() { c.turn <- struct{}{} }

// commit writes one record and puts it in force. It has the turn.
func (c *Control) commit(ctx context.Context, actor, why string, changes []catalog.Change) (catalog.Record, error) {
	if actor == "" || !plain(actor, maxActor) || !plain(why, maxWhy) {
		return catalog.Record{}, ErrActor
	}
	r := catalog.Record{At: c.now().UnixMilli(), Actor: actor, Why: why, Changes: changes}
	data, err := json.Marshal(&r)
	if err != nil {
		return catalog.Record{}, fmt.Errorf("control record: %w", err)
	}
	if len(data) > MaxRecord {
		return catalog.Record{}, fmt.Errorf("%d bytes in one change: %w", len(data), ErrTooLarge)
	}
	// Everything that can fail is tried before the record is written: what stands in the stream can be folded.
	r.Seq = c.last + 1
	before := c.Current()
	next, err := before.Snapshot.Apply(&r)
	if err != nil {
		return catalog.Record{}, err
	}
	view, err := before.next(next, changes, c.seal)
	if err != nil {
		return catalog.Record{}, err
	}
	return r, c.send(ctx, data, view)
}

// send appends a record, the same bytes again while the answer is unknown, until ctx ends; and puts view in force.
func (c *Control) send(ctx context.Context, data []byte, view *View) error {
	for {
		crash.Point(crash.ControlBefore)
		attempt, cancel := context.WithTimeout(ctx, attemptTimeout)
		seq, err := c.stream.Append(attempt, c.last, data)
		crash.Point(crash.ControlAfter)
		timedOut := attempt.Err() != nil
		cancel()
		switch {
		case err == nil && seq == c.last+1:
			c.publish(view)
			return nil
		case err == nil:
			return fmt.Errorf("control record stored as %d instead of %d: %w", seq, c.last+1, journal.ErrGap)
		case errors.Is(err, journal.ErrConflict):
			if err := c.catchUp(ctx); err != nil {
				return err
			}
			return errMoved
		case !errors.Is(err, journal.ErrUnknown) && !timedOut:
			return fmt.Errorf("append control record: %w", err)
		}
		c.log.Warn("control record unanswered, sending it again", "after", c.last, "err", err)
		if !pause(ctx, retryPause) {
			c.unsettled = true
			return fmt.Errorf("append control record: %w: %w", journal.ErrUnknown, ctx.Err())
		}
	}
}

func (c *Control) publish(v *View) {
	c.current.Store(v)
	c.last = v.Version()
}

// catchUp folds what others have appended. It has the turn.
func (c *Control) catchUp(ctx context.Context) error {
	st, err := c.stream.State(ctx)
	if err != nil {
		return fmt.Errorf("control stream: %w", err)
	}
	for c.last < st.Last {
		m, err := c.stream.Get(ctx, c.last+1)
		if err != nil {
			return fmt.Errorf("control record %d: %w", c.last+1, err)
		}
		r, err := DecodeRecord(m)
		if err != nil {
			return err
		}
		before := c.Current()
		next, err := before.Snapshot.Apply(r)
		if err != nil {
			return fmt.Errorf("control %w", err)
		}
		v, err := before.next(next, r.Changes, c.seal)
		if err != nil {
			return err
		}
		c.publish(v)
	}
	return nil
}

// pause says whether d passed before ctx ended.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// plain says whether s is text without control characters, which would forge log lines.
func plain(s string, limit int) bool {
	return len(s) <= limit && utf8.ValidString(s) && !strings.ContainsFunc(s, unicode.IsControl)
}
