package replay

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"

	"milliard/internal/event"
)

// Event is one event as the map makes it of a row: text per field, checked as far as a client can.
type Event struct {
	Line   int64  // number of the data row in its file, from 1; a header line is not one
	Row    uint64 // number of the event in its file, from 0: (Line-1) × events of the map + place in the map
	ID     string // what the log calls it; empty: it is known by its row, or by nothing
	Source string // of the ID
	Milli  int64  // when it happened, unix milliseconds; 0 when the map has no time

	n, amount event.Micros
	text      [fieldCount]string
}

// Type returns the event's type.
func (e *Event) Type() string { return e.text[fType] }

// Get returns a field by its name in the map; empty when the event does not have it.
func (e *Event) Get(name string) string {
	f, err := parseField(name)
	if err != nil {
		return ""
	}
	return e.text[f]
}

// Program is a compiled map. It may be used by one goroutine at a time.
type Program struct {
	source *Map
	table  table
	skip   []skipTest
	slots  []slot
	clock  []clock // of each slot
	id     *identity
}

type skipTest struct {
	when   []test
	reason string
}

type slot struct {
	when   []test
	fields []slotField
}

type slotField struct {
	field field
	value *value
}

// Compile checks a map and makes it executable.
func Compile(m *Map) (*Program, error) {
	p := &Program{source: m}
	for i, s := range m.Skip {
		when, err := compileConditions(&p.table, s.When)
		if err != nil {
			return nil, fmt.Errorf("map: skip %d: %w", i+1, err)
		}
		if len(when) == 0 || s.Reason == "" {
			return nil, fmt.Errorf("map: skip %d: needs when and reason", i+1)
		}
		p.skip = append(p.skip, skipTest{when: when, reason: s.Reason})
	}
	slots := m.Events
	if len(slots) == 0 {
		slots = []Slot{{}}
	}
	for i := range slots {
		if err := p.addSlot(&slots[i]); err != nil {
			return nil, fmt.Errorf("map: event %d: %w", i+1, err)
		}
	}
	var err error
	if p.id, err = compileIdentity(&p.table, m); err != nil {
		return nil, fmt.Errorf("map: id: %w", err)
	}
	return p, p.checkFormat()
}

func (p *Program) checkFormat() error {
	m := p.source
	switch m.Format {
	case formatCSV, formatTSV, formatNDJSON, formatCombined:
		if m.Pattern != "" {
			return errors.New("map: pattern: is for format regexp")
		}
	case formatRegexp:
		if m.Pattern == "" {
			return errors.New("map: pattern: is required by format regexp")
		}
	default:
		return fmt.Errorf("map: format: %q is not csv, tsv, ndjson, regexp or combined", m.Format)
	}
	if m.Delimiter != "" && (m.Format != formatCSV || len([]rune(m.Delimiter)) != 1) {
		return errors.New("map: delimiter: one character, for format csv")
	}
	return nil
}

func (p *Program) addSlot(s *Slot) error {
	when, err := compileConditions(&p.table, s.When)
	if err != nil {
		return err
	}
	all := map[string]Value{}
	maps.Copy(all, p.source.Fields)
	maps.Copy(all, s.Fields)
	out := slot{when: when}
	timer := clock{}
	for name := range all {
		f, err := parseField(name)
		if err != nil {
			return err
		}
		v := all[name]
		compiled, err := compileValue(&p.table, &v)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if f == fTime {
			if timer, err = newClock(v.Layout, v.Zone); err != nil {
				return fmt.Errorf("time: %w", err)
			}
		} else if v.Layout != "" || v.Zone != "" {
			return fmt.Errorf("%s: layout and zone are for time", name)
		}
		out.fields = append(out.fields, slotField{f, compiled})
	}
	slices.SortFunc(out.fields, func(a, b slotField) int { return int(a.field) - int(b.field) })
	if err := p.checkSlot(&out); err != nil {
		return err
	}
	p.slots = append(p.slots, out)
	p.clock = append(p.clock, timer)
	return nil
}

// checkSlot checks what a door needs.
func (p *Program) checkSlot(s *slot) error {
	has := func(f field) bool {
		return slices.ContainsFunc(s.fields, func(sf slotField) bool { return sf.field == f })
	}
	if fixed := doorType(p.source.Door); fixed != "" {
		if !has(fType) {
			s.fields = slices.Insert(s.fields, 0, slotField{fType, &value{
				get: func([]cell) (string, error) { return fixed, nil }, fixed: true,
			}})
		}
		if !has(fCampaign) {
			return fmt.Errorf("campaign: is required by the door %s", p.source.Door)
		}
		if p.source.Door == DoorPostback && !has(fAdvertiser) {
			return errors.New("advertiser: is required by the door postback")
		}
		return nil
	}
	for _, f := range []field{fType, fTime} {
		if !has(f) {
			return fmt.Errorf("%s: is required by the door events", f)
		}
	}
	return nil
}

