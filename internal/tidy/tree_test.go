package tidy

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "milliard"

// goFile is one parsed source file.
type goFile struct {
	path  string // relative to the repository's root
	pkg   string // directory relative to the root: "internal/grid"
	test  bool
	lines int
	syn   *ast.File
}

// imports returns the import paths of the file.
func (f *goFile) imports() []string {
	var out []string
	for _, spec := range f.syn.Imports {
		if path, err := strconv.Unquote(spec.Path.Value); err == nil {
			out = append(out, path)
		}
	}
	return out
}

// tree is the whole repository as the tests see it.
type tree struct {
	root  string
	fset  *token.FileSet
	files []*goFile
	all   []string // every file, relative to the root
}

// skippedDirs hold what is built or run here, never what is committed.
func skippedDirs() []string { return []string{".git", "bin", "dist", "tmp", "data"} }

// loadTree parses every Go file below the repository's root.
func loadTree(t *testing.T) *tree {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	tr := &tree{root: root, fset: token.NewFileSet()}
	err = filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		if entry.IsDir() {
			if slices.Contains(skippedDirs(), rel) || entry.Name() == ".git" {
				return filepath.SkipDir
			}
			return nil
		}
		if !entry.Type().IsRegular() {
			return nil
		}
		tr.all = append(tr.all, filepath.ToSlash(rel))
		if strings.HasSuffix(rel, ".go") {
			return tr.parse(filepath.ToSlash(rel))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(tr.files) < 5 {
		t.Fatalf("only %d Go files below %s: the tests do not see the repository", len(tr.files), root)
	}
	return tr
}

func (tr *tree) parse(rel string) error {
	src, err := os.ReadFile(filepath.Join(tr.root, rel))
	if err != nil {
		return err
	}
	syn, err := parser.ParseFile(tr.fset, rel, src, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return err
	}
	pkg := filepath.ToSlash(filepath.Dir(rel))
	tr.files = append(tr.files, &goFile{
		path: rel, pkg: pkg, test: strings.HasSuffix(rel, "_test.go"),
		lines: strings.Count(string(src), "\n"), syn: syn,
	})
	return nil
}

// line says where a node is.
func (tr *tree) line(n ast.Node) string {
	pos := tr.fset.Position(n.Pos())
	return pos.Filename + ":" + strconv.Itoa(pos.Line)
}

// calls reports every use of pkg.name in the file, where pkg is the last part of an import path.
func calls(f *goFile, pkg string, names ...string) []ast.Node {
	var out []ast.Node
	ast.Inspect(f.syn, func(n ast.Node) bool {
		sel, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		if id, ok := sel.X.(*ast.Ident); ok && id.Name == pkg && slices.Contains(names, sel.Sel.Name) {
			out = append(out, sel)
		}
		return true
	})
	return out
}
