package collect

import (
	"bytes"
	"strconv"
	"strings"
	"time"

	"github.com/zeebo/xxh3"

	"milliard/internal/catalog"
	"milliard/internal/event"
)

// appendQueryEscape appends text percent-encoded for a query value. A space becomes %20, which every reader accepts.
func appendQueryEscape(dst, text []byte) []byte {
	const hex = "0123456789ABCDEF"
	for _, c := range text {
		if unreserved(c) {
			dst = append(dst, c)
		} else {
			dst = append(dst, '%', hex[c>>4], hex[c&15])
		}
	}
	return dst
}

func unreserved(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_' || c == '.' || c == '~'
}

// landingOf chooses where a click goes: the banner's landing, else one of the campaign's by weight, decided by the
// event's own id so that a repeated click lands on the same page.
func landingOf(c *catalog.Campaign, b *catalog.Banner, e *event.Event) (landing string, index int) {
	if b != nil && b.Landing != "" {
		return b.Landing, 0
	}
	total := uint64(0)
	for i := range c.Landings {
		total += weight(&c.Landings[i])
	}
	if total == 0 {
		return c.Fallback, 0
	}
	at := hashID(e) % total
	for i := range c.Landings {
		w := weight(&c.Landings[i])
		if at < w {
			return c.Landings[i].URL, i + 1
		}
		at -= w
	}
	return c.Fallback, 0
}

func weight(l *catalog.Landing) uint64 {
	if l.Weight <= 0 {
		return 1
	}
	return uint64(l.Weight)
}

// hashID spreads events over landings.
func hashID(e *event.Event) uint64 {
	if e.Space == event.Foreign {
		return xxh3.Hash(e.Foreign)
	}
	b := e.ID.Bytes()
	return xxh3.Hash(b[:])
}

// clickFacts is what the macros of a landing URL can name.
type clickFacts struct {
	e         *event.Event
	clickID   []byte // the signed click id
	campaign  *catalog.Campaign
	banner    *catalog.Banner
	affiliate *catalog.Affiliate
	currency  string
	landing   int
	it        *item // sub-ids
	ip        []byte
	ua        []byte
	referrer  []byte
	params    []byte // the query of the click, as it came
	source    []byte
	now       time.Time
}

// appendLanding appends the landing URL with its macros filled in and the click id added, unless a macro placed it.
// Macros are filled in query values only; what stands before the question mark and in the fragment stays as it is.
func appendLanding(dst []byte, landing string, f *clickFacts) []byte {
	head, query, hasQuery := strings.Cut(landing, "?")
	if !hasQuery {
		var fragment string
		head, fragment, hasQuery = strings.Cut(head, "#")
		dst = append(dst, head...)
		dst = appendClickID(dst, '?', f.clickID)
		if hasQuery {
			dst = append(append(dst, '#'), fragment...)
		}
		return dst
	}
	if i := strings.IndexByte(head, '#'); i >= 0 { // the question mark belongs to the fragment
		dst = appendClickID(append(dst, head[:i]...), '?', f.clickID)
		return append(append(append(dst, head[i:]...), '?'), query...)
	}
	dst = append(append(dst, head...), '?')
	start := len(dst)
	placed := false
	i := 0
	for i < len(query) {
		name, used := macroAt(query[i:])
		if used == 0 {
			if query[i] == '#' {
				break // a fragment, not a macro
			}
			dst = append(dst, query[i])
			i++
			continue
		}
		var isID bool
		dst, isID = f.appendMacro(dst, name)
		placed = placed || isID
		i += used
	}
	if !placed {
		sep := byte('&')
		if len(dst) == start || dst[len(dst)-1] == '&' {
			sep = 0
		}
		dst = appendClickID(dst, sep, f.clickID)
	}
	return append(dst, query[i:]...)
}

func appendClickID(dst []byte, sep byte, id []byte) []byte {
	if len(id) == 0 {
		return dst
	}
	if sep != 0 {
		dst = append(dst, sep)
	}
	return append(append(dst, "click_id="...), id...)
}

