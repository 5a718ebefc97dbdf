// Package testkit holds what tests of several packages share: where the recorded data sets and the browser are, and
// what to do when they are not there. It is imported by tests only and starts no goroutine.
package testkit

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// requireEnv names what must be present: a comma list of "data", "chromium" and "processors". What it names fails a test instead of
// skipping it, so that a build machine cannot lose a part of the tests without anybody noticing.
const requireEnv = "MILLIARD_REQUIRE"

// Required says whether MILLIARD_REQUIRE names what.
func Required(what string) bool {
	return slices.ContainsFunc(strings.Split(os.Getenv(requireEnv), ","), func(s string) bool {
		return strings.TrimSpace(s) == what
	})
}

// Missing ends the test: it skips, or fails when what is required.
func Missing(t testing.TB, what, why string) {
	t.Helper()
	if Required(what) {
		t.Fatalf("%s is required by %s, but %s", what, requireEnv, why)
	}
	t.Skipf("skipped: %s (set %s=%s to make this a failure)", why, requireEnv, what)
}

// Data returns the directory of the recorded data sets, which lies beside the repository.
func Data(t testing.TB) string {
	t.Helper()
	dir := filepath.Join(Root(t), "..", "shared", "data")
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		Missing(t, "data", "there is no directory ../shared/data beside the repository")
	}
	return dir
}

// Root returns the repository's directory.
func Root(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatalf("working directory: %v", err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			t.Fatal("no go.mod above the working directory")
		}
		dir = parent
	}
}

// Chromium returns the path of a headless-capable browser.
func Chromium(t testing.TB) string {
	t.Helper()
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	Missing(t, "chromium", "no Chromium or Chrome was found in PATH")
	return ""
}

// Eventually polls until ok returns true and fails the test when it has not within limit. It is for conditions behind a
// socket or another process, which give no signal to wait on.
func Eventually(t testing.TB, limit time.Duration, what string, ok func() bool) {
	t.Helper()
	deadline := time.NewTimer(limit)
	defer deadline.Stop()
	poll := time.NewTicker(5 * time.Millisecond)
	defer poll.Stop()
	for !ok() {
		select {
		case <-t.Context().Done():
			t.Fatalf("%s: test ended", what)
		case <-deadline.C:
			t.Fatalf("%s: not within %v", what, limit)
		case <-poll.C:
		}
	}
}
