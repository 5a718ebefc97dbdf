package verify

import (
	"fmt"
	"io"
	"strings"
)

// Write shows a result to people. The last line is for programs: "verify: ok …" or "verify: FAILED …".
func (r *Result) Write(w io.Writer) error {
	var b strings.Builder
	for _, c := range r.Checks {
		word := "ok"
		if !c.OK {
			word = "FAILED"
		}
		fmt.Fprintf(&b, "%-17s %-7s %s\n", c.Name, word, c.Detail)
	}
	writeFindings(&b, r.Findings, r.More)
	b.WriteString(r.Line() + "\n")
	_, err := io.WriteString(w, b.String())
	return err
}

// Line is the one line that says it all.
func (r *Result) Line() string {
	where := positions(r.Position)
	if !r.OK {
		return fmt.Sprintf("verify: FAILED findings=%d events=%d cells=%d position=%s", int64(len(r.Findings))+r.More, r.Events, r.Cells, where)
	}
	return fmt.Sprintf("verify: ok events=%d cells=%d position=%s", r.Events, r.Cells, where)
}

func positions(list []At) string {
	parts := make([]string, len(list))
	for i, p := range list {
		parts[i] = fmt.Sprintf("%d:%d", p.Lane, p.Seq)
	}
	return strings.Join(parts, ",")
}

func writeFindings(b *strings.Builder, findings []Finding, more int64) {
	for _, f := range findings {
		where := ""
		if f.Lane >= 0 {
			where = fmt.Sprintf(" lane %d", f.Lane)
		}
		fmt.Fprintf(b, "! %s%s: %s\n", f.Check, where, f.Text)
	}
	if more > 0 {
		fmt.Fprintf(b, "! and %d more\n", more)
	}
}

// Write shows a recount to people.
func (r *Recounted) Write(w io.Writer) error {
	var b strings.Builder
	widths := make([]int, len(r.By)+3)
	table := [][]string{append(append([]string{}, r.By...), "events", "n", "amount")}
	for _, row := range r.Rows {
		table = append(table, append(append([]string{}, row.Values...), row.Events, row.N, row.Amount))
	}
	for _, line := range table {
		for i, cell := range line {
			widths[i] = max(widths[i], len(cell))
		}
	}
	for _, line := range table {
		for i, cell := range line {
			if i > 0 {
				b.WriteString("  ")
			}
			if i < len(r.By) {
				fmt.Fprintf(&b, "%-*s", widths[i], cell)
			} else {
				fmt.Fprintf(&b, "%*s", widths[i], cell)
			}
		}
		b.WriteString("\n")
	}
	writeFindings(&b, r.Findings, 0)
	fmt.Fprintf(&b, "recount: events=%d groups=%d findings=%d position=%s\n", r.Events, len(r.Rows), len(r.Findings), positions(r.Position))
	_, err := io.WriteString(w, b.String())
	return err
}
