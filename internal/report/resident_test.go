package report

import (
	"encoding/json"
	"math"
	"math/big"
	"testing"
	"time"

	"pgregory.net/rapid"

	"milliard/internal/event"
	"milliard/internal/ledger"
)

// TestKeptCountersEqualAPlainSum asks again and again for the same counters while events are folded, flushed and merged:
// the answers come from memory then, and from a ledger that has been flushed to beside it.
func TestKeptCountersEqualAPlainSum(t *testing.T) {
	b := newBench(t)
	tenant := event.TenantID(0)
	fromMemory := 0
	rapid.Check(t, func(rt *rapid.T) {
		tenant++
		names := network(rt, tenant, "Asia/Kathmandu", false)
		around := int32(29_000_000)
		facts := drawFacts(rt, tenant, around)
		b.flush(rt, 0, time.Unix(0, 0), counts(facts))
		o := &owner{open: &ledger.Generation{Lane: 0, From: b.at[0], To: b.at[0]}, feed: NewFeed(), done: b.at[0].Seq}
		keys := make([]CounterKey, rapid.IntRange(1, 10).Draw(rt, "keys"))
		for i := range keys {
			keys[i] = drawCounter(rt, around)
		}
		s := New(Config{Reader: b, Live: o, Now: time.Now, Feed: o.feed, Show: -1})
		ask := func() {
			res, err := s.Counters(rt.Context(), names, keys)
			if err != nil {
				rt.Fatal(err)
			}
			for i, k := range keys {
				n, events := plainCounter(rt, facts, k)
				if got := res.Values[i]; got.N.Text != event.Micros(n).String() || got.Events != events {
					rt.Fatalf("%+v: %s of %d events, want %s of %d", k, got.N.Text, got.Events, event.Micros(n), events)
				}
			}
		}
		ask()
		for range rapid.IntRange(1, 12).Draw(rt, "steps") {
			switch rapid.IntRange(0, 4).Draw(rt, "step") {
			case 0, 1:
				more := drawFacts(rt, tenant, around)
				facts = append(facts, more...)
				o.fold(0, b.epochs[0], counts(more).cells...)
			case 2:
				if g := o.freeze(); g != nil {
					g.To.Hash[0]++
					o.open.From = g.To
					o.open.To.Hash = g.To.Hash
					if err := b.Flush(rt.Context(), g); err != nil {
						rt.Fatal(err)
					}
					b.at[0] = g.To
					if rapid.Bool().Draw(rt, "asked before the note") {
						ask()
					}
					o.committed()
				}
			case 3:
				if err := b.Compact(rt.Context()); err != nil {
					rt.Fatal(err)
				}
			case 4:
				ask()
			}
		}
		ask()
		ask()
		if v := s.residents.now.Load(); v != nil && len(v.tables) > 0 {
			fromMemory++
		}
		if g := o.freeze(); g != nil { // the next case goes on behind it
			if err := b.Flush(rt.Context(), g); err != nil {
				rt.Fatal(err)
			}
			b.at[0] = g.To
		}
	})
	if fromMemory == 0 {
		t.Error("nothing was answered from memory")
	}
}

// TestALedgerThatWentBackIsReadAgain: what was kept is of no use when the ledger does not hold what it was said to hold.
func TestALedgerThatWentBackIsReadAgain(t *testing.T) {
	old, b := newBench(t), newBench(t)
	names := network(t, 1, "UTC", false)
	cell := simpleCell(event.Impression, minuteOf(t, "2026-04-01T10:00:00Z"), event.One)
	old.flush(t, 0, time.Unix(0, 0), counted{cells: []ledger.Cell{cell}})
	b.flush(t, 0, time.Unix(0, 0), counted{cells: []ledger.Cell{cell}})
	b.flush(t, 0, time.Unix(1, 0), counted{cells: []ledger.Cell{cell}})
	o := &owner{open: &ledger.Generation{From: b.at[0], To: b.at[0]}, feed: NewFeed(), done: b.at[0].Seq}
	s := New(Config{Reader: b, Live: o, Now: time.Now, Feed: o.feed, Show: -1})
	ask := func(want int64) {
		t.Helper()
		res, err := s.Counters(t.Context(), names, []CounterKey{{}})
		if err != nil {
			t.Fatal(err)
		}
		if got := res.Values[0].Events; got != want {
			t.Fatalf("%d events, want %d", got, want)
		}
	}
	for range 3 {
		ask(2)
	}
	s.reader = old
	s.residents.checked = -int64(checkEvery)
	s.residents.notOld.Store(s.clock())
	o.open = &ledger.Generation{From: old.at[0], To: old.at[0]}
	for range 3 {
		ask(1)
	}
}

