// Package deptest checks what the compiler does not: which package may know
// which, and what no test may do. It has no code of its own.
package deptest

import (
	"go/ast"
	"go/parser"
	"go/token"
	iofs "io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "modelfs"

// A layer says what a package of modelfs may import of modelfs. A trailing
// "/..." stands for every package below.
type layer struct {
	pkg  string
	may  []string
	test []string // tests may import these, too
	why  string
}

// layers are all packages. Arrows point down; a package that is not here is
// refused, so that its place is decided when it is made.
var layers = []layer{
	{pkg: "cmd/modelfs", why: "it wires everything, and its demo brings a Hub of its own",
		may: []string{"cmd/modelfs/...", "fs", "resolver", "fetcher", "failover", "store", "source/...", "internal/..."}},
	{pkg: "cmd/modelfs/config", may: []string{"internal/model"}, why: "what was asked for does not depend on who does it"},
	{pkg: "cmd/modelfs/control", may: []string{"internal/model"}, why: "how a command asks does not depend on what is done"},
	{pkg: "cmd/modelfs/operate", may: []string{"internal/model", "cmd/modelfs/control"}, why: "it is given what it works on as interfaces"},
	{pkg: "cmd/modelfs/describe", may: []string{"internal/model", "internal/format", "internal/backend", "resolver", "cmd/modelfs/operate"},
		why: "what is said of a model has one home, whoever asks"},
	{pkg: "cmd/modelfs/doctor", may: []string{"internal/model"}, why: "it looks at the machine, and is told of the rest"},
	{pkg: "cmd/modelfs/supervise", may: []string{"fs"}, why: "it keeps a mount alive and knows nothing of what is served"},
	{pkg: "fs", may: []string{"internal/model", "internal/mountinfo"}, test: []string{"internal/hubtest"},
		why: "the kernel's door knows the rest through interfaces that it declares itself"},
	{pkg: "resolver", may: []string{"internal/model", "internal/format"}, test: []string{"internal/hubtest", "internal/origin", "source/...", "store"},
		why: "what a name means does not depend on where bytes are kept"},
	{pkg: "fetcher", may: []string{"internal/model", "internal/origin", "store"}, test: []string{"internal/hubtest"},
		why: "where bytes come from does not depend on what names mean"},
	{pkg: "failover", may: []string{"internal/model"}, why: "it chooses among readers that it is given, and knows neither names nor shares"},
	{pkg: "store", may: []string{"internal/model"}, why: "the disk's door knows no network"},
	{pkg: "source/internal/...", may: []string{"internal/model", "internal/format", "internal/mountinfo", "source/internal/..."}, why: "what sources share knows none of them"},
	{pkg: "source/...", may: []string{"internal/model", "internal/format", "internal/origin", "source/internal/..."}, test: []string{"internal/hubtest", "source/..."},
		why: "a source states what is where; it keeps nothing and serves nobody"},
	{pkg: "internal/origin", may: []string{"internal/model"}, test: []string{"internal/hubtest"}, why: "the network's door knows no models on disk"},
	{pkg: "internal/model", why: "the vocabulary stands on nothing"},
	{pkg: "internal/format", may: []string{"internal/model"}, why: "what files are does not depend on what can run them"},
	{pkg: "internal/backend", may: []string{"internal/model", "internal/format"}, why: "rules about files, not about where they are"},
	{pkg: "internal/mountinfo", why: "one table of the kernel's, whoever looks at it"},
	{pkg: "internal/metrics", why: "numbers are handed to it"},
	{pkg: "internal/hubtest", why: "what judges a client must not share its code"},
	{pkg: "internal/leaktest", why: "what tests leave is seen from the system, whatever they test"},
	{pkg: "internal/deptest", why: "it reads source text"},
	{pkg: "bench", may: []string{"internal/hubtest"}, why: "it measures the binary from outside, against a Hub in a process of its own"},
	{pkg: "integration", may: []string{"..."}, test: []string{"..."}, why: "black box tests may use every helper"},
}

// watcher looks at what the tests of every package leave, so all may import it.
const watcher = "internal/leaktest"

// outside says which package alone may import something from outside.
var outside = []struct {
	prefix string
	pkgs   []string
	test   bool // the rule holds for tests, too
	why    string
}{
	{prefix: "github.com/hanwen/go-fuse", pkgs: []string{"fs", "integration"}, test: true, why: "one package speaks to the kernel"},
	{prefix: "github.com/prometheus", pkgs: []string{"internal/metrics"}, why: "every exported number is declared in one place"},
	{prefix: "github.com/spf13", pkgs: []string{"cmd/modelfs", "cmd/modelfs/config"}, test: true, why: "flags have one home"},
	{prefix: "github.com/goccy/go-yaml", pkgs: []string{"cmd/modelfs/config"}, test: true, why: "the config file has one reader"},
	{prefix: "github.com/sony/gobreaker", pkgs: []string{"resolver"}, why: "breakers belong to the one deadline"},
	{prefix: "go.uber.org/goleak", pkgs: []string{watcher}, test: true, why: "what tests leave has one judge"},
	{prefix: "testing", pkgs: []string{"integration", watcher}, why: "test code does not belong into the binary"},
	{prefix: module + "/internal/hubtest", pkgs: []string{"cmd/modelfs", "integration", "bench"}, why: "only the demo and the benchmarks bring a Hub"},
}

// sourceFile is one parsed file of the module.
type sourceFile struct {
	name string // relative to the module's root
	pkg  string // directory relative to the root; "" for the root
	test bool
	tree *ast.File
	set  *token.FileSet
}

// parse reads every Go file of the module.
func parse(t *testing.T, mode parser.Mode) []sourceFile {
	t.Helper()
	root := moduleRoot(t)
	var files []sourceFile
	err := filepath.WalkDir(root, func(name string, d iofs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == "testdata" || d.Name() == "node_modules" || name != root && d.Name()[0] == '.') {
			return filepath.SkipDir
		}
		if d.IsDir() || filepath.Ext(name) != ".go" {
			return nil
		}
		set := token.NewFileSet()
		tree, err := parser.ParseFile(set, name, nil, mode)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, name)
		files = append(files, sourceFile{rel, path.Dir(filepath.ToSlash(rel)), strings.HasSuffix(rel, "_test.go"), tree, set})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < 20 {
		t.Fatalf("only %d files found below %s", len(files), root)
	}
	return files
}

func moduleRoot(t *testing.T) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for ; dir != "/"; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
	}
	t.Fatal("no go.mod above the working directory")
	return ""
}

