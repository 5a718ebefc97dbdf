package collect

import (
	"math"
	"net/netip"
	"time"

	"milliard/internal/event"
)

// Conversions from a sender's text to our types. Each returns what is wrong as a message; an empty message is success.
// None of them allocates on success.

// Bounds of what one event may carry. They keep any sum of a cell far below the range of int64 millionths.
const (
	maxIncrement = 10_000_000 * event.One
	maxAmount    = 1_000_000_000 * event.One
)

// The times that an event may claim, unix milliseconds: a number outside them is a unit mistake or a broken clock.
const (
	minEventTime = 946_684_800_000   // 2000-01-01
	maxEventTime = 4_102_444_800_000 // 2100-01-01
)

// toTime reads RFC 3339 text or whole unix milliseconds.
func toTime(text []byte, number bool) (int64, string) {
	if number || allDigits(text) {
		ms, ok := toInt(text)
		if !ok {
			return 0, "expected whole unix milliseconds or RFC 3339"
		}
		return checkTime(ms)
	}
	ms, ok := toRFC3339(text)
	if !ok {
		return 0, "expected RFC 3339 such as 2026-04-01T12:30:00Z, or unix milliseconds"
	}
	if ms < minEventTime || ms >= maxEventTime {
		return 0, "is not between the years 2000 and 2100"
	}
	return ms, ""
}

func checkTime(ms int64) (int64, string) {
	switch {
	case ms >= minEventTime && ms < maxEventTime:
		return ms, ""
	case ms >= minEventTime/1000 && ms < maxEventTime/1000:
		return 0, "looks like unix seconds; send milliseconds"
	case ms >= minEventTime*1000:
		return 0, "looks like unix micro- or nanoseconds; send milliseconds"
	}
	return 0, "is not between the years 2000 and 2100"
}

func allDigits(b []byte) bool {
	if len(b) > 0 && b[0] == '-' {
		b = b[1:]
	}
	for _, c := range b {
		if c < '0' || c > '9' {
			return false
		}
	}
	return len(b) > 0
}

// toInt reads a whole decimal number that fits int64.
func toInt(text []byte) (int64, bool) {
	neg := len(text) > 0 && text[0] == '-'
	if neg {
		text = text[1:]
	}
	if len(text) == 0 || len(text) > 18 {
		return 0, false
	}
	var v int64
	for _, c := range text {
		if c < '0' || c > '9' {
			return 0, false
		}
		v = v*10 + int64(c-'0')
	}
	if neg {
		v = -v
	}
	return v, true
}

// toRFC3339 reads a timestamp to the millisecond. A leap second counts as the second after it.
func toRFC3339(b []byte) (int64, bool) {
	if len(b) < 20 || len(b) > 40 || b[4] != '-' || b[7] != '-' || b[13] != ':' || b[16] != ':' {
		return 0, false
	}
	if c := b[10]; c != 'T' && c != 't' && c != ' ' {
		return 0, false
	}
	year, ok0 := digits(b[0:4])
	month, ok1 := digits(b[5:7])
	day, ok2 := digits(b[8:10])
	hour, ok3 := digits(b[11:13])
	minute, ok4 := digits(b[14:16])
	second, ok5 := digits(b[17:19])
	if !(ok0 && ok1 && ok2 && ok3 && ok4 && ok5) || month < 1 || month > 12 || day < 1 || hour > 23 || minute > 59 ||
		second > 60 {
		return 0, false
	}
	milli, rest, ok := fraction(b[19:])
	if !ok {
		return 0, false
	}
	offset, ok := zoneOffset(rest)
	if !ok {
		return 0, false
	}
	t := time.Date(year, time.Month(month), day, hour, minute, second, 0, time.UTC)
	if second < 60 && t.Day() != day {
		return 0, false // 31 April
	}
	return t.UnixMilli() + int64(milli) - int64(offset)*60_000, true
}

