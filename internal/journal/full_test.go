package journal_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
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

// lateState is a stream whose state is not had in time, so many times after the lane has begun.
type lateState struct {
	journal.Stream
	began bool
	late  int
}

func (s *lateState) State(ctx context.Context) (journal.State, error) {
	if s.began && s.late > 0 {
		s.late--
		return journal.State{}, context.DeadlineExceeded
	}
	s.began = true
	return s.Stream.State(ctx)
}

// TestALaneOutlastsAStateThatIsLate: a journal that is full is trimmed, and beside a trim its state may take long. A refused
// batch of which nothing is unknown needs no state; of another the lane asks until it is told, and counts its tallies once.
func TestALaneOutlastsAStateThatIsLate(t *testing.T) {
	full := mem.Fault{Action: mem.Full}
	for name, tc := range map[string]struct {
		faults []mem.Fault
		late   int
		kinds  string // T: the tallies stand in the journal once
	}{
		"refused":                           {[]mem.Fault{{}, full}, 1 << 30, ".EXT"},
		"unanswered and stored, refused":    {[]mem.Fault{{}, {Action: mem.LoseAck}, full}, 3, ".TEX"},
		"unanswered, not stored, refused":   {[]mem.Fault{{}, {Action: mem.LoseMessage}, full}, 3, ".EXT"},
		"unanswered, stored and twice late": {[]mem.Fault{{}, {Action: mem.LoseAck}, full, full}, 2, ".TEX"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newLane(t, journal.ProducerOptions{Stream: &lateState{late: tc.late}}, tc.faults...)
				synctest.Wait()
				if err := l.p.AddTallies([]journal.Tally{{Minute: 7, Tenant: 1, Door: "pixel", Reason: "forged", N: 2}}); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Second) // the bubble's clock: it asks, again and again
				for i := uint64(1); ; i++ {
					err := l.add(t, i).Wait(t.Context())
					if err == nil {
						break
					}
					if !errors.Is(err, journal.ErrFull) {
						t.Fatal(err)
					}
				}
				l.stop(t)
				if got := kinds(l.batches(t)); got != tc.kinds && strings.Replace(got, "XE", "EX", 1) != tc.kinds {
					t.Fatalf("%s, want %s", got, tc.kinds)
				}
			})
		})
	}
}

// TestALaneThatAsksCanBeEnded: a state that never comes does not hold up the end.
func TestALaneThatAsksCanBeEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLane(t, journal.ProducerOptions{Stream: &lateState{late: 1 << 30}},
			mem.Fault{}, mem.Fault{Action: mem.LoseMessage}, mem.Fault{Action: mem.Full})
		synctest.Wait()
		if err := l.add(t, 1).Wait(t.Context()); !errors.Is(err, journal.ErrUnknown) {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := l.p.Stop(ctx); err == nil {
			t.Fatal("it has ended in order")
		}
	})
}
