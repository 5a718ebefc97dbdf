package verify

import (
	"context"
	"fmt"
	"math"
	"math/big"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"milliard/internal/archive"
	"milliard/internal/event"
	"milliard/internal/journal"
	"milliard/internal/journal/mem"
	"milliard/internal/ledger"
)

// log is a lane with batches of one incarnation, some of them sealed.
type log struct {
	t      *testing.T
	stream *mem.Stream
	arch   *archive.Archive
	stamp  int64
	head   journal.Header
	msgs   []journal.Message
	judged []Verdicts
	files  string
}

func newLog(t *testing.T) *log {
	l := &log{t: t, stamp: 1_700_000_000_000, files: filepath.Join(t.TempDir(), "archive")}
	j := mem.Open(mem.Options{Now: func() time.Time { return time.UnixMilli(l.stamp) }})
	s, err := j.Stream("lane-0")
	if err != nil {
		t.Fatal(err)
	}
	l.stream = s.(*mem.Stream)
	if l.arch, err = archive.Open(l.files); err != nil {
		t.Fatal(err)
	}
	l.head = journal.Header{Kind: journal.KindEvents, Incarnation: journal.Incarnation{1}}
	return l
}

// append adds a batch of n clicks, all valid.
func (l *log) append(n int) {
	l.t.Helper()
	l.stamp += 1000
	var b event.Builder
	b.Start(event.Foreign, event.ImportID{})
	for i := range n {
		b.Append(&event.Event{
			Space: event.Foreign, Foreign: fmt.Appendf(nil, "%d-%d", l.stamp, i), Type: event.Click, Time: l.stamp, Tenant: 1,
			Campaign: event.CampaignID(i % 3), N: event.One, Subs: fmt.Appendf(nil, "sub1=s%d", i),
		})
	}
	msg := journal.AppendBlock(journal.AppendHeader(nil), b.Block())
	l.head.Counter++
	l.head.Events, l.head.Received = uint32(n), l.stamp
	l.head.Prev = journal.Seal(msg, &l.head)
	seq, err := l.stream.Append(l.t.Context(), uint64(len(l.msgs)), msg)
	if err != nil {
		l.t.Fatal(err)
	}
	l.msgs = append(l.msgs, journal.Message{Seq: seq, Stamp: l.stamp * 1e6, Data: msg})
	classes := make([]byte, n)
	for i := range classes {
		classes[i] = byte(event.Valid)
	}
	l.judged = append(l.judged, Verdicts{Seq: seq, LogTime: l.stamp, Classes: classes})
}

// seal seals the batches first..last.
func (l *log) seal(first, last int) {
	l.t.Helper()
	var list []archive.Batch
	for i := first - 1; i < last; i++ {
		m := l.msgs[i]
		list = append(list, archive.Batch{Seq: m.Seq, Stamp: m.Stamp, LogTime: l.judged[i].LogTime, Verdicts: l.judged[i].Classes, Message: m.Data})
	}
	if _, err := l.arch.Seal(0, list); err != nil {
		l.t.Fatal(err)
	}
}

func (l *log) options() Options {
	return Options{Archive: l.arch, Scratch: l.t.TempDir(), Lanes: []Lane{{
		Stream: l.stream, Unsealed: l.unsealed,
	}}}
}

func (l *log) unsealed(context.Context, uint64) ([]Verdicts, error) { return l.judged, nil }

func TestScrubFindsWhatIsWrongWithALog(t *testing.T) {
	for name, c := range map[string]struct {
		damage  func(l *log)
		says    string
		journal bool
	}{
		"nothing":         {func(*log) {}, "", false},
		"trimmed":         {func(l *log) { l.trim(15) }, "", false},
		"a flipped bit":   {func(l *log) { l.stream.Corrupt(35, func(b []byte) { b[len(b)-1] ^= 1 }) }, "checksum", true},
		"a torn batch":    {func(l *log) { l.stream.Tear(33, 50) }, "sequences 33 to 33", true},
		"a missing batch": {func(l *log) { l.stream.Delete(31) }, "sequences 31 to 31", true},
		"a sealed batch is other in the journal": {func(l *log) {
			l.stream.Corrupt(12, func(b []byte) { b[90] ^= 1 })
		}, "different batches", false},
		"a regression":    {func(l *log) { l.stream.Regress(38) }, "reports", true},
		"a broken chain":  {func(l *log) { l.head.Counter++; l.append(1) }, "a batch is missing", true},
		"a broken link":   {func(l *log) { l.head.Prev[0] ^= 1; l.append(1) }, "does not link", true},
		"trimmed too far": {func(l *log) { l.trim(25) }, "neither", false},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLog(t)
			for range 40 {
				l.append(3)
			}
			l.seal(1, 10)
			l.seal(11, 20)
			c.damage(l)
			r, err := Scrub(t.Context(), l.options())
			if err != nil {
				t.Fatal(err)
			}
			var b strings.Builder
			_ = r.Write(&b)
			if r.OK != (c.says == "") || !strings.Contains(b.String(), c.says) {
				t.Fatalf("want %q in\n%s", c.says, b.String())
			}
			blamed := false
			for _, f := range r.Findings {
				blamed = blamed || f.Journal()
			}
			if blamed != c.journal {
				t.Errorf("the journal is blamed: %t, in\n%s", blamed, b.String())
			}
		})
	}
}