func digits(b []byte) (int, bool) {
	n := 0
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int(c-'0')
	}
	return n, true
}

// fraction reads ".123456" as milliseconds, cutting the rest.
func fraction(b []byte) (milli int, rest []byte, ok bool) {
	if len(b) == 0 || b[0] != '.' {
		return 0, b, true
	}
	b = b[1:]
	scale, n := 100, 0
	for n < len(b) && b[n] >= '0' && b[n] <= '9' {
		milli += int(b[n]-'0') * scale
		scale /= 10
		n++
	}
	return milli, b[n:], n > 0
}

// zoneOffset reads Z or ±hh:mm as minutes east of UTC.
func zoneOffset(b []byte) (int, bool) {
	if len(b) == 1 && b[0]|0x20 == 'z' {
		return 0, true
	}
	if len(b) != 6 || b[3] != ':' || b[0] != '+' && b[0] != '-' {
		return 0, false
	}
	h, ok0 := digits(b[1:3])
	m, ok1 := digits(b[4:6])
	if !ok0 || !ok1 || h > 23 || m > 59 {
		return 0, false
	}
	if b[0] == '-' {
		return -(h*60 + m), true
	}
	return h*60 + m, true
}

// toMicros reads a decimal, with an exponent when it is a JSON literal, as exact millionths.
func toMicros(text []byte) (event.Micros, string) {
	const notNumber, tooFine, tooBig = "is not a decimal number", "has more than six decimals", "is out of range"
	i := 0
	neg := false
	if i < len(text) && (text[i] == '-' || text[i] == '+') {
		neg = text[i] == '-'
		i++
	}
	var mantissa uint64
	scale, seen, dot := 0, false, false
	for ; i < len(text); i++ {
		c := text[i]
		if c == '.' && !dot {
			dot = true
			continue
		}
		if c < '0' || c > '9' {
			break
		}
		seen = true
		if dot {
			if trailingZeros(text[i:]) {
				continue // zeros at the end say nothing
			}
			scale--
		}
		if mantissa > (math.MaxInt64-9)/10 {
			return 0, tooBig
		}
		mantissa = mantissa*10 + uint64(c-'0')
	}
	if !seen {
		return 0, notNumber
	}
	if i < len(text) {
		if text[i]|0x20 != 'e' {
			return 0, notNumber
		}
		exp := text[i+1:]
		if len(exp) > 0 && exp[0] == '+' {
			exp = exp[1:]
		}
		e, ok := toInt(exp)
		if !ok {
			return 0, notNumber
		}
		scale += int(max(min(e, 1000), -1000))
	}
	for scale += 6; scale > 0 && mantissa != 0; scale-- {
		if mantissa > math.MaxInt64/10 {
			return 0, tooBig
		}
		mantissa *= 10
	}
	for ; scale < 0 && mantissa != 0; scale++ {
		if mantissa%10 != 0 {
			return 0, tooFine
		}
		mantissa /= 10
	}
	if neg {
		return -event.Micros(mantissa), ""
	}
	return event.Micros(mantissa), ""
}

// trailingZeros says whether b, up to an exponent, is only zeros.
func trailingZeros(b []byte) bool {
	for _, c := range b {
		if c|0x20 == 'e' {
			return true
		}
		if c != '0' {
			return false
		}
	}
	return true
}

// toIncrement reads n.
func toIncrement(text []byte) (event.Micros, string) {
	n, msg := toMicros(text)
	if msg != "" {
		return 0, msg
	}
	return checkIncrement(n)
}

func checkIncrement(n event.Micros) (event.Micros, string) {
	switch {
	case n < 0:
		return 0, "must not be negative"
	case n > maxIncrement:
		return 0, "must not be above 10000000"
	}
	return n, ""
}

// toAmount reads an amount of money.
func toAmount(text []byte) (event.Micros, string) {
	a, msg := toMicros(text)
	if msg != "" {
		return 0, msg
	}
	return checkAmount(a)
}

