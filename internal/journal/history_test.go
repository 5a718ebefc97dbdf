package journal_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"milliard/internal/event"
	"milliard/internal/journal"
	"milliard/internal/journal/mem"
)

var seeds = flag.Int("journal.seeds", 300, "random histories of the producer")

// history is one random run: events come, the journal fails in all its ways, processes die and start again.
type history struct {
	t       *testing.T
	rnd     *rand.Rand // of the test
	faults  *rand.Rand // of the appending goroutine
	names   *rand.Rand // of the producer
	journal *mem.Journal
	stream  *mem.Stream
	p       *journal.Producer
	sent    []sent
}

type sent struct {
	id     uint64
	ticket journal.Ticket
}

func (h *history) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = byte(h.names.Uint32())
	}
	return len(b), nil
}

// fault is what the next append meets.
func (h *history) fault(string, uint64, []byte) mem.Fault {
	f := mem.Fault{Delay: time.Duration(h.faults.IntN(5)) * time.Millisecond}
	switch n := h.faults.IntN(100); {
	case n < 60:
	case n < 92:
		f.Action = []mem.Action{mem.LoseAck, mem.LoseMessage, mem.Late, mem.Full}[h.faults.IntN(4)]
	case n < 95:
		f.Action = mem.Twice
	case n < 97:
		f.Action = []mem.Action{mem.Stop, mem.StopAfterSave}[h.faults.IntN(2)]
	default:
		f.Delay = time.Duration(h.faults.IntN(20)) * time.Second // beyond the attempt's timeout, sometimes
	}
	return f
}

func (h *history) start() {
	s, err := h.journal.Mem("lane-0")
	if err != nil {
		h.t.Fatal(err)
	}
	h.stream = s
	h.p = journal.NewProducer(journal.ProducerOptions{Stream: s, Random: h, MaxPendingEvents: 100})
	if err := h.p.Start(h.t.Context()); err != nil {
		h.t.Fatal(err)
	}
}

// restart ends the process, in order or by surprise, and starts another on what is stored.
func (h *history) restart() {
	ctx, cancel := context.WithTimeout(h.t.Context(), time.Duration(h.rnd.IntN(10))*time.Second)
	defer cancel()
	// Whether it ended in time is not the question here.
	_ = h.p.Stop(ctx)
	h.journal = h.journal.Reopen(mem.Options{OnAppend: h.fault})
	h.start()
}

func (h *history) run() {
	for step := range uint64(150) {
		switch n := h.rnd.IntN(100); {
		case n < 80:
			ticket, err := h.p.Add(click(step+1), step)
			if err == nil {
				h.sent = append(h.sent, sent{step + 1, ticket})
			} else if !errors.Is(err, journal.ErrStopped) && !errors.Is(err, journal.ErrOverloaded) {
				h.t.Fatal(err)
			} else if errors.Is(err, journal.ErrStopped) {
				h.restart()
			}
		case n < 96:
			time.Sleep(time.Duration(h.rnd.IntN(10)) * time.Millisecond) // the bubble's clock
		case n < 98:
			if err := h.p.AddTallies([]journal.Tally{{Minute: int64(step), N: 1}}); err != nil && !errors.Is(err, journal.ErrStopped) {
				h.t.Fatal(err)
			}
		default:
			h.restart()
		}
	}
	h.restart()
	ctx, cancel := context.WithTimeout(h.t.Context(), time.Minute)
	defer cancel()
	_ = h.p.Stop(ctx)
}

// fold reads the stream as an owner does and returns how often each event is counted.
func (h *history) fold() map[event.CampaignID]int {
	type mark struct {
		counter uint64
		hash    journal.Hash
	}
	st, err := h.stream.State(h.t.Context())
	if err != nil {
		h.t.Fatal(err)
	}
	marks, seen := map[journal.Incarnation]mark{}, map[event.CampaignID]int{}
	for seq := st.First; seq <= st.Last; seq++ {
		m, err := h.stream.Get(h.t.Context(), seq)
		if err != nil {
			h.t.Fatal(err)
		}
		head, body, err := journal.Open(m.Data)
		if err != nil {
			h.t.Fatal(err)
		}
		was, hash := marks[head.Incarnation], journal.HashOf(m.Data)
		switch {
		case head.Counter == was.counter+1 && head.Prev == was.hash:
			marks[head.Incarnation] = mark{head.Counter, hash}
			if head.Kind == journal.KindEvents {
				for _, e := range rowsOf(h.t, body) {
					seen[e.Campaign]++
				}
			}
		case head.Counter == was.counter && hash == was.hash: // a repeat is dropped by its mark
		default:
			h.t.Fatalf("message %d: counter %d after %d of the same incarnation", seq, head.Counter, was.counter)
		}
	}
	return seen
}

func (h *history) check() {
	seen := h.fold()
	for _, s := range h.sent {
		err := s.ticket.Wait(h.t.Context())
		n := seen[event.CampaignID(s.id)]
		ok := false
		switch {
		case err == nil:
			ok = n == 1
		case errors.Is(err, journal.ErrUnknown), errors.Is(err, journal.ErrStopped):
			ok = n <= 1
		case errors.Is(err, journal.ErrFull):
			ok = n == 0
		}
		if !ok {
			h.t.Errorf("event %d: answered %v, counted %d times", s.id, err, n)
		}
		delete(seen, event.CampaignID(s.id))
	}
	if len(seen) != 0 {
		h.t.Errorf("%d events that nobody sent", len(seen))
	}
	if st := h.p.Stats(); st.PendingEvents != 0 || st.PendingBytes != 0 {
		h.t.Errorf("reservations are left: %+v", st)
	}
}

// TestRandomHistories: whatever the journal does, an event that was answered is counted once, one that was refused is
// not, and one without an answer at most once.
func TestRandomHistories(t *testing.T) {
	for seed := range uint64(*seeds) {
		ok := t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := &history{
					t: t, rnd: rand.New(rand.NewPCG(seed, 1)), faults: rand.New(rand.NewPCG(seed, 2)),
					names: rand.New(rand.NewPCG(seed, 3)),
				}
				h.journal = mem.Open(mem.Options{OnAppend: h.fault})
				h.start()
				h.run()
				h.check()
			})
		})
		if !ok {
			return
		}
	}
}
