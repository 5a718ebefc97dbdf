package grid

import (
	"fmt"
	"testing"
	"time"

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
	b.until("it is sealed", func() bool { return b.lane.Status().Sealed == 20 })
	b.stop()
}

func TestUnsealedListsStayAsTheyWereHandedOut(t *testing.T) {
	u := unsealedList{room: 25}
	for seq := range uint64(4) {
		u.add(SealedBatch{Seq: seq + 1, Verdicts: []byte{byte(seq)}}, make([]byte, 10))
	}
	if u.kept != 20 || u.batches[1].stored == nil || u.batches[2].stored != nil {
		t.Fatalf("%d bytes are kept of %d", u.kept, u.room)
	}
	view := u.view()
	u.drop(1)
	u.add(SealedBatch{Seq: 5}, make([]byte, 10))
	if u.kept != 20 || len(u.batches) != 4 || u.batches[0].Seq != 2 {
		t.Fatalf("after a drop: %+v", u)
	}
	for i := range view {
		if view[i].Seq != uint64(i+1) || view[i].Verdicts[0] != byte(i) {
			t.Fatalf("batch %d of the view: %+v", i, view[i])
		}
	}
	u.keepBytes(false)
	u.add(SealedBatch{Seq: 6}, make([]byte, 10))
	if u.kept != 0 || u.batches[0].stored != nil || u.batches[4].stored != nil {
		t.Fatalf("kept all the same: %+v", u)
	}
	u.keepBytes(true)
	u.add(SealedBatch{Seq: 7}, make([]byte, 10))
	if u.kept != 10 {
		t.Fatalf("%d bytes are kept again", u.kept)
	}
	if n := testing.AllocsPerRun(10, func() { u.drop(1) }); n != 0 { // the keeper asks several times a second, under the lock
		t.Errorf("dropping nothing allocates %v times", n)
	}
}
