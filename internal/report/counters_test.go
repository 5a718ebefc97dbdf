package report

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"milliard/internal/event"
	"milliard/internal/ledger"
)

// owner stands for a lane's owner in the grid: it keeps the frozen generations until they are committed, and an open
// one, of which Pending gives a copy.
type owner struct {
	mu     sync.Mutex
	frozen []*ledger.Generation
	open   *ledger.Generation
	feed   *Feed
	done   uint64 // committed
}

func (o *owner) Mark(i int) (ledger.Mark, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if i > 0 || o.open == nil {
		return ledger.Mark{}, false
	}
	return ledger.Mark{Lane: o.open.Lane, Folded: o.open.To.Seq, Committed: o.done}, true
}

func (o *owner) Pending() []*ledger.Generation {
	o.mu.Lock()
	defer o.mu.Unlock()
	out := append([]*ledger.Generation(nil), o.frozen...)
	if o.open != nil {
		c := *o.open
		c.Cells = append([]ledger.Cell(nil), o.open.Cells...)
		out = append(out, &c)
	}
	return out
}

// fold adds one batch to the open generation.
func (o *owner) fold(lane int, epoch uint64, cells ...ledger.Cell) {
	o.mu.Lock()
	defer o.mu.Unlock()
	g := o.open
	g.Lane, g.Epoch = lane, epoch
	g.Cells = append(g.Cells, cells...)
	g.To.Seq++
	g.To.LogTime++
}

// freeze hands the open generation to the flusher and opens the next.
func (o *owner) freeze() *ledger.Generation {
	o.mu.Lock()
	defer o.mu.Unlock()
	g := o.open
	if g.To.Seq == g.From.Seq {
		return nil
	}
	g.To.Flush = g.From.Flush + 1
	o.frozen = append(o.frozen, g)
	o.open = &ledger.Generation{Lane: g.Lane, From: g.To, To: g.To}
	return g
}

func (o *owner) committed() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.done = o.frozen[0].To.Seq
	if o.feed != nil {
		o.feed.Committed(o.frozen[0])
	}
	o.frozen = o.frozen[1:]
}

func simpleCell(typ event.Type, bucket int32, n event.Micros) ledger.Cell {
	return ledger.Cell{
		Key:   ledger.Key{Bucket: bucket, Tenant: 1, Type: typ, Class: event.Valid, Campaign: 1},
		Value: ledger.Value{N: n, Events: 1},
	}
}

// TestLiveCountersAreExactAtEachInstant folds, freezes, flushes and reads at the same time. Every batch counts one
// impression and one click, so an answer in which they differ is torn; an answer below what was folded before it was
// asked for has lost something; one above what was folded when it came has counted twice.
func TestLiveCountersAreExactAtEachInstant(t *testing.T) {
	t.Run("read from the ledger", func(t *testing.T) { readWhileFlushing(t, Config{}, true) })
	t.Run("kept in memory", func(t *testing.T) { readWhileFlushing(t, Config{Feed: NewFeed(), Show: -1}, true) })
	t.Run("kept in memory and shown for a while", func(t *testing.T) { readWhileFlushing(t, Config{Feed: NewFeed()}, false) })
}