func (l *log) trim(below uint64) {
	if err := l.stream.Trim(l.t.Context(), below); err != nil {
		l.t.Fatal(err)
	}
}

// TestSpilledSumsAreTheSame recounts with room for few sums and with room for all.
func TestSpilledSumsAreTheSame(t *testing.T) {
	l := newLog(t)
	for range 200 {
		l.append(20)
		l.stamp += 20_000 // many minutes
	}
	l.seal(1, 100)
	by := []string{"minute", "campaign", "type", "class"}
	want, err := Recount(t.Context(), l.options(), by)
	if err != nil {
		t.Fatal(err)
	}
	opt := l.options()
	opt.MaxCells = 7
	got, err := Recount(t.Context(), opt, by)
	if err != nil {
		t.Fatal(err)
	}
	want.Took, got.Took = 0, 0
	if fmt.Sprint(want) != fmt.Sprint(got) || want.Events != 4000 || len(want.Rows) < 100 {
		t.Fatalf("%v\n%v", want, got)
	}
}

func TestAcknowledgedGapsAreNoFindings(t *testing.T) {
	l := newLog(t)
	for range 30 {
		l.append(2)
	}
	l.seal(1, 10)
	l.stream.Delete(21)
	l.stream.Delete(22)
	opt := l.options()
	opt.Lanes[0].Gaps = []journal.Gap{{First: 21, Last: 22}}
	r, err := Scrub(t.Context(), opt)
	if err != nil || !r.OK {
		t.Fatalf("%+v, %v", r, err)
	}
	c, err := Recount(t.Context(), opt, nil)
	if err != nil || c.Events != 56 || len(c.Findings) != 0 {
		t.Fatalf("%+v, %v", c, err)
	}
}

func TestWideSums(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	want, got := new(big.Int), wide{}
	for i := range 2000 {
		v := int64(rnd.Uint64())
		switch i % 5 {
		case 0:
			v = math.MaxInt64
		case 1:
			v = math.MinInt64
		}
		if i > 1000 { // far away from zero
			v = math.MaxInt64
		}
		want.Add(want, big.NewInt(v))
		got.add(wideOf(v))
		if got.String() != want.String() {
			t.Fatalf("after %d: %s, want %s", i, got, want)
		}
		if small, ok := got.int64(); ok != want.IsInt64() || ok && small != want.Int64() {
			t.Fatalf("%s fits: %t", want, ok)
		}
	}
}

func TestCellsInScratchFilesComeBack(t *testing.T) {
	s := newSums(t.TempDir(), 1)
	defer s.close()
	k := cellKey{table: tableDim + 3, lane: 3, value: "äß\x00x", Key: ledger.Key{
		Bucket: -5, Tenant: 1, Type: 2, Goal: 3, Class: 4, Campaign: 5, Banner: 6, Affiliate: 7, Revenue: 8, Payout: 9,
	}}
	for range 3 {
		s.addLog(&k, &sum{wideOf(-1), wideOf(math.MaxInt64), wideOf(2)})
		s.addLedger(&k, &sum{wideOf(4), wideOf(5), wideOf(6)})
		if err := s.settle(); err != nil {
			t.Fatal(err)
		}
	}
	n := 0
	err := s.each(func(got *cellKey, p *pair) {
		n++
		if *got != k || p.log.n.String() != "-3" || p.log.amount.String() != "27670116110564327421" || p.ledger.events.String() != "18" {
			t.Errorf("%+v %+v", got, p)
		}
	})
	if err != nil || n != 1 {
		t.Fatal(n, err)
	}
}

func TestTextOfBytesThatAreNoText(t *testing.T) {
	for in, want := range map[string]string{"plain": "plain", "a\xffb": `a\xffb`, "ä\xc3": `ä\xc3`, "�": "�", "": ""} {
		if got := clean(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}
