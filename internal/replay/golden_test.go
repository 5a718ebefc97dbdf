package replay

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestMapsGolden runs every file of testdata: a map, an input and what must come out of it, in sections that start with
// "=== name". MILLIARD_GOLDEN=write rewrites what comes out.
func TestMapsGolden(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no golden files: %v", err)
	}
	for _, path := range files {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txt"), func(t *testing.T) {
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			parts := sections(string(text))
			got := mapped(parts["map"], parts["input"])
			if os.Getenv("MILLIARD_GOLDEN") == "write" {
				out := "=== map\n" + parts["map"] + "=== input\n" + parts["input"] + "=== events\n" + got
				if err := os.WriteFile(path, []byte(out), 0o600); err != nil {
					t.Fatal(err)
				}
				return
			}
			if got != parts["events"] {
				t.Errorf("got\n%s\nwant\n%s", got, parts["events"])
			}
		})
	}
}

func sections(text string) map[string]string {
	out := map[string]string{}
	name := ""
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, "=== "); ok {
			name = strings.TrimSpace(rest)
			continue
		}
		out[name] += line
	}
	return out
}

// mapped writes what a map makes of an input: events, reasons and the summary.
func mapped(mapText, input string) string {
	m, err := ParseMap([]byte(mapText))
	if err != nil {
		return "error: " + err.Error() + "\n"
	}
	p, err := Compile(m)
	if err != nil {
		return "error: " + err.Error() + "\n"
	}
	var b strings.Builder
	tally := newTally(m)
	emit := func(e *Event) error {
		tally.made(e)
		fmt.Fprintf(&b, "line %d row %d", e.Line, e.Row)
		if e.ID != "" {
			fmt.Fprintf(&b, " id=%s", quoteOdd(e.ID))
		}
		if e.Source != "" {
			fmt.Fprintf(&b, " source=%s", quoteOdd(e.Source))
		}
		if e.Milli != 0 {
			b.WriteString(" " + time.UnixMilli(e.Milli).UTC().Format("2006-01-02T15:04:05.000Z"))
		}
		for f := range fieldCount {
			if e.text[f] != "" {
				fmt.Fprintf(&b, " %s=%s", f, quoteOdd(e.text[f]))
			}
		}
		b.WriteByte('\n')
		return nil
	}
	reason := func(why string) {
		tally.noEvent(why)
		fmt.Fprintf(&b, "no event: %s\n", why)
	}
	rows, err := p.Walk(strings.NewReader(input), emit, reason)
	if err != nil {
		fmt.Fprintf(&b, "error: %v\n", err)
	}
	s := tally.finish(0)
	s.Rows, s.DryRun = rows, true
	if err := s.Write(&b); err != nil {
		fmt.Fprintf(&b, "error: %v\n", err)
	}
	return b.String()
}

func quoteOdd(s string) string {
	if strings.ContainsAny(s, " \"=") {
		return strconv.Quote(s)
	}
	return s
}