func readWhileFlushing(t *testing.T, c Config, newest bool) {
	b := newBench(t)
	names := network(t, 1, "UTC", false)
	epoch, at, err := b.Acquire(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	o := &owner{open: &ledger.Generation{From: at, To: at}, feed: c.Feed}
	c.Reader, c.Live, c.Now = b, o, time.Now
	s := New(c)
	bucket := minuteOf(t, "2026-04-01T10:00:00Z")

	const flushes, batches = 40, 25
	var folded sync.Mutex // guards n
	n := int64(0)
	count := func() int64 { folded.Lock(); defer folded.Unlock(); return n }
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		defer close(done)
		for f := range flushes {
			for range batches {
				folded.Lock()
				o.fold(0, epoch, simpleCell(event.Impression, bucket+int32(f), event.One), simpleCell(event.Click, bucket, event.One))
				n++
				folded.Unlock()
			}
			if g := o.freeze(); g != nil {
				if err := b.Flush(context.WithoutCancel(t.Context()), g); err != nil {
					t.Error(err)
					return
				}
				o.committed()
			}
		}
	})
	keys := []CounterKey{{Type: "impression"}, {Type: "click", Campaign: "100"}, {}}
	read := func(least int64) int64 {
		if newest {
			least = count()
		}
		res, err := s.Counters(t.Context(), names, keys)
		most := count()
		if err != nil {
			t.Error(err)
			return least
		}
		i, c, all := res.Values[0].Events, res.Values[1].Events, res.Values[2].Events
		if i != c || all != 2*i || i < least || i > most {
			t.Errorf("impressions %d clicks %d all %d with %d to %d folded", i, c, all, least, most)
		}
		return i
	}
	for range 2 {
		wg.Go(func() {
			last := int64(0)
			for {
				select {
				case <-done:
					return
				default:
					last = read(last)
				}
			}
		})
	}
	wg.Wait()
	newest = true // everything is committed, and that is always shown
	read(0)
	if kept := s.residents != nil && s.residents.now.Load() != nil; kept != (c.Feed != nil) {
		t.Errorf("kept in memory: %v", kept)
	}
	if count() != flushes*batches {
		t.Errorf("folded %d", count())
	}
}

func TestAGenerationThatDoesNotLinkUpIsLeftOut(t *testing.T) {
	pos := func(seq uint64) ledger.Position { return ledger.Position{Seq: seq, LogTime: int64(seq)} }
	gen := func(lane int, from, to uint64) *ledger.Generation {
		return &ledger.Generation{Lane: lane, From: pos(from), To: pos(to)}
	}
	f := &Fresh{Lanes: []LaneFresh{{Lane: 0, Seq: 10}, {Lane: 1, Seq: 5}, {Lane: 2, Seq: 7}}}
	got := ""
	for _, g := range above(f, []*ledger.Generation{
		gen(0, 5, 10), gen(0, 10, 12), gen(0, 12, 12), gen(0, 12, 15), gen(0, 12, 14), // committed, then a chain with an earlier copy
		gen(1, 4, 9), // another owner's
		gen(3, 0, 9), // a lane the snapshot does not know
	}) {
		got += fmt.Sprintf("%d:%d-%d ", g.Lane, g.From.Seq, g.To.Seq)
	}
	if got != "0:10-12 0:12-15 " || f.Lanes[0].Seq != 15 || f.Lanes[1].Seq != 5 || f.Lanes[0].AsOf.UnixMilli() != 15 {
		t.Errorf("chain %q, lanes %+v", got, f.Lanes)
	}
}

// TestCountersEqualAPlainSum asks for many counters of all shapes at once, part of the events flushed, part pending.
func TestCountersEqualAPlainSum(t *testing.T) {
	b := newBench(t)
	tenant := event.TenantID(0)
	rapid.Check(t, func(rt *rapid.T) {
		tenant++
		names := network(rt, tenant, "Asia/Kathmandu", false)
		around := int32(29_000_000)
		facts := drawFacts(rt, tenant, around)
		b.flush(rt, 0, time.Unix(0, 0), counts(facts))
		if rapid.Bool().Draw(rt, "compact") {
			if err := b.Compact(rt.Context()); err != nil {
				rt.Fatal(err)
			}
		}
		late := drawFacts(rt, tenant, around)
		o := &owner{open: b.generation(0, time.Unix(1, 0), counts(late))}
		facts = append(facts, late...)

		keys := make([]CounterKey, rapid.IntRange(1, 40).Draw(rt, "keys"))
		for i := range keys {
			keys[i] = drawCounter(rt, around)
		}
		s := New(Config{Reader: b, Live: o, Now: time.Now})
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
	})
}

