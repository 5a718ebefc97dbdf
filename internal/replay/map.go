// Package replay feeds recorded logs to a server's doors: it reads a map that says how a line becomes events, reads the
// files, and sends what comes out as imports, live redirects, pixels or postbacks. It talks to the server over HTTP only
// and shares no code with it but the vocabulary, so that its totals can stand as evidence. A run owns its goroutines:
// one reads and maps, a bounded number send; all have ended when Run returns. It must not decide what counts.
//
// The map format is described in docs/replay.md.
package replay

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"milliard/internal/catalog"
)

// Doors that a map can feed.
const (
	DoorEvents   = "events"   // POST /v1/events, as an import
	DoorClick    = "click"    // GET /c/{campaign}/{affiliate}
	DoorPixel    = "pixel"    // GET /i/{campaign}/{affiliate}
	DoorPostback = "postback" // GET /conversion
)

// Formats of files.
const (
	formatCSV      = "csv"
	formatTSV      = "tsv"
	formatNDJSON   = "ndjson"
	formatRegexp   = "regexp"
	formatCombined = "combined"
)

// What identifies an event, beside values of its row.
const (
	idRow  = "row"
	idNone = "none"
)

// Map says how the lines of a file become events. It is the YAML document as written; Compile makes it executable.
type Map struct {
	Name        string `yaml:"name"`
	Description string `yaml:"description"`

	Door       string `yaml:"door"`        // events (default), click, pixel, postback
	Format     string `yaml:"format"`      // csv, tsv, ndjson, regexp, combined
	Delimiter  string `yaml:"delimiter"`   // csv only; default ","
	Columns    Names  `yaml:"columns"`     // csv and tsv without a header line: the names of the columns in order
	LazyQuotes bool   `yaml:"lazy_quotes"` // csv and tsv: quotes may stand inside of fields
	Pattern    string `yaml:"pattern"`     // regexp: its named groups are the columns

	Aliases map[string]Names `yaml:"aliases"` // other names of a column, for logs whose schema changed
	Skip    []Skip           `yaml:"skip"`    // rows that are no event, each with the reason that is reported
	ID      ID               `yaml:"id"`      // what identifies an event: its row, a value of the row, or nothing
	Source  string           `yaml:"source"`  // who gave the ids, where two logs may have the same

	Fields map[string]Value `yaml:"fields"` // of every event of a row
	Events []Slot           `yaml:"events"` // the events of a row; without it there is one
	Create Create           `yaml:"create"` // catalog entries that are made first
	Expect *Expect          `yaml:"expect"` // what --check compares with

	sum [sha256.Size]byte
}

// Slot is one event of a row: the fields that differ from the common ones, and when it exists.
type Slot struct {
	When   Conditions       `yaml:"when"`
	Fields map[string]Value `yaml:"fields"`
}

// Skip names rows that are no event.
type Skip struct {
	When   Conditions `yaml:"when"`
	Reason string     `yaml:"reason"`
}

// Create says which catalog entries the replay makes before it sends anything. What they are called comes from the
// fields; the rest is said here.
type Create struct {
	Enabled     bool            `yaml:"enabled"`
	Currency    string          `yaml:"currency"`     // of the campaigns
	Landing     string          `yaml:"landing"`      // of campaigns whose rows name none
	ClickWindow catalog.Seconds `yaml:"click_window"` // of the campaigns
}

// Expect is what a set of files is known to hold.
type Expect struct {
	Rows    int64             `yaml:"rows"`
	Events  map[string]int64  `yaml:"events"`   // by type
	N       map[string]string `yaml:"n"`        // sum of increments by type
	Amount  map[string]string `yaml:"amount"`   // sum of amounts by type
	NoEvent map[string]int64  `yaml:"no_event"` // rows by reason
}

// Names is one name or a list of names.
type Names []string

// UnmarshalYAML accepts a scalar or a list of scalars.
func (n *Names) UnmarshalYAML(node *yaml.Node) error {
	if node.Kind == yaml.ScalarNode {
		*n = Names{node.Value}
		return nil
	}
	return node.Decode((*[]string)(n))
}

