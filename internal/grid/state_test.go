package grid

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"milliard/internal/dedup"
	"milliard/internal/event"
	"milliard/internal/journal"
	"milliard/internal/ledger"
)

func testOptions() Options {
	return Options{
		Seed: 7, Window: time.Hour, MaxHashes: 1 << 16, TokenLife: 24 * time.Hour, MinuteCells: 1 << 20,
		TargetSealed: 1 << 20, SealedBatches: 8, SealedSpan: time.Hour,
	}
}

// writer builds the messages of one incarnation.
type writer struct {
	inc     journal.Incarnation
	counter uint64
	prev    journal.Hash
	seq     uint64
	stamp   int64         // unix ms
	builder event.Builder // of its blocks, one after the other
}

func newWriter(name string) *writer {
	w := &writer{stamp: 1_700_000_000_000}
	copy(w.inc[:], name)
	return w
}

func (w *writer) batch(kind journal.Kind, events []event.Event) journal.Message {
	msg := journal.AppendHeader(nil)
	b := &w.builder
	for _, space := range []event.Space{event.Minted, event.Foreign, event.Imported} {
		b.Start(space, event.ImportID{1})
		for i := range events {
			if events[i].Space == space {
				b.Append(&events[i])
			}
		}
		if b.Len() > 0 {
			msg = journal.AppendBlock(msg, b.Block())
		}
	}
	w.counter++
	h := journal.Header{Kind: kind, Incarnation: w.inc, Counter: w.counter, Events: uint32(len(events)), Received: w.stamp, Prev: w.prev}
	w.prev = journal.Seal(msg, &h)
	w.seq++
	return journal.Message{Seq: w.seq, Stamp: w.stamp * int64(time.Millisecond), Data: msg}
}

func foreign(id string) event.Event {
	return event.Event{Space: event.Foreign, Foreign: []byte(id), Type: event.Impression, Tenant: 1, Campaign: 2, N: event.One}
}

func mustFold(t *testing.T, s *State, m journal.Message) []byte {
	t.Helper()
	if err := s.Fold(&m); err != nil {
		t.Fatal(err)
	}
	return s.foldedInfo.Verdicts
}

func classes(v ...event.Class) []byte {
	out := make([]byte, len(v))
	for i, c := range v {
		out[i] = byte(c)
	}
	return out
}

func TestEveryEventGetsOneVerdict(t *testing.T) {
	w, s := newWriter("a"), NewState(testOptions())
	s.Count()
	now := w.stamp
	given := func(id string, at int64) event.Event {
		e := foreign(id)
		e.Time, e.Flags = at, event.FlagTimeGiven
		return e
	}
	flagged := func(id string, f event.Flags) event.Event {
		e := foreign(id)
		e.Flags = f
		return e
	}
	huge := foreign("huge")
	huge.Amount = maxMicros + 1
	events := []event.Event{
		foreign("x"), foreign("x"), flagged("y", event.FlagExpired), foreign("y"),
		flagged("z", event.FlagUnknownCampaign), flagged("z", event.FlagUnknownBanner), flagged("z", event.FlagUnknownAffiliate),
		given("f", now+11*60_000), given("f", now+9*60_000), given("l", now-61*60_000), given("l", now-59*60_000), huge,
	}
	for i := range events {
		if events[i].Time == 0 {
			events[i].Time = now
		}
	}
	got := mustFold(t, s, w.batch(journal.KindEvents, events))
	want := classes(event.Valid, event.Duplicate, event.Expired, event.Valid, event.UnknownCampaign, event.UnknownBanner,
		event.UnknownAffiliate, event.Future, event.Valid, event.Late, event.Valid, event.Undecided)
	if !bytes.Equal(got, want) {
		t.Fatalf("verdicts %v, want %v", got, want)
	}
	g := s.Swap(1)
	var total int64
	for _, c := range g.Cells {
		total += c.Events
	}
	if total != int64(len(events)) {
		t.Fatalf("%d events in cells, want %d", total, len(events))
	}
}

func TestSameIdOfAnotherTypeOrTenantIsAnotherEvent(t *testing.T) {
	w, s := newWriter("a"), NewState(testOptions())
	a, b, c := foreign("x"), foreign("x"), foreign("x")
	b.Type, c.Tenant = event.Click, 2
	got := mustFold(t, s, w.batch(journal.KindEvents, []event.Event{a, b, c, a, b, c}))
	if want := classes(1, 1, 1, 2, 2, 2); !bytes.Equal(got, want) {
		t.Fatalf("verdicts %v, want %v", got, want)
	}
}

