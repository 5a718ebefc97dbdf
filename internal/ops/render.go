package ops

import (
	"fmt"
	"io"
	"strings"
	"time"

	"milliard/internal/stage"
)

// Render writes a status as a page of text, at most width columns wide (0: no limit). With color it uses the sixteen
// terminal colours and nothing else.
func Render(w io.Writer, s *Status, width int, color bool) error {
	p := page{width: width, color: color}
	p.head(s)
	p.stages(s)
	p.lanes(s)
	_, err := io.WriteString(w, p.b.String())
	return err
}

type page struct {
	b     strings.Builder
	width int
	color bool
}

const (
	bold   = "1"
	dim    = "2"
	red    = "31"
	green  = "32"
	yellow = "33"
)

func (p *page) paint(code, text string) string {
	if !p.color || text == "" {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

// line writes one line; plain is cut to the width, and painted as a whole so that cutting never splits an escape.
func (p *page) line(code, plain string) {
	if r := []rune(plain); p.width > 0 && len(r) > p.width {
		plain = string(r[:p.width])
	}
	plain = strings.TrimRight(plain, " ")
	if code != "" {
		plain = p.paint(code, plain)
	}
	p.b.WriteString(plain)
	p.b.WriteByte('\n')
}

func (p *page) head(s *Status) {
	p.line(bold, fmt.Sprintf("milliard %s  %s  up %s  heap %s  %d goroutines  %d CPUs  %s", s.Version, s.Mode,
		time.Duration(s.Uptime*float64(time.Second)).Round(time.Second), bytesText(s.HeapBytes), s.Goroutines, s.CPUs,
		s.At.Format(time.RFC3339)))
	p.part("doors", s.Ready.Doors)
	p.part("grid", s.Ready.Grid)
	p.line("", fmt.Sprintf("last durable write %s, last flush %s", ageText(s.Ready.LastDurable), ageText(s.Ready.LastFlush)))
	p.line("", "")
}

func (p *page) part(name string, part readyPart) {
	if part.Ready && len(part.Warnings) > 0 {
		p.line(yellow, name+" ready, but "+printable(strings.Join(part.Warnings, "; ")))
		return
	}
	if part.Ready {
		p.line(green, name+" ready")
		return
	}
	p.line(red, name+" not ready: "+printable(strings.Join(part.Reasons, "; ")))
}

func (p *page) stages(s *Status) {
	p.line(dim, fmt.Sprintf("%-9s%-10s%-19s%10s%10s%10s%10s    %s", "STAGE", "INSTANCE", "BUSY, LAST 10 S", "EVENTS/S",
		"P50", "P99", "MAX", "LAST MINUTE"))
	if len(s.Stages) == 0 {
		p.line("", "no stage has reported yet")
	}
	for _, st := range s.Stages {
		w, m := st.Last10s, st.Last1m
		code := ""
		switch {
		case st.Stage == s.Bottleneck && w.Utilisation >= 0.8:
			code = red
		case st.Stage == s.Bottleneck:
			code = yellow
		}
		p.line(code, fmt.Sprintf("%-9s%-10s%s %5s %10s%10s%10s%10s    %4s busy, p99 %s%s", printable(st.Stage),
			printable(st.Instance), bar(w.Utilisation, 12), percent(w.Utilisation), rateText(w.Rate), millisText(w.P50),
			millisText(w.P99), millisText(w.Max), percent(m.Utilisation), millisText(m.P99), note(st, s.Bottleneck)))
	}
	p.line("", "")
}

func note(st stage.Stats, bottleneck string) string {
	switch {
	case st.Running > 1000:
		return fmt.Sprintf("  busy for %.1f s", st.Running/1000)
	case st.Stage == bottleneck:
		return "  < bottleneck"
	}
	return ""
}

func (p *page) lanes(s *Status) {
	if len(s.Lanes) == 0 {
		return
	}
	p.line(dim, fmt.Sprintf("%-6s%-13s%12s%12s%12s%12s%16s%12s%10s", "LANE", "STATE", "DURABLE", "FOLDED", "FLUSHED",
		"SEALED", "QUEUED", "DIRTY", "LAG"))
	for _, l := range s.Lanes {
		code := ""
		if l.State == LaneHalted {
			code = red
		}
		p.line(code, fmt.Sprintf("%-6d%-13s%12d%12d%12d%12d%16s%12d%10s %s", l.Lane, printable(l.State), l.Journal, l.Folded,
			l.Flushed, l.Sealed, fmt.Sprintf("%d/%d", l.Queued, l.QueueSize), l.Dirty, millisText(float64(l.LagMillis)),
			printable(l.Reason)))
	}
}

// printable keeps a name from moving the cursor: what is not printable becomes a question mark.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < 0x20 || r == 0x7f || r >= 0x80 && r < 0xa0 {
			return '?'
		}
		return r
	}, s)
}

func bar(v float64, cells int) string {
	full := min(cells, max(0, int(v*float64(cells)+0.5)))
	return strings.Repeat("█", full) + strings.Repeat("·", cells-full)
}

func percent(v float64) string { return fmt.Sprintf("%.0f%%", v*100) }

func rateText(v float64) string {
	switch {
	case v >= 1e6:
		return fmt.Sprintf("%.2fM", v/1e6)
	case v >= 1e4:
		return fmt.Sprintf("%.1fk", v/1e3)
	case v >= 100 || v == 0:
		return fmt.Sprintf("%.0f", v)
	}
	return fmt.Sprintf("%.1f", v)
}

func millisText(ms float64) string {
	switch {
	case ms == 0:
		return "-"
	case ms < 1:
		return fmt.Sprintf("%.0fµs", ms*1000)
	case ms < 10:
		return fmt.Sprintf("%.2fms", ms)
	case ms < 1000:
		return fmt.Sprintf("%.0fms", ms)
	}
	return fmt.Sprintf("%.1fs", ms/1000)
}

func bytesText(n uint64) string {
	if n >= 1<<30 {
		return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
	}
	return fmt.Sprintf("%.0f MiB", float64(n)/(1<<20))
}

func ageText(seconds *float64) string {
	if seconds == nil {
		return "none yet"
	}
	return millisText(*seconds*1000) + " ago"
}
