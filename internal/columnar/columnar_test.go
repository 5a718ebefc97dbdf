package columnar_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"milliard/internal/columnar"
)

func TestUintsRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		base := rapid.Uint64().Draw(t, "base")
		span := rapid.SampledFrom([]uint64{0, 1, 255, 256, 65535, 65536, math.MaxUint32, math.MaxUint32 + 1, math.MaxUint64}).Draw(t, "span")
		v := rapid.SliceOf(rapid.Custom(func(t *rapid.T) uint64 {
			return base + rapid.Uint64Range(0, span).Draw(t, "difference")
		})).Draw(t, "v")
		rest := rapid.SliceOf(rapid.Byte()).Draw(t, "rest")
		src := append(columnar.AppendUints([]byte("before"), v), rest...)[len("before"):]
		got, constant, left, err := columnar.Uints(make([]uint64, 3), src, len(v))
		if err != nil || !slices.Equal(got, v) || !bytes.Equal(left, rest) {
			t.Fatalf("%v %v %x", err, got, left)
		}
		same := len(v) == 0 || slices.Min(v) == slices.Max(v)
		if constant != same {
			t.Fatalf("constant %v of %v", constant, v)
		}
	})
}

func TestUintsTakeTheSmallestWidth(t *testing.T) {
	for _, c := range []struct {
		span uint64
		want int
	}{{0, 0}, {1, 1}, {255, 1}, {256, 2}, {65535, 2}, {65536, 4}, {math.MaxUint32, 4}, {math.MaxUint32 + 1, 8}, {math.MaxUint64 - 7, 8}} {
		got := len(columnar.AppendUints(nil, []uint64{7, 7 + c.span, 7})) - 2
		if got != 3*c.want {
			t.Errorf("span %d: %d bytes for three rows", c.span, got)
		}
	}
}

// column makes a string column from row values, the way a builder does.
func column(rows []string, plain bool) *columnar.Strings {
	s := &columnar.Strings{}
	seen := map[string]uint64{}
	for _, r := range rows {
		i, ok := seen[r]
		if !ok || plain {
			i = uint64(len(s.Dict))
			seen[r] = i
			s.Dict = append(s.Dict, []byte(r))
		}
		s.Index = append(s.Index, i)
	}
	return s
}

func TestStringsRoundTrip(t *testing.T) {
	var got columnar.Strings // reused, as readers do
	rapid.Check(t, func(t *rapid.T) {
		value := rapid.OneOf(rapid.StringN(0, 3, 3), rapid.StringN(0, 300, 300), rapid.Just(""))
		rows := rapid.SliceOf(value).Draw(t, "rows")
		rest := rapid.SliceOf(rapid.Byte()).Draw(t, "rest")
		src := append(columnar.AppendStrings(nil, column(rows, rapid.Bool().Draw(t, "plain"))), rest...)
		left, err := columnar.DecodeStrings(&got, src, len(rows))
		if err != nil || !bytes.Equal(left, rest) {
			t.Fatalf("%v, %x left", err, left)
		}
		for i, r := range rows {
			if string(got.Row(i)) != r {
				t.Fatalf("row %d: %q, not %q", i, got.Row(i), r)
			}
		}
	})
}

func TestAnAbsentColumnIsOneByte(t *testing.T) {
	var s columnar.Strings
	src := columnar.AppendStrings(nil, &s)
	if len(src) != 1 {
		t.Fatalf("%x", src)
	}
	if _, err := columnar.DecodeStrings(&s, src, 1000); err != nil || s.Row(999) != nil {
		t.Fatalf("%v %q", err, s.Row(999))
	}
}

