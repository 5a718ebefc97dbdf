package event_test

import (
	"math"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"milliard/internal/event"
)

func TestMicros(t *testing.T) {
	for _, c := range []struct {
		in   string
		want event.Micros
		text string
	}{
		{"0", 0, "0"},
		{"1", event.One, "1"},
		{"-12", -12 * event.One, "-12"},
		{"0.55", 550_000, "0.55"},
		{"142919.60", 142_919_600_000, "142919.6"},
		{"+1.000001", 1_000_001, "1.000001"},
		{".5", 500_000, "0.5"},
		{"1.5000000000", 1_500_000, "1.5"},
		{"-0", 0, "0"},
		{"000001", event.One, "1"},
		{"9223372036854.775807", math.MaxInt64, "9223372036854.775807"},
		{"-9223372036854.775808", math.MinInt64, "-9223372036854.775808"},
	} {
		got, err := event.ParseMicros(c.in)
		if err != nil || got != c.want || got.String() != c.text {
			t.Errorf("%q: %d %q, %v", c.in, got, got.String(), err)
		}
	}
	for _, in := range []string{
		"", "-", "+", ".", "-.", "1e3", "1,5", "1 ", " 1", "0x1", "1.0000001", "1..2", "1.2.3", "--1", "NaN", "Inf", "٣",
		"9223372036854.775808", "-9223372036854.775809", "9223372036855", "99999999999999999999", strings.Repeat("9", 1000),
	} {
		if got, err := event.ParseMicros(in); err == nil {
			t.Errorf("%q was read as %v", in, got)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		m := event.Micros(rapid.Int64().Draw(t, "m"))
		if got, err := event.ParseMicros(m.String()); err != nil || got != m {
			t.Fatalf("%d: %q, %d, %v", m, m.String(), got, err)
		}
	})
}

func FuzzParseMicros(f *testing.F) {
	f.Add("-12.5")
	f.Fuzz(func(t *testing.T, s string) {
		m, err := event.ParseMicros(s)
		if err != nil {
			return
		}
		if again, err := event.ParseMicros(m.String()); err != nil || again != m {
			t.Fatalf("%q: %d, again %d, %v", s, m, again, err)
		}
	})
}

func TestMintedIDHoldsItsParts(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		at := rapid.Int64Range(0, 1<<48-1).Draw(t, "time")
		slot := uint16(rapid.IntRange(0, event.Slots-1).Draw(t, "slot"))
		minter := rapid.Uint32Range(0, 1<<24-1).Draw(t, "minter")
		counter := rapid.Uint64Range(0, 1<<40-1).Draw(t, "counter")
		id := event.NewMintedID(at, slot, minter, counter)
		if id.UnixMilli() != at || id.Slot() != slot || id.Minter() != minter || id.Counter() != counter || !id.Wellformed() {
			t.Fatalf("%v", id)
		}
		if event.MintedIDFromBytes(id.Bytes()) != id {
			t.Fatal("bytes")
		}
		for _, text := range []string{id.String(), strings.ReplaceAll(id.String(), "-", ""), strings.ToUpper(id.String())} {
			if got, ok := event.ParseMintedID(text); !ok || got != id {
				t.Fatalf("%q: %v", text, got)
			}
		}
	})
	for _, bad := range []string{"", "x", strings.Repeat("0", 32), strings.Repeat("g", 32), "00000000-0000-4000-8000-000000000000"} {
		if _, ok := event.ParseMintedID(bad); ok {
			t.Errorf("%q is an id", bad)
		}
	}
}

func TestNamesRoundTrip(t *testing.T) {
	for _, c := range event.Classes() {
		if got, ok := event.ParseClass(c.String()); !ok || got != c {
			t.Errorf("%v: %v %v", c, got, ok)
		}
	}
	if _, ok := event.ParseClass("no such class"); ok {
		t.Error("an unknown class was found")
	}
	for d := event.DeviceDesktop; d <= event.DeviceOther; d++ {
		if got := event.ParseDevice(d.String()); got != d {
			t.Errorf("%v: %v", d, got)
		}
	}
	if event.ParseDevice("") != event.DeviceUnknown || event.ParseDevice("fridge") != event.DeviceOther {
		t.Error("unknown devices")
	}
	for in, want := range map[string]string{"de": "DE", "Us": "US", "": "unknown", "d": "unknown", "d1": "unknown", "deu": "unknown", "\x00\x00": "unknown"} {
		if got := event.ParseCountry(in).String(); got != want {
			t.Errorf("%q: %q", in, got)
		}
	}
}
