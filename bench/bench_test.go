package main

import (
	"context"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"milliard/client"
)

// TestMicroRowsRun keeps every in-process row from rotting: each runs for a few iterations.
func TestMicroRowsRun(t *testing.T) {
	if err := flag.Set("test.benchtime", "2x"); err != nil {
		t.Fatal(err)
	}
	for _, m := range micros() {
		t.Run(m.name, func(t *testing.T) {
			if r := testing.Benchmark(m.run); r.N == 0 {
				t.Error("it failed")
			}
		})
	}
}

func BenchmarkMicro(b *testing.B) {
	for _, m := range micros() {
		b.Run(m.name, m.run)
	}
}

func TestEveryRowOfTheTableExists(t *testing.T) {
	have := map[string]bool{}
	for _, r := range rows() {
		if have[r.id] {
			t.Errorf("row %s stands twice", r.id)
		}
		have[r.id] = true
	}
	for _, id := range []string{"P1", "P1b", "P1c", "P1d", "P2", "P2b", "P3", "P4", "P5", "P6", "P7", "P8", "P9", "P10"} {
		if !have[id] {
			t.Errorf("row %s is missing", id)
		}
	}
	if err := run(t.Context(), []string{"-rows", "P99"}, &strings.Builder{}); err == nil {
		t.Error("a row that does not exist was run")
	}
}

// TestTrafficSaysWhatItSent decodes what a client sends and counts it again: a check is only as good as its left side.
func TestTrafficSaysWhatItSent(t *testing.T) {
	tr := microTraffic()
	var b client.Builder
	var batch client.Batch
	var body []byte
	ids := map[string]bool{}
	var repeats, fresh, weighted int64
	for range 20 {
		body = microBatch(tr, &b, body)
		if err := batch.Decode(body, microRows); err != nil {
			t.Fatal(err)
		}
		for i := range batch.Rows {
			id := string(batch.Strings[client.FieldID].Row(i))
			if strings.Trim(id, alphabet) != "" || len(id) != 16 {
				t.Fatalf("id %q", id)
			}
			if ids[id] {
				repeats++
				continue
			}
			ids[id] = true
			fresh++
			weighted += atoi(t, string(batch.Strings[client.FieldCampaign].Row(i))[1:])
		}
	}
	s := tr.finish()
	if sum(s.Valid) != fresh || sum(s.Duplicate) != repeats || s.Weighted != weighted || repeats == 0 {
		t.Errorf("%d fresh, %d repeats, weight %d; it says %d, %d, %d", fresh, repeats, weighted, sum(s.Valid), sum(s.Duplicate), s.Weighted)
	}
	for kind, share := range map[string]float64{client.Impression: 0.94, client.Click: 0.05, client.Conversion: 0.01} {
		if got := float64(s.Valid[kind]) / float64(fresh); got < share*0.7 || got > share*1.3 {
			t.Errorf("%s: share %.3f, want about %.2f", kind, got, share)
		}
	}
}

func atoi(t *testing.T, s string) int64 {
	t.Helper()
	n, rest := digitsOf([]byte(s))
	if len(rest) != 0 || s == "" {
		t.Fatalf("%q is not a number", s)
	}
	return n
}

func TestTheBudgetOfEventsIsExact(t *testing.T) {
	r := &loadRun{load: load{Events: 1000}}
	r.end = r.end.AddDate(5000, 0, 0)
	r.left.Store(1000)
	total := 0
	for {
		n := r.take(300)
		if n == 0 {
			break
		}
		if n == 300 && total == 0 { // one batch had room for less
			r.left.Add(50)
			n -= 50
		}
		total += n
	}
	if total != 1000 {
		t.Errorf("%d events were given out", total)
	}
}

func TestMediansSpreadAndRatio(t *testing.T) {
	s := &series{name: "P1 x", ours: []float64{3, 1, 2, 5, 4}, peers: []float64{2, 2, 1}, peer: "p"}
	if r := s.result(); r.Value != 3 || r.Low != 1 || r.High != 5 || r.PeerValue != 2 || r.Ratio != 1.5 {
		t.Errorf("%+v", r)
	}
	s.less = true
	if r := s.result(); r.Ratio < 0.66 || r.Ratio > 0.67 {
		t.Errorf("less is better: ratio %v", r.Ratio)
	}
	for v, want := range map[float64]string{0: "0", 1234567: "1,234,567", 12.34: "12.3", 1.239: "1.24", 999: "999.0", -1500: "-1,500"} {
		if got := number(v); got != want {
			t.Errorf("%v: %q, want %q", v, got, want)
		}
	}
}

