package report

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"math/big"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Result is an answered report. It is written by one goroutine at a time.
type Result struct {
	Columns        []string  `json:"columns"`
	Rows           []Row     `json:"rows"`               // filled by Fill
	Totals         Row       `json:"totals"`             // money is null when there are several currencies
	CurrencyTotals []Row     `json:"totals_by_currency"` // one per currency
	From           time.Time `json:"from"`
	To             time.Time `json:"to"` // exclusive
	Zone           string    `json:"zone"`
	Time           string    `json:"time"`
	RowCount       int       `json:"row_count"` // of the whole report; Rows may be fewer
	Truncated      bool      `json:"truncated"`
	Warnings       []string  `json:"warnings,omitempty"`
	Fresh          Fresh     `json:"fresh"`
	Partial        bool      `json:"partial"` // a lane has halted; see fresh.lanes

	m     *merger
	lines []*line // in order, cut to the limit
}

// Fill makes the rows. What WriteJSON writes needs none: there may be tens of thousands.
func (r *Result) Fill() {
	if r.Rows != nil {
		return
	}
	r.Rows = make([]Row, len(r.lines))
	values := make([]Value, len(r.lines)*len(r.Columns))
	for i, l := range r.lines {
		row := values[:len(r.Columns):len(r.Columns)]
		r.Rows[i] = Row{cols: r.Columns, Values: row}
		r.m.row(row, r.m.q.columns, l)
		values = values[len(row):]
	}
}

// Row is one line of an answer. In JSON it is an object in the order of the columns.
type Row struct {
	Values []Value
	cols   []string
}

// Get returns the value of a column.
func (r Row) Get(name string) (Value, bool) {
	for i, c := range r.cols {
		if c == name {
			return r.Values[i], true
		}
	}
	return Value{}, false
}

