package report

import (
	"net/url"
	"strings"
	"unicode/utf8"

	"milliard/internal/ledger"
)

// The rollup of sub1 holds values as doors write sub-ids: percent-encoded, whatever bytes they are made of. Reports show
// them as they were sent, and filters take what reports show.

// shownSub is what a report shows for a value of the rollup.
func shownSub(stored string) string {
	switch {
	case stored == "":
		return None
	case stored == ledger.OtherValue:
		return stored
	}
	if plain, err := url.QueryUnescape(stored); err == nil && showable(plain) {
		return plain
	}
	return stored
}

// storedSub is the value of the rollup that is shown as s.
func storedSub(s string) string {
	switch {
	case s == None:
		return ""
	case s == ledger.OtherValue || staysEncoded(s):
		return s
	}
	return encodeSub(s)
}

// showable says whether a sub-id can be shown as it was sent. One that is no text, or looks like a word of the report or
// like an encoded one, cannot: every value has a look of its own.
func showable(plain string) bool {
	return plain != "" && plain != None && plain != ledger.OtherValue &&
		utf8.ValidString(plain) && !strings.Contains(plain, "\x00") && !staysEncoded(plain)
}

// staysEncoded says whether s is the encoding of a sub-id that is not shown as it was sent.
func staysEncoded(s string) bool {
	plain, err := url.QueryUnescape(s)
	return err == nil && plain != s && encodeSub(plain) == s && !showable(plain)
}

// encodeSub is the doors' encoding: everything but letters, digits and -_.~ as %XX.
func encodeSub(s string) string {
	return strings.ReplaceAll(url.QueryEscape(s), "+", "%20")
}
