package report

import (
	"encoding/json"
	"fmt"
	"slices"
)

// AppendJSON appends the answer as JSON and a line feed: what the encoder would write without escaping for HTML, tens of
// thousands of lines without reflection.
func (r *Result) AppendJSON(b []byte) ([]byte, error) {
	type head struct { // the small parts, in the order in which Result has them
		From any `json:"from"`
		To   any `json:"to"`
	}
	names := make([]string, len(r.Columns))
	for i, c := range r.Columns {
		names[i] = string(appendText(nil, c)) + ":"
	}
	b = append(b, `{"columns":`...)
	b = appendTexts(b, r.Columns)
	b = append(b, `,"rows":[`...)
	if len(r.Rows) > 0 { // they are of about one length
		b = slices.Grow(b, len(r.Rows)*(64+24*len(r.Columns)))
	}
	for i := range r.Rows {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendRow(b, names, r.Rows[i].Values)
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
