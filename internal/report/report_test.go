package report

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"milliard/internal/catalog"
	"milliard/internal/event"
	"milliard/internal/ledger"
)

// scene is a small ledger whose every number is known.
func scene(t *testing.T, mixed bool) (*Service, *catalog.View) {
	t.Helper()
	b := newBench(t)
	names := network(t, 1, "Europe/Berlin", mixed)
	cell := func(at string, typ event.Type, class event.Class, c event.CampaignID, a event.AffiliateID, rev, pay event.PriceID, n, amount event.Micros) ledger.Cell {
		return ledger.Cell{
			Key: ledger.Key{
				Bucket: minuteOf(t, at), Tenant: 1, Type: typ, Class: class, Campaign: c, Banner: 0, Affiliate: a, Revenue: rev, Payout: pay,
			},
			Value: ledger.Value{N: n, Amount: amount, Events: int64(n / event.One)},
		}
	}
	cells := []ledger.Cell{
		cell("2026-04-01T08:00:00Z", event.Impression, event.Valid, 1, 1, priceCPM, 0, 1_001*event.One, 0),
		cell("2026-04-01T08:01:00Z", event.Click, event.Valid, 1, 1, priceCPC, priceUSD, 3*event.One, 0),
		cell("2026-04-01T08:16:00Z", event.Conversion, event.Valid, 1, 1, priceCPA, priceShare, event.One, 19_990_000),
		cell("2026-04-01T22:30:00Z", event.Impression, event.Valid, 2, 0, catalog.PriceCarriedCPM, 0, 7*event.One, 12_345_678),
		cell("2026-04-01T22:30:00Z", event.Impression, event.Duplicate, 2, 0, catalog.PriceCarriedCPM, 0, 5*event.One, 9_000_000),
		cell("2026-04-01T23:59:00Z", event.Click, event.Valid, 3, 2, 0, priceUSD, 2*event.One, 0),
		cell("2026-04-02T00:00:00Z", event.Click, event.UnknownCampaign, 0, 2, 0, 0, event.One, 0),
	}
	b.flush(t, 0, time.Date(2026, 4, 2, 10, 0, 0, 0, time.UTC), counted{cells: cells})
	return New(Config{Reader: b, Now: clock("2026-04-02T10:00:01Z")}), names
}

func ask(t *testing.T, s *Service, names *catalog.View, r Request) *Result {
	t.Helper()
	res, err := s.Report(t.Context(), names, r)
	if err != nil {
		t.Fatalf("%+v: %v", r, err)
	}
	return res
}

func TestTablesAreAsTheyWere(t *testing.T) {
	for name, tc := range map[string]struct {
		mixed bool
		r     Request
	}{
		"campaigns.txt":  {false, Request{By: []string{"campaign", "day"}, From: "2026-04-01", To: "2026-04-02"}},
		"currencies.txt": {true, Request{By: []string{"advertiser"}, From: "2026-04-01", To: "2026-04-02"}},
		"classes.txt":    {false, Request{By: []string{"type", "class"}, From: "-7d", Order: []string{"-n"}, Limit: 3}},
		"totals.txt":     {false, Request{From: "yesterday"}},
		"nothing.txt":    {false, Request{By: []string{"hour"}, Where: []string{"affiliate:bob"}, From: "-1h"}},
	} {
		t.Run(name, func(t *testing.T) {
			s, names := scene(t, tc.mixed)
			var out bytes.Buffer
			res := ask(t, s, names, tc.r)
			if err := res.WriteTable(&out); err != nil {
				t.Fatal(err)
			}
			out.WriteString("\n")
			if err := res.WriteCSV(&out); err != nil {
				t.Fatal(err)
			}
			var encoded bytes.Buffer
			enc := json.NewEncoder(&encoded)
			enc.SetEscapeHTML(false)
			if err := enc.Encode(res); err != nil {
				t.Fatal(err)
			}
			var written bytes.Buffer
			if err := res.WriteJSON(&written); err != nil || written.String() != encoded.String() {
				t.Errorf("%v: written\n%s\nthe encoder has\n%s", err, &written, &encoded)
			}
			out.Write(written.Bytes())
			golden(t, name, out.String())
		})
	}
}

