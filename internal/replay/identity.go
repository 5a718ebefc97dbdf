package replay

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"milliard/internal/event"
)

// ID says what identifies the events of a row: one of the words row and none, or a value of the row.
type ID struct {
	word  string // idRow or idNone; empty with a value
	value *Value
}

// UnmarshalYAML accepts a word, or a mapping as of a field.
func (id *ID) UnmarshalYAML(node *yaml.Node) error {
	switch {
	case node.Kind == yaml.MappingNode:
		*id = ID{value: &Value{}}
		return id.value.UnmarshalYAML(node)
	case node.Kind == yaml.ScalarNode && (node.Value == idRow || node.Value == idNone):
		*id = ID{word: node.Value}
		return nil
	}
	return fmt.Errorf("line %d: id: is not row, none or a mapping such as {column: NAME}", node.Line)
}

// check completes the identity of a map and checks that its door has it.
func (id *ID) check(door, source string) error {
	if id.word == "" && id.value == nil {
		if id.word = idRow; door == DoorPostback {
			id.word = idNone // the order id is the identity of a sale
		}
	}
	if id.word == idNone && door == DoorEvents {
		return errors.New("id: an import is made of rows or ids; none is for live doors")
	}
	switch {
	case source == "":
	case id.value == nil || door != DoorEvents:
		return errors.New("source: is for ids of the log at the door events")
	case len(source) > event.MaxForeignID-placeBytes:
		return errors.New("source: is too long")
	case strings.ContainsFunc(source, func(r rune) bool { return r < 0x20 || r == 0x7f || r == placeMark }):
		return errors.New("source: must not hold # or control characters")
	}
	return nil
}

// placeMark stands before the place of an event in the map's list, in everything that tells the events of a row apart.
const (
	placeMark  = '#'
	placeBytes = 8
)

// identity makes ids of rows. A nil identity leaves events to be known by their rows, or by nothing.
type identity struct {
	value  *value
	source string
	live   bool // the door has no sources
}

// errNoID is a row that does not say what the map takes for its id: without one it could count twice.
var errNoID = errors.New("no id")

func compileIdentity(t *table, m *Map) (*identity, error) {
	v := m.ID.value
	if v == nil {
		return nil, nil //nolint:nilnil // no identity is what most maps have
	}
	if v.Const != nil || v.Orelse != "" || v.Else != nil {
		return nil, errors.New("const, default and else give many rows one id")
	}
	if v.Layout != "" || v.Zone != "" {
		return nil, errors.New("layout and zone are for time")
	}
	compiled, err := compileValue(t, v)
	if err != nil {
		return nil, err
	}
	if cols := t.columns(v.Hash); len(cols) > 0 {
		hash := compiled.get
		compiled.get = func(row []cell) (string, error) { // a hash of nothing would be one id for all rows that have nothing
			if !slices.ContainsFunc(cols, func(i int) bool { return row[i].text != "" }) {
				return "", nil
			}
			return hash(row)
		}
	}
	return &identity{value: compiled, source: m.Source, live: m.Door != DoorEvents}, nil
}

// of returns the id of the event that a row has at a place of the map's list. The first event has the row's id as it is.
// The others are told from it, because one row may make two events of one type: by the source, which no id of the log
// can look like, or, at doors that have no source, by the end of the id.
func (i *identity) of(row []cell, place int) (id, source string, err error) {
	id, err = i.value.eval(row)
	switch {
	case err != nil:
		return "", "", fmt.Errorf("id: %w", err)
	case id == "":
		return "", "", errNoID
	}
	source = i.source
	if place > 0 {
		mark := string(placeMark) + strconv.Itoa(place+1)
		if i.live {
			id += mark
		} else {
			source += mark
		}
	}
	if len(id) > event.MaxForeignID {
		return "", "", fmt.Errorf("id: is longer than %d bytes", event.MaxForeignID)
	}
	return id, source, nil
}
