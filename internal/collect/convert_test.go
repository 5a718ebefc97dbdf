package collect

import (
	"net/netip"
	"testing"
	"time"

	"pgregory.net/rapid"

	"milliard/internal/event"
)

func TestSipHashVector(t *testing.T) {
	// The vector of the authors' paper: key 00…0f, message 00…0f is the 16th of their table.
	var key, msg [16]byte
	for i := range key {
		key[i], msg[i] = byte(i), byte(i)
	}
	if got := sip(key, msg); got != 0x3f2acc7f57c29bdb {
		t.Errorf("%x", got)
	}
}

func TestToMicros(t *testing.T) {
	for text, want := range map[string]event.Micros{
		"0": 0, "-0": 0, "1": 1_000_000, "0.55": 550_000, ".5": 500_000, "142919.60": 142_919_600_000, "1e3": 1_000_000_000,
		"15e-1": 1_500_000, "1.0e-6": 1, "0e999999": 0, "1.000000000000": 1_000_000, "-2.5": -2_500_000, "1E+2": 100_000_000,
		"922337203685.477580": 922_337_203_685_477_580, "0.000001": 1, "00012": 12_000_000, "1.10e0": 1_100_000,
	} {
		if got, msg := toMicros([]byte(text)); msg != "" || got != want {
			t.Errorf("%s: %d %s, want %d", text, got, msg, want)
		}
	}
	for _, text := range []string{
		"", "-", ".", "1,00", "1 ", " 1", "1e", "1e+", "e5", "NaN", "1e400", "1e-7", "0.0000001", "9223372036854.775808",
		"99999999999999999999", "1e19", "0x1", "1_000", "1.2.3", "--1", "1e5.5", "∞",
	} {
		if got, msg := toMicros([]byte(text)); msg == "" {
			t.Errorf("%q: accepted as %d", text, got)
		}
	}
}

func TestToMicrosReadsWhatMicrosWrites(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := event.Micros(rapid.Int64Range(-1<<62, 1<<62).Draw(t, "m"))
		if got, msg := toMicros([]byte(m.String())); msg != "" || got != m {
			t.Fatalf("%s: %d %s", m, got, msg)
		}
	})
}

func TestToRFC3339(t *testing.T) {
	for text, want := range map[string]string{
		"2026-04-01T12:30:00Z":           "2026-04-01T12:30:00Z",
		"2026-04-01 12:30:00+03:00":      "2026-04-01T09:30:00Z",
		"2026-04-01T00:30:00.123456789Z": "2026-04-01T00:30:00.123Z",
		"2016-12-31T23:59:60Z":           "2017-01-01T00:00:00Z",
		"2024-02-29T00:00:00-00:30":      "2024-02-29T00:30:00Z",
	} {
		at, err := time.Parse(time.RFC3339, want)
		if err != nil {
			t.Fatal(err)
		}
		if ms, ok := toRFC3339([]byte(text)); !ok || ms != at.UnixMilli() {
			t.Errorf("%s: %v %v", text, time.UnixMilli(ms).UTC(), ok)
		}
	}
	for _, text := range []string{
		"2026-02-29T00:00:00Z", "2026-04-31T00:00:00Z", "2026-00-01T00:00:00Z", "2026-13-01T00:00:00Z", "2026-04-01T24:00:00Z",
		"2026-04-01T00:60:00Z", "2026-04-01T00:00:61Z", "2026-04-01T00:00:00", "2026-04-01T00:00:00.Z", "2026-04-01T00:00:00+3:00",
		"2026-04-01T00:00:00+24:00", "2026-04-01", "20260401T000000Z", "2026-04-01T00:00:00Zx", "2026-04-00T00:00:00Z",
	} {
		if ms, ok := toRFC3339([]byte(text)); ok {
			t.Errorf("%s: accepted as %v", text, time.UnixMilli(ms).UTC())
		}
	}
}

func TestToAddrAgreesWithTheStandardLibrary(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringMatching(`[0-9]{0,4}(\.[0-9]{0,4}){0,4}|[0-9a-f:.]{0,20}`).Draw(t, "address")
		got, ok := toAddr([]byte(text))
		want, err := netip.ParseAddr(text)
		if ok != (err == nil) || ok && got != want.Unmap() {
			t.Fatalf("%q: %v %v, want %v %v", text, got, ok, want, err)
		}
	})
}

func TestFieldNames(t *testing.T) {
	for f := range fieldCount {
		if got := fieldOf([]byte(f.name())); got != f || f.name() == "" {
			t.Errorf("field %d %q reads as %d", f, f.name(), got)
		}
	}
}

func TestDevices(t *testing.T) {
	c := newDevices(4)
	for ua, want := range map[string]event.Device{
		"": event.DeviceUnknown,
		"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.0.0 Safari/537.36":                         event.DeviceDesktop,
		"Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.0 Mobile/15E148 Safari/604.1": event.DeviceMobile,
		"Mozilla/5.0 (iPad; CPU OS 16_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/16.0 Mobile/15E148 Safari/604.1":          event.DeviceTablet,
		"Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)":                                                                event.DeviceBot,
		"Mozilla/5.0 (Web0S; Linux/SmartTV) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/79.0.3945.79 Safari/537.36 WebAppManager":               event.DeviceTV,
		"something else": event.DeviceOther,
	} {
		for range 3 { // parsed, young, old
			if got := c.of([]byte(ua)); got != want {
				t.Errorf("%q: %v, want %v", ua, got, want)
			}
		}
	}
	for i := range 100 {
		c.of([]byte{byte('a' + i%26), byte(i)})
	}
	if len(c.young)+len(c.old) > 2*c.capacity {
		t.Errorf("%d remembered", len(c.young)+len(c.old))
	}
}
