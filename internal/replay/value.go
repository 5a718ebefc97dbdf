package replay

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"milliard/internal/event"
)

// cell is what a row has in one column.
type cell struct {
	text    string
	present bool
}

// table gives every column that a map uses a number, so that rows are slices and not maps.
type table struct {
	names []string
	at    map[string]int
}

func (t *table) column(name string) int {
	if i, ok := t.at[name]; ok {
		return i
	}
	if t.at == nil {
		t.at = map[string]int{}
	}
	t.at[name] = len(t.names)
	t.names = append(t.names, name)
	return len(t.names) - 1
}

func (t *table) columns(names []string) []int {
	out := make([]int, 0, len(names))
	for _, n := range names {
		out = append(out, t.column(n))
	}
	return out
}

// getter makes the raw text of a value from a row.
type getter func(row []cell) (string, error)

// step changes a text.
type step func(s string) (string, error)

// errUnmapped is wrapped by the error of a value that a translation does not list.
var errUnmapped = errors.New("is not mapped")

// value is an executable Value.
type value struct {
	get    getter
	steps  []step
	orelse string
	fixed  bool // a constant
}

func (v *value) eval(row []cell) (string, error) {
	s, err := v.get(row)
	if err != nil {
		return "", err
	}
	for _, do := range v.steps {
		if s == "" {
			break
		}
		if s, err = do(s); err != nil {
			return "", err
		}
	}
	if s == "" {
		return v.orelse, nil
	}
	return s, nil
}

func compileValue(t *table, v *Value) (*value, error) {
	out := &value{orelse: v.Orelse, fixed: v.Const != nil}
	var err error
	if out.get, err = compileSource(t, v); err != nil {
		return nil, err
	}
	add := func(s step) { out.steps = append(out.steps, s) }
	if len(v.Empty) > 0 {
		empty := slices.Clone(v.Empty)
		add(func(s string) (string, error) {
			if slices.Contains(empty, s) {
				return "", nil
			}
			return s, nil
		})
	}
	if v.JSON != "" {
		path, err := parsePath(v.JSON)
		if err != nil {
			return nil, err
		}
		add(path.get)
	}
	if len(v.Query) > 0 {
		names := slices.Clone(v.Query)
		add(func(s string) (string, error) { return queryParameter(s, names), nil })
	}
	if v.URL != "" {
		part, err := urlPart(v.URL)
		if err != nil {
			return nil, err
		}
		add(part)
	}
	if v.Regexp != "" {
		re, err := regexp.Compile(v.Regexp)
		if err != nil {
			return nil, fmt.Errorf("regexp: %w", err)
		}
		add(func(s string) (string, error) {
			m := re.FindStringSubmatch(s)
			if m == nil {
				return "", nil
			}
			return m[min(1, len(m)-1)], nil
		})
	}
	if len(v.Empty) > 0 && len(out.steps) > 1 {
		add(out.steps[0]) // what a path or a parameter held may mean nothing as well
	}
	if v.Lower {
		add(func(s string) (string, error) { return strings.ToLower(s), nil })
	}
	if v.Negate {
		add(negate)
	}
	return out, compileTranslation(v, add)
}

func compileTranslation(v *Value, add func(step)) error {
	if v.Map != nil {
		to, orelse := v.Map, v.Else
		add(func(s string) (string, error) {
			if r, ok := to[s]; ok {
				return r, nil
			}
			if orelse != nil {
				return *orelse, nil
			}
			return "", fmt.Errorf("%.60q %w", s, errUnmapped)
		})
	} else if v.Else != nil {
		return errors.New("else: needs map")
	}
	if v.Cut > 0 {
		n := v.Cut
		add(func(s string) (string, error) { return cutText(s, n), nil })
	}
	return nil
}

func compileSource(t *table, v *Value) (getter, error) {
	given := 0
	for _, there := range []bool{len(v.Column) > 0, v.Const != nil, v.Template != "", len(v.Product) > 0, len(v.Hash) > 0} {
		if there {
			given++
		}
	}
	if given != 1 {
		return nil, errors.New("needs exactly one of column, const, template, product, hash")
	}
	switch {
	case v.Const != nil:
		text := *v.Const
		return func([]cell) (string, error) { return text, nil }, nil
	case v.Template != "":
		return compileTemplate(t, v.Template)
	case len(v.Product) > 0:
		cols := t.columns(v.Product)
		return func(row []cell) (string, error) { return product(row, cols) }, nil
	case len(v.Hash) > 0:
		cols := t.columns(v.Hash)
		return func(row []cell) (string, error) { return hashCells(row, cols), nil }, nil
	}
	if len(v.Column) == 1 {
		i := t.column(v.Column[0])
		return func(row []cell) (string, error) { return row[i].text, nil }, nil
	}
	cols := t.columns(v.Column)
	return func(row []cell) (string, error) {
		for _, i := range cols {
			if row[i].text != "" {
				return row[i].text, nil
			}
		}
		return "", nil
	}, nil
}