func imports(f sourceFile) []string {
	var list []string
	for _, spec := range f.tree.Imports {
		if p, err := strconv.Unquote(spec.Path.Value); err == nil {
			list = append(list, p)
		}
	}
	return list
}

// covers reports whether pattern ("a", "a/..." or "...") stands for pkg.
func covers(pattern, pkg string) bool {
	prefix, deep := strings.CutSuffix(pattern, "...")
	if !deep {
		return pattern == pkg
	}
	return strings.HasPrefix(pkg+"/", prefix)
}

func coveredBy(patterns []string, pkg string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool { return covers(p, pkg) })
}

func TestCovers(t *testing.T) {
	for _, tt := range []struct {
		pattern, pkg string
		want         bool
	}{
		{"fs", "fs", true}, {"fs", "fs/x", false}, {"source/...", "source/router", true}, {"source/...", "source", true},
		{"source/...", "sources", false}, {"...", "anything", true},
	} {
		if got := covers(tt.pattern, tt.pkg); got != tt.want {
			t.Errorf("covers(%q, %q) = %v", tt.pattern, tt.pkg, got)
		}
	}
}

func TestImportsPointDown(t *testing.T) {
	for _, f := range parse(t, parser.ImportsOnly) {
		at := slices.IndexFunc(layers, func(l layer) bool { return covers(l.pkg, f.pkg) })
		if at < 0 {
			t.Errorf("%s: package %s has no row in the table of layers: decide what it may know", f.name, f.pkg)
			continue
		}
		layer := layers[at]
		for _, imported := range imports(f) {
			inner, ours := strings.CutPrefix(imported, module+"/")
			if !ours || inner == f.pkg || coveredBy(layer.may, inner) || f.test && (inner == watcher || coveredBy(layer.test, inner)) {
				continue
			}
			t.Errorf("%s imports %s, but %s may not: %s", f.name, imported, layer.pkg, layer.why)
		}
	}
}

