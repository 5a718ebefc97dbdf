package journal_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"sync"
	"testing"

	"milliard/internal/event"
	"milliard/internal/journal"
	"milliard/internal/journal/mem"
	"milliard/internal/route"
)

// TestALoadIsStoredOnceInItsLanes sends rows of every kind, with few and many bytes, beside single events, from several
// requests at once, and finds each of them once, whole, and where its slot belongs.
func TestALoadIsStoredOnceInItsLanes(t *testing.T) {
	for _, lanes := range []int{1, 3} {
		j := mem.Open(mem.Options{})
		var streams []journal.Stream
		var stores []*mem.Stream
		for i := range lanes {
			s, err := j.Mem(fmt.Sprintf("lane-%d", i))
			if err != nil {
				t.Fatal(err)
			}
			stores, streams = append(stores, s), append(streams, s)
		}
		router := route.Router{Seed: 7}
		l, err := journal.NewLanes(router, streams, nil, journal.ProducerOptions{MaxPendingEvents: 1 << 20, MaxPendingBytes: 1 << 30})
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		var mu sync.Mutex
		want := map[uint64]event.Event{}
		var requests sync.WaitGroup
		for worker := range 3 {
			requests.Go(func() {
				rnd := rand.New(rand.NewPCG(uint64(worker), 3))
				var x journal.Load
				for round := range 25 {
					x.Reset()
					drawLoad(rnd, &x, uint64(worker)<<40|uint64(round)<<20)
					if err := l.AddLoad(&x, 9); err != nil {
						t.Error(err)
						return
					}
					mu.Lock()
					for _, r := range x.Rows {
						var e event.Event
						x.Columns.Row(int(r), &e)
						want[e.IPHash] = copied(&e)
					}
					for i := range x.Events {
						want[x.Events[i].IPHash] = copied(&x.Events[i])
					}
					mu.Unlock()
					if err := x.Wait(t.Context()); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		requests.Wait()
		for _, st := range l.Stats() {
			if st.PendingEvents != 0 || st.PendingBytes != 0 {
				t.Errorf("a reservation is left: %+v", st)
			}
		}
		if err := l.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
		for i, s := range stores {
			for _, b := range (&lane{s: s}).batches(t) {
				for _, e := range b.rows {
					w, ok := want[e.IPHash]
					if e = copied(&e); !ok || !reflect.DeepEqual(e, w) || route.Lane(router.Slot(&e), lanes) != i {
						t.Fatalf("lane %d holds %+v, sent %+v", i, e, w)
					}
					delete(want, e.IPHash)
				}
			}
		}
		if len(want) > 0 {
			t.Fatalf("%d events are missing", len(want))
		}
	}
}

// drawLoad fills a load with rows and events whose address hashes count up from a number.
func drawLoad(rnd *rand.Rand, x *journal.Load, from uint64) {
	c := &x.Columns
	c.N = 1 + rnd.IntN([]int{3, 300, 8192}[rnd.IntN(3)])
	c.Space = []event.Space{event.Minted, event.Foreign, event.Imported}[rnd.IntN(3)]
	if c.Space == event.Imported {
		c.Import[0] = byte(1 + rnd.IntN(3))
	}
	column := func(col event.Col, most uint64) {
		c.U[col] = make([]uint64, c.N)
		for i := range c.U[col] {
			c.U[col][i] = rnd.Uint64N(most)
		}
	}
	if rnd.IntN(2) == 0 {
		column(event.ColType, 5)
	} else {
		c.One[event.ColType] = rnd.Uint64N(5)
	}
	column(event.ColIDHi, 1<<40)
	column(event.ColIDLo, 1<<[]int{8, 63}[rnd.IntN(2)])
	column(event.ColCampaign, 1<<[]int{3, 20}[rnd.IntN(2)])
	c.U[event.ColIPHash] = make([]uint64, c.N)
	for i := range c.N {
		c.U[event.ColIPHash][i] = from + uint64(i)
		c.S[event.StrForeign].Dict = append(c.S[event.StrForeign].Dict, binary.AppendUvarint([]byte("id"), from+uint64(i)))
		c.S[event.StrForeign].Index = append(c.S[event.StrForeign].Index, uint64(i))
		if rnd.IntN(10) > 0 {
			x.Rows = append(x.Rows, uint32(i))
		}
	}
	agents := 1 + rnd.IntN(400)
	for i := range agents {
		c.S[event.StrUA].Dict = append(c.S[event.StrUA].Dict, []byte(strings.Repeat(fmt.Sprint(i), rnd.IntN(150))))
	}
	for range c.N {
		c.S[event.StrUA].Index = append(c.S[event.StrUA].Index, rnd.Uint64N(uint64(agents)))
	}
	for i := range rnd.IntN(50) {
		e := click(uint64(i))
		e.IPHash = from + 1<<19 + uint64(i)
		x.Events = append(x.Events, *e)
	}
}

func copied(e *event.Event) event.Event {
	c := *e
	for _, b := range []*[]byte{&c.Foreign, &c.Source, &c.Order, &c.Subs, &c.Ref, &c.Referrer, &c.IP, &c.UA, &c.Visitor} {
		*b = append([]byte(nil), *b...) // nil when there is nothing
	}
	return c
}

func TestALoadIsTakenWholeOrNot(t *testing.T) {
	l := newLane(t, journal.ProducerOptions{MaxPendingEvents: 100})
	lanes, err := journal.NewLanes(route.Router{}, []journal.Stream{l.s}, nil, journal.ProducerOptions{MaxPendingEvents: 100})
	if err != nil {
		t.Fatal(err)
	}
	var x journal.Load
	x.Columns.Space, x.Columns.N = event.Minted, 150
	for i := range 99 {
		x.Rows = append(x.Rows, uint32(i))
	}
	// Nobody writes this lane yet, so what it takes waits.
	x.Events = []event.Event{*click(1), *click(2)}
	if err := lanes.AddLoad(&x, 1); !errors.Is(err, journal.ErrNeverFits) {
		t.Fatal(err)
	}
	x.Events = x.Events[:1]
	if err := lanes.AddLoad(&x, 1); err != nil {
		t.Fatal(err)
	}
	x.Rows = x.Rows[:1]
	if err := lanes.AddLoad(&x, 1); !errors.Is(err, journal.ErrOverloaded) {
		t.Fatal(err)
	}
	if st := lanes.Stats()[0]; st.PendingEvents != 100 {
		t.Fatalf("%+v", st)
	}
	if err := lanes.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := lanes.AddLoad(&x, 1); !errors.Is(err, journal.ErrStopped) {
		t.Fatal(err)
	}
	l.stop(t)
}