// doorType returns the only type that a live door takes.
func doorType(door string) string {
	switch door {
	case DoorClick:
		return "click"
	case DoorPixel:
		return "impression"
	case DoorPostback:
		return "conversion"
	}
	return ""
}

// Ordered says whether the order of the rows decides which events are valid: the first sale with an order id wins, and
// of an import the first event with an id.
func (p *Program) Ordered() bool {
	return p.id != nil && p.source.Door == DoorEvents || p.source.Door == DoorPostback || slices.ContainsFunc(p.slots, func(s slot) bool {
		return slices.ContainsFunc(s.fields, func(f slotField) bool { return f.field == fOrder })
	})
}

// run makes the events of a row. e is reused for each. reason is called for everything that is no event.
func (p *Program) run(row []cell, line int64, e *Event, emit func(*Event) error, reason func(string)) error {
	for i := range p.skip {
		if hold(p.skip[i].when, row) {
			reason(p.skip[i].reason)
			return nil
		}
	}
	made := false
	for i := range p.slots {
		if !hold(p.slots[i].when, row) {
			continue
		}
		made = true
		*e = Event{Line: line, Row: uint64(line-1)*uint64(len(p.slots)) + uint64(i), n: event.One}
		err := p.identify(i, row, e)
		if err == nil {
			err = p.fill(i, row, e)
		}
		if err != nil {
			reason(err.Error())
			continue
		}
		if err := emit(e); err != nil {
			return err
		}
	}
	if !made {
		reason("no event of the map applies")
	}
	return nil
}

// identify gives the event of the i-th slot the id that the map makes of the row.
func (p *Program) identify(i int, row []cell, e *Event) (err error) {
	if p.id != nil {
		e.ID, e.Source, err = p.id.of(row, i)
	}
	return err
}

func (p *Program) fill(i int, row []cell, e *Event) error {
	for _, f := range p.slots[i].fields {
		s, err := f.value.eval(row)
		if err != nil {
			return fmt.Errorf("%s: %w", f.field, err)
		}
		if s == "" {
			continue
		}
		switch f.field {
		case fTime:
			if e.Milli, err = p.clock[i].parse(s); err != nil {
				return fmt.Errorf("time: %w", err)
			}
			continue
		case fN, fAmount:
			m, err := event.ParseMicros(s)
			if err != nil {
				return fmt.Errorf("%s: %w", f.field, err)
			}
			if m < 0 {
				return fmt.Errorf("%s: is negative", f.field)
			}
			if s = m.String(); f.field == fAmount {
				e.amount = m
			} else if e.n = m; m == 0 {
				return errors.New("n: is zero")
			}
		default:
		}
		e.text[f.field] = s
	}
	return p.finish(e)
}

// Walk reads a file and makes its events, in order. The event is reused. It returns the number of rows.
func (p *Program) Walk(in io.Reader, emit func(*Event) error, reason func(string)) (rows int64, err error) {
	r, err := p.newReader(in)
	if err != nil {
		return 0, err
	}
	row := make([]cell, len(p.table.names))
	e := &Event{}
	for {
		switch err := r.next(row); {
		case errors.Is(err, io.EOF):
			return rows, nil
		case errors.Is(err, errMalformed):
			rows++
			reason(err.Error())
			continue
		case err != nil:
			return rows, fmt.Errorf("row %d: %w", rows+1, err)
		}
		rows++
		if err := p.run(row, rows, e, emit, reason); err != nil {
			return rows, err
		}
	}
}

// finish checks what an event must have, and leaves out a carried price that does not pay for this type of event: a row
// of a log states its price whatever happened in it.
func (p *Program) finish(e *Event) error {
	if e.text[fType] == "" {
		return errors.New("type: is empty")
	}
	if fixed := doorType(p.source.Door); fixed != "" && e.text[fType] != fixed {
		return fmt.Errorf("type: %.60q is not for the door %s", e.text[fType], p.source.Door)
	}
	if e.Milli == 0 && p.source.Door == DoorEvents {
		return errors.New("time: is empty")
	}
	builtin := e.text[fType] == "impression" || e.text[fType] == "click" || e.text[fType] == "conversion"
	if e.text[fCampaign] == "" && builtin {
		return errors.New("campaign: is empty")
	}
	if e.text[fPriceModel] != "" {
		pays := map[string]string{"cpm": "impression", "cpc": "click", "cpa": "conversion"}[e.text[fPriceModel]]
		if pays != e.text[fType] {
			e.text[fPriceModel], e.text[fAmount], e.text[fCurrency], e.amount = "", "", "", 0
		}
	}
	return nil
}