func TestAnOrderIsPaidOnceWhateverItsIdAndClick(t *testing.T) {
	w, s := newWriter("a"), NewState(testOptions())
	sale := func(id, order string, click uint64, goal event.GoalID) event.Event {
		e := foreign(id)
		e.Type, e.Order, e.Goal, e.Advertiser = event.Conversion, []byte(order), goal, 3
		e.Click = event.NewMintedID(1, uint16(click), 1, click)
		return e
	}
	noOrder := sale("click/abc/1", "", 4, 1)
	got := mustFold(t, s, w.batch(journal.KindEvents, []event.Event{
		sale("1", "A", 1, 1), sale("2", "A", 2, 1), sale("3", "A", 1, 2), noOrder, noOrder,
	}))
	if want := classes(1, 2, 1, 1, 2); !bytes.Equal(got, want) {
		t.Fatalf("verdicts %v, want %v", got, want)
	}
	// The order alone counts: an id that was used with another order is no duplicate, on any number of lanes.
	if got := mustFold(t, s, w.batch(journal.KindEvents, []event.Event{sale("1", "B", 1, 1), sale("1", "C", 1, 1)})); !bytes.Equal(got, classes(1, 1)) {
		t.Fatalf("two orders with one id: verdicts %v", got)
	}
	// Long after the window the order is still known.
	for range 40 {
		w.stamp += 9 * 60_000
		mustFold(t, s, w.batch(journal.KindEvents, []event.Event{foreign(fmt.Sprint(w.stamp))}))
	}
	if got := mustFold(t, s, w.batch(journal.KindEvents, []event.Event{sale("9", "A", 9, 1), noOrder, foreign("1")})); !bytes.Equal(got, classes(2, 2, 1)) {
		t.Fatalf("after the window: verdicts %v", got)
	}
}

func TestAnImportedIdIsRememberedForEverAndAcrossFiles(t *testing.T) {
	w, s := newWriter("a"), NewState(testOptions())
	row := func(n uint64, id string) event.Event {
		e := foreign(id)
		e.Space, e.Import, e.ID = event.Imported, event.ImportID{1}, event.MintedID{Lo: n}
		return e
	}
	if got := mustFold(t, s, w.batch(journal.KindEvents, []event.Event{row(0, "x"), row(1, "x"), row(0, "y"), row(7, ""), row(7, "")})); !bytes.Equal(got, classes(1, 2, 1, 1, 2)) {
		t.Fatalf("verdicts %v", got)
	}
	for range 20 {
		w.stamp += 9 * 60_000
		mustFold(t, s, w.batch(journal.KindEvents, []event.Event{foreign(fmt.Sprint(w.stamp))}))
	}
	if got := mustFold(t, s, w.batch(journal.KindEvents, []event.Event{row(5, "x")})); !bytes.Equal(got, classes(2)) {
		t.Fatalf("later, in another row: verdicts %v", got)
	}
}

// TestAMintedIdOutlivesAnyWait: an event may lie in a queue or in the spool long after a door found its token good. It must
// not be counted again because its id was forgotten meanwhile.
func TestAMintedIdOutlivesAnyWait(t *testing.T) {
	opt := testOptions()
	w, s := newWriter("a"), NewState(opt)
	e := event.Event{
		Space: event.Minted, ID: event.NewMintedID(w.stamp, 1, 1, 1), Type: event.Click, Tenant: 1, Campaign: 2, N: event.One, Time: w.stamp,
	}
	life := opt.TokenLife + opt.Window + 2*time.Hour
	for _, c := range []struct {
		after time.Duration
		want  event.Class
	}{
		{0, event.Valid},
		{opt.TokenLife, event.Duplicate},
		{opt.TokenLife + 3*time.Hour, event.Duplicate},
		{life, event.Duplicate},
		{life + time.Second, event.Expired},
		{2 * life, event.Expired},
	} {
		w.stamp = e.Time + c.after.Milliseconds()
		mustFold(t, s, w.batch(journal.KindTick, nil))
		if got := mustFold(t, s, w.batch(journal.KindEvents, []event.Event{e})); got[0] != byte(c.want) {
			t.Fatalf("after %v: %v, want %v", c.after, event.Class(got[0]), c.want)
		}
	}
}

// TestAForgottenMintedIdIsNotNew: memory goes by log time, which stays ahead when the clock had jumped and went back. An id
// that memory has dropped is then young by the stamp; it must not be counted again.
func TestAForgottenMintedIdIsNotNew(t *testing.T) {
	opt := testOptions()
	w, s := newWriter("a"), NewState(opt)
	start := w.stamp
	minted := func(slot uint16, at int64) event.Event {
		return event.Event{
			Space: event.Minted, ID: event.NewMintedID(at, slot, 1, 1), Type: event.Click, Tenant: 1, Campaign: 2, N: event.One, Time: at,
		}
	}
	life := (opt.TokenLife + opt.Window + 2*time.Hour).Milliseconds()
	fold := func(e event.Event) event.Class {
		t.Helper()
		return event.Class(mustFold(t, s, w.batch(journal.KindEvents, []event.Event{e}))[0])
	}
	if got := fold(minted(1, start)); got != event.Valid {
		t.Fatalf("the first use: %v", got)
	}
	w.stamp = start + life + time.Hour.Milliseconds()
	mustFold(t, s, w.batch(journal.KindTick, nil))
	w.stamp = start + time.Hour.Milliseconds()
	if got := fold(minted(1, start)); got != event.Expired {
		t.Errorf("after the clock went back: %v, want %v", got, event.Expired)
	}
	if got := fold(minted(2, start+2*time.Hour.Milliseconds())); got != event.Valid {
		t.Errorf("an id that memory would hold: %v, want %v", got, event.Valid)
	}
}

