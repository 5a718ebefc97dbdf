package verify

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"milliard/internal/archive"
	"milliard/internal/event"
	"milliard/internal/journal"
	"milliard/internal/ledger"
)

// randomBatch is a folded batch of events of every kind: some that happened long before, some held, some of an import,
// with more countries and sub-ids than a campaign's budget allows.
func randomBatch(rnd *rand.Rand, logTime int64) *batch {
	space := []event.Space{event.Minted, event.Foreign, event.Imported}[rnd.IntN(3)]
	b := &batch{judged: true, logTime: logTime, header: journal.Header{Kind: journal.KindEvents, Received: logTime - rnd.Int64N(90_000)}}
	for range 1 + rnd.IntN(3) {
		var bl event.Builder
		bl.Start(space, event.ImportID{1})
		for range 1 + rnd.IntN(400) {
			e := event.Event{
				Space: space, ID: event.MintedID{Hi: 7<<12 | rnd.Uint64N(99), Lo: 2<<62 | rnd.Uint64N(99)}, Type: event.Type(1 + rnd.IntN(3)),
				Time: logTime - rnd.Int64N(3*hour*minute), Tenant: event.TenantID(1 + rnd.IntN(2)), Campaign: event.CampaignID(rnd.IntN(3)),
				Banner: event.BannerID(rnd.IntN(2)), Affiliate: event.AffiliateID(rnd.IntN(9)), N: event.One, Country: event.Country(rnd.IntN(500) * rnd.IntN(2)),
				Device: event.Device(rnd.IntN(20)), Payout: event.PriceID(rnd.IntN(2)),
			}
			if space != event.Minted {
				e.Foreign = fmt.Appendf(nil, "%d", rnd.Uint64())
			}
			if rnd.IntN(4) == 0 {
				e.N, e.Amount = event.Micros(rnd.Int64()), -event.Micros(rnd.Int64())
			}
			if rnd.IntN(2) == 0 {
				e.Subs = fmt.Appendf(nil, "sub1=s%d\xff&sub2=x", rnd.IntN(3000))
			}
			bl.Append(&e)
			b.classes = append(b.classes, byte(1+rnd.IntN(9)))
		}
		b.blocks = append(b.blocks, archive.Block{Main: bl.Block().AppendMain(nil)})
	}
	b.header.Events = uint32(len(b.classes))
	return b
}

// TestPrintsOfLogAndLedgerCancelOut writes a ledger of what the exact counter says and takes it from the log's prints.
func TestPrintsOfLogAndLedgerCancelOut(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	r := newRun(Options{Lanes: []Lane{{Number: 2}}})
	fast := newLogPrint(r.secret, r.prints, 2)
	exact := newSums(t.TempDir(), 1<<30)
	slow := newCounter(2, true, exact.addLog)
	for i := range 60 {
		b := randomBatch(rnd, 1_700_000_000_000+int64(i)*day/40)
		for _, a := range []adder{slow, fast} {
			if _, err := a.batch(b); err != nil {
				t.Fatal(err)
			}
		}
	}
	side := newPrintSide(r)
	row := func(k *cellKey, v ledger.Value, sign int64) *scanned {
		return &scanned{
			lane: k.lane, key: k.Key, value: k.value, dim: ledger.Dimension(k.table - tableDim),
			n: sign * int64(v.N), amount: sign * int64(v.Amount), events: sign * v.Events,
		}
	}
	kinds := map[table]int{}
	var some *scanned
	err := exact.each(func(k *cellKey, p *pair) {
		kinds[k.table]++
		for _, v := range p.log.values() {
			switch s := row(k, v, 1); {
			case k.table == tableCells:
				side.cell(s, false)
				moved := row(k, v, -1)
				moved.key.Bucket = floor(k.Bucket, quarter)
				side.rollup(tableOccurred, moved)
				some = s
			case k.table == tableOccurred:
				side.rollup(tableOccurred, s)
			case k.value != restOf(s.dim):
				if side.dim(s); k.value == ledger.OtherValue {
					kinds[0]++
				}
			}
		}
	})
	if err != nil || kinds[0] == 0 || len(kinds) != 6 {
		t.Fatal(kinds, err)
	}
	for k, a := range r.prints.left() {
		t.Errorf("%s group %d is left: %+v", k.table, k.group, a)
	}
	var want wide
	for i := range r.ofCampaign {
		want.add(r.ofCampaign[i].cells)
	}
	if n, _ := want.int64(); n == 0 || r.res.Cells != int64(kinds[tableCells]) {
		t.Errorf("%d events, %d cells of %d", n, r.res.Cells, kinds[tableCells])
	}
	for bit := range 63 {
		damaged := *some
		damaged.n, damaged.amount, damaged.events = 0, int64(1)<<bit, 0
		side.cell(&damaged, false)
		if left := r.prints.left(); len(left) != 1 {
			t.Errorf("bit %d: %d groups are left", bit, len(left))
		}
		damaged.amount = -damaged.amount
		side.cell(&damaged, false)
	}
}

