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
