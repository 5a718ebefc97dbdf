package main

import (
	"math/big"
	"strings"
	"testing"

	"milliard/internal/catalog"
)

func TestNetworkIsAValidDocument(t *testing.T) {
	doc, err := catalog.ParseDocument([]byte(network(map[string]string{
		adsTenant: "mk_" + strings.Repeat("A", 43), clicksTenant: "mk_" + strings.Repeat("B", 43),
		salesTenant: "mk_" + strings.Repeat("C", 43), pixelTenant: "mk_" + strings.Repeat("D", 43),
	})))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := catalog.Plan(catalog.Empty(), doc); err != nil {
		t.Fatal(err)
	}
}

func TestForgedTokensDifferFromTheirs(t *testing.T) {
	tokens := []string{"AAAAAAAA", "BBBBBBBB", "CCCCCCCC", "DDDDDDDD", "EEEEEEEE", "FFFFFFFF", "GGGGGGGG", "HHHHHHHH"}
	for i, f := range forged(tokens) {
		if f == tokens[i] || len(f) != len(tokens[i]) || f[len(f)-1] != tokens[i][len(f)-1] {
			t.Errorf("%s became %s", tokens[i], f)
		}
	}
}

func TestSameMoneyAcceptsOneRoundingToTheShownDecimals(t *testing.T) {
	exact := big.NewRat(1_234_567, 100_000) // 12.34567
	for shown, want := range map[string]bool{
		"12.35": true, "12.346": true, "12.34567": true, "12.345670": true,
		"12.34": false, "12.3456": false, "12.3": false, "12.345671": false,
	} {
		x, _ := new(big.Rat).SetString(shown)
		if got := sameMoney(x, exact); got != want {
			t.Errorf("%s for 12.34567: got %v, want %v", shown, got, want)
		}
	}
}

func TestFoldedCountsARepeatedBatchOnce(t *testing.T) {
	heads := []batch{
		{1, "events", "a", 1, 10},
		{2, "events", "a", 1, 10},
		{3, "tick", "a", 2, 0},
		{4, "tallies", "a", 3, 7},
		{5, "events", "b", 1, 5},
		{6, "events", "b", 2, 100},
	}
	if got := folded(heads, 5); got != 15 {
		t.Errorf("got %d, want 15", got)
	}
}

// TestClicksSentAgainMayBeDuplicates: as many as were redirected at risk, and never one more or less than the file has.
func TestClicksSentAgainMayBeDuplicates(t *testing.T) {
	file := &redirectLog{clicks: 12, refused: 2, heartbeats: 3}
	for _, c := range []struct {
		what              string
		valid, duplicates int64
		redirects, atRisk int64
		wrong             string
	}{
		{what: "all at once", valid: 10, redirects: 10},
		{what: "three at risk, all of them counted", valid: 10, duplicates: 3, redirects: 13, atRisk: 3},
		{what: "three at risk, one of them counted", valid: 10, duplicates: 1, redirects: 13, atRisk: 3},
		{what: "a promise sent again", valid: 10, duplicates: 1, redirects: 11, wrong: "clicks sent again"},
		{what: "more duplicates than risks", valid: 10, duplicates: 4, redirects: 13, atRisk: 3, wrong: "clicks sent again"},
		{what: "one lost", valid: 9, redirects: 10, wrong: "click valid"},
		{what: "one doubled", valid: 11, redirects: 10, wrong: "click valid"},
		{what: "a redirect too many", valid: 10, redirects: 11, wrong: "redirects in the client's log"},
	} {
		counted := map[kind]int64{{"click", "valid"}: c.valid}
		if c.duplicates > 0 {
			counted[kind{"click", "duplicate"}] = c.duplicates
		}
		said := &summary{skipped: 3, refused: 2, redirects: c.redirects, answers: c.redirects, atRisk: c.atRisk}
		d := redirected(file, said, &state{events: map[string]map[kind]int64{clicksTenant: counted}})
		switch err := d.err(); {
		case err == nil && c.wrong != "":
			t.Errorf("%s: not found", c.what)
		case err != nil && (c.wrong == "" || !strings.Contains(err.Error(), c.wrong)):
			t.Errorf("%s: %v", c.what, err)
		}
	}
}