// Whatever a package's tests leave fails them.
func TestLeavingsAreWatched(t *testing.T) {
	watched := make(map[string]bool)
	for _, f := range parse(t, parser.ImportsOnly) {
		if f.test {
			watched[f.pkg] = watched[f.pkg] || f.pkg == watcher || slices.Contains(imports(f), module+"/"+watcher)
		}
	}
	for pkg, yes := range watched {
		if !yes {
			t.Errorf("the tests of %s have no TestMain with %s.Main", pkg, watcher)
		}
	}
}

func TestImportsFromOutside(t *testing.T) {
	for _, f := range parse(t, parser.ImportsOnly) {
		for _, rule := range outside {
			if f.test && !rule.test || slices.Contains(rule.pkgs, f.pkg) {
				continue
			}
			for _, imported := range imports(f) {
				if imported == rule.prefix || strings.HasPrefix(imported, rule.prefix+"/") {
					t.Errorf("%s imports %s, which only %v may: %s", f.name, imported, rule.pkgs, rule.why)
				}
			}
		}
	}
}

// A test that sleeps is slow or flaky, and one that skips looks green:
// testing/synctest has the time, and what can't run has to fail.
func TestTestsNeitherSleepNorSkip(t *testing.T) {
	for _, f := range parse(t, parser.SkipObjectResolution) {
		if !f.test {
			continue
		}
		for pos, what := range forbiddenCalls(f.tree) {
			t.Errorf("%s:%d: %s", f.name, f.set.Position(pos).Line, what)
		}
	}
}

// forbiddenCalls finds time.Sleep, and Skip on what is declared as *testing.T
// or its kin. (rapid's Skip is another thing: it asks for another case.)
func forbiddenCalls(tree *ast.File) map[token.Pos]string {
	found := make(map[token.Pos]string)
	var walk func(n ast.Node, testers []string)
	walk = func(root ast.Node, testers []string) {
		ast.Inspect(root, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.FuncDecl:
				if n != root {
					walk(n, paramsOfTesting(n.Type, testers))
					return false
				}
			case *ast.FuncLit:
				if n != root {
					walk(n, paramsOfTesting(n.Type, testers))
					return false
				}
			case *ast.SelectorExpr:
				x, ok := n.X.(*ast.Ident)
				switch {
				case ok && x.Name == "time" && n.Sel.Name == "Sleep":
					found[n.Pos()] = "a test must not sleep"
				case ok && strings.HasPrefix(n.Sel.Name, "Skip") && slices.Contains(testers, x.Name):
					found[n.Pos()] = "a test must not skip"
				}
			}
			return true
		})
	}
	walk(tree, nil)
	return found
}

// paramsOfTesting are the names in scope that are testing's: outer ones,
// less what the parameters hide, and parameters of a type of testing.
func paramsOfTesting(f *ast.FuncType, outer []string) []string {
	names := slices.Clone(outer)
	for _, field := range f.Params.List {
		for _, name := range field.Names {
			names = slices.DeleteFunc(names, func(s string) bool { return s == name.Name })
			if isTesting(field.Type) {
				names = append(names, name.Name)
			}
		}
	}
	return names
}

func isTesting(e ast.Expr) bool {
	if star, ok := e.(*ast.StarExpr); ok {
		e = star.X
	}
	sel, ok := e.(*ast.SelectorExpr)
	if !ok {
		return false
	}
	x, ok := sel.X.(*ast.Ident)
	return ok && x.Name == "testing"
}

func TestForbiddenCalls(t *testing.T) {
	tests := []struct {
		body string
		want int
	}{
		{`func F(t *testing.T) { time.Sleep(1) }`, 1},
		{`func F(t *testing.T) { t.Skip("later") }`, 1},
		{`func F(tb testing.TB) { tb.SkipNow() }`, 1},
		{`func F(t *testing.T) { t.Run("x", func(t *testing.T) { t.Skipf("x") }) }`, 1},
		{`func F(t *testing.T) { func() { t.Skip() }() }`, 1},
		{`func F(t *testing.T) { rapid.Check(t, func(t *rapid.T) { t.Skip() }) }`, 0},
		{`func F(b *bufio.Reader) { b.Skip() }`, 0},
		{`func F(t *testing.T) { synctest.Wait(); time.Now() }`, 0},
	}
	for _, tt := range tests {
		tree, err := parser.ParseFile(token.NewFileSet(), "x.go", "package x\n"+tt.body, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		if got := forbiddenCalls(tree); len(got) != tt.want {
			t.Errorf("%s: found %v, want %d", tt.body, got, tt.want)
		}
	}
}
