package journal_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"milliard/internal/event"
	"milliard/internal/journal"
	"milliard/internal/journal/mem"
	"milliard/internal/route"
)

func TestAConflictOrAStopEndsTheLane(t *testing.T) {
	for _, action := range []mem.Action{mem.Stop, mem.StopAfterSave, mem.Twice} {
		synctest.Test(t, func(t *testing.T) {
			l := newLane(t, journal.ProducerOptions{}, mem.Fault{}, mem.Fault{Action: action, Delay: time.Second})
			synctest.Wait()
			first := l.add(t, 1)
			synctest.Wait()
			second := l.add(t, 2)
			err := first.Wait(t.Context())
			if action == mem.Twice { // the next append finds somebody else's message
				if err != nil {
					t.Fatal(err)
				}
			} else if !errors.Is(err, journal.ErrStopped) {
				t.Fatal(err)
			}
			if err := second.Wait(t.Context()); !errors.Is(err, journal.ErrStopped) {
				t.Fatal(err)
			}
			if _, err := l.p.Add(click(3), 3); !errors.Is(err, journal.ErrStopped) {
				t.Fatal(err)
			}
			if _, err := l.p.AddAll(nil, []event.Event{*click(3)}, 3); !errors.Is(err, journal.ErrStopped) {
				t.Fatal(err)
			}
			if err := l.p.AddTallies(nil); !errors.Is(err, journal.ErrStopped) {
				t.Fatal(err)
			}
			if l.p.Health() == nil {
				t.Fatal("healthy")
			}
			if st := l.p.Stats(); st.PendingEvents != 0 || st.PendingBytes != 0 {
				t.Fatalf("%+v", st)
			}
			l.stop(t)
		})
	}
}

func TestStopGivesUpWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := mem.Fault{Delay: time.Hour}
		l := newLane(t, journal.ProducerOptions{}, mem.Fault{}, slow, slow, slow, slow)
		synctest.Wait()
		first := l.add(t, 1)
		synctest.Wait()
		second := l.add(t, 2)
		ctx, cancel := context.WithTimeout(t.Context(), 12*time.Second)
		defer cancel()
		if err := l.p.Stop(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(err)
		}
		if err := first.Wait(t.Context()); !errors.Is(err, journal.ErrUnknown) {
			t.Fatal(err)
		}
		if err := second.Wait(t.Context()); !errors.Is(err, journal.ErrStopped) {
			t.Fatal(err)
		}
	})
}

func TestStopBeforeStart(t *testing.T) {
	s, _ := mem.Open(mem.Options{}).Stream("lane-0")
	p := journal.NewProducer(journal.ProducerOptions{Stream: s})
	if err := p.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := p.Start(t.Context()); !errors.Is(err, journal.ErrStopped) {
		t.Fatal(err)
	}
}

func TestANewProcessClosesTheOldIncarnations(t *testing.T) {
	l := newLane(t, journal.ProducerOptions{})
	if err := l.add(t, 1).Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	l.stop(t)
	older := journal.Incarnation{99}
	p := journal.NewProducer(journal.ProducerOptions{Stream: l.s, Random: l, Previous: []journal.Incarnation{older}})
	if err := p.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := p.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	bs := l.batches(t)
	if k := kinds(bs); k != ".EXX" && k != "EXX" { // a start tick is not needed when an event is faster
		t.Fatalf("%s", k)
	}
	for i, want := range []journal.Incarnation{older, bs[0].head.Incarnation} {
		if got, err := journal.ParseClosed(bs[len(bs)-2+i].body); err != nil || got != want {
			t.Fatalf("closed %x, %v", got, err)
		}
	}
}

func TestTicksMoveIdleTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLane(t, journal.ProducerOptions{})
		time.Sleep(3*time.Minute + time.Second) // the bubble's clock
		l.stop(t)
		bs := l.batches(t)
		if kinds(bs) != "...." {
			t.Fatalf("%s", kinds(bs))
		}
		for i := range bs[1:] {
			if d := bs[i+1].head.Received - bs[i].head.Received; d != 60_000 {
				t.Fatalf("%d ms between ticks", d)
			}
		}
	})
}

func TestTheQueueIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := mem.Fault{Delay: time.Second}
		l := newLane(t, journal.ProducerOptions{MaxPendingEvents: 10}, mem.Fault{}, slow)
		synctest.Wait()
		for i := uint64(1); i <= 10; i++ {
			l.add(t, i)
		}
		if _, err := l.p.Add(click(11), 0); !errors.Is(err, journal.ErrOverloaded) {
			t.Fatal(err)
		}
		if _, err := l.p.AddAll(nil, []event.Event{*click(11)}, 0); !errors.Is(err, journal.ErrOverloaded) {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		l.add(t, 11)
		l.stop(t)

		l = newLane(t, journal.ProducerOptions{MaxPendingBytes: 1000}, slow)
		e := click(1)
		e.UA = make([]byte, 900)
		if _, err := l.p.Add(e, 0); err != nil {
			t.Fatal(err)
		}
		if _, err := l.p.Add(e, 0); !errors.Is(err, journal.ErrOverloaded) {
			t.Fatal(err)
		}
		e.UA = make([]byte, journal.MaxEventBytes)
		if _, err := l.p.Add(e, 0); !errors.Is(err, journal.ErrTooLarge) {
			t.Fatal(err)
		}
		if st := l.p.Stats(); st.Refused != 1 || st.PendingEvents != 1 {
			t.Fatalf("%+v", st)
		}
		l.stop(t)
	})
}

