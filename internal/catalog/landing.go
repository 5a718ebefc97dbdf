package catalog

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strings"
)

// MaxURL is the longest landing URL in bytes, after encoding.
const MaxURL = 8 << 10

// CheckLanding checks a URL that clicks are sent to and returns it as it will be sent. Only absolute http and https URLs
// with a host name in ASCII (IDNA form) pass: no user-info, no backslash, no control characters, no bare IP address.
// Spaces, other characters that need it and non-ASCII ones in path, query and fragment are percent-encoded. Macros such
// as {click_id}, #clickid#, ${CLICK_ID} or [CLICK_ID] may stand in query values only, where they are left as they are. A
// percent sign that starts no escape becomes %25. The result is parsed again and compared, so that we and the browser
// cannot read it differently.
func CheckLanding(raw string) (string, error) {
	scheme, rest, ok := strings.Cut(raw, "://")
	if raw == "" {
		return "", errors.New("is empty")
	}
	if strings.HasPrefix(raw, "//") {
		return "", errors.New("has no scheme")
	}
	if err := checkCharacters(raw); err != nil {
		return "", err
	}
	if name, _, _ := strings.Cut(raw, ":"); !ok || !isHTTP(scheme) {
		return "", fmt.Errorf("scheme %.20q is not http or https", name)
	}
	end := strings.IndexAny(rest, "/?#")
	if end < 0 {
		end = len(rest)
	}
	host, tail := rest[:end], rest[end:]
	if err := checkHost(host); err != nil {
		return "", err
	}
	path, query, hasQuery := cutQuery(tail)
	if path == "" {
		path = "/"
	}
	out := strings.ToLower(scheme) + "://" + strings.ToLower(host) + encode(path, pathSafe)
	if hasQuery {
		out += "?" + encode(query, querySafe)
	}
	if len(out) > MaxURL {
		return "", fmt.Errorf("is longer than %d bytes", MaxURL)
	}
	return out, sameWhenParsed(out, strings.ToLower(host))
}

// cutQuery splits path and query. A fragment stays at the end of whichever part it is in.
func cutQuery(tail string) (path, query string, ok bool) {
	q := strings.IndexByte(tail, '?')
	if h := strings.IndexByte(tail, '#'); h >= 0 && h < q {
		return tail, "", false // the question mark is part of the fragment
	}
	if q < 0 {
		return tail, "", false
	}
	return tail[:q], tail[q+1:], true
}

func isHTTP(scheme string) bool {
	return strings.EqualFold(scheme, "http") || strings.EqualFold(scheme, "https")
}

func checkCharacters(raw string) error {
	for i := 0; i < len(raw); i++ {
		switch c := raw[i]; {
		case c < 0x20 || c == 0x7f:
			return errors.New("contains a control character")
		case c == '\\':
			return errors.New("contains a backslash")
		}
	}
	lower := strings.ToLower(raw)
	if strings.Contains(lower, "%0d") || strings.Contains(lower, "%0a") || strings.Contains(lower, "%00") {
		return errors.New("contains an encoded control character")
	}
	return nil
}

func checkHost(host string) error {
	if strings.ContainsRune(host, '@') {
		return errors.New("contains user-info")
	}
	name, port, hasPort := strings.Cut(host, ":")
	if strings.HasPrefix(host, "[") {
		return errors.New("host is a bare IP address")
	}
	if hasPort {
		if n, err := netip.ParseAddrPort("127.0.0.1:" + port); err != nil || n.Port() == 0 {
			return fmt.Errorf("port %.10q is not 1 to 65535", port)
		}
	}
	if name == "" || len(name) > 253 {
		return errors.New("has no host")
	}
	for i := 0; i < len(name); i++ {
		c := name[i]
		if c >= 0x80 {
			return errors.New("host is not ASCII; write it in its xn-- form")
		}
		if !isAlnum(c) && c != '-' && c != '.' && c != '_' {
			return fmt.Errorf("host contains %q", string(rune(c)))
		}
	}
	return checkLabels(name)
}

// checkLabels refuses empty labels, and everything a browser would read as an IPv4 address: it does so when the last
// label is a number, in any of the forms 127.1, 2130706433 or 0x7f000001.
func checkLabels(name string) error {
	labels := strings.Split(strings.TrimSuffix(name, "."), ".")
	for _, l := range labels {
		if l == "" || len(l) > 63 {
			return errors.New("host has an empty or overlong label")
		}
	}
	last := strings.ToLower(labels[len(labels)-1])
	digits := strings.TrimLeft(last, "0123456789")
	hex := strings.HasPrefix(last, "0x") && strings.TrimLeft(last[2:], "0123456789abcdef") == ""
	if digits == "" || hex {
		return errors.New("host is a bare IP address")
	}
	return nil
}

func isAlnum(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
}

// Characters that stay as they are, besides letters, digits and escapes. The query keeps what macros are made of.
const (
	pathSafe  = "-._~!$&'()*+,;=:@/#?"
	querySafe = "-._~!$&'()*+,;=:@/#?{}[]"
)

// encode percent-encodes what is not safe. A percent sign that starts no escape becomes %25.
func encode(s, safe string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		c := s[i]
		escape := c == '%' && i+2 < len(s) && isHex(s[i+1]) && isHex(s[i+2])
		if isAlnum(c) || escape || strings.IndexByte(safe, c) >= 0 {
			b.WriteByte(c)
			continue
		}
		fmt.Fprintf(&b, "%%%02X", c)
	}
	return b.String()
}

func isHex(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F'
}

// sameWhenParsed reads the result as the standard library does and checks that host and text come out the same.
func sameWhenParsed(out, host string) error {
	u, err := url.Parse(out)
	if err != nil {
		return errors.New("cannot be parsed as a URL")
	}
	if u.Host != host || u.User != nil || u.Opaque != "" || !isHTTP(u.Scheme) {
		return errors.New("reads differently when parsed again")
	}
	rebuilt := u.Scheme + "://" + u.Host + u.EscapedPath()
	if u.RawQuery != "" || u.ForceQuery {
		rebuilt += "?" + u.RawQuery
	}
	if !strings.HasPrefix(out, rebuilt) {
		return errors.New("reads differently when parsed again")
	}
	return nil
}
