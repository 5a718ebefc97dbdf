package report

import (
	"math/big"
	"testing"

	"pgregory.net/rapid"
)

func TestMoneyInWordsIsMoneyInBigNumbers(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		scale := rapid.SampledFrom([]uint64{1, 10, 1_000, 1_000_000, 1_000_000_000}).Draw(t, "scale")
		sum, want := money15{}, new(big.Int)
		for range rapid.IntRange(1, 6).Draw(t, "terms") {
			a, b := rapid.Int64().Draw(t, "a"), wideOf(rapid.Int64().Draw(t, "b"))
			if rapid.IntRange(0, 9).Draw(t, "wide") == 0 {
				b.hi = rapid.Int64Range(-1<<40, 1<<40).Draw(t, "high")
			}
			x := new(big.Int).Mul(big.NewInt(a), b.big())
			x.Mul(x, new(big.Int).SetUint64(scale))
			p := product(a, b, scale)
			if p.whole().Cmp(x) != 0 {
				t.Fatalf("%d times %s times %d: %s", a, b.big(), scale, p.whole())
			}
			if rapid.Bool().Draw(t, "less") {
				sum, want = sum.minus(&p), want.Sub(want, x)
				continue
			}
			sum.add(&p)
			want = want.Add(want, x)
		}
		if sum.whole().Cmp(want) != 0 {
			t.Fatalf("sum %s, want %s", sum.whole(), want)
		}
		if got, exact := sum.rounded(), divHalfEven(want, pow10(moneyScale-microsScale)); got.whole().Cmp(exact) != 0 {
			t.Fatalf("%s rounded: %s, want %s", want, got.whole(), exact)
		}
		by := wide{rapid.Int64Range(0, 1).Draw(t, "by high"), rapid.Uint64Range(1, 1<<63).Draw(t, "by")}
		for _, scale := range []int{moneyScale, moneyScale - 3} {
			if got, exact := moneyRatio(&sum, scale, by), ratio(want, scale, by.big()); got.whole().Cmp(exact) != 0 {
				t.Fatalf("%s by %s: %s, want %s", want, by.big(), got.whole(), exact)
			}
		}
	})
}
