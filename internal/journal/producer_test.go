package journal_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"milliard/internal/event"
	"milliard/internal/journal"
	"milliard/internal/journal/mem"
)

// click returns a minted event with a number to know it by.
func click(i uint64) *event.Event {
	return &event.Event{
		Space: event.Minted, ID: event.NewMintedID(1_760_000_000_000, uint16(i), 1, i), Type: event.Click, Tenant: 1,
		Campaign: event.CampaignID(i), N: event.One, UA: fmt.Appendf(nil, "agent %d", i%5),
	}
}

// faults is a hook that plays a list of faults, one per append, and then none.
type faults struct {
	list  []mem.Fault
	sends [][]byte
}

func (f *faults) hook(_ string, _ uint64, data []byte) mem.Fault {
	f.sends = append(f.sends, append([]byte(nil), data...))
	if len(f.list) == 0 {
		return mem.Fault{}
	}
	next := f.list[0]
	f.list = f.list[1:]
	return next
}

// lane is one producer over a memory journal.
type lane struct {
	s     *mem.Stream
	p     *journal.Producer
	f     *faults
	names byte
}

// Read makes incarnation names predictable.
func (l *lane) Read(b []byte) (int, error) {
	l.names++
	for i := range b {
		b[i] = l.names
	}
	return len(b), nil
}

func newLane(t *testing.T, opt journal.ProducerOptions, list ...mem.Fault) *lane {
	t.Helper()
	l := &lane{f: &faults{list: list}}
	s, err := mem.Open(mem.Options{OnAppend: l.f.hook}).Mem("lane-0")
	if err != nil {
		t.Fatal(err)
	}
	l.s = s
	opt.Random = l
	if late, ok := opt.Stream.(*lateState); ok {
		late.Stream = s
	} else {
		opt.Stream = s
	}
	l.p = journal.NewProducer(opt)
	if err := l.p.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return l
}

func (l *lane) add(t *testing.T, i uint64) journal.Ticket {
	t.Helper()
	ticket, err := l.p.Add(click(i), i)
	if err != nil {
		t.Fatal(err)
	}
	return ticket
}

func (l *lane) stop(t *testing.T) {
	t.Helper()
	if err := l.p.Stop(t.Context()); err != nil {
		t.Error(err)
	}
}

// stored is one batch as an owner sees it.
type stored struct {
	head journal.Header
	body []byte
	hash journal.Hash
	rows []event.Event
}

// batches reads the stream and checks the chain of every incarnation.
func (l *lane) batches(t *testing.T) []stored {
	t.Helper()
	r, err := l.s.Read(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	type mark struct {
		counter uint64
		hash    journal.Hash
	}
	marks := map[journal.Incarnation]mark{}
	var all []stored
	for {
		m, ok, err := r.TryNext()
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			return all
		}
		b := stored{hash: journal.HashOf(m.Data)}
		if b.head, b.body, err = journal.Open(m.Data); err != nil {
			t.Fatal(err)
		}
		was := marks[b.head.Incarnation]
		if b.head.Counter != was.counter+1 || b.head.Prev != was.hash {
			t.Fatalf("message %d breaks the chain: counter %d after %d", m.Seq, b.head.Counter, was.counter)
		}
		marks[b.head.Incarnation] = mark{b.head.Counter, b.hash}
		if b.head.Kind == journal.KindEvents {
			b.rows = rowsOf(t, b.body)
			if len(b.rows) != int(b.head.Events) {
				t.Fatalf("message %d: header says %d events, body has %d", m.Seq, b.head.Events, len(b.rows))
			}
		}
		all = append(all, b)
	}
}

func rowsOf(t *testing.T, body []byte) (rows []event.Event) {
	t.Helper()
	for {
		main, personal, rest, ok, err := journal.NextBlock(body)
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			return rows
		}
		var b event.Block
		if err := b.Decode(main, personal); err != nil {
			t.Fatal(err)
		}
		for i := range b.N {
			var e event.Event
			b.Row(i, &e)
			rows = append(rows, e)
		}
		body = rest
	}
}

