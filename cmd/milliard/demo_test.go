package main

import (
	"bytes"
	"os"
	"regexp"
	"strconv"
	"testing"
)

// TestDemoRunsCountsAndLeavesNothing runs the demonstration as a user does.
func TestDemoRunsCountsAndLeavesNothing(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a whole server")
	}
	t.Setenv("TMPDIR", t.TempDir())
	var out, errs bytes.Buffer
	status := run(t.Context(), []string{
		"demo", "--duration", "4s", "--rate", "100", "--seed", "1", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0",
	}, &out, &errs)
	if status != 0 {
		t.Fatalf("status %d: %s", status, errs.String())
	}
	counts := regexp.MustCompile(`counted impressions=(\d+) clicks=(\d+)`).FindAllSubmatch(out.Bytes(), -1)
	if len(counts) == 0 {
		t.Fatalf("no totals in %s", out.String())
	}
	if n, err := strconv.Atoi(string(counts[len(counts)-1][1])); err != nil || n < 50 {
		t.Errorf("%d impressions after 4 s at 100 visits a second:\n%s", n, out.String())
	}
	left, err := os.ReadDir(os.Getenv("TMPDIR"))
	if err != nil {
		t.Fatal(err)
	}
	if len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}
