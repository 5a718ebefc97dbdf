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
	Parts   map[string]int `json:"parts,omitempty"` // of which
	Skipped string         `json:"skipped,omitempty"`
	Error   string         `json:"error,omitempty"`
	Seconds int            `json:"seconds"`
	finding
	Found  []string `json:"found,omitempty"` // planted bugs, and what noticed them
	Flying int      `json:"in_flight"`       // requests that the faults cut off, together

	began time.Time
}

func newResult(b *bench, t tier) *result {
	return &result{
		Tier: t.name, Commit: b.commit, At: time.Now().UTC().Truncate(time.Second), Machine: machine(), Quick: b.opt.quick,
		Seed: b.opt.seed, Tags: b.opt.tags, Parts: map[string]int{}, began: time.Now(),
	}
}

func (r *result) failed() bool { return !r.clean() || r.Error != "" }

func (r *result) line() string {
	if r.Skipped != "" {
		return fmt.Sprintf("%s: NOT RUN: %s", r.Tier, r.Skipped)
	}
	return fmt.Sprintf("%s: n=%d acknowledged=%d unknown=%d kept=%d at_risk=%d in_flight=%d batches=%d lost=%d double=%d wrong=%d seconds=%d",
		r.Tier, r.N, r.Acked, r.Unknown, r.Kept, r.AtRisk, r.Flying, r.Batches, r.Lost, r.Double, r.Wrong, r.Seconds)
}

// summary is the last line.
func (b *bench) summary() (string, bool) {
	total := &result{}
	var ran, skipped []string
	bad := len(b.results) == 0
	for _, r := range b.results {
		bad = bad || r.failed()
		if r.Skipped != "" {
			skipped = append(skipped, r.Tier)
			continue
		}
		ran = append(ran, fmt.Sprintf("%s:%d", r.Tier, r.N))
		total.add(&r.finding)
	}
	word := "ok"
	if bad {
		word = "FAILED"
	}
	line := fmt.Sprintf("faults: %s %s lost=%d double=%d wrong=%d acknowledged=%d unknown=%d seconds=%.0f commit=%s",
		word, strings.Join(ran, " "), total.Lost, total.Double, total.Wrong, total.Acked, total.Unknown,
		time.Since(b.began).Seconds(), b.commit)
	if len(skipped) > 0 {
		line += " not_run=" + strings.Join(skipped, ",")
	}
	return line, bad
}

// save appends the result to its file and writes the table anew.
func (r *result) save(b *bench) error {
	if b.opt.results == "" {
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
	t.WriteString("| tier | run | n | acknowledged | unknown | batches | lost | double | wrong | commit | machine |\n|---|---|---|---|---|---|---|---|---|---|---|\n")
	for _, tier := range tiers() {
		results, err := readResults(filepath.Join(dir, tier.name+".jsonl"))
		if err != nil {
			return err
		}
		for _, r := range latest(results) {
			if r.Skipped != "" {
				fmt.Fprintf(&t, "| %s | not run: %s | | | | | | | | %s | %s |\n", strings.ToUpper(r.Tier), r.Skipped, r.Commit, r.Machine)
				continue
			}
			fmt.Fprintf(&t, "| %s | %s | %d | %d | %d | %d | %d | %d | %d | %s | %s |\n", strings.ToUpper(r.Tier), r.kind(), r.N, r.Acked,
				r.Unknown, r.Batches, r.Lost, r.Double, r.Wrong, r.Commit, r.Machine)
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

// latest keeps the last result of each kind, and of runs that were cut into several at one commit their sum.
func latest(results []*result) []*result {
	last := map[string]*result{}
	var order []string
	for _, r := range results {
		if r.Tags != "" {
			continue
		}
		k := r.kind()
		was := last[k]
		if was == nil {
			order = append(order, k)
		}
		if was != nil && was.Commit == r.Commit && was.Skipped == "" && r.Skipped == "" {
			r.N += was.N
			r.add(&was.finding)
		}
		last[k] = r
	}
	var out []*result
	for _, k := range order {
		out = append(out, last[k])
	}
	return out
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
