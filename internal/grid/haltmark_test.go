package grid

import (
	"context"
	"os"
	"testing"

	"milliard/internal/journal"
)

// mended is a journal whose engine has forgotten that it lost something.
type mended struct{ journal.Stream }

func (m mended) State(ctx context.Context) (journal.State, error) {
	s, err := m.Stream.State(ctx)
	s.Lost, s.Deleted = 0, 0
	return s, err
}

// TestALossHaltsTheLaneUntilARepair: a message behind the ledger's position is gone, the engine says so once, and the doors
// go on writing where it stood.
func TestALossHaltsTheLaneUntilARepair(t *testing.T) {
	b := newBench(t)
	b.start()
	b.append(foreign("x"))
	b.flushed()
	b.stop()
	kept := *b.w
	b.append(foreign("acknowledged"))
	b.mem().Regress(1)
	*b.w = kept
	b.halts("1 are reported lost")

	b.stream = mended{b.stream}
	b.append(foreign("y"))
	b.halts("since an earlier start, until a repair: 0 messages are missing inside the journal, 1 are reported lost")

	if err := os.Remove(b.lane.cfg.HaltFile); err != nil { // as a repair does
		t.Fatal(err)
	}
	b.start()
	b.flushed()
	b.stop()
	if b.book.at.Seq != 2 {
		t.Errorf("the ledger stands at %d", b.book.at.Seq)
	}
}

// TestALossWhileRunningIsMarked: the keeper sees it.
func TestALossWhileRunningIsMarked(t *testing.T) {
	b := newBench(t)
	b.start()
	b.append(foreign("x"))
	b.append(foreign("y"))
	b.flushed()
	b.mem().Delete(1)
	b.halted("missing inside")
	b.stream = mended{b.stream}
	b.halts("since an earlier start")
}
