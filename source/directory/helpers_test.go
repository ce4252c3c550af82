package directory

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"modelfs/internal/leaktest"
	"modelfs/internal/model"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

// pointer is the text of a Git-LFS pointer.
const pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 12345\n"

// plant makes a tree of files. A content that begins with "->" is a link's
// target; a path that ends in "/" is an empty directory.
func plant(t *testing.T, files map[string]string) string {
	t.Helper()
	root := filepath.Join(t.TempDir(), "tree")
	must(t, os.MkdirAll(root, 0o755))
	for rel, content := range files {
		put(t, root, rel, strings.ReplaceAll(content, "$ROOT", root))
	}
	return root
}

func put(t *testing.T, root, rel, content string) {
	t.Helper()
	p := filepath.Join(root, rel)
	if strings.HasSuffix(rel, "/") {
		must(t, os.MkdirAll(p, 0o755))
		return
	}
	must(t, os.MkdirAll(filepath.Dir(p), 0o755))
	if link, ok := strings.CutPrefix(content, "->"); ok {
		must(t, os.Symlink(link, p))
		return
	}
	must(t, os.WriteFile(p, []byte(content), 0o644))
}

// age makes every directory of the tree look as if it had changed long ago,
// so that it may be remembered.
func age(t *testing.T, root string) {
	t.Helper()
	old := time.Now().Add(-time.Hour)
	must(t, filepath.WalkDir(root, func(p string, d os.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			err = os.Chtimes(p, old, old)
		}
		return err
	}))
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func source(t testing.TB, root string, kind model.SourceKind) *Source {
	t.Helper()
	s, err := New(Config{Root: root, Kind: kind})
	must(t, err)
	t.Cleanup(s.Close)
	return s
}

func local(t testing.TB, root string) *Source {
	t.Helper()
	return source(t, root, model.Local)
}

func parse(t testing.TB, name string) model.Name {
	t.Helper()
	n, err := model.ParseName(name)
	must(t, err)
	return n
}

func find(t testing.TB, s *Source, name string) (model.Found, error) {
	t.Helper()
	return s.Find(context.Background(), parse(t, name))
}

func list(t testing.TB, s *Source, name string) *model.Model {
	t.Helper()
	f, err := find(t, s, name)
	must(t, err)
	m, err := s.List(context.Background(), parse(t, name), f)
	must(t, err)
	return m
}

func paths(m *model.Model) []string {
	var ps []string
	for _, f := range m.Files {
		ps = append(ps, f.Path)
	}
	return ps
}

// outcome is a found name, or the kind of the error, as one word.
func outcome(f model.Found, err error) string {
	if err != nil {
		return model.KindOf(err).String()
	}
	what := map[model.EntryKind]string{model.Namespace: "namespace ", model.ModelDir: "model ", model.LooseFile: "file "}[f.Kind] + f.Name
	if f.Broken != "" {
		what += " BROKEN " + f.Broken
	}
	return what
}