// MarshalJSON writes an object whose members are in the order of the columns.
func (r Row) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, v := range r.Values {
		if i > 0 {
			b.WriteByte(',')
		}
		name, err := json.Marshal(r.cols[i])
		if err != nil {
			return nil, err
		}
		b.Write(name)
		b.WriteByte(':')
		val, err := v.MarshalJSON()
		if err != nil {
			return nil, err
		}
		b.Write(val)
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// Kind says how a value is written.
type Kind uint8

const (
	null   Kind = iota
	words       // a name, from the catalog or from traffic
	number      // a count or ratio: a number in JSON
	money       // an exact decimal: a string in JSON
)

// Value is one cell of an answer.
type Value struct {
	Kind Kind
	Text string
}

func text(s string) Value { return Value{words, s} }

// MarshalJSON writes counts as numbers, money as decimal strings.
func (v Value) MarshalJSON() ([]byte, error) {
	switch v.Kind {
	case null:
		return []byte("null"), nil
	case number:
		return []byte(v.Text), nil
	case words, money:
	}
	return json.Marshal(v.Text)
}

// WriteCSV writes the rows with a header line.
func (r *Result) WriteCSV(w io.Writer) error {
	r.Fill()
	out := csv.NewWriter(w)
	record := append([]string(nil), r.Columns...)
	if err := out.Write(record); err != nil {
		return fmt.Errorf("write csv: %w", err)
	}
	for _, row := range r.Rows {
		for i, v := range row.Values {
			record[i] = v.Text
			if v.Kind == words {
				record[i] = CSVText(v.Text)
			}
		}
		if err := out.Write(record); err != nil {
			return fmt.Errorf("write csv: %w", err)
		}
	}
	out.Flush()
	if err := out.Error(); err != nil {
		return fmt.Errorf("write csv: %w", err)
	}
	return nil
}

// CSVText guards a word against formula injection: a spreadsheet would run a cell that begins with one of = + - @, a
// tab or a carriage return, and names come from outside. Numbers of our own are not words and keep their minus sign.
func CSVText(s string) string {
	if s != "" && strings.ContainsRune("=+-@\t\r\n", rune(s[0])) {
		return "'" + s
	}
	return s
}

// WriteTable writes the rows, the totals and the freshness as aligned text.
func (r *Result) WriteTable(w io.Writer) error {
	r.Fill()
	t := Table{Header: r.Columns, Right: make([]bool, len(r.Columns))}
	for i, c := range r.Columns {
		_, isMetric := r.Totals.Get(c)
		t.Right[i] = isMetric && c != "currency"
	}
	for _, row := range r.Rows {
		t.Rows = append(t.Rows, cellTexts(r.Columns, row.Values))
	}
	totals := r.CurrencyTotals
	if len(totals) == 0 {
		totals = []Row{r.Totals}
	}
	for _, row := range totals {
		rec := make([]string, len(r.Columns))
		for i, c := range r.Columns {
			if v, ok := row.Get(c); ok {
				rec[i] = cellText(c, v)
			}
		}
		if !t.Right[0] && len(r.Columns) > len(row.Values) {
			rec[0] = "total"
		}
		t.Foot = append(t.Foot, rec)
	}
	if err := t.Write(w); err != nil {
		return err
	}
	_, err := io.WriteString(w, r.footnote())
	if err != nil {
		return fmt.Errorf("write table: %w", err)
	}
	return nil
}

func cellTexts(columns []string, vals []Value) []string {
	out := make([]string, len(vals))
	for i, v := range vals {
		out[i] = cellText(columns[i], v)
	}
	return out
}

// cellText is a value as a person reads it: ratios in percent. In JSON and CSV they stay ratios.
func cellText(column string, v Value) string {
	switch {
	case v.Kind == null:
		return "–"
	case column == "CTR" || column == "CR":
		return percent(v.Text)
	}
	return v.Text
}

// percent writes a ratio in percent with two decimals, rounded half to even.
func percent(ratio string) string {
	x, ok := new(big.Rat).SetString(ratio)
	if !ok {
		return ratio
	}
	x.Mul(x, big.NewRat(100*100, 1))
	n := divHalfEven(x.Num(), x.Denom())
	text := decimal(n.Mul(n, big.NewInt(10_000)), 2) // hundredths as millionths
	return text + "%"
}

func (r *Result) footnote() string {
	var b strings.Builder
	if r.Truncated {
		fmt.Fprintf(&b, "%d of %d rows\n", len(r.Rows), r.RowCount)
	}
	for _, s := range r.Warnings {
		fmt.Fprintf(&b, "warning: %s\n", s)
	}
	fmt.Fprintf(&b, "%s to %s (%s), ", r.From.Format("2006-01-02 15:04"), r.To.Format("2006-01-02 15:04"), r.Zone)
	if r.Fresh.AsOf == nil {
		b.WriteString("nothing counted yet\n")
	} else {
		fmt.Fprintf(&b, "complete up to %s", r.Fresh.AsOf.In(r.From.Location()).Format("2006-01-02 15:04:05"))
		b.WriteByte('\n')
	}
	if r.Partial {
		b.WriteString("partial: a lane has halted\n")
	}
	return b.String()
}

// Table is text in aligned columns.
type Table struct {
	Header []string
	Right  []bool // columns of numbers
	Rows   [][]string
	Foot   [][]string // set apart by a rule
}

// Write writes the table. Control characters are written escaped: names come from outside, and a terminal obeys them.
func (t *Table) Write(w io.Writer) error {
	width := make([]int, len(t.Header))
	clean := func(rows [][]string) [][]string {
		out := make([][]string, len(rows))
		for i, row := range rows {
			out[i] = make([]string, len(row))
			for j, s := range row {
				out[i][j] = printable(s)
				width[j] = max(width[j], utf8.RuneCountInString(out[i][j]))
			}
		}
		return out
	}
	head, rows, foot := clean([][]string{t.Header})[0], clean(t.Rows), clean(t.Foot)
	var b bytes.Buffer
	put := func(row []string) {
		for j, s := range row {
			pad := strings.Repeat(" ", width[j]-utf8.RuneCountInString(s))
			switch {
			case t.Right[j]:
				b.WriteString(pad + s)
			case j < len(row)-1:
				b.WriteString(s + pad)
			default:
				b.WriteString(s)
			}
			if j < len(row)-1 {
				b.WriteString("  ")
			}
		}
		b.WriteByte('\n')
	}
	rule := make([]string, len(head))
	for j := range rule {
		rule[j] = strings.Repeat("-", width[j])
	}
	put(head)
	put(rule)
	for _, row := range rows {
		put(row)
	}
	if len(foot) > 0 {
		put(rule)
		for _, row := range foot {
			put(row)
		}
	}
	if _, err := w.Write(b.Bytes()); err != nil {
		return fmt.Errorf("write table: %w", err)
	}
	return nil
}

func printable(s string) string {
	if strings.IndexFunc(s, func(r rune) bool { return !unicode.IsPrint(r) || r == utf8.RuneError }) < 0 {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if unicode.IsPrint(r) {
			b.WriteRune(r)
			continue
		}
		fmt.Fprintf(&b, `\u%04x`, r)
	}
	return b.String()
}
