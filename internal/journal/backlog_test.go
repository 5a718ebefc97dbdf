package journal_test

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"milliard/internal/event"
	"milliard/internal/journal"
)

// backlog is one batch that waits or not, and can be read or not.
type backlog struct{ waits, readable atomic.Bool }

func (b *backlog) Next() ([]byte, bool) {
	if !b.waits.Load() || !b.readable.Load() {
		return nil, false
	}
	return spooledBatch(), true
}

func (b *backlog) Stored() (ended journal.Incarnation, done bool) {
	b.waits.Store(false)
	return journal.Incarnation{0xAA}, true
}

func (b *backlog) Waiting() int {
	if b.waits.Load() {
		return 1
	}
	return 0
}

// spooledBatch is a batch as a spool has it.
func spooledBatch() []byte {
	var rows event.Builder
	rows.Start(event.Minted, event.ImportID{})
	rows.Append(click(1))
	msg := journal.AppendBlock(journal.AppendHeader(nil), rows.Block())
	journal.Seal(msg, &journal.Header{
		Kind: journal.KindEvents, Spooled: true, Incarnation: journal.Incarnation{0xAA}, Counter: 1, Events: 1, Received: 1_760_000_000_000,
	})
	return msg
}

// TestABacklogThatCannotBeReadHoldsNobodyUp: neither the lane's own events, also when log time jumps, nor its end; and it is
// drained as soon as it can be read, though nobody says so.
func TestABacklogThatCannotBeReadHoldsNobodyUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b backlog
		b.waits.Store(true)
		var jump atomic.Int64
		l := newLane(t, journal.ProducerOptions{Backlog: &b, Now: func() time.Time { return time.Now().Add(time.Duration(jump.Load())) }})
		stored := func(i uint64) {
			t.Helper()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			if err := l.add(t, i).Wait(ctx); err != nil {
				t.Errorf("event %d: %v", i, err)
			}
		}
		stored(2)
		synctest.Wait()
		jump.Store(int64(time.Hour))
		stored(3)
		if _, ok := l.p.Settled(); ok {
			t.Error("settled while the backlog waits")
		}
		synctest.Wait()
		b.readable.Store(true)
		time.Sleep(time.Second) // on the clock of this test
		synctest.Wait()
		if _, ok := l.p.Settled(); !ok || b.Waiting() != 0 {
			t.Errorf("settled %v with %d waiting", ok, b.Waiting())
		}
		b.readable.Store(false)
		b.waits.Store(true)
		l.stop(t)
	})
}
