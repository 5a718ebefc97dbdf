package testkit

import (
	"os"
	"path/filepath"
	"testing"
)

func TestRequiredReadsACommaList(t *testing.T) {
	for _, tc := range []struct {
		env  string
		want bool
	}{{"", false}, {"data", true}, {"chromium, data", true}, {"chromium", false}, {"dataset", false}} {
		t.Setenv(requireEnv, tc.env)
		if got := Required("data"); got != tc.want {
			t.Errorf("with %q: required = %v, want %v", tc.env, got, tc.want)
		}
	}
}

func TestRootHoldsTheModule(t *testing.T) {
	if _, err := os.Stat(filepath.Join(Root(t), "internal", "testkit")); err != nil {
		t.Fatal(err)
	}
}
