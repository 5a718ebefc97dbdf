package replay

import (
	"os"
	"path/filepath"
	"testing"
)

// FuzzMap: a map file that nobody would write is refused or read, without a panic.
func FuzzMap(f *testing.F) {
	names, err := filepath.Glob(filepath.Join("..", "..", "testdata", "maps", "*.yaml"))
	if err != nil || len(names) == 0 {
		f.Fatal("no maps", err)
	}
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		m, err := ParseMap(text)
		if err == nil && m == nil {
			t.Fatal("neither a map nor an error")
		}
	})
}