func drawCounter(t *rapid.T, around int32) CounterKey {
	pick := func(name string, of ...string) string { return rapid.SampledFrom(of).Draw(t, name) }
	k := CounterKey{
		Type: pick("type", "", "click", "impression", "ping"), Class: pick("class", "", "all", "duplicate"),
		Campaign: pick("campaign", "", "", "100", "20", "-c,3", "(none)"), Affiliate: pick("affiliate", "", "", "anna", "bob", "(none)"),
	}
	if k.Campaign == "" || k.Campaign == "100" {
		k.Banner = pick("banner", "", "100/wide", "(none)")
	}
	at := func(m int32) string { return time.Unix(int64(m)*60, 0).UTC().Format(time.RFC3339) }
	if rapid.IntRange(0, 3).Draw(t, "ranged") == 0 {
		k.From = at(around - int32(rapid.IntRange(0, 300).Draw(t, "from")))
	}
	if rapid.IntRange(0, 3).Draw(t, "ended") == 0 {
		k.To = at(around + int32(rapid.IntRange(1, 300).Draw(t, "to")))
	}
	return k
}

func plainCounter(t *rapid.T, facts []fact, k CounterKey) (n, events int64) {
	edge := func(s string, otherwise int64) int64 {
		if s == "" {
			return otherwise
		}
		return int64(minuteOf(t, s))
	}
	from, to := edge(k.From, -1<<40), edge(k.To, 1<<40)
	for _, f := range facts {
		typ := [...]string{"", "impression", "click", "conversion", "ping"}[min(int(f.Type), 4)]
		ok := (k.Class == "all" || k.Class == "" && f.Class == event.Valid || k.Class == f.Class.String()) &&
			(k.Banner == "" || k.Banner == "(none)" && f.Banner == 0 || k.Banner == "100/wide" && f.Banner == 1) &&
			(k.Type == "" || k.Type == typ) &&
			(k.Campaign == "" || k.Campaign == [...]string{"(none)", "100", "20", "-c,3"}[f.Campaign]) &&
			(k.Affiliate == "" || k.Affiliate == [...]string{"(none)", "anna", "bob"}[f.Affiliate]) &&
			int64(f.Bucket) >= from && int64(f.Bucket) < to
		if ok {
			n += int64(f.N)
			events += f.Events
		}
	}
	return n, events
}

func TestCounterRefusalsNameTheKey(t *testing.T) {
	b := newBench(t)
	names := network(t, 1, "UTC", false)
	s := New(Config{Reader: b, Now: time.Now})
	many := make([]CounterKey, maxShapes+1)
	for i := range many {
		many[i].From = "-" + strconv.Itoa(i) + "m"
	}
	for _, tc := range []struct {
		keys  []CounterKey
		field string
		says  string
	}{
		{nil, "keys", "1 to"},
		{[]CounterKey{{Campaign: "x"}}, "campaign", `"x"`},
		{[]CounterKey{{}, {Type: "y"}}, "keys[1].type", `"y"`},
		{[]CounterKey{{Banner: "wide"}}, "banner", "2 campaigns"},
		{[]CounterKey{{Banner: "no", Campaign: "100"}}, "banner", `"no"`},
		{[]CounterKey{{From: "2026-01-02", To: "2026-01-01"}}, "to", "empty"},
		{[]CounterKey{{From: "soon"}}, "from", `"soon"`},
		{many, "keys", "different ranges"},
	} {
		_, err := s.Counters(t.Context(), names, tc.keys)
		bad, ok := err.(*BadRequest) //nolint:errorlint // it is never wrapped
		if !ok || bad.Field != tc.field || !strings.Contains(bad.Msg, tc.says) {
			t.Errorf("%+v: %v; want %s: …%s…", tc.keys, err, tc.field, tc.says)
		}
	}
}