func kinds(bs []stored) (s string) {
	for _, b := range bs {
		s += map[journal.Kind]string{
			journal.KindEvents: "E", journal.KindTallies: "T", journal.KindClosed: "X", journal.KindTick: ".",
		}[b.head.Kind]
	}
	return s
}

func TestAnEventIsDurableWhenItsTicketSaysSo(t *testing.T) {
	l := newLane(t, journal.ProducerOptions{})
	for i := uint64(1); i <= 200; i++ {
		ticket := l.add(t, i)
		if err := ticket.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		lane, seq, row := ticket.Position()
		m, err := l.s.Get(t.Context(), seq)
		if err != nil {
			t.Fatal(err)
		}
		h, body, err := journal.Open(m.Data)
		if err != nil {
			t.Fatal(err)
		}
		if got := rowsOf(t, body)[row]; lane != 0 || got.Campaign != event.CampaignID(i) || h.Catalog != i {
			t.Fatalf("event %d is at %d/%d/%d: campaign %d, catalog %d", i, lane, seq, row, got.Campaign, h.Catalog)
		}
	}
	l.stop(t)
	l.stop(t) // again is fine
	if _, err := l.p.Add(click(1), 1); !errors.Is(err, journal.ErrStopped) {
		t.Fatalf("after stop: %v", err)
	}
	l.batches(t)
}

func TestABatchGrowsWhileAnotherIsInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLane(t, journal.ProducerOptions{}, mem.Fault{}, mem.Fault{Delay: time.Second})
		synctest.Wait() // the start tick is stored
		first := l.add(t, 1)
		synctest.Wait() // in flight
		var rest []journal.Ticket
		for i := uint64(2); i <= 100; i++ {
			rest = append(rest, l.add(t, i))
		}
		if err := first.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		for _, ticket := range rest {
			if err := ticket.Wait(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		l.stop(t)
		bs := l.batches(t)
		if kinds(bs) != ".EE" || bs[1].head.Events != 1 || bs[2].head.Events != 99 {
			t.Fatalf("%s", kinds(bs))
		}
		st := l.p.Stats()
		if st.Events != 100 || st.Batches != 3 || st.PendingEvents != 0 || st.PendingBytes != 0 || st.Append.Max < 900_000 {
			t.Fatalf("%+v", st)
		}
	})
}

func TestUnknownResendsTheSameBytesWithoutEnd(t *testing.T) {
	for _, action := range []mem.Action{mem.LoseAck, mem.LoseMessage, mem.Late} {
		synctest.Test(t, func(t *testing.T) {
			l := newLane(t, journal.ProducerOptions{}, mem.Fault{},
				mem.Fault{Action: action}, mem.Fault{Action: action}, mem.Fault{Action: action})
			synctest.Wait() // the start tick is stored
			ticket := l.add(t, 1)
			ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
			defer cancel()
			if err := ticket.Wait(ctx); !errors.Is(err, journal.ErrUnknown) {
				t.Fatalf("at the client's deadline: %v", err)
			}
			if err := ticket.Wait(t.Context()); err != nil {
				t.Fatal(err)
			}
			l.stop(t)
			if bs := l.batches(t); kinds(bs) != ".E" {
				t.Fatalf("%s", kinds(bs))
			}
			for _, again := range l.f.sends[2:] {
				if string(again) != string(l.f.sends[1]) {
					t.Fatal("other bytes were sent again")
				}
			}
			if st := l.p.Stats(); st.Unknown == 0 || st.Events != 1 {
				t.Fatalf("%+v", st)
			}
		})
	}
}

func TestFullEndsTheIncarnationAndStoresNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		full := mem.Fault{Action: mem.Full}
		l := newLane(t, journal.ProducerOptions{}, mem.Fault{}, mem.Fault{}, full, full)
		synctest.Wait()
		for i, want := range []error{nil, journal.ErrFull, journal.ErrFull, nil, nil} {
			if err := l.add(t, uint64(i+1)).Wait(t.Context()); !errors.Is(err, want) {
				t.Fatalf("event %d: %v", i+1, err)
			}
		}
		l.stop(t)
		bs := l.batches(t)
		if kinds(bs) != ".EEXE" {
			t.Fatalf("%s", kinds(bs))
		}
		if bs[2].head.Incarnation == bs[1].head.Incarnation {
			t.Fatal("the incarnation went on")
		}
		ended, err := journal.ParseClosed(bs[3].body)
		if err != nil || ended != bs[1].head.Incarnation {
			t.Fatalf("closed %x, %v", ended, err)
		}
		if st := l.p.Stats(); st.Full != 2 || st.Events != 3 || st.PendingEvents != 0 {
			t.Fatalf("%+v", st)
		}
	})
}

func TestFullAfterUnknownClaimsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLane(t, journal.ProducerOptions{}, mem.Fault{}, mem.Fault{Action: mem.LoseMessage}, mem.Fault{Action: mem.Full})
		synctest.Wait()
		if err := l.add(t, 1).Wait(t.Context()); !errors.Is(err, journal.ErrUnknown) {
			t.Fatal(err)
		}
		if err := l.add(t, 2).Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		l.stop(t)
		l.batches(t)
	})
}

func TestTalliesOutlastAFullJournalAndDoNotSpin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		full := mem.Fault{Action: mem.Full}
		l := newLane(t, journal.ProducerOptions{}, mem.Fault{}, full)
		synctest.Wait()
		one := []journal.Tally{{Minute: 7, Tenant: 1, Door: "pixel", Reason: "forged", N: 2}}
		for range 3 {
			if err := l.p.AddTallies(one); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		if n := len(l.f.sends); n != 2 {
			t.Fatalf("%d attempts", n)
		}
		if err := l.add(t, 1).Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		l.stop(t)
		bs := l.batches(t)
		if kinds(bs) != ".EXT" {
			t.Fatalf("%s", kinds(bs))
		}
		ts, err := journal.DecodeTallies(bs[3].body)
		if err != nil || len(ts) != 1 || ts[0] != (journal.Tally{Minute: 7, Tenant: 1, Door: "pixel", Reason: "forged", N: 6}) {
			t.Fatalf("%+v, %v", ts, err)
		}
	})
}

func TestTalliesThatWereStoredUnansweredAreNotSentAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLane(t, journal.ProducerOptions{}, mem.Fault{}, mem.Fault{Action: mem.LoseAck}, mem.Fault{Action: mem.Full})
		synctest.Wait()
		if err := l.p.AddTallies([]journal.Tally{{Minute: 7, Tenant: 1, Door: "pixel", Reason: "forged", N: 2}}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second) // the bubble's clock: the resend
		if err := l.add(t, 1).Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		l.stop(t)
		if bs := l.batches(t); kinds(bs) != ".TXE" && kinds(bs) != ".TEX" {
			t.Fatalf("%s", kinds(bs))
		}
	})
}

// TestAClockThatJumpsUnderLoadIsFollowed: owners take a step of more than ten minutes only from a control record, and a
// lane that is never idle writes none by its timer.
func TestAClockThatJumpsUnderLoadIsFollowed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ahead := time.Duration(0)
		l := newLane(t, journal.ProducerOptions{Now: func() time.Time { return time.Now().Add(ahead) }})
		synctest.Wait()
		for i := range uint64(6) {
			synctest.Wait() // the lane reads the clock until it has nothing left to do
			switch i {
			case 2:
				ahead = time.Hour
			case 4:
				ahead = 0 // log time stands still until the clock has caught up; the tick before may have been stored here
			}
			if err := l.add(t, i+1).Wait(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		l.stop(t)
		if bs := l.batches(t); kinds(bs) != ".EE.EE.EE" {
			t.Fatalf("%s", kinds(bs))
		}
	})
}
