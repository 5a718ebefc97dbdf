package tidy

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"testing"
)

// TestArchitectureNamesWhatExists checks every `file.go:Function` in docs/ARCHITECTURE.md.
func TestArchitectureNamesWhatExists(t *testing.T) {
	root := filepath.Join("..", "..")
	doc, err := os.ReadFile(filepath.Join(root, "docs", "ARCHITECTURE.md"))
	if err != nil {
		t.Fatal(err)
	}
	refs := regexp.MustCompile("`([a-z0-9_/]+\\.go):([A-Za-z0-9_]+)`").FindAllStringSubmatch(string(doc), -1)
	if len(refs) < 20 {
		t.Fatalf("only %d references found", len(refs))
	}
	for _, ref := range refs {
		file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(root, ref[1]), nil, parser.SkipObjectResolution)
		if err != nil {
			t.Errorf("%s: %v", ref[0], err)
			continue
		}
		found := false
		for _, d := range file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Name.Name == ref[2] {
				found = true
			}
		}
		if !found {
			t.Errorf("%s: no such function", ref[0])
		}
	}
}
