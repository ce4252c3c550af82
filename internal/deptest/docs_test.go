package deptest

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Each module that modelfs imports has a reason in docs/dependencies.md, and
// no other is there.
func TestDependenciesHaveReasons(t *testing.T) {
	root := moduleRoot(t)
	mod, err := os.ReadFile(filepath.Join(root, "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	docs, err := os.ReadFile(filepath.Join(root, "docs", "dependencies.md"))
	if err != nil {
		t.Fatal(err)
	}
	var documented []string
	for _, m := range regexp.MustCompile("(?m)^\\| `([^`]+)` \\| ..+ \\|$").FindAllStringSubmatch(string(docs), -1) {
		documented = append(documented, m[1])
	}
	slices.Sort(documented)
	if diff := cmp.Diff(directModules(string(mod)), documented); diff != "" {
		t.Errorf("-go.mod +docs/dependencies.md:\n%s", diff)
	}
}

// directModules are the modules of a go.mod that are not marked as indirect.
func directModules(mod string) []string {
	var list []string
	block := false
	for line := range strings.Lines(mod) {
		line = strings.TrimSpace(line)
		switch {
		case line == "require (":
			block = true
			continue
		case line == ")":
			block = false
		case strings.HasPrefix(line, "require "):
			line = strings.TrimPrefix(line, "require ")
		case !block:
			continue
		}
		if path, _, ok := strings.Cut(line, " "); ok && !strings.HasSuffix(line, "// indirect") {
			list = append(list, path)
		}
	}
	slices.Sort(list)
	return list
}

func TestDirectModules(t *testing.T) {
	const mod = "module x\n\ngo 1.26.0\n\nrequire b.example/b v1.0.0\n\nrequire (\n\ta.example/a v1.0.0\n\tc.example/c v1.0.0 // indirect\n)\n"
	if diff := cmp.Diff([]string{"a.example/a", "b.example/b"}, directModules(mod)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// Every test that the promises and the threat model name is there, in the
// package that they name; and each line names one, or says "—".
func TestNamedTestsExist(t *testing.T) {
	root := moduleRoot(t)
	for _, doc := range []string{"semantics.md", "threat-model.md"} {
		text, err := os.ReadFile(filepath.Join(root, "docs", doc))
		if err != nil {
			t.Fatal(err)
		}
		rows := 0
		for line := range strings.Lines(string(text)) {
			cells := strings.Split(strings.TrimSuffix(strings.TrimSpace(line), "|"), " | ")
			if !strings.HasPrefix(line, "| ") || len(cells) < 3 || strings.HasPrefix(line, "| | ") || strings.HasPrefix(line, "| can ") {
				continue
			}
			rows++
			checkNamedTests(t, root, doc, cells[0], strings.TrimSpace(cells[len(cells)-1]))
		}
		if rows < 20 {
			t.Errorf("%s: only %d lines were understood", doc, rows)
		}
	}
}

// checkNamedTests understands "package `TestA`, `TestB`; package `TestC`".
func checkNamedTests(t *testing.T, root, doc, row, cell string) {
	t.Helper()
	named := regexp.MustCompile("(?:([a-z][a-z/]*) )?`((?:Test|Fuzz)[A-Za-z0-9_]+)`").FindAllStringSubmatch(cell, -1)
	if len(named) == 0 && cell != "—" {
		t.Errorf("%s: %q names no test", doc, row)
	}
	pkg := ""
	for _, m := range named {
		if m[1] != "" {
			pkg = m[1]
		}
		if !hasTest(t, filepath.Join(root, pkg), m[2]) {
			t.Errorf("%s: %q names %s of %q, which is not there", doc, row, m[2], pkg)
		}
	}
}

func hasTest(t *testing.T, dir, name string) bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(text), "\nfunc "+name+"(") {
			return true
		}
	}
	return false
}