// macroAt recognises a macro at the start of s in one of four spellings: {name}, #name#, ${NAME} and [NAME]. Square
// brackets take capitals only, because small names and digits in them are how many sites write lists (a[0]=1).
func macroAt(s string) (name string, used int) {
	var open int
	shut := byte('}')
	switch {
	case s[0] == '{':
		open = 1
	case s[0] == '$' && len(s) > 1 && s[1] == '{':
		open = 2
	case s[0] == '#':
		open, shut = 1, '#'
	case s[0] == '[' && len(s) > 1 && s[1] >= 'A' && s[1] <= 'Z':
		open, shut = 1, ']'
	default:
		return "", 0
	}
	end := open
	for end < len(s) && nameByte(s[end], shut == ']') {
		end++
	}
	if end == open || end-open > maxMacro || end == len(s) || s[end] != shut {
		return "", 0
	}
	return s[open:end], end + 1
}

// maxMacro is the longest name of a macro.
const maxMacro = 64

func nameByte(c byte, capitals bool) bool {
	return !capitals && c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '-'
}

// appendMacro appends the value of a macro, percent-encoded; an unknown name is nothing. isID says that it was the
// click id.
func (f *clickFacts) appendMacro(dst []byte, name string) (out []byte, isID bool) {
	var low [maxMacro]byte
	n := copy(low[:], name)
	for i, c := range low[:n] {
		if c >= 'A' && c <= 'Z' {
			low[i] = c | 0x20
		}
	}
	switch string(low[:n]) {
	case "click_id", "transaction_id", "clickid":
		return appendQueryEscape(dst, f.clickID), true
	case "params":
		return appendQueryEscape(dst, withoutToken(f.params)), false
	}
	var buf [32]byte
	return appendQueryEscape(dst, f.value(buf[:0], low[:n])), false
}

// withoutToken drops the signed token from a query: it is nobody's business where the visitor is sent.
func withoutToken(query []byte) []byte {
	var out []byte
	for part := range bytes.SplitSeq(query, []byte{'&'}) {
		if name, _, _ := bytes.Cut(part, []byte{'='}); string(name) == "tk" || len(part) == 0 {
			continue
		}
		if len(out) > 0 {
			out = append(out, '&')
		}
		out = append(out, part...)
	}
	return out
}

// value returns the text of a macro by its lower-case name, not yet encoded.
func (f *clickFacts) value(buf, name []byte) []byte {
	switch string(name) {
	case "affiliate_id", "aff_id":
		if f.affiliate != nil {
			return []byte(f.affiliate.Key)
		}
	case "offer_id", "campaign_id":
		if f.campaign != nil {
			return []byte(f.campaign.Key)
		}
	case "offer_url_id":
		return strconv.AppendInt(buf, int64(f.landing), 10)
	case "advertiser_id":
		return strconv.AppendUint(buf, uint64(f.e.Advertiser), 10)
	case "creative_id", "banner_id":
		if f.banner != nil {
			return []byte(f.banner.Key)
		}
	case "source":
		return f.source
	case "aff_sub":
		return f.it.get(fSub1)
	case "currency":
		return []byte(f.currency)
	case "ip":
		return f.ip
	case "country", "country_code", "geo":
		if f.e.Country != 0 {
			return append(buf, byte(f.e.Country>>8), byte(f.e.Country))
		}
	case "device_type":
		return []byte(f.e.Device.String())
	case "uagent":
		return f.ua
	case "referrer":
		return f.referrer
	case "date", "click_date":
		return f.now.AppendFormat(buf, "2006-01-02")
	case "time":
		return f.now.AppendFormat(buf, "15:04:05")
	case "timestamp":
		return strconv.AppendInt(buf, f.now.Unix(), 10)
	case "rand":
		return strconv.AppendUint(buf, hashID(f.e)>>1, 10)
	default:
		if sub := subField(name); sub != fNone {
			return f.it.get(sub)
		}
		if rest, ok := bytes.CutPrefix(name, []byte("aff_sub")); ok && len(rest) == 1 && rest[0] >= '1' && rest[0] <= '5' {
			return f.it.get(fSub1 + field(rest[0]-'1'))
		}
	}
	return nil // payout, goal and the like are not known at a click
}