func TestTheWindowIsHonouredAtItsEdges(t *testing.T) {
	opt := testOptions()
	w, s := newWriter("a"), NewState(opt)
	mustFold(t, s, w.batch(journal.KindEvents, []event.Event{foreign("x")}))
	start := w.stamp
	var remembered int64
	for w.stamp < start+2*opt.Window.Milliseconds() {
		w.stamp += 30_000
		probe := foreign("x")
		probe.Flags = event.FlagExpired // judged, never claimed
		if got := mustFold(t, s, w.batch(journal.KindEvents, []event.Event{probe, foreign(fmt.Sprint(w.stamp))})); got[0] == byte(event.Duplicate) {
			remembered = w.stamp - start
		}
	}
	if remembered < opt.Window.Milliseconds() || remembered > opt.Window.Milliseconds()*34/32+60_000 {
		t.Fatalf("remembered for %v, window %v", time.Duration(remembered)*time.Millisecond, opt.Window)
	}
}

func TestARepeatedBatchCountsOnceAndDamageHalts(t *testing.T) {
	w, s := newWriter("a"), NewState(testOptions())
	s.Count()
	first := w.batch(journal.KindEvents, []event.Event{foreign("1"), foreign("2")})
	mustFold(t, s, first)
	again := first
	again.Seq = 2
	mustFold(t, s, again)
	if g := s.Swap(1); g.Cells[0].Events != 2 {
		t.Fatalf("events %d, want 2", g.Cells[0].Events)
	}
	w.seq = 2
	second := w.batch(journal.KindEvents, []event.Event{foreign("3")})
	third := w.batch(journal.KindEvents, []event.Event{foreign("4")})
	third.Seq = 3
	if err := s.Fold(&third); !errors.Is(err, ErrHalt) {
		t.Fatalf("a missing batch: %v", err)
	}
	gap := second
	gap.Seq = 4
	if err := s.Fold(&gap); !errors.Is(err, ErrHalt) {
		t.Fatalf("a missing sequence: %v", err)
	}
	flipped := second
	flipped.Data = bytes.Clone(second.Data)
	flipped.Data[len(flipped.Data)-1] ^= 1
	if err := s.Fold(&flipped); !errors.Is(err, ErrHalt) {
		t.Fatalf("a flipped bit: %v", err)
	}
	mustFold(t, s, second)
}

// stateHash is the hash of everything a lane's verdicts depend on.
func stateHash(s *State) [32]byte {
	parts := map[string][]uint64{}
	return sha256.Sum256(encodeWithParts(s.Snapshot(), parts))
}

func encodeWithParts(snap *Snapshot, parts map[string][]uint64) []byte {
	var slabs []string
	for i, slab := range snap.minted.Slabs {
		name, _ := partName("minted", uint64(i), len(slab.Words), slab.Words)
		parts[name] = slab.Words
		slabs = append(slabs, name)
	}
	return snap.encode(func(number uint32, stretch int) string {
		for _, g := range snap.gens {
			if g.Number == number {
				from, to := stretch*dedup.Stretch, min((stretch+1)*dedup.Stretch, g.Count)
				chunks, _ := g.List(from, to)
				name, _ := partName("gen", stretchOf{number, stretch}.id(), to-from, chunks...)
				parts[name] = slices.Concat(chunks...)
				return name
			}
		}
		return ""
	}, nil, slabs)
}