// TestFactorsOfCellsDiffer changes one field of a key after the other.
func TestFactorsOfCellsDiffer(t *testing.T) {
	k := newSecret()
	seen := map[wide128]string{}
	at := func(name string, table table, lane, bucket int32, key ledger.Key) {
		f := factorsOf(&key)
		h := k.mix(k.base(&f), k.place(table, lane, bucket))
		if other, twice := seen[h]; twice {
			t.Errorf("%s has the factor of %s", name, other)
		}
		seen[h] = name
	}
	for v := range 1000 {
		u := uint32(v) + 1
		for name, key := range map[string]ledger.Key{
			"tenant": {Tenant: event.TenantID(u)}, "type": {Type: event.Type(u)}, "goal": {Goal: event.GoalID(u)},
			"campaign": {Campaign: event.CampaignID(u)}, "banner": {Banner: event.BannerID(u)}, "affiliate": {Affiliate: event.AffiliateID(u)},
			"revenue": {Revenue: event.PriceID(u)}, "payout": {Payout: event.PriceID(u)},
		} {
			at(fmt.Sprint(name, u), tableCells, 0, 0, key)
		}
		at(fmt.Sprint("bucket", u), tableCells, 0, int32(u), ledger.Key{})
		at(fmt.Sprint("lane", u), tableCells, int32(u), 0, ledger.Key{})
		at(fmt.Sprint("table", u), table(u%100)+2, 0, int32(u)/100, ledger.Key{})
	}
}

func TestIndexGivesNumbersInOrder(t *testing.T) {
	var x index
	rnd := rand.New(rand.NewPCG(5, 6))
	want := map[uint64]int{}
	for range 20_000 {
		key := rnd.Uint64N(5000) << 40
		n, known := want[key]
		if x.has(key) != known {
			t.Fatal(key)
		}
		got, fresh := x.number(key)
		if !known {
			n = len(want)
			want[key] = n
		}
		if got != n || fresh == known {
			t.Fatalf("%x: %d %t, want %d %t", key, got, fresh, n, !known)
		}
	}
	x.clear()
	if n, fresh := x.number(9); n != 0 || !fresh {
		t.Fatal(n, fresh)
	}
}

func BenchmarkLogPrint(b *testing.B) {
	r := newRun(Options{Lanes: []Lane{{Number: 2}}})
	fast := newLogPrint(r.secret, r.prints, 0)
	rnd := rand.New(rand.NewPCG(3, 4))
	var bl event.Builder
	bl.Start(event.Minted, event.ImportID{})
	batch := &batch{judged: true, logTime: 1_700_000_000_000, header: journal.Header{Kind: journal.KindEvents, Received: 1_700_000_000_000, Events: 4000}}
	for i := range 4000 {
		bl.Append(&event.Event{
			Space: event.Minted, ID: event.NewMintedID(1_700_000_000_000, 3, 4, uint64(i)), Type: event.Impression, Time: 1_700_000_000_000,
			Tenant: 1, Campaign: event.CampaignID(rnd.IntN(1000)), Affiliate: event.AffiliateID(rnd.IntN(10_000)), N: event.One,
		})
		batch.classes = append(batch.classes, byte(event.Valid))
	}
	batch.blocks = append(batch.blocks, archive.Block{Main: bl.Block().AppendMain(nil)})
	events := 0
	for b.Loop() {
		rows, err := fast.batch(batch)
		if err != nil {
			b.Fatal(err)
		}
		events += rows
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(events), "ns/event")
}

// TestRecountByColumnsIsTheSame groups random events by everything, and by a few things, in both counters.
func TestRecountByColumnsIsTheSame(t *testing.T) {
	for _, by := range [][]string{nil, Dimensions(), {"day", "campaign"}, {"hour", "class", "payout"}, {"minute", "day"}, {"lane"}} {
		g, err := newGrouping(by)
		if err != nil {
			t.Fatal(err)
		}
		fast, slow := newRun(Options{Scratch: t.TempDir(), MaxCells: 50}), newRun(Options{Lanes: []Lane{{Number: 2}}})
		fast.by, slow.by = g, g
		regroup, count := newRegrouper(fast, 3), newCounter(3, false, slow.addLog)
		rnd := rand.New(rand.NewPCG(3, 4))
		for i := range 20 {
			b := randomBatch(rnd, 1_700_000_000_000+int64(i)*day/7)
			for _, a := range []adder{regroup, count} {
				if _, err := a.batch(b); err != nil {
					t.Fatal(err)
				}
			}
			if err := fast.sums.settle(); err != nil {
				t.Fatal(err)
			}
		}
		regroup.settle()
		all := map[cellKey]pair{}
		n := 0
		if err := slow.sums.each(func(k *cellKey, p *pair) { all[*k] = *p }); err != nil {
			t.Fatal(err)
		}
		if err := fast.sums.each(func(k *cellKey, p *pair) {
			if n++; all[*k] != *p {
				t.Errorf("%v: %s is %s, want %s", by, k, &p.log, all[*k].log.events)
			}
		}); err != nil || n != len(all) {
			t.Errorf("%v: %d groups, want %d; %v", by, n, len(all), err)
		}
		fast.sums.close()
	}
}
