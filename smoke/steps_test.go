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