// TestRecoveryGivesTheSameVerdicts draws histories, stops at a random point with a random image, and folds on from it:
// verdicts, cells and the state's hash must be those of the uninterrupted run (I16).
func TestRecoveryGivesTheSameVerdicts(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := newWriter("a")
		var messages []journal.Message
		for range rapid.IntRange(2, 25).Draw(rt, "batches") {
			w.stamp += rapid.Int64Range(0, 8*60_000).Draw(rt, "step")
			var events []event.Event
			for range rapid.IntRange(0, 12).Draw(rt, "events") {
				events = append(events, drawEvent(rt, w.stamp))
			}
			messages = append(messages, w.batch(journal.KindEvents, events))
		}
		image := rapid.IntRange(0, len(messages)-1).Draw(rt, "image")
		position := rapid.IntRange(image, len(messages)-1).Draw(rt, "ledger position")

		whole := NewState(testOptions())
		whole.Count()
		var wantVerdicts []byte
		var encoded []byte
		parts := map[string][]uint64{}
		var atPosition *ledger.Generation
		for i, m := range messages {
			if err := whole.Fold(&m); err != nil {
				rt.Fatal(err)
			}
			if i == image {
				encoded = encodeWithParts(whole.Snapshot(), parts)
			}
			if i == position {
				atPosition = whole.Swap(1)
			}
			if i > position {
				wantVerdicts = append(wantVerdicts, whole.foldedInfo.Verdicts...)
			}
		}
		_ = atPosition
		after, err := decodeImage(encoded, testOptions(), func(name string) ([]uint64, error) { return parts[name], nil })
		if err != nil {
			rt.Fatal(err)
		}
		var gotVerdicts []byte
		for i, m := range messages[image+1:] {
			if image+1+i == position+1 {
				after.Count()
			}
			if err := after.Fold(&m); err != nil {
				rt.Fatal(err)
			}
			if image+1+i > position {
				gotVerdicts = append(gotVerdicts, after.foldedInfo.Verdicts...)
			}
		}
		if !bytes.Equal(gotVerdicts, wantVerdicts) {
			rt.Fatalf("verdicts %v, want %v", gotVerdicts, wantVerdicts)
		}
		whole.pos.Flush, after.pos.Flush = 0, 0
		if stateHash(whole) != stateHash(after) {
			rt.Fatal("state differs after recovery")
		}
		if position < len(messages)-1 {
			want, got := whole.Swap(1), after.Swap(1)
			if fmt.Sprint(want.Cells, want.Moved, want.Rollups) != fmt.Sprint(got.Cells, got.Moved, got.Rollups) {
				rt.Fatalf("cells differ:\n%v\n%v", want.Cells, got.Cells)
			}
		}
	})
}

func drawEvent(rt *rapid.T, now int64) event.Event {
	e := event.Event{
		Type: event.Type(rapid.SampledFrom([]int{1, 2, 3, 64}).Draw(rt, "type")), Tenant: event.TenantID(rapid.IntRange(1, 2).Draw(rt, "tenant")),
		Campaign: event.CampaignID(rapid.IntRange(1, 3).Draw(rt, "campaign")), N: event.One, Time: now,
		Country: event.ParseCountry(rapid.SampledFrom([]string{"DE", "FR", ""}).Draw(rt, "country")),
		Subs:    []byte(rapid.SampledFrom([]string{"", "sub1=a", "sub1=b&sub2=c"}).Draw(rt, "subs")),
		Amount:  event.Micros(rapid.Int64Range(-5, 5).Draw(rt, "amount")),
	}
	n := uint64(rapid.IntRange(0, 20).Draw(rt, "id"))
	switch rapid.IntRange(0, 2).Draw(rt, "space") {
	case 0:
		e.Space, e.ID = event.Minted, event.NewMintedID(now, uint16(n%4), 9, n)
	case 1:
		e.Space, e.Foreign = event.Foreign, fmt.Appendf(nil, "id-%d", n)
	default:
		e.Space, e.Import, e.ID = event.Imported, event.ImportID{1}, event.MintedID{Lo: n}
		e.Time = now - rapid.Int64Range(0, 1<<40).Draw(rt, "age")
	}
	if e.Type == event.Conversion && rapid.Bool().Draw(rt, "with order") {
		e.Order = fmt.Appendf(nil, "o%d", n%5)
	}
	return e
}

func TestDamagedImagesAreRefused(t *testing.T) {
	w, s := newWriter("a"), NewState(testOptions())
	for i := range 5 {
		mustFold(t, s, w.batch(journal.KindEvents, []event.Event{foreign(fmt.Sprint(i))}))
	}
	good := encodeWithParts(s.Snapshot(), map[string][]uint64{})
	load := func(string) ([]uint64, error) { return nil, nil }
	if _, err := decodeImage(good, testOptions(), load); err != nil {
		t.Fatal(err)
	}
	for i := range good {
		bad := bytes.Clone(good)
		bad[i] ^= 0x10
		if _, err := decodeImage(bad, testOptions(), load); err == nil {
			t.Fatalf("byte %d flipped: accepted", i)
		}
		if _, err := decodeImage(good[:i], testOptions(), load); err == nil {
			t.Fatalf("cut to %d bytes: accepted", i)
		}
	}
	other := testOptions()
	other.Seed++
	if _, err := decodeImage(good, other, load); !errors.Is(err, ErrImage) {
		t.Fatalf("image of another installation: %v", err)
	}
}
