package journal_test

import (
	"testing"
	"testing/synctest"
	"time"

	"milliard/internal/journal"
	"milliard/internal/journal/mem"
)

// What is settled must be in the journal: at no step of a batch's way may a lane say so of an event that is only on it.
func TestNothingIsSettledWhileItIsOnItsWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLane(t, journal.ProducerOptions{}, mem.Fault{}, mem.Fault{Delay: time.Second}, mem.Fault{Action: mem.LoseMessage}, mem.Fault{Action: mem.Full})
		synctest.Wait() // the start tick is stored
		seq, ok := l.p.Settled()
		if !ok || seq != 1 {
			t.Fatalf("an idle lane is settled up to %d, %v", seq, ok)
		}
		ticket := l.add(t, 1)
		if _, ok := l.p.Settled(); ok {
			t.Error("settled with an event in the open batch")
		}
		synctest.Wait() // its batch is in flight for a second
		if _, ok := l.p.Settled(); ok {
			t.Error("settled with a batch in flight")
		}
		if err := ticket.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		_, stored, _ := ticket.Position()
		if seq, ok = l.p.Settled(); !ok || seq != stored {
			t.Errorf("stored as %d, settled up to %d, %v", stored, seq, ok)
		}
		if err := l.add(t, 2).Wait(t.Context()); err == nil {
			t.Fatal("a full journal took an event")
		}
		synctest.Wait() // whether the event is stored is not known
		if seq, ok = l.p.Settled(); ok {
			t.Errorf("settled up to %d with a batch of which nothing is known", seq)
		}
		last := l.add(t, 3)
		if err := last.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		_, stored, _ = last.Position()
		if seq, ok = l.p.Settled(); !ok || seq < stored { // the end of the old incarnation comes behind it
			t.Errorf("after the journal took events again: stored as %d, settled up to %d, %v", stored, seq, ok)
		}
		l.stop(t)
		if seq, ok = l.p.Settled(); ok && seq < stored {
			t.Errorf("a lane that was stopped is settled up to %d", seq)
		}
	})
}
