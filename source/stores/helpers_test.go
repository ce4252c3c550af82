package stores

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"modelfs/internal/leaktest"
	"modelfs/internal/model"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// plant makes a store. A content that begins with "->" is a link's target; a
// path that ends in "/" is an empty directory.
func plant(t testing.TB, files map[string]string) string {
	t.Helper()
	root := filepath.Join(t.TempDir(), "store")
	must(t, os.MkdirAll(root, 0o755))
	for rel, content := range files {
		put(t, root, rel, content)
	}
	return root
}

func put(t testing.TB, root, rel, content string) {
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

// age makes every directory look as if it had changed long ago.
func age(t testing.TB, root string) {
	t.Helper()
	old := time.Now().Add(-time.Hour)
	must(t, filepath.WalkDir(root, func(p string, d os.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			err = os.Chtimes(p, old, old)
		}
		return err
	}))
}

func source(t testing.TB, l Layout, root string) *Source {
	t.Helper()
	s, err := New(l, Config{Root: root})
	must(t, err)
	t.Cleanup(s.Close)
	return s
}

func find(t testing.TB, s *Source, name string) (model.Found, error) {
	t.Helper()
	n, err := model.ParseName(name)
	must(t, err)
	return s.Find(context.Background(), n)
}

// list is the model called name, its files read through their places.
func list(t testing.TB, s *Source, name string) (*model.Model, map[string]string) {
	t.Helper()
	f, err := find(t, s, name)
	must(t, err)
	n, err := model.ParseName(name)
	must(t, err)
	m, err := s.List(context.Background(), n, f)
	must(t, err)
	if m.Source != s.ID() || m.Kind != model.Local || m.ModTime.IsZero() || m.Name != f.Name {
		t.Errorf("%s: %+v", name, m)
	}
	all := map[string]string{}
	for _, f := range m.Files {
		all[f.Path] = readAll(t, f.Place)
		if f.Size != int64(len(all[f.Path])) || f.SHA256 != "" && f.SHA256 != digest(all[f.Path]) {
			t.Errorf("%s: %+v", name, f)
		}
	}
	return m, all
}

func names(t testing.TB, s *Source) []string {
	t.Helper()
	found, err := s.Names(context.Background())
	must(t, err)
	var out []string
	for _, f := range found {
		out = append(out, outcome(f, nil))
	}
	return out
}

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

func readAll(t testing.TB, p model.Place) string {
	t.Helper()
	f, st, err := p.Open(context.Background())
	must(t, err)
	defer f.Close()
	b, err := io.ReadAll(f)
	must(t, err)
	if again, err := p.Stat(context.Background()); err != nil || again != st {
		t.Errorf("%s: opened as %+v, stat says %+v, %v", p.Path(), st, again, err)
	}
	return string(b)
}

func digest(content string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(content))) }

// expect checks a store: what is listed, what names are found as, and what
// they hold.
func expect(t *testing.T, s *Source, listed []string, found map[string]string, held map[string]map[string]string) {
	t.Helper()
	for range 2 {
		if d := cmp.Diff(listed, names(t, s)); d != "" {
			t.Errorf("Names:\n%s", d)
		}
	}
	for name, want := range found {
		if got := outcome(find(t, s, name)); got != want {
			t.Errorf("Find(%s) = %s, want %s", name, got, want)
		}
	}
	for name, want := range held {
		if _, got := list(t, s, name); cmp.Diff(want, got) != "" {
			t.Errorf("List(%s):\n%s", name, cmp.Diff(want, got))
		}
	}
}