// TestNoBatchPassesItsLimit feeds rows that cost little and then one that makes every column wide, and rows with much
// text, and mixes of groups.
func TestNoBatchPassesItsLimit(t *testing.T) {
	l := newLane(t, journal.ProducerOptions{MaxPendingEvents: 1 << 30, MaxPendingBytes: 1 << 40})
	rnd := rand.New(rand.NewPCG(1, 2))
	n := 0
	var tickets []journal.Ticket
	add := func(e *event.Event) {
		n++
		e.Campaign = event.CampaignID(n)
		ticket, err := l.p.Add(e, 0)
		if err != nil {
			t.Fatal(err)
		}
		tickets = append(tickets, ticket)
	}
	for range 40 {
		for range rnd.IntN(9000) {
			add(&event.Event{Space: event.Minted})
		}
		wide := event.Event{Space: event.Minted, Type: 65535, Tenant: 65535, Time: -1, Goal: 9, Flags: 65535, Country: 65535}
		wide.ID, wide.Click = event.MintedID{Hi: 1 << 63, Lo: 1 << 63}, event.MintedID{Hi: 1 << 63, Lo: 1 << 63}
		wide.IPHash, wide.N, wide.Amount, wide.ClickTime = 1<<63, 1<<62, 1<<62, 1<<62
		wide.Advertiser, wide.Banner, wide.Affiliate, wide.Revenue, wide.Payout = 1<<31, 1<<31, 1<<31, 1<<31, 1<<31
		add(&wide)
		for range rnd.IntN(20) {
			add(&event.Event{Space: event.Foreign, Foreign: binary.AppendUvarint(nil, uint64(n)), UA: make([]byte, rnd.IntN(60_000))})
		}
		for i := range rnd.IntN(40) {
			add(&event.Event{Space: event.Imported, Import: event.ImportID{byte(i)}, Type: event.Type(1 + i%3)})
		}
	}
	for _, ticket := range tickets {
		if err := ticket.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	l.stop(t)
	bs := l.batches(t) // mem refuses longer messages
	for i, ticket := range tickets {
		_, seq, row := ticket.Position()
		if got := bs[seq-1].rows[row].Campaign; got != event.CampaignID(i+1) {
			t.Fatalf("event %d: position holds %d", i+1, got)
		}
	}
}

func TestLanesRouteAndKeepPositions(t *testing.T) {
	j := mem.Open(mem.Options{})
	var streams []journal.Stream
	for i := range 4 {
		s, err := j.Stream(fmt.Sprintf("lane-%d", i))
		if err != nil {
			t.Fatal(err)
		}
		streams = append(streams, s)
	}
	router := route.Router{Seed: 7}
	l, err := journal.NewLanes(router, streams, nil, journal.ProducerOptions{MaxPendingEvents: 3000})
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	var events []event.Event
	for i := range uint64(5000) {
		e := *click(i)
		if i%3 == 0 {
			e.Type, e.Order = event.Conversion, fmt.Appendf(nil, "order %d", i)
		}
		events = append(events, e)
	}
	tickets, err := l.AddAll(make([]journal.Ticket, 3), events, 5)
	if err != nil || len(tickets) != 3+len(events) {
		t.Fatalf("%d tickets, %v", len(tickets), err)
	}
	for i, ticket := range tickets[3:] {
		if err := ticket.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		lane, seq, row := ticket.Position()
		if want := route.Lane(router.Slot(&events[i]), 4); lane != want {
			t.Fatalf("event %d is in lane %d, not %d", i, lane, want)
		}
		m, err := streams[lane].Get(t.Context(), seq)
		if err != nil {
			t.Fatal(err)
		}
		_, body, err := journal.Open(m.Data)
		if err != nil {
			t.Fatal(err)
		}
		if i%50 == 0 {
			if got := rowsOf(t, body)[row]; got.Campaign != events[i].Campaign || string(got.Order) != string(events[i].Order) {
				t.Fatalf("event %d: position holds campaign %d", i, got.Campaign)
			}
		}
	}
	if _, err := l.AddAll(nil, append(events, append(events, events...)...), 5); !errors.Is(err, journal.ErrNeverFits) {
		t.Fatal(err)
	}
	for _, st := range l.Stats() {
		if st.PendingEvents != 0 || st.PendingBytes != 0 {
			t.Fatalf("a refused request left its reservation: %+v", st)
		}
	}
	if err := errors.Join(l.Health(), l.Stop(t.Context())); err != nil {
		t.Fatal(err)
	}
}
