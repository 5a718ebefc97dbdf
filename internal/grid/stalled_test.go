package grid

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"milliard/internal/journal"
	"milliard/internal/ledger"
)

// TestAStalledLedgerBoundsBatches: a batch that adds no row, because its counters are there already, takes memory all the
// same.
func TestAStalledLedgerBoundsBatches(t *testing.T) {
	const most = 10
	b := newBench(t)
	b.options = func(o *Options) { o.MinuteCells = most }
	b.start()
	b.append(foreign("first"))
	b.flushed()
	b.fail(ledger.ErrUnavailable)
	var last uint64
	for i := range 5 * most {
		last = b.append(foreign(fmt.Sprint(i)))
	}
	b.until("the owner waits", func() bool {
		b.lane.mu.Lock()
		defer b.lane.mu.Unlock()
		return b.lane.frozen != nil && b.lane.crowdedLocked()
	})
	if s := b.lane.Status(); s.Folded.Seq > 1+2*most {
		t.Fatalf("%d of %d batches are folded", s.Folded.Seq, last)
	}
	b.fail(nil)
	b.flushed()
	if got := b.book.total(); got != 1+5*most {
		t.Fatalf("%d in the ledger", got)
	}
	b.stop()
}

func (b *bench) fail(err error) {
	b.book.mu.Lock()
	defer b.book.mu.Unlock()
	b.book.failing = err
}

// TestAStalledLedgerHasTheLaneLetGo: what the journal holds anyway is not kept for the archive, and is sealed all the same.
func TestAStalledLedgerHasTheLaneLetGo(t *testing.T) {
	b := newBench(t)
	b.options = func(o *Options) { o.SealedBatches = 5 }
	b.start()
	b.append(foreign("first"))
	b.flushed()
	b.fail(ledger.ErrUnavailable)
	for i := range 20 {
		b.append(foreign(fmt.Sprint(i)))
	}
	var list *unsealedList
	b.until("all is folded and a flush has failed", func() bool {
		b.lane.mu.Lock()
		defer b.lane.mu.Unlock()
		list = &b.lane.st.unsealed
		return b.lane.frozen != nil && b.lane.st.pos.Seq == 21
	})
	kept := func() int {
		b.lane.mu.Lock()
		defer b.lane.mu.Unlock()
		return list.kept
	}
	b.lane.relieve(time.Now())
	if kept() == 0 {
		t.Fatal("nothing was kept for the archive to begin with")
	}
	b.lane.relieve(time.Now().Add(time.Minute))
	if n := kept(); n != 0 {
		t.Fatalf("%d bytes are kept", n)
	}
	b.fail(nil)
	b.flushed()
	slim := func() bool {
		b.lane.relieve(time.Now())
		b.lane.mu.Lock()
		defer b.lane.mu.Unlock()
		return list.slim
	}
	b.lane.mu.Lock()
	b.lane.flushTook = time.Minute
	b.lane.mu.Unlock()
	if !slim() {
		t.Error("a flush that took a minute is forgotten at once")
	}
	b.append(foreign("quick"))
	b.flushed()
	b.until("the ledger is quick again", func() bool { return !slim() })
	b.until("it is sealed", func() bool { return b.lane.Status().Sealed == 20 })
	b.stop()
}

func TestUnsealedListsStayAsTheyWereHandedOut(t *testing.T) {
	u := unsealedList{room: 25}
	add := func(seq uint64) {
		u.add(SealedBatch{Seq: seq, Verdicts: []byte{byte(seq)}}, &journal.Message{Data: make([]byte, 10)}, journal.Hash{})
	}
	held := func() (seqs []uint64) {
		for _, b := range u.segment(1 << 40) {
			if b.Message != nil {
				seqs = append(seqs, b.Seq)
			}
		}
		return seqs
	}
	must := func(when string, kept int, seqs ...uint64) {
		t.Helper()
		if u.kept != kept || !slices.Equal(held(), seqs) {
			t.Errorf("%s: %d bytes, of %d; must be %d, of %d", when, u.kept, held(), kept, seqs)
		}
	}
	for seq := range uint64(4) {
		add(seq + 1)
	}
	must("full", 20, 1, 2)
	view := u.view()
	u.drop(1)
	add(5)
	must("after a drop", 20, 2, 5)
	for i, b := range view {
		if b.Seq != uint64(i+1) || b.Verdicts[0] != byte(i+1) {
			t.Fatalf("batch %d of the view: %+v", i, b)
		}
	}
	u.keepBytes(false)
	add(6)
	must("nothing is to be held", 0)
	u.keepBytes(true)
	add(7)
	must("held again", 10, 7)
	if n := testing.AllocsPerRun(10, func() { u.drop(1) }); n != 0 { // the keeper asks several times a second, under the lock
		t.Errorf("dropping nothing allocates %v times", n)
	}
	for seq := range uint64(100_000) {
		add(seq + 8)
	}
	u.drop(100_000)
	if len(u.batches) != 7 || cap(u.batches) > 100 || cap(u.stored) > 100 {
		t.Errorf("%d batches take the room of %d", len(u.batches), cap(u.batches))
	}
}
