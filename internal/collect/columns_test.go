package collect

import (
	"bytes"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"milliard/client"
	"milliard/internal/catalog"
	"milliard/internal/event"
)

// agree resolves a columnar body by columns and row by row, and fails unless both make the same of it.
func (b *bench) agree(t *testing.T, body []byte) (rows, slow int) {
	t.Helper()
	b.w.release()
	p := b.d.parse(b.w, &b.o, formatColumnar, body)
	rows, slow = len(b.w.load.Rows), len(b.w.events)
	b.w.spread()
	var events []event.Event
	for i := range b.w.events {
		events = append(events, clone(&b.w.events[i]))
	}
	outcomes := append([]outcome(nil), b.w.outcomes...)

	b.w.release()
	b.w.singly = true
	q := b.d.parse(b.w, &b.o, formatColumnar, body)
	if !reflect.DeepEqual(p, q) {
		t.Fatalf("the request by columns: %v, row by row: %v", p, q)
	}
	if p != nil {
		return rows, slow
	}
	if !reflect.DeepEqual(outcomes, b.w.outcomes) {
		for i := range outcomes {
			if x := b.w.outcomes[i]; !reflect.DeepEqual(outcomes[i], x) {
				t.Fatalf("item %d by columns: %v, row by row: %v", i, outcomes[i].problem, x.problem)
			}
		}
		t.Fatalf("%d outcomes, want %d", len(outcomes), len(b.w.outcomes))
	}
	for i := range events {
		got, want := events[i], clone(&b.w.events[i])
		for _, e := range []*event.Event{&got, &want} {
			if e.Space != event.Minted || e.Flags&event.FlagExpired != 0 {
				continue
			}
			if e.Type == event.Click && e.Click != e.ID {
				t.Fatalf("a click %v with the id %v", e.Click, e.ID)
			}
			e.ID, e.Click = event.MintedID{}, event.MintedID{} // every run mints its own
		}
		for _, e := range []*event.Event{&got, &want} { // no bytes are no bytes
			for _, text := range []*[]byte{&e.Foreign, &e.Source, &e.Order, &e.Subs, &e.Ref, &e.Referrer, &e.IP, &e.UA, &e.Visitor} {
				if len(*text) == 0 {
					*text = nil
				}
			}
		}
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("event %d by columns:\n%+v\nrow by row:\n%+v", i, got, want)
		}
	}
	return rows, slow
}

// TestColumnsSayWhatRowsSay: whatever a batch holds, resolving it by columns makes the same events, the same refusals
// and the same words as resolving it row by row.
func TestColumnsSayWhatRowsSay(t *testing.T) {
	b := newBench(t)
	b.d.cfg.Country = func(a netip.Addr) event.Country {
		if a.Is4() {
			return event.ParseCountry("DE")
		}
		return 0
	}
	rnd := rand.New(rand.NewPCG(1, 2))
	byColumns, oneByOne := 0, 0
	for range 3000 {
		b.o.import_ = event.ImportID{}
		if rnd.IntN(4) == 0 {
			b.o.import_[3] = 1
		}
		rows, slow := b.agree(t, drawBatch(rnd))
		byColumns += rows
		oneByOne += slow
	}
	if byColumns < 5000 || oneByOne < 500 {
		t.Errorf("%d events by columns, %d beside them: the test has lost its aim", byColumns, oneByOne)
	}
}

