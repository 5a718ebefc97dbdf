package catalog

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"milliard/internal/event"
)

// Limits of the catalog.
const (
	MaxKey      = 255 // bytes of a key
	MaxName     = 255 // bytes of a name
	MaxLandings = 100 // per campaign
	MaxAPIKeys  = 10_000
	MinSecret   = 8 // characters of a postback key or secret
	MaxSecret   = 255
	MinAPIKey   = 16 // characters of the secret of an API key

	DefaultClickWindow = 30 * 24 * 60 * 60 // seconds
	maxClickWindow     = 400 * 24 * 60 * 60
	maxWeight          = 1_000_000
	maxPixels          = 100_000
	maxRate            = 1_000_000_000 * event.One
)

// fieldError is a problem with one field.
type fieldError struct {
	field string
	msg   string
}

func (e *fieldError) Error() string { return e.field + ": " + e.msg }

func badField(field, format string, args ...any) error {
	return &fieldError{field: field, msg: fmt.Sprintf(format, args...)}
}

// checkKey checks a key: it is what links, reports and error messages call the entity. Characters that are not seen, such
// as a byte order mark or a change of direction, would make two keys look like one.
func checkKey(key string) error {
	switch {
	case key == "":
		return badField("key", "is required")
	case strings.ContainsFunc(key, func(r rune) bool { return unicode.Is(unicode.Cf, r) }):
		return badField("key", "contains an invisible character")
	case strings.TrimSpace(key) != key:
		return badField("key", "begins or ends with a space")
	}
	return checkText("key", key, MaxKey)
}

func checkText(field, s string, limit int) error {
	switch {
	case len(s) > limit:
		return badField(field, "is longer than %d bytes", limit)
	case !utf8.ValidString(s):
		return badField(field, "is not valid UTF-8")
	case strings.ContainsFunc(s, unicode.IsControl):
		return badField(field, "contains a control character")
	}
	return nil
}

func checkCurrency(s string) error {
	if len(s) != 3 || strings.Trim(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") != "" {
		return badField("currency", "%.20q is not a currency code of three capital letters", s)
	}
	return nil
}

func checkStatus(s Status) error {
	switch s {
	case Active, Paused, Archived:
		return nil
	}
	return badField("status", "%.20q is not active, paused or archived", s)
}

func checkHostName(host string) error {
	if strings.Contains(host, ":") {
		return errors.New("has a port; give the name only")
	}
	if len(host) > 253 {
		return errors.New("is longer than 253 bytes")
	}
	for i := 0; i < len(host); i++ {
		if c := host[i]; !isAlnum(c) && c != '-' && c != '.' && c != '_' {
			return errors.New("is not a host name in ASCII")
		}
	}
	return nil
}

// checkRights returns rights sorted and each once.
func checkRights(rights []Right) ([]Right, error) {
	out := make([]Right, 0, len(rights))
	for _, known := range []Right{RightIngest, RightBackfill, RightRead, RightCatalog} {
		for _, r := range rights {
			if r == known {
				out = append(out, r)
				break
			}
		}
	}
	for i, r := range rights {
		switch r {
		case RightIngest, RightBackfill, RightRead, RightCatalog:
		default:
			return nil, badField(fmt.Sprintf("rights[%d]", i), "%.20q is not ingest, backfill, read or catalog", r)
		}
	}
	if len(out) == 0 {
		return nil, badField("rights", "is required: ingest, backfill, read, catalog")
	}
	return out, nil
}