// TestOnlyGoodNumbersArePublished writes one line for each reason to refuse, and a good one.
func TestOnlyGoodNumbersArePublished(t *testing.T) {
	dir := t.TempDir()
	results, doc := filepath.Join(dir, "r.jsonl"), filepath.Join(dir, "d.md")
	good := Result{Name: "P1 good", Value: 2_000_000, Unit: "events/s", Runs: []float64{1, 2, 3, 4, 5}, Commit: "abc", Date: "2026-01-02T00:00:00Z"}
	refused := map[string]func(*Result){
		"busy": func(r *Result) { r.Load = 0.31 }, "quick": func(r *Result) { r.Quick = true },
		"few": func(r *Result) { r.Runs = r.Runs[:4] }, "changed": func(r *Result) { r.Commit = "abc+" },
	}
	older := good
	older.Value, older.Date = 1, "2026-01-01T00:00:00Z"
	lines := []Result{good, older}
	for name, spoil := range refused {
		r := good
		r.Name = "P1 " + name
		spoil(&r)
		lines = append(lines, r)
	}
	for i := range lines {
		if err := appendResult(results, &lines[i]); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(doc, []byte("head\n"+beginMark+"\nold\n"+endMark+"\ntail\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	read := func(force string) string {
		t.Helper()
		if err := publish(context.Background(), []string{"-results", results, "-doc", doc, force}, &strings.Builder{}); err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(doc)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	text := read("-force=false")
	if !strings.HasPrefix(text, "head\n") || !strings.HasSuffix(text, "tail\n") || strings.Contains(text, "old") || !strings.Contains(text, "P1 good | 2,000,000") {
		t.Error(text)
	}
	for name := range refused {
		if strings.Contains(text, "P1 "+name) {
			t.Errorf("%s was published", name)
		}
	}
	if text = read("-force=true"); !strings.Contains(text, "P1 quick (forced: ") {
		t.Errorf("forced:\n%s", text)
	}
}

// TestMachinesAreNotMixed: a slower machine's newer line does not take the place of another one's.
func TestMachinesAreNotMixed(t *testing.T) {
	line := func(machine, date string, value float64) Result {
		return Result{Name: "P1 x", Machine: machine, Date: date, Value: value, Runs: []float64{1, 2, 3, 4, 5}, Commit: "abc", FsyncP50: value / 10}
	}
	good, refused := chosen([]Result{line("slow", "3", 3), line("fast", "1", 7), line("fast", "2", 8)}, false)
	text := tables(good)
	fast, slow := strings.Index(text, "Machine 1: fast; fsync p50 0.80 … 0.80 ms"), strings.Index(text, "Machine 2: slow; fsync")
	if len(refused) > 0 || fast < 0 || slow < fast || strings.Index(text, "| P1 x | 8 ") > slow || strings.Index(text, "| P1 x | 3 ") < slow || strings.Contains(text, "| P1 x | 7 ") {
		t.Errorf("refused %v\n%s", refused, text)
	}
}

func TestResultsHaveTheFieldsOfTheIssue(t *testing.T) {
	line, err := json.Marshal(Result{})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range []string{"name", "value", "unit", "peer", "peer_value", "ratio", "cores", "commit", "loadavg"} {
		if !strings.Contains(string(line), `"`+f+`":`) {
			t.Errorf("%s is missing in %s", f, line)
		}
	}
}

// TestForgersStandAmongTheOthers: a schedule in which forged pixels come behind the good ones shows what neither costs.
func TestForgersStandAmongTheOthers(t *testing.T) {
	for _, c := range []struct {
		forged, conns int
		want          string
	}{{0, 4, "gggg"}, {4, 8, "gfgfgfgf"}, {1, 4, "gggf"}, {4, 4, "ffff"}} {
		l := &load{Conns: c.conns, Forged: c.forged}
		got := ""
		for i := range c.conns {
			got += map[bool]string{false: "g", true: "f"}[l.forges(i)]
		}
		if got != c.want {
			t.Errorf("%d of %d: %s, want %s", c.forged, c.conns, got, c.want)
		}
	}
}

// TestEveryCampaignCanBeDrawn: a table with fewer entries than the last campaign is rare would leave it out.
func TestEveryCampaignCanBeDrawn(t *testing.T) {
	for _, n := range []int{10, 1000, 100_000} {
		seen := make([]bool, n)
		for _, i := range zipfTable(n) {
			seen[i] = true
		}
		for i, ok := range seen {
			if !ok {
				t.Errorf("%d campaigns: number %d is never drawn", n, i)
				break
			}
		}
	}
}
