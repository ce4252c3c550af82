package blobs

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"modelfs/internal/leaktest"
	"modelfs/internal/model"
	"modelfs/source/internal/tree"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// hash is a made-up sha256 that ends in n.
func hash(n int) string { return fmt.Sprintf("%064x", n) }

// A fixture is an index of the directories a and b.
type fixture struct {
	t    *testing.T
	root string
	tree *tree.Tree
	x    Index
}

func newFixture(t *testing.T) *fixture {
	root := t.TempDir()
	must(t, os.Mkdir(filepath.Join(root, "a"), 0o755))
	must(t, os.Mkdir(filepath.Join(root, "b"), 0o755))
	return &fixture{t: t, root: root, tree: tree.New(root, true)}
}

func (f *fixture) put(rel, content string) {
	must(f.t, os.WriteFile(filepath.Join(f.root, rel), []byte(content), 0o644))
}

func (f *fixture) refresh(dirs ...string) {
	f.t.Helper()
	var ds []Dir
	for _, d := range dirs {
		ds = append(ds, Dir{Path: d, Place: func(name string, size int64) *tree.Place { return f.tree.Place(nil, d+"/"+name, size) },
			Hash: func(name string) string {
				if IsSHA256(name) {
					return name
				}
				return ""
			}})
	}
	must(f.t, f.x.Refresh(f.tree, ds))
}

// get is the content with the hash, or "" if none is known.
func (f *fixture) get(n int) string {
	f.t.Helper()
	p, size, ok := f.x.Get(hash(n))
	if !ok {
		return ""
	}
	file, st, err := p.Open(context.Background())
	must(f.t, err)
	defer file.Close()
	b, err := io.ReadAll(file)
	must(f.t, err)
	if st.Size != size {
		f.t.Errorf("%d bytes are promised, %d are there", size, st.Size)
	}
	return string(b)
}

func TestRefresh(t *testing.T) {
	f := newFixture(t)
	f.put("a/"+hash(1), "one")
	f.put("a/"+hash(2), "in both")
	f.put("b/"+hash(2), "in both")
	f.put("a/"+hash(3)+".incomplete", "half")
	f.put("a/"+strings.ToUpper(hash(10)), "no hash")
	must(t, os.Mkdir(filepath.Join(f.root, "a", hash(4)), 0o755))
	must(t, os.Symlink("/etc/passwd", filepath.Join(f.root, "a", hash(5))))
	if f.get(1) != "" {
		t.Error("known before Refresh")
	}
	f.refresh("a", "b", "none")
	for n, want := range []string{1: "one", 2: "in both", 3: "", 4: "", 5: "", 10: ""} {
		if got := f.get(n); got != want {
			t.Errorf("%d: %q, want %q", n, got, want)
		}
	}
	must(t, os.RemoveAll(filepath.Join(f.root, "a")))
	f.refresh("a", "b", "none")
	if f.get(1) != "" || f.get(2) != "in both" {
		t.Error("after a directory is gone")
	}
	f.refresh()
	if f.get(2) != "" {
		t.Error("a directory that is no longer asked for is known")
	}
}

// A directory that is old and unchanged is not read again; any change is seen.
func TestRefreshReadsWhatChanged(t *testing.T) {
	f := newFixture(t)
	f.put("a/"+hash(1), "one")
	old := time.Now().Add(-time.Hour)
	must(t, os.Chtimes(filepath.Join(f.root, "a"), old, old))
	f.refresh("a")
	first := f.x.dirs["a"]
	f.refresh("a")
	if f.x.dirs["a"] != first {
		t.Error("an unchanged directory was read again")
	}
	p, _, _ := f.x.Get(hash(1))
	f.put("a/"+hash(1), "longer")
	if _, _, err := p.Open(context.Background()); !model.IsKind(err, model.NotFound) {
		t.Errorf("a blob of another size: %v", err)
	}
	f.put("a/"+hash(2), "two")
	f.refresh("a")
	if f.get(1) != "longer" || f.get(2) != "two" {
		t.Error("a change was not seen")
	}
}