func TestHostileLengthsAreRefused(t *testing.T) {
	huge := binary.AppendUvarint(nil, math.MaxUint64)
	for name, src := range map[string][]byte{
		"nothing":               {},
		"base without width":    {1},
		"endless base":          bytes.Repeat([]byte{0xff}, 20),
		"width 3":               append([]byte{0, 3}, make([]byte, 30)...),
		"width 255":             append([]byte{0, 255}, make([]byte, 300)...),
		"fewer bytes than rows": {0, 8, 1, 2, 3},
	} {
		if _, _, _, err := columnar.Uints(nil, src, 10); !errors.Is(err, columnar.ErrCorrupt) {
			t.Errorf("integers, %s: %v", name, err)
		}
	}
	for _, n := range []int{-1, columnar.MaxRows + 1, math.MaxInt} {
		if _, _, _, err := columnar.Uints(nil, []byte{1, 0}, n); !errors.Is(err, columnar.ErrCorrupt) {
			t.Errorf("%d rows of integers: %v", n, err)
		}
		if _, err := columnar.DecodeStrings(new(columnar.Strings), []byte{0}, n); !errors.Is(err, columnar.ErrCorrupt) {
			t.Errorf("%d rows of strings: %v", n, err)
		}
	}
	for name, src := range map[string][]byte{
		"nothing":                    {},
		"huge dictionary":            huge,
		"huge entry":                 append([]byte{1}, huge...),
		"entries longer than source": {2, 5, 5, 'a', 'b'},
		"overflow of entry lengths":  append(append([]byte{2}, huge...), huge...),
		"no index":                   {2, 1, 1, 'a', 'b'},
		"unknown form":               {2, 1, 1, 'a', 'b', 9},
		"plain, but not per row":     {2, 1, 1, 'a', 'b', 1},
		"index beyond dictionary":    {2, 1, 1, 'a', 'b', 0, 2, 0},
	} {
		if _, err := columnar.DecodeStrings(new(columnar.Strings), src, 10); !errors.Is(err, columnar.ErrCorrupt) {
			t.Errorf("strings, %s: %v", name, err)
		}
	}
}

func FuzzUints(f *testing.F) {
	f.Add(columnar.AppendUints(nil, []uint64{1, 2, 300}), 3)
	f.Add([]byte{0, 8}, 1<<20)
	f.Fuzz(func(t *testing.T, src []byte, n int) {
		v, _, rest, err := columnar.Uints(nil, src, n)
		if err != nil {
			return
		}
		again, _, left, err := columnar.Uints(nil, columnar.AppendUints(nil, v), n)
		if len(v) != n || len(rest) > len(src) || err != nil || len(left) != 0 || !slices.Equal(v, again) {
			t.Fatalf("%d rows, %v", len(v), err)
		}
	})
}

func FuzzStrings(f *testing.F) {
	f.Add(columnar.AppendStrings(nil, column([]string{"a", "", "a", "bc"}, false)), 4)
	f.Add(columnar.AppendStrings(nil, column([]string{"a", "b"}, true)), 2)
	f.Fuzz(func(t *testing.T, src []byte, n int) {
		var s, again columnar.Strings
		rest, err := columnar.DecodeStrings(&s, src, n)
		if err != nil {
			return
		}
		if len(rest) > len(src) {
			t.Fatal("more came out than went in")
		}
		if left, err := columnar.DecodeStrings(&again, columnar.AppendStrings(nil, &s), n); err != nil || len(left) != 0 {
			t.Fatalf("again: %v, %d left", err, len(left))
		}
		for i := range n {
			if !bytes.Equal(s.Row(i), again.Row(i)) {
				t.Fatalf("row %d", i)
			}
		}
	})
}

func BenchmarkUints(b *testing.B) {
	for _, c := range []struct {
		name string
		step uint64
	}{{"constant", 0}, {"1 byte", 1}, {"4 bytes", 1 << 16}, {"8 bytes", 1 << 40}} {
		v := make([]uint64, 4096)
		for i := range v {
			v[i] = 1<<50 + uint64(i%200)*c.step
		}
		buf := columnar.AppendUints(nil, v)
		b.Run("append "+c.name, func(b *testing.B) {
			for b.Loop() {
				buf = columnar.AppendUints(buf[:0], v)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(v)), "ns/row")
		})
		b.Run("decode "+c.name, func(b *testing.B) {
			for b.Loop() {
				if _, _, _, err := columnar.Uints(v, buf, len(v)); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(v)), "ns/row")
		})
	}
}
