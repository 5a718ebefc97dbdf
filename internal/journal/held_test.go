package journal_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"milliard/internal/event"
	"milliard/internal/journal"
	"milliard/internal/journal/mem"
)

// stepped returns a producer that is driven by hand.
func stepped(t *testing.T, opt journal.ProducerOptions, hook func(string, uint64, []byte) mem.Fault) (*journal.Producer, *journal.Steps, *mem.Stream) {
	t.Helper()
	s, err := mem.Open(mem.Options{OnAppend: hook}).Mem("lane-0")
	if err != nil {
		t.Fatal(err)
	}
	opt.Stream = s
	p := journal.NewProducer(opt)
	steps, err := p.Steps(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return p, steps, s
}

// turn makes one batch durable.
func turn(t *testing.T, s *journal.Steps) {
	t.Helper()
	s.Freeze()
	s.Send(context.Background())
	if err := s.Resolve(context.Background()); err != nil {
		t.Fatal(err)
	}
}

// logged returns the events of a stream with their places.
func logged(t *testing.T, s *mem.Stream) map[event.CampaignID][2]uint64 {
	t.Helper()
	out := map[event.CampaignID][2]uint64{}
	st, err := s.State(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	for seq := st.First; seq <= st.Last; seq++ {
		m, err := s.Get(context.Background(), seq)
		if err != nil {
			t.Fatal(err)
		}
		h, body, err := journal.Open(m.Data)
		if err != nil {
			t.Fatal(err)
		}
		if h.Kind != journal.KindEvents {
			continue
		}
		row := uint64(0)
		for {
			main, personal, rest, ok, err := journal.NextBlock(body)
			if err != nil {
				t.Fatal(err)
			}
			if !ok {
				break
			}
			var b event.Block
			if err := b.Decode(main, personal); err != nil {
				t.Fatal(err)
			}
			for i := range b.N {
				var e event.Event
				b.Row(i, &e)
				if _, twice := out[e.Campaign]; twice {
					t.Errorf("event %d stands twice in the log", e.Campaign)
				}
				out[e.Campaign] = [2]uint64{seq, row}
				row++
			}
			body = rest
		}
		if row != uint64(h.Events) {
			t.Errorf("batch %d: %d rows, the header says %d", seq, row, h.Events)
		}
	}
	return out
}

func TestHeldEventsJoinTheNextBatch(t *testing.T) {
	p, steps, s := stepped(t, journal.ProducerOptions{}, nil)
	turn(t, steps) // the tick of the start
	tickets, err := p.AddAll(nil, []event.Event{*click(1), *click(2)}, 1)
	if err != nil {
		t.Fatal(err)
	}
	var held []journal.Held
	for i := uint64(3); i < 6; i++ {
		e := click(i)
		if i == 4 {
			e.Space, e.Foreign = event.Foreign, []byte("f")
		}
		h, err := p.Hold(e, 1)
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, h)
	}
	if !held[0].Withdraw() {
		t.Error("an event that was never sent cannot be withdrawn")
	}
	turn(t, steps)
	if held[1].Withdraw() {
		t.Error("an event that is durable was withdrawn")
	}
	at := logged(t, s)
	for i, ticket := range append(tickets, held[1].Ticket, held[2].Ticket) {
		n := event.CampaignID([]uint64{1, 2, 4, 5}[i])
		if err := ticket.Wait(context.Background()); err != nil {
			t.Fatal(err)
		}
		if _, seq, row := ticket.Position(); at[n] != [2]uint64{seq, uint64(row)} {
			t.Errorf("event %d: said to be at %d/%d, is at %v", n, seq, row, at[n])
		}
	}
	if _, there := at[3]; there {
		t.Error("a withdrawn event stands in the log")
	}
	h, err := p.Hold(click(9), 1)
	if err != nil {
		t.Fatal(err)
	}
	turn(t, steps) // alone
	if err := h.Wait(context.Background()); err != nil {
		t.Fatal(err)
	}
	if p.Pending() != 0 {
		t.Errorf("%d pending", p.Pending())
	}
}

func TestHeldEventsOfABatchInFlightAreNotGivenBack(t *testing.T) {
	lost := true
	p, steps, s := stepped(t, journal.ProducerOptions{}, func(string, uint64, []byte) mem.Fault {
		if lost {
			return mem.Fault{Action: mem.LoseAck}
		}
		return mem.Fault{}
	})
	h, err := p.Hold(click(1), 1)
	if err != nil {
		t.Fatal(err)
	}
	steps.Freeze()
	steps.Send(context.Background())
	if h.Withdraw() {
		t.Fatal("withdrawn although nobody knows whether it is stored")
	}
	lost = false
	steps.Send(context.Background())
	if err := steps.Resolve(context.Background()); err != nil {
		t.Fatal(err)
	}
	if err := h.Wait(context.Background()); err != nil || len(logged(t, s)) != 1 {
		t.Errorf("%v, %v", err, logged(t, s))
	}
}

func TestHeldEventsOfARefusedBatchAreGivenBack(t *testing.T) {
	now := time.Unix(1_760_000_000, 0)
	full := true
	p, steps, s := stepped(t, journal.ProducerOptions{Now: func() time.Time { return now }}, func(string, uint64, []byte) mem.Fault {
		if full {
			return mem.Fault{Action: mem.Full}
		}
		return mem.Fault{}
	})
	h, err := p.Hold(click(1), 1)
	if err != nil {
		t.Fatal(err)
	}
	turn(t, steps)
	if err := h.Wait(context.Background()); !errors.Is(err, journal.ErrFull) || !h.Withdraw() {
		t.Errorf("refused: %v", err)
	}
	if !p.Limping() {
		t.Error("a lane whose journal is full does not limp")
	}
	full = false
	now = now.Add(time.Second)
	h, err = p.Hold(click(2), 1)
	if err != nil {
		t.Fatal(err)
	}
	turn(t, steps)
	if err := h.Wait(context.Background()); err != nil || p.Limping() || len(logged(t, s)) != 1 {
		t.Errorf("healed: %v, limps %v, log %v", err, p.Limping(), logged(t, s))
	}
}

func TestALaneLimpsWhenABatchIsOnItsWayForLong(t *testing.T) {
	now := time.Unix(1_760_000_000, 0)
	p, steps, _ := stepped(t, journal.ProducerOptions{Now: func() time.Time { return now }}, func(string, uint64, []byte) mem.Fault {
		return mem.Fault{Action: mem.LoseMessage}
	})
	if _, err := p.Hold(click(1), 1); err != nil {
		t.Fatal(err)
	}
	steps.Freeze()
	steps.Send(context.Background())
	if p.Limping() {
		t.Error("limps at once")
	}
	now = now.Add(251 * time.Millisecond)
	if !p.Limping() {
		t.Error("does not limp")
	}
	now = now.Add(-time.Hour)
	if !p.Limping() {
		t.Error("a clock that steps back heals a lane")
	}
	h, err := p.Hold(click(2), 1)
	if err != nil || !h.Withdraw() {
		t.Errorf("the open batch's event is not given back: %v", err)
	}
}

// TestManyHeldEvents: sets follow each other, and a lane that stops gives everything back that was not sent.
func TestManyHeldEvents(t *testing.T) {
	stop := false
	p, steps, s := stepped(t, journal.ProducerOptions{}, func(string, uint64, []byte) mem.Fault {
		if stop {
			return mem.Fault{Action: mem.Stop}
		}
		return mem.Fault{}
	})
	var held []journal.Held
	for i := range uint64(20_000) {
		e := click(i + 1)
		e.UA = fmt.Appendf(nil, "an agent of its own that makes the event long, number %d", i)
		h, err := p.Hold(e, 1)
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, h)
	}
	turn(t, steps)
	turn(t, steps)
	stop = true
	steps.Freeze()
	steps.Send(context.Background())
	if err := steps.Resolve(context.Background()); !errors.Is(err, journal.ErrStopped) {
		t.Fatal(err)
	}
	durable, back := 0, 0
	for _, h := range held {
		if settled, err := h.Settled(); settled && err == nil {
			durable++
		} else if h.Withdraw() {
			back++
		}
	}
	if n := len(logged(t, s)); n != durable || durable == 0 || back == 0 || durable+back == 20_000 || p.Pending() != 0 {
		t.Errorf("%d in the log, %d durable, %d given back, %d pending", n, durable, back, p.Pending())
	}
}