// drawBatch makes a batch whose rows are mostly right. hostility is how often a value is not.
func drawBatch(rnd *rand.Rand) []byte {
	var b client.Builder
	b.Import = rnd.IntN(3) == 0
	hostility := []int{0, 0, 20, 100}[rnd.IntN(4)]
	// A field is given by all rows, by some or by none.
	var share [40]int
	for i := range share {
		share[i] = []int{0, 0, 1, 9, 10}[rnd.IntN(5)]
	}
	share[0], share[1] = max(share[0], rnd.IntN(11)), 10
	pick := func(f int, good, bad []string) string {
		if rnd.IntN(10) >= share[f] {
			return ""
		}
		if hostility > 0 && rnd.IntN(hostility) == 0 {
			return bad[rnd.IntN(len(bad))]
		}
		return good[rnd.IntN(len(good))]
	}
	long := func(n int) string { return strings.Repeat("x", n) }
	types := [][]string{{"impression", "click", "conversion", "page_view"}, {"page_view"}, {"click"}, {"conversion"}}[rnd.IntN(4)]
	for i := range 1 + rnd.IntN(60) {
		e := client.Event{
			ID:         pick(0, []string{"a", "b", long(i + 1), long(255)}, []string{"click/x", long(256), "\xff", long(70_000)}),
			Type:       pick(1, types, []string{"nonsense", "", "a.click", "Click"}),
			Source:     pick(2, []string{"s", "t"}, []string{"\x00link", long(256)}),
			Campaign:   pick(3, []string{"summer", "plain", "euros"}, []string{"asleep", "none", long(256), "ann"}),
			Affiliate:  pick(4, []string{"ann"}, []string{"bob", "none", long(256)}),
			Banner:     pick(5, []string{"top"}, []string{"none", long(256)}),
			Currency:   pick(7, []string{"USD", "usd"}, []string{"EUR", "x"}),
			PriceModel: pick(8, []string{""}, []string{"cpm", "cpc", "x"}),
			ClickID:    pick(9, []string{""}, []string{"x"}),
			Token:      pick(10, []string{""}, []string{"x"}),
			IP:         pick(11, []string{"192.0.2.1", "192.0.2.2", "2001:db8::1", "::ffff:1.2.3.4"}, []string{"x", "1.2.3"}),
			UA:         pick(12, []string{"Mozilla/5.0 (iPhone)", "bot", long(600), "\xff"}, []string{""}),
			Visitor:    pick(13, []string{"v1", "v2", long(255)}, []string{long(256)}),
			Country:    pick(14, []string{"DE", "fr", "unknown"}, []string{"DEU", "1"}),
			Device:     pick(15, []string{"mobile", "desktop", "fridge"}, []string{"x"}),
			Referrer:   pick(16, []string{"https://a.example/x", "b.example", "https://"}, []string{long(300)}),
		}
		if e.Type == "conversion" || hostility > 0 && rnd.IntN(hostility) == 0 {
			e.Goal = pick(6, []string{"sale", "lead"}, []string{"none", long(256)})
			e.OrderID = pick(17, []string{"o1", "o2", long(255)}, []string{long(256)})
		}
		for s := range 3 {
			e.Subs = append(e.Subs, pick(20+s, []string{"a", "b&c", long(450)}, []string{long(501)}))
		}
		if hostility > 0 && rnd.IntN(hostility) == 0 {
			for range 9 {
				e.Subs = append(e.Subs, long(480))
			}
		}
		if rnd.IntN(10) < share[30] {
			e.Time = startTime().Add(time.Duration(rnd.IntN(200)-100) * time.Hour)
			if hostility > 0 && rnd.IntN(hostility) == 0 {
				e.Time = time.Unix(rnd.Int64N(4e9), 0).Add(-1e18)
			}
		}
		if rnd.IntN(10) < share[31] {
			e.N = client.Micros(rnd.Int64N(1e7))
		}
		if rnd.IntN(10) < share[32] {
			e.Amount = client.Micros(rnd.Int64N(1e9))
		}
		if hostility > 0 && rnd.IntN(hostility) == 0 {
			e.N, e.Amount = client.Micros(rnd.Uint64()), client.Micros(rnd.Uint64())
		}
		if e.Row = uint64(i); hostility > 0 && rnd.IntN(hostility) == 0 {
			e.Row = rnd.Uint64()
		}
		b.Add(&e)
	}
	return b.Encode(nil)
}

// TestARequestOfBothKinds: rows by columns and events beside them come into the journal together, and the answer names
// every one of them in its place.
func TestARequestOfBothKinds(t *testing.T) {
	r := newRig(t, nil)
	var b client.Builder
	for _, e := range []client.Event{
		{ID: "1", Type: "click", Campaign: "summer"},
		{ID: "2", Type: "click", Campaign: "asleep"}, // known to be unknown: an event of its own
		{ID: "3", Type: "nonsense"},
		{ID: "4", Type: "conversion", Campaign: "summer", OrderID: "o"},
	} {
		b.Add(&e)
	}
	rep := reportOf(t, r.post(client.ContentType, string(b.Encode(nil))))
	if rep.Accepted != 3 || rep.Rejected != 1 {
		t.Fatalf("%+v", rep)
	}
	for i, want := range []string{"1", "2", "", "4"} {
		if rep.Items[i].ID != want || rep.Items[i].Index != i {
			t.Errorf("item %d: %+v", i, rep.Items[i])
		}
	}
	var ids [][]byte
	for _, e := range r.spy.take() {
		ids = append(ids, e.Foreign)
	}
	if got := string(bytes.Join(ids, nil)); got != "142" {
		t.Errorf("stored %s", got)
	}
}

// TestAPausedNameIsNoLongerQuick: what was found by name is looked up again after the catalog has changed.
func TestAPausedNameIsNoLongerQuick(t *testing.T) {
	r := newRig(t, nil)
	var b client.Builder
	for range 20 {
		b.Add(&client.Event{Type: "click", Campaign: "summer", Affiliate: "ann"})
	}
	body := string(b.Encode(nil))
	send := func() event.Flags {
		t.Helper()
		if a := r.post(client.ContentType, body); a.status != 200 {
			t.Fatalf("%d %s", a.status, a.body)
		}
		return r.spy.take()[0].Flags
	}
	for range 20 {
		if flags := send(); flags != 0 {
			t.Fatalf("flags %d", flags)
		}
	}
	doc, err := catalog.ParseDocument([]byte(strings.Replace(network, "affiliates: [{key: ann},", "affiliates: [{key: ann, status: paused},", 1)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.ctl.Apply(t.Context(), "test", "", doc); err != nil {
		t.Fatal(err)
	}
	if flags := send(); flags != event.FlagUnknownAffiliate {
		t.Errorf("flags %d after the affiliate was paused", flags)
	}
}
