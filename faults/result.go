package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"
)

// result is one run of one tier, one line of docs/faults/<tier>.jsonl.
type result struct {
	Tier    string    `json:"tier"`
	Commit  string    `json:"commit"`
	At      time.Time `json:"at"`
	Machine string    `json:"machine"`
	Quick   bool      `json:"quick"`
	Seed    uint64    `json:"seed"`
	Tags    string    `json:"tags,omitempty"`

	N       int            `json:"n"`               // faults
	Asked   int            `json:"asked,omitempty"` // of all parts of such a run together
	Done    map[string]int `json:"done,omitempty"`  // of each part, whatever it counts
	Parts   map[string]int `json:"parts,omitempty"` // of which
	Skipped string         `json:"skipped,omitempty"`
	NotRun  []string       `json:"not_run,omitempty"` // parts that cannot run here
	Error   string         `json:"error,omitempty"`
	Late    int            `json:"late,omitempty"` // what this program has waited for too long; done again
	Seconds int            `json:"seconds"`
	finding
	Found  []string `json:"found,omitempty"` // planted bugs, and what noticed them
	Flying int      `json:"in_flight"`       // requests that the faults cut off, together

	began  time.Time
	gaveUp bool // something came too late, and the tier has not gone on
}

func newResult(b *bench, t tier) *result {
	return &result{
		Tier: t.name, Commit: b.commit, At: time.Now().UTC().Truncate(time.Second), Machine: machine(), Quick: b.opt.quick,
		Seed: b.opt.seed, Tags: b.opt.tags, Parts: map[string]int{}, Done: map[string]int{}, began: time.Now(),
	}
}

// cannot says that a part of the tier is not run, and why.
func (r *result) cannot(part, format string, args ...any) {
	r.NotRun = append(r.NotRun, part)
	r.note("%s is not run: %s", part, fmt.Sprintf(format, args...))
}

// merge adds what one directory has shown.
func (r *result) merge(o *result) {
	r.N += o.N
	r.Late += o.Late
	r.Flying += o.Flying
	r.Found = append(r.Found, o.Found...)
	r.NotRun = append(r.NotRun, o.NotRun...)
	for k, n := range o.Done {
		r.Done[k] += n
	}
	for k, n := range o.Parts {
		r.Parts[k] += n
	}
	r.add(&o.finding)
}

// failed: a number was wrong, or the tier did not come to its end.
func (r *result) failed() bool { return !r.clean() || r.Error != "" }

func (r *result) line() string {
	if r.Skipped != "" {
		return fmt.Sprintf("%s: NOT RUN: %s", r.Tier, r.Skipped)
	}
	return fmt.Sprintf("%s: n=%d acknowledged=%d unknown=%d kept=%d at_risk=%d in_flight=%d batches=%d acknowledged_batches=%d lost=%d double=%d wrong=%d late=%d seconds=%d",
		r.Tier, r.N, r.Acked, r.Unknown, r.Kept, r.AtRisk, r.Flying, r.Batches, r.Durable, r.Lost, r.Double, r.Wrong, r.Late, r.Seconds)
}

// findings are what the tiers have noted, once more: of a long log often only the end is kept.
func (b *bench) findings() []string {
	var all []string
	for _, r := range b.results {
		for _, n := range r.Notes {
			all = append(all, fmt.Sprintf("faults: %s: %s", r.Tier, n))
		}
	}
	return all
}

// overdue: something came too late, and this is not a quick run in which that is forgiven.
func (r *result) overdue() bool { return r.gaveUp || r.Late > 1 || r.Late > 0 && !r.Quick }

