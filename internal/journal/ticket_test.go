package journal_test

import (
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"milliard/internal/journal"
	"milliard/internal/journal/mem"
)

// TestTellingInsteadOfWaiting: a ticket tells once, when its batch is settled, or at once when it already is.
func TestTellingInsteadOfWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLane(t, journal.ProducerOptions{}, mem.Fault{}, mem.Fault{Delay: time.Second}, mem.Fault{Action: mem.Full})
		synctest.Wait() // the start tick is stored
		first := l.add(t, 1)
		synctest.Wait() // in flight
		second, third := l.add(t, 2), l.add(t, 3)
		if first.With(second) || !second.With(third) {
			t.Error("the second batch is that of the second and the third event")
		}
		var told [3]atomic.Int32
		for i, ticket := range []journal.Ticket{first, second, third} {
			ticket.Tell(func() { told[i].Add(1) })
			if !errors.Is(ticket.Err(), journal.ErrUnknown) {
				t.Errorf("before: %v", ticket.Err())
			}
		}
		synctest.Wait()
		for i := range told {
			if n := told[i].Load(); n != 0 {
				t.Fatalf("too early: ticket %d told %d times", i, n)
			}
		}
		if err := first.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		for i := range told {
			if n := told[i].Load(); n != 1 {
				t.Errorf("ticket %d told %d times", i, n)
			}
		}
		if first.Err() != nil || !errors.Is(second.Err(), journal.ErrFull) || !errors.Is(third.Err(), journal.ErrFull) {
			t.Errorf("%v, %v, %v", first.Err(), second.Err(), third.Err())
		}
		late := 0
		second.Tell(func() { late++ })
		journal.Ticket{}.Tell(func() { late++ })
		if late != 2 || !errors.Is(journal.Ticket{}.Err(), journal.ErrStopped) {
			t.Errorf("%d, %v", late, journal.Ticket{}.Err())
		}
		l.stop(t)
	})
}