// Value says where a text comes from and what is done to it, in the order of the fields below. A plain string is the
// name of a column; a list is the first of these columns that is not empty.
type Value struct {
	Column   Names   `yaml:"column"`   // the cell of the first of these columns that is not empty
	Const    *string `yaml:"const"`    // a fixed text
	Template string  `yaml:"template"` // text with {column} in it; empty when one of them is
	Product  Names   `yaml:"product"`  // exact product of decimal columns
	Hash     Names   `yaml:"hash"`     // hash of columns, 32 hexadecimal digits

	JSON   string            `yaml:"json"`   // path in a JSON cell: revenue, items[0].item_price
	Query  Names             `yaml:"query"`  // first of these query parameters of a URL cell that is not empty
	URL    string            `yaml:"url"`    // part of a URL cell: host or path
	Regexp string            `yaml:"regexp"` // first group, or the match
	Empty  Names             `yaml:"empty"`  // texts that mean "nothing"
	Lower  bool              `yaml:"lower"`
	Negate bool              `yaml:"negate"` // a decimal with the other sign
	Map    map[string]string `yaml:"map"`    // translation of values
	Else   *string           `yaml:"else"`   // for values that map does not list
	Cut    int               `yaml:"cut"`    // longest length in bytes
	Orelse string            `yaml:"default"`

	Layout string `yaml:"layout"` // time only: Go layout, rfc3339, clf, unix, unix_ms, unix_us
	Zone   string `yaml:"zone"`   // time only: IANA zone of a layout that has none; default UTC
}

// UnmarshalYAML accepts the short forms.
func (v *Value) UnmarshalYAML(node *yaml.Node) error {
	if node.Kind == yaml.MappingNode {
		type plain Value
		return strict(node, (*plain)(v))
	}
	return node.Decode(&v.Column)
}

// Condition is a value and one test of it.
type Condition struct {
	Value   Value
	Equals  *string
	In      Names
	Not     Names
	Match   string
	Present *bool
	Less    string
	Greater string
}

// UnmarshalYAML splits the tests from the value.
func (c *Condition) UnmarshalYAML(node *yaml.Node) error {
	var tests struct {
		Equals  *string `yaml:"equals"`
		In      Names   `yaml:"in"`
		Not     Names   `yaml:"not"`
		Match   string  `yaml:"match"`
		Present *bool   `yaml:"present"`
		Less    string  `yaml:"less"`
		Greater string  `yaml:"greater"`
	}
	if node.Kind != yaml.MappingNode {
		return fmt.Errorf("line %d: a condition is a mapping such as {column: click, equals: \"1\"}", node.Line)
	}
	if err := node.Decode(&tests); err != nil {
		return err
	}
	rest := *node
	rest.Content = nil
	for i := 0; i+1 < len(node.Content); i += 2 {
		switch node.Content[i].Value {
		case "equals", "in", "not", "match", "present", "less", "greater":
		default:
			rest.Content = append(rest.Content, node.Content[i], node.Content[i+1])
		}
	}
	*c = Condition{
		Equals: tests.Equals, In: tests.In, Not: tests.Not, Match: tests.Match,
		Present: tests.Present, Less: tests.Less, Greater: tests.Greater,
	}
	type plain Value
	return strict(&rest, (*plain)(&c.Value))
}

// Conditions all have to hold.
type Conditions []Condition

// UnmarshalYAML accepts one condition or a list.
func (c *Conditions) UnmarshalYAML(node *yaml.Node) error {
	if node.Kind == yaml.SequenceNode {
		return node.Decode((*[]Condition)(c))
	}
	*c = make(Conditions, 1)
	return node.Decode(&(*c)[0])
}

// strict decodes a node and refuses keys that out does not have. A decoder's own strictness does not reach below a
// custom unmarshaller.
func strict(node *yaml.Node, out any) error {
	text, err := yaml.Marshal(node)
	if err != nil {
		return fmt.Errorf("line %d: %w", node.Line, err)
	}
	dec := yaml.NewDecoder(bytes.NewReader(text))
	dec.KnownFields(true)
	if err := dec.Decode(out); err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("below line %d: %w", node.Line, err)
	}
	return nil
}

// maxMap is the largest map in bytes.
const maxMap = 1 << 20

// ParseMap reads a map. Unknown keys are errors: a misspelt field must not be a missing field.
func ParseMap(text []byte) (*Map, error) {
	if len(text) > maxMap {
		return nil, fmt.Errorf("map larger than %d bytes", maxMap)
	}
	m := &Map{}
	dec := yaml.NewDecoder(bytes.NewReader(text))
	dec.KnownFields(true)
	if err := dec.Decode(m); err != nil {
		return nil, fmt.Errorf("map: %w", err)
	}
	if m.Door == "" {
		m.Door = DoorEvents
	}
	if !slices.Contains([]string{DoorEvents, DoorClick, DoorPixel, DoorPostback}, m.Door) {
		return nil, fmt.Errorf("map: door: %q is not events, click, pixel or postback", m.Door)
	}
	if err := m.ID.check(m.Door, m.Source); err != nil {
		return nil, fmt.Errorf("map: %w", err)
	}
	return m, m.digest(text)
}