// summary is the last line. A run in which something only came too late is no failure, and it has not passed unless that is
// forgiven.
func (b *bench) summary() (line string, err error) {
	total := &result{}
	n := map[string]int{}
	var ran, skipped []string
	failed, overdue := len(b.results) == 0, false
	for _, r := range b.results {
		failed, overdue = failed || r.failed(), overdue || r.overdue()
		total.Late += r.Late
		if r.Skipped != "" {
			skipped = append(skipped, r.Tier)
			continue
		}
		for _, part := range r.NotRun {
			skipped = append(skipped, r.Tier+":"+strings.ReplaceAll(part, " ", "_"))
		}
		n[r.Tier] += r.N
		total.add(&r.finding)
	}
	for _, t := range tiers() {
		if count, ok := n[t.name]; ok {
			ran = append(ran, fmt.Sprintf("%s:%d%s", t.name, count, b.earlier(t.name)))
		}
	}
	word := "ok"
	switch {
	case failed:
		word, err = "FAILED", errors.New("the promise was broken, or a tier was not what it must be")
	case overdue:
		word, err = "LATE", errors.New("no number is wrong, but something came too late: is the machine busy?")
	}
	line = fmt.Sprintf("faults: %s %s lost=%d double=%d wrong=%d late=%d acknowledged=%d unknown=%d seconds=%.0f commit=%s",
		word, strings.Join(ran, " "), total.Lost, total.Double, total.Wrong, total.Late, total.Acked, total.Unknown,
		time.Since(b.began).Seconds(), b.commit)
	if b.stopping.Load() {
		line += " stopped"
	}
	if len(skipped) > 0 {
		line += " not_run=" + strings.Join(skipped, ",")
	}
	return line, err
}

// earlier says how much of a tier was done before a full run, which only does what is missing.
func (b *bench) earlier(tier string) string {
	done := 0
	for _, n := range b.done[tier] {
		done += n
	}
	if b.opt.quick || done == 0 {
		return ""
	}
	return fmt.Sprintf("+%d", done)
}

// save appends the result to its file and writes the table anew. A run that has done nothing leaves nothing.
func (r *result) save(b *bench) error {
	if b.opt.results == "" || len(r.Done) == 0 && r.clean() && r.Skipped == "" {
		return nil
	}
	if err := os.MkdirAll(b.opt.results, 0o755); err != nil {
		return fmt.Errorf("save the result: %w", err)
	}
	line, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("save the result: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(b.opt.results, r.Tier+".jsonl"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("save the result: %w", err)
	}
	_, err = f.Write(append(line, '\n'))
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("save the result: %w", err)
	}
	return writeTable(b.opt.results)
}

const (
	tableBegin = "<!-- faults: begin -->"
	tableEnd   = "<!-- faults: end -->"
)

// writeTable replaces the table in docs/faults.md by the last results of every tier and kind of run.
func writeTable(dir string) error {
	path := filepath.Clean(dir) + ".md"
	page, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("write the table: %w", err)
	}
	before, rest, ok1 := strings.Cut(string(page), tableBegin)
	_, after, ok2 := strings.Cut(rest, tableEnd)
	if !ok1 || !ok2 {
		return fmt.Errorf("write the table: %s has no marks", path)
	}
	var t strings.Builder
	t.WriteString("| tier | run | done of asked | faults | acknowledged | unknown | batches | lost | double | wrong | commits | machine | failed before |\n")
	t.WriteString("|---|---|---|---|---|---|---|---|---|---|---|---|---|\n")
	for _, tier := range tiers() {
		results, err := readResults(filepath.Join(dir, tier.name+".jsonl"))
		if err != nil {
			return err
		}
		for _, r := range rows(results) {
			t.WriteString(r.row())
		}
	}
	return os.WriteFile(path, []byte(before+tableBegin+"\n"+t.String()+tableEnd+after), 0o644)
}

func (r *result) kind() string {
	if r.Quick {
		return "quick"
	}
	return "full"
}

// row is what the table says of one tier and kind of run.
type row struct {
	result
	commits []string
	before  []string // runs that failed, with bugs that are fixed
}

func (r *row) row() string {
	if r.Skipped != "" {
		return fmt.Sprintf("| %s | not run: %s | | | | | | | | | %s | %s | |\n", strings.ToUpper(r.Tier), r.Skipped, r.Commit, r.Machine)
	}
	done := 0
	for _, n := range r.Done {
		done += n
	}
	asked := fmt.Sprintf("%d of %d", done, r.Asked)
	if r.Tier == fuzzTier {
		asked += " s"
	}
	if r.Late > 0 {
		asked += fmt.Sprintf("; %d too late", r.Late)
	}
	if len(r.NotRun) > 0 {
		asked += "; cannot run: " + strings.Join(r.NotRun, ", ")
	}
	batches := strconv.Itoa(r.Batches)
	if r.Durable > 0 {
		batches += fmt.Sprintf(", %d acknowledged", r.Durable)
	}
	return fmt.Sprintf("| %s | %s | %s | %d | %d | %d | %s | %d | %d | %d | %s | %s | %s |\n", strings.ToUpper(r.Tier), r.kind(), asked, r.N, r.Acked,
		r.Unknown, batches, r.Lost, r.Double, r.Wrong, strings.Join(r.commits, " "), r.Machine, strings.Join(r.before, "; "))
}

