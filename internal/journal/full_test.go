package journal_test

import (
	"bytes"
	"errors"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"milliard/internal/event"
	"milliard/internal/journal"
	"milliard/internal/journal/mem"
	"milliard/internal/route"
)

func TestWhatCanNeverFitIsNotOverload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLane(t, journal.ProducerOptions{MaxPendingEvents: 3, MaxPendingBytes: 1000})
		many := []event.Event{*click(1), *click(2), *click(3), *click(4)}
		long := []event.Event{*click(1), *click(2)}
		long[0].UA, long[1].UA = make([]byte, 600), make([]byte, 600)
		s, err := mem.Open(mem.Options{}).Mem("lane-0")
		if err != nil {
			t.Fatal(err)
		}
		lanes, err := journal.NewLanes(route.Router{Seed: 1}, []journal.Stream{s, s}, nil, journal.ProducerOptions{MaxPendingEvents: 1})
		if err != nil {
			t.Fatal(err)
		}
		for _, events := range [][]event.Event{many, long} {
			if got, err := l.p.AddAll(nil, events, 0); !errors.Is(err, journal.ErrNeverFits) || errors.Is(err, journal.ErrOverloaded) || len(got) > 0 {
				t.Fatal(err)
			}
		}
		if _, err := lanes.AddAll(nil, many, 0); !errors.Is(err, journal.ErrNeverFits) {
			t.Fatal(err)
		}
		if _, err := l.p.AddAll(nil, many[:3], 0); err != nil {
			t.Fatal(err)
		}
		l.stop(t)
		if st := l.p.Stats(); st.PendingEvents != 0 || st.PendingBytes != 0 || st.Refused != 6 {
			t.Fatalf("%+v", st)
		}
	})
}

func TestAFullJournalIsSaidOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		list := []mem.Fault{{}}
		for range 20 {
			list = append(list, mem.Fault{Action: mem.Full})
		}
		l := newLane(t, journal.ProducerOptions{Log: slog.New(slog.NewTextHandler(&log, nil))}, list...)
		synctest.Wait()
		for i := range uint64(20) {
			if err := l.add(t, i+1).Wait(t.Context()); !errors.Is(err, journal.ErrFull) {
				t.Fatal(err)
			}
		}
		l.stop(t)
		if n := bytes.Count(log.Bytes(), []byte("journal is full, batch refused")); n != 1 {
			t.Fatalf("%d lines:\n%s", n, log.Bytes())
		}
	})
}

// TestALaneGoesOnWhenTheDiskHasRoomAgain: nothing is written while the disk is nearly full, so nothing can fail for good, and
// nobody need send anything to a lane for it to find out.
func TestALaneGoesOnWhenTheDiskHasRoomAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var full atomic.Bool
		low := errors.New("3 KiB are free")
		l := newLane(t, journal.ProducerOptions{Room: func() error {
			if full.Load() {
				return low
			}
			return nil
		}})
		if err := l.add(t, 1).Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		full.Store(true)
		for i := range uint64(5) {
			if err := l.add(t, 2+i).Wait(t.Context()); !errors.Is(err, journal.ErrFull) || !errors.Is(err, low) || errors.Is(err, journal.ErrUnknown) {
				t.Fatal(err)
			}
		}
		if !l.p.Limping() || l.p.Health() != nil {
			t.Errorf("limping %v, health %v", l.p.Limping(), l.p.Health())
		}
		full.Store(false)
		time.Sleep(2 * time.Second) // of the test's own time
		if l.p.Limping() {
			t.Error("it does not see that there is room")
		}
		if err := l.add(t, 9).Wait(t.Context()); err != nil {
			t.Error(err)
		}
		l.stop(t)
	})
}
