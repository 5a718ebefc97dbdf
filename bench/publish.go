package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
)

// Markers in docs/benchmarks.md; what stands between them is written by publish.
const (
	beginMark = "<!-- results: begin -->"
	endMark   = "<!-- results: end -->"
)

// publishable limits.
const (
	maxLoad   = 0.3 // cores that others may keep busy
	minRounds = 5
)

// publish rewrites the table of a document from result lines. A line that was not measured well is refused.
func publish(_ context.Context, args []string, out io.Writer) error {
	f := flag.NewFlagSet("publish", flag.ContinueOnError)
	f.SetOutput(out)
	results := f.String("results", "bench/results.jsonl", "lines to publish")
	doc := f.String("doc", "docs/benchmarks.md", "document to rewrite")
	force := f.Bool("force", false, "publish also what was measured on a busy machine, in few runs or with -quick; it is marked")
	if err := f.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return nil
		}
		return err
	}
	lines, err := readResults(*results)
	if err != nil {
		return err
	}
	text, err := os.ReadFile(*doc)
	if err != nil {
		return err
	}
	good, refused := chosen(lines, *force)
	for _, r := range refused {
		fmt.Fprintf(out, "refused %s: %s\n", r.Name, r.why())
	}
	next, err := between(text, tables(good))
	if err != nil {
		return fmt.Errorf("%s: %w", *doc, err)
	}
	fmt.Fprintf(out, "%d results published, %d refused\n", len(good), len(refused))
	return os.WriteFile(*doc, next, 0o644)
}

func readResults(path string) ([]Result, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // only read
	var all []Result
	in := bufio.NewScanner(f)
	in.Buffer(nil, 1<<20)
	for n := 1; in.Scan(); n++ {
		if len(bytes.TrimSpace(in.Bytes())) == 0 {
			continue
		}
		var r Result
		if err := json.Unmarshal(in.Bytes(), &r); err != nil {
			return nil, fmt.Errorf("%s:%d: %w", path, n, err)
		}
		all = append(all, r)
	}
	return all, in.Err()
}

// why says what keeps a result from being published; empty: nothing.
func (r *Result) why() string {
	switch {
	case r.Quick:
		return "measured with -quick"
	case r.Load > maxLoad || r.Load1 < 0:
		return fmt.Sprintf("others kept %.2f cores busy", r.Load)
	case len(r.Runs) < minRounds && !r.Once:
		return fmt.Sprintf("%d runs, %d are needed", len(r.Runs), minRounds)
	case strings.HasSuffix(r.Commit, "+") || r.Commit == "unknown":
		return "measured on a tree with changes"
	}
	return ""
}

// chosen takes the newest publishable line of each name on each machine, in the order of the rows.
func chosen(lines []Result, force bool) (good, refused []Result) {
	newest := map[[2]string]Result{}
	for _, r := range lines {
		if !force && r.why() != "" {
			refused = append(refused, r)
			continue
		}
		key := [2]string{r.Machine, r.Name}
		if old, ok := newest[key]; !ok || old.Date <= r.Date {
			newest[key] = r
		}
	}
	for _, r := range newest {
		good = append(good, r)
	}
	slices.SortFunc(good, func(a, b Result) int {
		return cmp.Or(cmp.Compare(rank(a.Name), rank(b.Name)), cmp.Compare(a.Name, b.Name))
	})
	return good, refused
}

// rank sorts by the number of the row.
func rank(name string) int {
	id, _, _ := strings.Cut(name, " ")
	order := []string{"P1", "P1b", "P1c", "P1d", "P2", "P2b", "P3", "P4", "P5", "P6", "P7", "P8", "P9", "P10", "micro"}
	if i := slices.Index(order, id); i >= 0 {
		return i
	}
	return len(order)
}

// tables is the published form: a table for each machine, the one with the oldest line first.
func tables(all []Result) string {
	if len(all) == 0 {
		return "No number is published yet: none was measured on an idle machine."
	}
	of, first := map[string][]Result{}, map[string]string{}
	for _, r := range all {
		if of[r.Machine] = append(of[r.Machine], r); first[r.Machine] == "" || r.Date < first[r.Machine] {
			first[r.Machine] = r.Date
		}
	}
	machines := slices.SortedFunc(maps.Keys(of), func(a, b string) int { return cmp.Compare(first[a], first[b]) })
	var b strings.Builder
	for i, m := range machines {
		least, most := of[m][0].FsyncP50, of[m][0].FsyncP50
		for _, r := range of[m] {
			least, most = min(least, r.FsyncP50), max(most, r.FsyncP50)
		}
		fmt.Fprintf(&b, "Machine %d: %s; fsync p50 %.2f … %.2f ms.\n\n%s\n\n", i+1, m, least, most, table(of[m]))
	}
	return strings.TrimSpace(b.String())
}

// table is one machine's.
func table(all []Result) string {
	var b strings.Builder
	b.WriteString("| row | value (spread of runs) | goal | floor | peer | peer's value | ratio | commit, date | command |\n|---|---|---|---|---|---|---|---|---|\n")
	for _, r := range all {
		mark := ""
		if r.why() != "" {
			mark = " (forced: " + r.why() + ")"
		}
		peer, ratio := "", ""
		if r.Peer != "" {
			peer, ratio = number(r.PeerValue), fmt.Sprintf("%.2f ×", r.Ratio)
			if r.Less {
				ratio = fmt.Sprintf("takes %.2f × the peer's", r.Value/r.PeerValue)
			}
			if len(r.PeerRuns) > 1 {
				peer += fmt.Sprintf(" (%s … %s)", number(slices.Min(r.PeerRuns)), number(slices.Max(r.PeerRuns)))
			}
		}
		runs := strconv.Itoa(len(r.Runs))
		if len(r.Fifths) > 0 {
			runs = "fifths of the run"
		}
		date, _, _ := strings.Cut(r.Date, "T")
		fmt.Fprintf(&b, "| %s%s | %s %s (%s … %s, %s) | %s | %s | %s | %s | %s | %s, %s | `%s` |\n", r.Name, mark, number(r.Value), r.Unit,
			number(r.Low), number(r.High), runs, r.Goal, r.Floor, r.Peer, peer, ratio, r.Commit, date, r.Command)
	}
	return strings.TrimSpace(b.String())
}

// between replaces what stands between the markers.
func between(text []byte, middle string) ([]byte, error) {
	head, rest, ok := bytes.Cut(text, []byte(beginMark))
	if !ok {
		return nil, fmt.Errorf("there is no %s", beginMark)
	}
	_, tail, ok := bytes.Cut(rest, []byte(endMark))
	if !ok {
		return nil, fmt.Errorf("there is no %s", endMark)
	}
	return slices.Concat(head, []byte(beginMark+"\n"+middle+"\n"+endMark), tail), nil
}