// TestAnAnswerOfTheLedgerIsNeverForgotten: two answers of the ledger may end in the other order.
func TestAnAnswerOfTheLedgerIsNeverForgotten(t *testing.T) {
	var r residents
	r.answeredAt(7)
	r.answeredAt(5)
	if got := r.notOld.Load(); got != 7 {
		t.Errorf("instants from %d on are shown, want 7", got)
	}
}

// TestWhatNobodyReadsIsGivenUp: the notes of commits are bounded, and what was missed is read from the ledger.
func TestWhatNobodyReadsIsGivenUp(t *testing.T) {
	b := newBench(t)
	names := network(t, 1, "UTC", false)
	cell := simpleCell(event.Impression, minuteOf(t, "2026-04-01T10:00:00Z"), event.One)
	b.flush(t, 0, time.Unix(0, 0), counted{cells: []ledger.Cell{cell}})
	o := &owner{open: &ledger.Generation{From: b.at[0], To: b.at[0]}, feed: NewFeed(), done: b.at[0].Seq}
	s := New(Config{Reader: b, Live: o, Now: time.Now, Feed: o.feed, Show: -1})
	want := int64(1)
	ask := func() {
		t.Helper()
		res, err := s.Counters(t.Context(), names, []CounterKey{{}})
		if err != nil {
			t.Fatal(err)
		}
		if got := res.Values[0].Events; got != want {
			t.Fatalf("%d events, want %d", got, want)
		}
	}
	for range 3 {
		ask()
	}
	for range maxFed + 2 {
		o.fold(0, b.epochs[0], cell)
		g := o.freeze()
		if err := b.Flush(t.Context(), g); err != nil {
			t.Fatal(err)
		}
		o.committed()
		want++
	}
	if len(o.feed.gens) > maxFed || o.feed.on {
		t.Errorf("%d generations are kept", len(o.feed.gens))
	}
	for range 3 {
		ask()
	}
	if s.residents.now.Load() == nil || len(s.residents.tables) != 1 {
		t.Error("nothing is kept any more")
	}
}

func TestWideSumsAreExact(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var w wide
		want := new(big.Int)
		for _, v := range rapid.SliceOf(rapid.Int64()).Draw(t, "values") {
			w.add(wideOf(v))
			want.Add(want, big.NewInt(v))
		}
		for _, v := range []int64{math.MaxInt64, math.MinInt64} {
			if rapid.Bool().Draw(t, "end") {
				w.add(wideOf(v))
				want.Add(want, big.NewInt(v))
			}
		}
		again, err := wideOfBig(want)
		if err != nil || again != w || w.big().Cmp(want) != 0 || string(w.appendMicros(nil)) != decimal(want, 0) {
			t.Fatalf("%v %v, want %s: %s", w, again, want, w.appendMicros(nil))
		}
	})
}

// TestAppendedCountersAreWhatTheEncoderWrites, from the ledger and from memory.
func TestAppendedCountersAreWhatTheEncoderWrites(t *testing.T) {
	b := newBench(t)
	names := network(t, 1, "UTC", false)
	cell := simpleCell(event.Click, minuteOf(t, "2026-04-01T10:00:00Z"), 1_500_000)
	b.flush(t, 0, time.Unix(3, 40_000_000), counted{cells: []ledger.Cell{cell}})
	o := &owner{open: &ledger.Generation{From: b.at[0], To: b.at[0]}, feed: NewFeed(), done: b.at[0].Seq}
	s := New(Config{Reader: b, Live: o, Now: clock("2026-04-01T10:00:01Z"), Feed: o.feed, Halted: func() []int { return []int{0} }})
	var askers Askers
	for range 4 {
		keys := []CounterKey{{Type: "click", Campaign: "100"}, {Class: "all"}, {Type: "impression"}}
		res, err := s.Counters(t.Context(), names, keys)
		if err != nil {
			t.Fatal(err)
		}
		want, err := json.Marshal(res)
		if err != nil {
			t.Fatal(err)
		}
		x := askers.Get()
		x.Keys = append(x.Keys, keys...)
		got, err := s.AppendCounters(t.Context(), time.Minute, names, x, nil)
		askers.Put(x)
		if err != nil || string(got) != string(want)+"\n" {
			t.Errorf("%v: appended\n%s\nthe encoder has\n%s", err, got, want)
		}
	}
	if s.shown([]tableKey{}) == nil {
		t.Error("nothing was answered from memory")
	}
}