func checkAmount(a event.Micros) (event.Micros, string) {
	switch {
	case a < 0:
		return 0, "must not be negative"
	case a > maxAmount:
		return 0, "must not be above 1000000000"
	}
	return a, ""
}

// toRow reads the row number of an import: 0 … 2^40-1.
func toRow(text []byte) (uint64, string) {
	n, ok := toInt(text)
	if !ok {
		n = -1
	}
	return checkRow(n)
}

func checkRow(n int64) (uint64, string) {
	if n < 0 || n >= 1<<40 {
		return 0, "expected a whole number from 0 to 1099511627775"
	}
	return uint64(n), ""
}

// toImportID reads 32 hex digits.
func toImportID(text []byte) (id event.ImportID, ok bool) {
	if len(text) != 2*len(id) {
		return id, false
	}
	for i := range id {
		hi, ok0 := hexDigit(text[2*i])
		lo, ok1 := hexDigit(text[2*i+1])
		if !ok0 || !ok1 {
			return event.ImportID{}, false
		}
		id[i] = hi<<4 | lo
	}
	return id, !id.IsZero()
}

func hexDigit(c byte) (byte, bool) {
	switch {
	case c >= '0' && c <= '9':
		return c - '0', true
	case c|0x20 >= 'a' && c|0x20 <= 'f':
		return c | 0x20 - 'a' + 10, true
	}
	return 0, false
}

// toCountry reads two letters; "unknown" and nothing are unknown.
func toCountry(text []byte) (event.Country, string) {
	if len(text) == 0 || string(text) == "unknown" {
		return 0, ""
	}
	if len(text) == 2 {
		a, b := text[0]&^0x20, text[1]&^0x20
		if a >= 'A' && a <= 'Z' && b >= 'A' && b <= 'Z' {
			return event.Country(a)<<8 | event.Country(b), ""
		}
	}
	return 0, "expected two letters of ISO 3166"
}

// toDevice reads a device class.
func toDevice(text []byte) event.Device {
	switch string(text) {
	case "", "unknown":
		return event.DeviceUnknown
	case "desktop":
		return event.DeviceDesktop
	case "mobile":
		return event.DeviceMobile
	case "tablet":
		return event.DeviceTablet
	case "tv":
		return event.DeviceTV
	case "bot":
		return event.DeviceBot
	}
	return event.DeviceOther
}

// toAddr reads an address in any of the usual spellings; a zone is dropped and a mapped address is IPv4.
func toAddr(text []byte) (netip.Addr, bool) {
	if len(text) == 0 || len(text) > 64 {
		return netip.Addr{}, false
	}
	if addr, ok := toIPv4(text); ok {
		return addr, true
	}
	addr, err := netip.ParseAddr(string(text))
	if err != nil {
		return netip.Addr{}, false
	}
	return addr.WithZone("").Unmap(), true
}

// toIPv4 reads the usual form without allocating; everything else is left to netip.
func toIPv4(text []byte) (netip.Addr, bool) {
	var a [4]byte
	part, value, length := 0, 0, 0
	for _, c := range text {
		switch {
		case c >= '0' && c <= '9' && (length == 0 || value > 0) && length < 3:
			value = value*10 + int(c-'0')
			length++
		case c == '.' && length > 0 && value <= 255 && part < 3:
			a[part] = byte(value)
			part++
			value, length = 0, 0
		default:
			return netip.Addr{}, false
		}
	}
	if part != 3 || length == 0 || value > 255 {
		return netip.Addr{}, false
	}
	a[3] = byte(value)
	return netip.AddrFrom4(a), true
}

// sameCurrency says whether a sender's currency is ours.
func sameCurrency(text []byte, ours string) bool {
	if len(text) != len(ours) {
		return false
	}
	for i, c := range text {
		if c >= 'a' && c <= 'z' {
			c -= 'a' - 'A'
		}
		if c != ours[i] {
			return false
		}
	}
	return true
}
