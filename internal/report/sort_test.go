package report

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// The two ways to sort must agree: by places, and by comparing what stands in the columns.
func TestLinesAreSortedAlikeByPlacesAndByComparing(t *testing.T) {
	names := monthNames(t)
	rapid.Check(t, func(t *rapid.T) {
		q := &Query{grain: Hour, grainAt: 1, dims: []Dim{Campaign, Affiliate, Device}, rollup: Device}
		q.columns = q.makeColumns()
		var words []string
		for range rapid.IntRange(0, 3).Draw(t, "columns") {
			c := rapid.SampledFrom(q.columns).Draw(t, "column")
			words = append(words, rapid.SampledFrom([]string{"", "-"}).Draw(t, "direction")+c.name)
		}
		if err := q.parseOrder(words); err != nil {
			t.Fatal(err)
		}
		m := &merger{q: q, names: names, numbers: map[string]uint32{}, labels: map[[2]int64]string{}}
		var lines []*line
		for range rapid.IntRange(0, 40).Draw(t, "lines") {
			few := rapid.Uint32Range(0, 3)
			l := &line{key: lineKey{time: rapid.Int64Range(-2, 2).Draw(t, "time"), offset: 60 * int32(few.Draw(t, "offset"))}}
			l.key.ids[Campaign], l.key.ids[Affiliate] = few.Draw(t, "campaign"), rapid.SampledFrom([]uint32{0, 7, 300, 9_999, 1 << 20, 1 << 31}).Draw(t, "affiliate")
			if s := rapid.SampledFrom([]string{"", "desktop", "12", "-3"}).Draw(t, "value"); s != "" {
				l.key.value = m.number(s)
			}
			l.key.currency = m.number(rapid.SampledFrom([]string{"EUR", "USD"}).Draw(t, "currency"))
			l.impressions, l.clicks = wideOf(int64(few.Draw(t, "impressions"))*1_000_000), wideOf(rapid.Int64().Draw(t, "clicks"))
			l.revenue = product(rapid.Int64().Draw(t, "rate"), l.clicks, 1)
			lines = append(lines, l)
		}
		byPlaces, compared := slices.Clone(lines), slices.Clone(lines)
		m.sortCompared(compared)
		shows := func(l *line) lineKey { // two names of one instant are the same
			k := l.key
			k.time, k.offset = m.timeOf(&column{grain: true}, l), 0
			return k
		}
		if m.sortPlaces(byPlaces) {
			for i, l := range byPlaces {
				if shows(l) != shows(compared[i]) {
					t.Fatalf("%v: line %d is %+v, comparing says %+v", words, i, l, compared[i])
				}
			}
		}
	})
}