// digest computes the identity of a map: everything that decides which events come out, in a canonical form, so that a
// comment or another order of keys does not make another import of the same file.
func (m *Map) digest(text []byte) error {
	var doc yaml.Node
	if err := yaml.Unmarshal(text, &doc); err != nil {
		return fmt.Errorf("map: %w", err)
	}
	if err := checkKeys(&doc); err != nil {
		return err
	}
	h := sha256.New()
	writeCanonical(h, &doc, []string{"name", "description", "create", "expect"})
	h.Sum(m.sum[:0])
	return nil
}

// checkKeys refuses keys that YAML reads as nothing or as a truth value: they would be lost without a word.
func checkKeys(n *yaml.Node) error {
	for i, c := range n.Content {
		if n.Kind == yaml.MappingNode && i%2 == 0 && (c.ShortTag() == "!!null" || c.ShortTag() == "!!bool") {
			return fmt.Errorf("map: line %d: the key %s is not a text; put it in quotes", c.Line, c.Value)
		}
		if err := checkKeys(c); err != nil {
			return err
		}
	}
	return nil
}

// writeCanonical writes a node with its keys sorted and every text with its length. Keys in without are left out.
func writeCanonical(w io.Writer, n *yaml.Node, without []string) {
	if n.Anchor != "" {
		fmt.Fprintf(w, "&%d:%s", len(n.Anchor), n.Anchor)
	}
	switch n.Kind {
	case yaml.DocumentNode:
		for _, c := range n.Content {
			writeCanonical(w, c, without)
		}
	case yaml.MappingNode:
		at := make([]int, 0, len(n.Content)/2)
		for i := 0; i+1 < len(n.Content); i += 2 {
			if !slices.Contains(without, n.Content[i].Value) {
				at = append(at, i)
			}
		}
		slices.SortFunc(at, func(a, b int) int { return strings.Compare(n.Content[a].Value, n.Content[b].Value) })
		fmt.Fprintf(w, "{%d", len(at))
		for _, i := range at {
			writeCanonical(w, n.Content[i], nil)
			writeCanonical(w, n.Content[i+1], nil)
		}
	case yaml.SequenceNode:
		fmt.Fprintf(w, "[%d", len(n.Content))
		for _, c := range n.Content {
			writeCanonical(w, c, nil)
		}
	case yaml.AliasNode:
		fmt.Fprintf(w, "*%d:%s", len(n.Value), n.Value) // what it stands for is written where it is
	default:
		fmt.Fprintf(w, "%d:%s", len(n.Value), n.Value)
	}
}

// Sum returns the SHA-256 of the map's canonical form.
func (m *Map) Sum() [sha256.Size]byte { return m.sum }

// field is one thing that an event says.
type field uint8

// The fields, in the order in which they are written.
const (
	fTime field = iota
	fType
	fCampaign
	fBanner
	fAffiliate
	fAdvertiser
	fGoal
	fN
	fAmount
	fCurrency
	fPriceModel
	fOrder
	fClick
	fIP
	fUA
	fVisitor
	fCountry
	fDevice
	fReferrer
	fLanding
	fSub1
	fieldCount = fSub1 + 30
)

func fieldNames() [fSub1]string {
	return [fSub1]string{
		"time", "type", "campaign", "banner", "affiliate", "advertiser", "goal", "n", "amount", "currency", "price_model",
		"order_id", "click_id", "ip", "ua", "visitor", "country", "device", "referrer", "landing",
	}
}

func (f field) String() string {
	if f < fSub1 {
		return fieldNames()[f]
	}
	return "sub" + strconv.Itoa(int(f-fSub1)+1)
}

func parseField(name string) (field, error) {
	names := fieldNames()
	if i := slices.Index(names[:], name); i >= 0 {
		return field(i), nil
	}
	if digits, ok := strings.CutPrefix(name, "sub"); ok {
		if n, err := strconv.Atoi(digits); err == nil && n >= 1 && n <= 30 && digits[0] != '0' {
			return fSub1 + field(n-1), nil
		}
	}
	return 0, fmt.Errorf("%q is not a field; the fields are %s, sub1 … sub30", name, strings.Join(names[:], ", "))
}
