package tidy

import (
	"go/ast"
	"go/token"
	"slices"
	"strings"
	"testing"
)

func TestEveryPackageSaysWhatItIs(t *testing.T) {
	docs, names := map[string]string{}, map[string]string{}
	for _, f := range loadTree(t).files {
		if f.test {
			continue
		}
		names[f.pkg] = f.syn.Name.Name
		if f.syn.Doc != nil {
			if docs[f.pkg] != "" {
				t.Errorf("%s: package %s has a second package comment", f.path, f.pkg)
			}
			docs[f.pkg] = f.syn.Doc.Text()
		}
	}
	for pkg, name := range names {
		doc := docs[pkg]
		if name != "main" && !strings.HasPrefix(doc, "Package "+name+" ") {
			t.Errorf("%s: the package comment must start with \"Package %s \"", pkg, name)
		}
		if len(doc) < 80 {
			t.Errorf("%s: the package comment must say its role and what it must not do, it has %d characters", pkg, len(doc))
		}
	}
}

func TestTestsDoNotSleep(t *testing.T) {
	tr := loadTree(t)
	for _, f := range tr.files {
		// In a synctest bubble time is virtual and a sleep is exact.
		if !f.test && !testOnly(f.pkg) || slices.Contains(f.imports(), "testing/synctest") {
			continue
		}
		for _, n := range calls(f, "time", "Sleep") {
			t.Errorf("%s: wait for a signal, a sleep is too long or too short", tr.line(n))
		}
	}
}

func TestNoInit(t *testing.T) {
	tr := loadTree(t)
	for _, f := range tr.files {
		for _, decl := range f.syn.Decls {
			if fn, ok := decl.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" {
				t.Errorf("%s: init: start-up is in the composition root", tr.line(fn))
			}
		}
	}
}

// TestPackageVariablesAreConstants: a package variable may only be what cannot be written as a constant: it has an
// initial value and nothing in its package assigns to it.
func TestPackageVariablesAreConstants(t *testing.T) {
	tr := loadTree(t)
	vars := map[string]map[string]ast.Node{} // package -> name -> where
	for _, f := range tr.files {
		if f.test {
			continue
		}
		for _, decl := range f.syn.Decls {
			gen, ok := decl.(*ast.GenDecl)
			if !ok || gen.Tok != token.VAR {
				continue
			}
			for _, spec := range gen.Specs {
				v := spec.(*ast.ValueSpec)
				embedded := strings.Contains(commentText(gen.Doc)+commentText(v.Doc), "go:embed")
				for _, name := range v.Names {
					if name.Name == "_" || embedded {
						continue
					}
					if len(v.Values) == 0 {
						t.Errorf("%s: package variable %s has no value, so something must change it", tr.line(name), name.Name)
					}
					if vars[f.pkg] == nil {
						vars[f.pkg] = map[string]ast.Node{}
					}
					vars[f.pkg][name.Name] = name
				}
			}
		}
	}
	for _, f := range tr.files {
		if f.test {
			continue
		}
		ast.Inspect(f.syn, func(n ast.Node) bool {
			var targets []ast.Expr
			switch s := n.(type) {
			case *ast.AssignStmt:
				if s.Tok == token.DEFINE {
					return true
				}
				targets = s.Lhs
			case *ast.IncDecStmt:
				targets = []ast.Expr{s.X}
			default:
				return true
			}
			for _, target := range targets {
				if name := rootName(target); name != "" && vars[f.pkg][name] != nil && !shadowed(f, name, n) {
					t.Errorf("%s: package variable %s is changed", tr.line(n), name)
				}
			}
			return true
		})
	}
}

// commentText returns a comment with its directives, which CommentGroup.Text leaves out.
func commentText(group *ast.CommentGroup) string {
	var b strings.Builder
	if group != nil {
		for _, c := range group.List {
			b.WriteString(c.Text)
		}
	}
	return b.String()
}

// rootName returns v of v, v[i], v.f and *v.
func rootName(e ast.Expr) string {
	for {
		switch x := e.(type) {
		case *ast.Ident:
			return x.Name
		case *ast.IndexExpr:
			e = x.X
		case *ast.SelectorExpr:
			e = x.X
		case *ast.StarExpr:
			e = x.X
		case *ast.ParenExpr:
			e = x.X
		default:
			return ""
		}
	}
}

// shadowed reports whether a function around node declares a name of its own. It errs on the side of silence.
func shadowed(f *goFile, name string, node ast.Node) bool {
	found := false
	for _, decl := range f.syn.Decls {
		fn, ok := decl.(*ast.FuncDecl)
		if !ok || node.Pos() < fn.Pos() || node.Pos() > fn.End() {
			continue
		}
		ast.Inspect(fn, func(n ast.Node) bool {
			switch d := n.(type) {
			case *ast.Field:
				for _, id := range d.Names {
					found = found || id.Name == name
				}
			case *ast.ValueSpec:
				for _, id := range d.Names {
					found = found || id.Name == name
				}
			case *ast.AssignStmt:
				if d.Tok == token.DEFINE {
					for _, lhs := range d.Lhs {
						id, ok := lhs.(*ast.Ident)
						found = found || ok && id.Name == name
					}
				}
			case *ast.RangeStmt:
				for _, lhs := range []ast.Expr{d.Key, d.Value} {
					id, ok := lhs.(*ast.Ident)
					found = found || ok && id.Name == name
				}
			}
			return !found
		})
	}
	return found
}

// TestFilesAndFunctionsStayShort: a file is read in one sitting, a function on one screen.
func TestFilesAndFunctionsStayShort(t *testing.T) {
	const (
		maxFileLines = 600
		maxFuncLines = 120
		longFunc     = 70
		longShare    = 0.05 // of all functions may be longer than longFunc
	)
	tr := loadTree(t)
	funcs, long := 0, []string{}
	for _, f := range tr.files {
		if f.lines > maxFileLines {
			t.Errorf("%s has %d lines, more than %d", f.path, f.lines, maxFileLines)
		}
		for _, decl := range f.syn.Decls {
			fn, ok := decl.(*ast.FuncDecl)
			if !ok || fn.Body == nil {
				continue
			}
			funcs++
			lines := tr.fset.Position(fn.End()).Line - tr.fset.Position(fn.Pos()).Line + 1
			if lines > longFunc && !f.test {
				long = append(long, tr.line(fn)+" "+fn.Name.Name)
			}
			if lines > maxFuncLines && !f.test {
				t.Errorf("%s: %s has %d lines, more than %d", tr.line(fn), fn.Name.Name, lines, maxFuncLines)
			}
		}
	}
	if share := float64(len(long)) / float64(funcs); share > longShare {
		t.Errorf("%.1f %% of %d functions are longer than %d lines:\n%s", 100*share, funcs, longFunc, strings.Join(long, "\n"))
	}
}