func TestCSVCellsDoNotBecomeFormulas(t *testing.T) {
	s, names := scene(t, false)
	var out bytes.Buffer
	res := ask(t, s, names, Request{By: []string{"campaign", "advertiser"}, From: "2026-04-01", To: "2026-04-02"})
	if err := res.WriteCSV(&out); err != nil {
		t.Fatal(err)
	}
	rows, err := csv.NewReader(&out).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	found, negative := 0, 0
	for _, row := range rows[1:] {
		for i, cell := range row {
			switch {
			case rows[0][i] == "profit" && strings.HasPrefix(cell, "-"):
				negative++ // a number of ours keeps its sign
			case cell != "" && strings.ContainsRune("=+-@\t\r", rune(cell[0])):
				t.Errorf("%s: cell %q begins a formula", rows[0][i], cell)
			case strings.HasPrefix(cell, "'"):
				found++
			}
		}
	}
	if found != 6 || negative == 0 {
		t.Errorf("%d guarded cells and %d negative profits in %v", found, negative, rows)
	}
}

func TestTerminalNeverSeesControlCharacters(t *testing.T) {
	var out bytes.Buffer
	table := Table{Header: []string{"sub1"}, Right: []bool{false}, Rows: [][]string{{"a\x1b]0;owned\x07\u202e"}}}
	if err := table.Write(&out); err != nil {
		t.Fatal(err)
	}
	if strings.ContainsAny(out.String(), "\x1b\x07\u202e") {
		t.Errorf("table %q", out.String())
	}
}

func TestRefusalsNameWhatIsWrong(t *testing.T) {
	s, names := scene(t, false)
	for _, tc := range []struct {
		r           Request
		field, says string
	}{
		{Request{By: []string{"colour"}}, "by", `"colour" is no dimension`},
		{Request{By: []string{"day", "hour"}}, "by", "one time grain"},
		{Request{By: []string{"campaign", "campaign"}}, "by", "twice"},
		{Request{By: []string{"country", "device"}}, "by", "only one of country, device and sub1"},
		{Request{By: []string{"country"}, Where: []string{"sub1:x"}}, "where", "only one of"},
		{Request{By: []string{"country", "minute"}}, "by", "15min or coarser"},
		{Request{By: []string{"minute"}, Time: "occurred"}, "by", "15min or coarser"},
		{Request{From: "2026-04-01T08:07:00Z", Time: "occurred"}, "from", "quarters of an hour"},
		{Request{To: "2026-04-02T08:07:00Z", By: []string{"device"}}, "to", "quarters of an hour"},
		{Request{By: []string{"country"}, Time: "occurred"}, "time", "time=received"},
		{Request{Time: "sent"}, "time", `"sent"`},
		{Request{Where: []string{"campaign:999"}}, "where", `no campaign "999"`},
		{Request{Where: []string{"campaign"}}, "where", "dimension:value"},
		{Request{Where: []string{"colour:red"}}, "where", `"colour"`},
		{Request{Where: []string{"banner:tall"}}, "where", `no banner "tall"`},
		{Request{Where: []string{"country:Germany"}}, "where", "two letters"},
		{Request{Where: []string{"device:toaster"}}, "where", `no device "toaster"`},
		{Request{Where: []string{"type:view"}}, "where", `no type "view"`},
		{Request{Class: "fine"}, "class", `"fine"`},
		{Request{Zone: "Mars/Base"}, "zone", "IANA"},
		{Request{Zone: "Local"}, "zone", "IANA"},
		{Request{From: "last week"}, "from", "is not a time"},
		{Request{From: "2026-04-01T08:00:30Z"}, "from", "whole minute"},
		{Request{From: "1869-01-01"}, "from", "outside"},
		{Request{From: "2026-04-02", To: "2026-04-01"}, "to", "empty"},
		{Request{Order: []string{"-profits"}}, "order", `"profits"`},
		{Request{Limit: -1}, "limit", "must be"},
	} {
		_, err := s.Report(t.Context(), names, tc.r)
		var bad *BadRequest
		if !errors.As(err, &bad) || bad.Field != tc.field || !strings.Contains(bad.Msg, tc.says) {
			t.Errorf("%+v: %v; want %s: …%s…", tc.r, err, tc.field, tc.says)
		}
	}
}

