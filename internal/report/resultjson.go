package report

import (
	"encoding/json"
	"fmt"
	"io"
)

// pieceJSON is how much of an answer is written at once: whoever reads it can begin while the rest is still being named.
const pieceJSON = 64 << 10

// WriteJSON writes the answer as JSON and a line feed: what the encoder would write without escaping for HTML, tens of
// thousands of lines without reflection.
func (r *Result) WriteJSON(w io.Writer) error {
	tail, err := r.appendTail(nil)
	if err != nil { // before anything is written, so that it can be told
		return err
	}
	b := make([]byte, 0, pieceJSON+4<<10)
	b = append(b, `{"columns":`...)
	b = appendTexts(b, r.Columns)
	b = append(b, `,"rows":[`...)
	names := make([]string, len(r.Columns))
	for i, c := range r.Columns {
		names[i] = "," + string(appendText(nil, c)) + ":"
	}
	for i, l := range r.lines {
		if i > 0 {
			b = append(b, ',')
		}
		b = r.m.appendLine(b, names, l)
		if len(b) >= pieceJSON {
			if _, err := w.Write(b); err != nil {
				return fmt.Errorf("write report: %w", err)
			}
			b = b[:0]
		}
	}
	if _, err := w.Write(append(b, tail...)); err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	return nil
}

// appendTail appends what follows the rows.
func (r *Result) appendTail(b []byte) ([]byte, error) {
	type head struct { // the small parts, in the order in which Result has them
		From any `json:"from"`
		To   any `json:"to"`
	}
	b = append(b, `],"totals":`...)
	b = r.Totals.append(b)
	b = append(b, `,"totals_by_currency":[`...)
	for i := range r.CurrencyTotals {
		if i > 0 {
			b = append(b, ',')
		}
		b = r.CurrencyTotals[i].append(b)
	}
	b = append(b, "],"...)
	span, err := json.Marshal(head{r.From, r.To})
	if err != nil {
		return b, fmt.Errorf("write report: %w", err)
	}
	b = append(b, span[1:len(span)-1]...)
	b = append(b, `,"zone":`...)
	b = appendText(b, r.Zone)
	b = append(b, `,"time":`...)
	b = appendText(b, r.Time)
	b = fmt.Appendf(b, `,"row_count":%d,"truncated":%t`, r.RowCount, r.Truncated)
	if len(r.Warnings) > 0 {
		b = append(b, `,"warnings":`...)
		b = appendTexts(b, r.Warnings)
	}
	b = append(b, `,"fresh":`...)
	b = r.Fresh.append(b)
	return fmt.Appendf(b, ",\"partial\":%t}\n", r.Partial), nil
}

// appendLine appends the object of a line. names are the columns, each with a comma before and a colon behind.
func (m *merger) appendLine(b []byte, names []string, l *line) []byte {
	begin := len(b)
	for i := range names {
		b = append(b, names[i]...)
		c := &m.q.columns[i]
		if c.metric == notMetric || c.metric == mCurrency {
			b = m.appendWord(b, c, l)
			continue
		}
		x := l.number(c.metric)
		switch {
		case x.null:
			b = append(b, "null"...)
		case c.money:
			b = append(b, '"')
			b = append(x.appendTo(b, 2), '"')
		default:
			b = x.appendTo(b, 0)
		}
	}
	b[begin] = '{' // there is always a column, so a comma stood there
	return append(b, '}')
}

// appendWord appends what is no number, as JSON. What an id is called is put into JSON once.
func (m *merger) appendWord(b []byte, c *column, l *line) []byte {
	if c.metric == mCurrency || c.grain || c.dim.rollup() != 0 {
		return appendText(b, m.text(c, l).Text)
	}
	e := m.entity(c.dim, l.key.ids[c.dim])
	of, text := &e.keyJSON, e.key
	if c.display {
		of, text = &e.nameJSON, e.name
	}
	if *of == nil {
		*of = appendText(nil, text)
	}
	return append(b, *of...)
}

// append appends the JSON of a row that is no row of many.
func (r *Row) append(b []byte) []byte {
	names := make([]string, len(r.cols))
	for i, c := range r.cols {
		names[i] = string(appendText(nil, c)) + ":"
	}
	return appendRow(b, names, r.Values)
}

func appendRow(b []byte, names []string, values []Value) []byte {
	b = append(b, '{')
	for i := range values {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, names[i]...)
		switch v := &values[i]; v.Kind {
		case null:
			b = append(b, "null"...)
		case number:
			b = append(b, v.Text...)
		case words, money:
			b = appendText(b, v.Text)
		}
	}
	return append(b, '}')
}

func appendTexts(b []byte, list []string) []byte {
	b = append(b, '[')
	for i, s := range list {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendText(b, s)
	}
	return append(b, ']')
}

// appendText appends a JSON string, as json.Marshal writes it.
func appendText(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' {
			quoted, err := json.Marshal(s)
			if err != nil { // a string never fails
				return append(b, `""`...)
			}
			return append(b, quoted...)
		}
	}
	b = append(b, '"')
	b = append(b, s...)
	return append(b, '"')
}