func compileTemplate(t *table, text string) (getter, error) {
	var literals []string
	var cols []int
	for {
		before, rest, ok := strings.Cut(text, "{")
		literals = append(literals, before)
		if !ok {
			break
		}
		name, after, ok := strings.Cut(rest, "}")
		if !ok || name == "" {
			return nil, fmt.Errorf("template: %q has a brace without its partner", text)
		}
		cols = append(cols, t.column(name))
		text = after
	}
	return func(row []cell) (string, error) {
		var b strings.Builder
		for i, literal := range literals {
			b.WriteString(literal)
			if i < len(cols) {
				if row[cols[i]].text == "" {
					return "", nil
				}
				b.WriteString(row[cols[i]].text)
			}
		}
		return b.String(), nil
	}, nil
}

// hashCells hashes cells with their lengths, so that no two different rows look alike.
func hashCells(row []cell, cols []int) string {
	h := sha256.New()
	for _, i := range cols {
		fmt.Fprintf(h, "%d:%s,", len(row[i].text), row[i].text)
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// product multiplies decimals exactly; more than six decimals in the result are an error, not a rounding.
func product(row []cell, cols []int) (string, error) {
	result := big.NewInt(1)
	scale := big.NewInt(1)
	one := big.NewInt(int64(event.One))
	for n, i := range cols {
		if row[i].text == "" {
			return "", nil
		}
		m, err := event.ParseMicros(row[i].text)
		if err != nil {
			return "", err
		}
		result.Mul(result, big.NewInt(int64(m)))
		if n > 0 {
			scale.Mul(scale, one)
		}
	}
	rest := new(big.Int)
	result.QuoRem(result, scale, rest)
	if rest.Sign() != 0 {
		return "", errors.New("product has more than six decimals")
	}
	if !result.IsInt64() {
		return "", errors.New("product is out of range")
	}
	return event.Micros(result.Int64()).String(), nil
}

func negate(s string) (string, error) {
	m, err := event.ParseMicros(s)
	if err != nil {
		return "", err
	}
	return (-m).String(), nil
}

// cutText shortens a text without cutting a character in two.
func cutText(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// queryParameter finds the first value of the first name that is not empty in a URL's query.
func queryParameter(raw string, names []string) string {
	_, query, ok := strings.Cut(raw, "?")
	if !ok {
		return ""
	}
	query, _, _ = strings.Cut(query, "#")
	for _, name := range names {
		for rest := query; rest != ""; {
			var pair string
			pair, rest, _ = strings.Cut(rest, "&")
			key, val, _ := strings.Cut(pair, "=")
			if key != name {
				if !strings.ContainsAny(key, "%+") {
					continue
				}
				if k, err := url.QueryUnescape(key); err != nil || k != name {
					continue
				}
			}
			if v, err := url.QueryUnescape(val); err == nil && v != "" {
				return v
			}
		}
	}
	return ""
}

func urlPart(part string) (step, error) {
	switch part {
	case "host":
		return func(s string) (string, error) {
			_, rest, ok := strings.Cut(s, "//")
			if !ok {
				return "", nil
			}
			if i := strings.IndexAny(rest, "/?#"); i >= 0 {
				rest = rest[:i]
			}
			return strings.ToLower(rest[strings.LastIndexByte(rest, '@')+1:]), nil
		}, nil
	case "path":
		return func(s string) (string, error) {
			if _, rest, ok := strings.Cut(s, "//"); ok {
				i := strings.IndexAny(rest, "/?#")
				if i < 0 {
					return "/", nil
				}
				s = rest[i:]
			}
			if i := strings.IndexAny(s, "?#"); i >= 0 {
				s = s[:i]
			}
			return s, nil
		}, nil
	}
	return nil, fmt.Errorf("url: %q is not host or path", part)
}