func TestAnswersSayHowFreshTheyAre(t *testing.T) {
	b := newBench(t)
	names := network(t, 1, "UTC", false)
	halted := []int{}
	s := New(Config{Reader: b, Now: clock("2026-04-02T10:00:05Z"), Halted: func() []int { return halted }})
	if f := ask(t, s, names, Request{}).Fresh; f.AsOf != nil || f.LagMS != 0 || len(f.Lanes) != 0 {
		t.Errorf("an empty ledger is as of %+v", f)
	}
	b.flush(t, 0, time.Date(2026, 4, 2, 10, 0, 4, 0, time.UTC), counted{})
	b.flush(t, 1, time.Date(2026, 4, 2, 10, 0, 2, 0, time.UTC), counted{})
	res := ask(t, s, names, Request{})
	if res.Fresh.LagMS != 3000 || len(res.Fresh.Lanes) != 2 || res.Partial {
		t.Errorf("fresh %+v partial %v", res.Fresh, res.Partial)
	}
	halted = []int{1}
	if res = ask(t, s, names, Request{}); !res.Partial || !res.Fresh.Lanes[1].Halted || res.Fresh.Lanes[0].Halted {
		t.Errorf("fresh %+v partial %v", res.Fresh, res.Partial)
	}
}

// A lane of which nothing is counted yet may have accepted its first events: an answer must not be as of a later time.
func TestALaneThatBeginsHoldsTheAnswerBack(t *testing.T) {
	b := newBench(t)
	names := network(t, 1, "UTC", false)
	folded := time.Date(2026, 4, 2, 10, 0, 0, 0, time.UTC)
	b.flush(t, 0, folded, counted{})
	if _, _, err := b.Acquire(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	now := folded.Add(time.Minute)
	s := New(Config{
		Reader: b, Now: func() time.Time { return now },
		Settled: func(lane int) (uint64, bool) { return 1, true }, // lane 1 has stored a batch that nobody has counted
	})
	if f := ask(t, s, names, Request{}).Fresh; f.AsOf != nil || f.LagMS != 0 {
		t.Errorf("as of %v, lag %d ms", f.AsOf, f.LagMS)
	}
	b.flush(t, 1, folded, counted{})
	if f := ask(t, s, names, Request{}).Fresh; f.AsOf == nil {
		t.Error("it says nothing although every lane is counted")
	}
}

// Log time stands still while nothing happens; an answer that holds everything that was accepted is complete all the same.
// It must never claim more than that, and never go back.
func TestAnAnswerThatHoldsEverythingIsCompleteUpToNow(t *testing.T) {
	b := newBench(t)
	names := network(t, 1, "UTC", false)
	folded := time.Date(2026, 4, 2, 10, 0, 0, 0, time.UTC)
	b.flush(t, 0, folded, counted{})
	stands, now, settled, known := uint64(0), folded, uint64(0), true
	s := New(Config{
		Reader: b, Now: func() time.Time { return now },
		Settled: func(int) (uint64, bool) { return settled, known },
	})
	stands = ask(t, s, names, Request{}).Fresh.Lanes[0].Seq
	for _, tc := range []struct {
		after   time.Duration // of the log's time
		settled uint64
		known   bool
		asOf    time.Duration
	}{
		{56 * time.Second, stands, true, 56 * time.Second},
		{57 * time.Second, stands, false, 56 * time.Second},    // something is on its way
		{58 * time.Second, stands + 2, true, 56 * time.Second}, // it is stored, but not counted yet
		{59 * time.Second, stands + 3, true, 56 * time.Second},
		{50 * time.Second, stands + 3, true, 50 * time.Second}, // the clock was set back
		{60 * time.Second, stands + 3, false, 56 * time.Second},
	} {
		now, settled, known = folded.Add(tc.after), tc.settled, tc.known
		f := ask(t, s, names, Request{}).Fresh
		if got := f.AsOf.Sub(folded); got != tc.asOf || f.LagMS != (tc.after-tc.asOf).Milliseconds() {
			t.Errorf("%v later, settled up to %d, %v: as of %v, lag %d ms", tc.after, tc.settled, tc.known, got, f.LagMS)
		}
	}
	s.halted = func() []int { return []int{0} }
	now, settled, known = folded.Add(time.Minute), stands, true
	if f := ask(t, s, names, Request{}).Fresh; !f.AsOf.Equal(folded.Add(56 * time.Second)) {
		t.Errorf("a lane that has halted is as of %v", f.AsOf)
	}
}

// Sums beyond 64 bits are read again as texts, and all is exact.
func TestSumsBeyondAWordAreExact(t *testing.T) {
	b := newBench(t)
	names := network(t, 1, "UTC", false)
	const n = event.Micros(9_000_000_000_000_000_000)
	var cells []ledger.Cell
	for i := range int32(3) {
		cells = append(cells, ledger.Cell{
			Key:   ledger.Key{Bucket: minuteOf(t, "2026-04-02T10:00:00Z") + i, Tenant: 1, Type: event.Impression, Class: event.Valid, Campaign: 1, Revenue: priceCPM},
			Value: ledger.Value{N: n, Amount: -n, Events: 1},
		})
	}
	cells[2].Campaign = 2
	b.flush(t, 0, time.Date(2026, 4, 2, 10, 5, 0, 0, time.UTC), counted{cells: cells})
	s := New(Config{Reader: b, Now: clock("2026-04-02T10:00:05Z")})
	for by, want := range map[string]string{
		"campaign": "20 9000000000000 -9000000000000.00 22500000000.00, 100 18000000000000 -18000000000000.00 45000000000.00, ",
		"device":   "unknown 27000000000000 -27000000000000.00 67500000000.00, ", // with a text among the columns
	} {
		req := Request{By: []string{by}}
		if by == "device" {
			req.Where = []string{"device:unknown"} // and among the parameters
		}
		res := ask(t, s, names, req)
		res.Fill()
		got := ""
		for _, row := range res.Rows {
			for _, c := range []string{by, "n", "amount", "revenue"} {
				v, _ := row.Get(c)
				got += v.Text + " "
			}
			got = got[:len(got)-1] + ", "
		}
		if got != want {
			t.Errorf("by %s: %s, want %s", by, got, want)
		}
	}
}

func TestAPriceThatIsNotInTheCatalogIsSaid(t *testing.T) {
	b := newBench(t)
	names := network(t, 1, "UTC", false)
	b.flush(t, 0, time.Unix(0, 0), counted{cells: []ledger.Cell{{
		Key:   ledger.Key{Bucket: minuteOf(t, "2026-04-02T10:00:00Z"), Tenant: 1, Type: event.Click, Class: event.Valid, Revenue: 77},
		Value: ledger.Value{N: event.One, Events: 1},
	}}})
	res := ask(t, New(Config{Reader: b, Now: clock("2026-04-02T10:00:05Z")}), names, Request{})
	if len(res.Warnings) != 1 || !strings.Contains(res.Warnings[0], "price 77") {
		t.Errorf("warnings %q", res.Warnings)
	}
}

func TestRelativeRangesAreWidenedWhereQuartersAreCounted(t *testing.T) {
	s, names := scene(t, false)
	res := ask(t, s, names, Request{By: []string{"country"}, From: "-100m", To: "now"})
	if got := res.From.UTC().Format("15:04") + " " + res.To.UTC().Format("15:04"); got != "08:15 10:15" || len(res.Warnings) != 1 {
		t.Errorf("range %s, warnings %q", got, res.Warnings)
	}
}

func TestWhereSplitsAtDimensionsOnly(t *testing.T) {
	for in, want := range map[string]string{
		"campaign:1,affiliate:x":  "campaign:1|affiliate:x",
		"campaign:a,b,campaign:c": "campaign:a,b|campaign:c",
		"sub1:x:y,z:1":            "sub1:x:y,z:1",
		"campaign:1, device:tv":   "campaign:1|device:tv",
	} {
		if got := strings.Join(SplitWhere(in), "|"); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}