// rows sums up results: of a quick run the last one, of full runs all that were clean. A run that failed is in the sums
// until a later commit has had a clean one; from then on it is told of beside them.
func rows(results []*result) []*row {
	sums := map[bool]*row{}
	for i, r := range results {
		if r.Tags != "" {
			continue
		}
		sum := sums[r.Quick]
		if sum == nil || sum.Skipped != "" {
			sum = &row{result: result{Tier: r.Tier, Quick: r.Quick, Done: map[string]int{}, Parts: map[string]int{}}}
		}
		sums[r.Quick] = sum
		if r.failed() && fixedLater(r, results[i+1:]) {
			if standAlone(r.Tier) { // what it has noticed is noticed, whatever it has not
				for name := range r.Done {
					if failedIn(r, name) {
						delete(r.Done, name)
					}
				}
				sum.merge(&result{N: r.N, Done: r.Done})
				sum.commits = append(sum.commits, r.Commit)
			}
			sum.before = append(sum.before, fmt.Sprintf("%s: lost %d double %d wrong %d", r.Commit, r.Lost, r.Double, r.Wrong))
			continue
		}
		if r.Quick {
			*sum = row{result: result{Tier: r.Tier, Quick: true, Done: map[string]int{}, Parts: map[string]int{}}, before: sum.before}
		}
		sum.merge(r)
		sum.Asked, sum.Commit, sum.Machine, sum.Skipped, sum.NotRun = max(sum.Asked, r.Asked), r.Commit, r.Machine, r.Skipped, r.NotRun
		if !slices.Contains(sum.commits, r.Commit) {
			sum.commits = append(sum.commits, r.Commit)
		}
	}
	var out []*row
	for _, quick := range []bool{true, false} {
		if sums[quick] != nil {
			out = append(out, sums[quick])
		}
	}
	return out
}

func fixedLater(r *result, later []*result) bool {
	return slices.ContainsFunc(later, func(o *result) bool {
		return o.Quick == r.Quick && o.Tags == "" && o.Commit != r.Commit && o.N > 0 && !o.failed()
	})
}

func readResults(path string) ([]*result, error) {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read results: %w", err)
	}
	defer func() { _ = f.Close() }() // it was only read
	var out []*result
	sc := bufio.NewScanner(f)
	sc.Buffer(make([]byte, 1<<16), 4<<20)
	for sc.Scan() {
		r := new(result)
		if err := json.Unmarshal(sc.Bytes(), r); err != nil {
			return nil, fmt.Errorf("read results: %s: %w", path, err)
		}
		if r.Done == nil {
			r.Done = map[string]int{}
		}
		out = append(out, r)
	}
	return out, sc.Err()
}

func commitOf(ctx context.Context) string {
	out, err := exec.CommandContext(ctx, "git", "rev-parse", "--short", "HEAD").Output()
	if err != nil {
		return "unknown"
	}
	commit := strings.TrimSpace(string(out))
	changed, err := exec.CommandContext(ctx, "git", "status", "--porcelain", "--untracked-files=no", "internal", "cmd", "client").Output()
	if err == nil && len(changed) > 0 {
		commit += "+"
	}
	return commit
}

// machine describes the computer without naming it.
func machine() string {
	model := runtime.GOARCH
	if b, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.SplitSeq(string(b), "\n") {
			if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
				model = strings.TrimSpace(value)
				break
			}
		}
	}
	memory := ""
	if b, err := os.ReadFile("/proc/meminfo"); err == nil {
		var kb int
		if _, err := fmt.Sscanf(string(b), "MemTotal: %d kB", &kb); err == nil {
			memory = fmt.Sprintf(", %d GB", (kb+1<<19)>>20)
		}
	}
	return fmt.Sprintf("%d × %s%s, %s", runtime.NumCPU(), model, memory, runtime.GOOS)
}
