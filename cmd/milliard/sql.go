package main

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"milliard/internal/report"
)

// sqlCmd runs a read-only statement through a running server.
type sqlCmd struct {
	adminSide
	Query   string        `arg:"" optional:"" help:"The statement; without one it is read from standard input."`
	MaxRows int           `help:"Most rows; more are cut off and that is said." default:"10000"`
	Timeout time.Duration `help:"How long the statement may run." default:"2s"`
	Format  string        `help:"Form of the answer." enum:"table,csv,json" default:"table"`
}

// Run is called by kong.
func (c *sqlCmd) Run(ctx context.Context, out io.Writer) error {
	if c.Tenant != "" {
		return errors.New("--tenant: a statement sees every tenant; filter by the column tenant")
	}
	query := c.Query
	if query == "" {
		all, err := io.ReadAll(io.LimitReader(os.Stdin, 1<<20))
		if err != nil {
			return fmt.Errorf("read standard input: %w", err)
		}
		query = string(all)
	}
	answer, err := c.post(ctx, "/v1/sql", nil, map[string]any{
		"query": query, "max_rows": c.MaxRows, "timeout_ms": c.Timeout.Milliseconds(),
	})
	if err != nil {
		return err
	}
	if c.Format == "json" {
		_, err = out.Write(answer)
		return err
	}
	return writeSQL(out, answer, c.Format == "csv")
}

// writeSQL writes a table of the answer. Numbers stay as the server wrote them, digit by digit.
func writeSQL(out io.Writer, answer []byte, asCSV bool) error {
	var t struct {
		Columns   []string `json:"columns"`
		Types     []string `json:"types"`
		Rows      [][]any  `json:"rows"`
		Truncated bool     `json:"truncated"`
	}
	dec := json.NewDecoder(bytes.NewReader(answer))
	dec.UseNumber()
	if err := dec.Decode(&t); err != nil {
		return fmt.Errorf("the answer is no table: %w", err)
	}
	text := report.Table{Header: t.Columns, Right: make([]bool, len(t.Columns))}
	for i := range text.Right {
		text.Right[i] = i < len(t.Types) && isNumber(t.Types[i])
	}
	for _, row := range t.Rows {
		cells := make([]string, len(t.Columns))
		for i := range min(len(row), len(cells)) {
			cells[i] = sqlCell(row[i], asCSV && !text.Right[i])
		}
		text.Rows = append(text.Rows, cells)
	}
	if asCSV {
		w := csv.NewWriter(out)
		header := make([]string, len(t.Columns))
		for i, name := range t.Columns {
			header[i] = report.CSVText(name)
		}
		return errors.Join(w.Write(header), w.WriteAll(text.Rows))
	}
	if err := text.Write(out); err != nil {
		return err
	}
	note := fmt.Sprintf("%d rows", len(t.Rows))
	if t.Truncated {
		note = fmt.Sprintf("the first %d rows; there are more (--max-rows)", len(t.Rows))
	}
	_, err := fmt.Fprintln(out, note)
	return err
}

// isNumber says whether a column of an SQL type is aligned to the right.
func isNumber(kind string) bool {
	base, _, _ := strings.Cut(kind, "(")
	switch base {
	case "TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT",
		"UHUGEINT", "BIGNUM", "DECIMAL", "FLOAT", "DOUBLE":
		return !strings.HasSuffix(kind, "]")
	}
	return false
}

func sqlCell(v any, guard bool) string {
	switch v := v.(type) {
	case nil:
		return ""
	case string:
		if guard {
			return report.CSVText(v)
		}
		return v
	case json.Number:
		return v.String()
	case bool:
		return fmt.Sprint(v)
	}
	nested, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	return string(nested)
}
