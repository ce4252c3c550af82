package tree

import (
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"modelfs/internal/model"
)

// StatAll says what Stat says of each file, and leaves out what Stat refuses.
func TestStatAll(t *testing.T) {
	root, outside := zoo(t)
	names := []string{"file", "rel", "abs", "chain", "up", "out", "via", "dir", "loop", "proc", "passwd", "gone", "pipe", "none",
		"../b/file", "..", ".", "../../outside/deep/x", "dir/x"}
	held, release, err := New(root, true).Hold()
	must(t, err)
	defer release()
	for label, tr := range map[string]*Tree{"plain": New(root, true), "trusting": New(root, true, outside), "held": held, "within": New(root, true).Within(".")} {
		want, got := map[string]model.Stat{}, map[string]model.Stat{}
		for _, n := range names {
			if st, err := tr.Stat(path.Join("a", n)); err == nil {
				want[n] = st
			}
		}
		must(t, tr.StatAll("a", names, func(n string, st model.Stat) { got[n] = st }))
		if d := cmp.Diff(want, got); d != "" || len(got) < 6 {
			t.Errorf("%s: %v\n%s", label, slices.Sorted(maps.Keys(got)), d)
		}
	}
	for _, dir := range []string{"link/deep", "a/dir", "a/file", "none", "../outside/deep"} {
		err := New(root, true).StatAll(dir, []string{"x"}, func(n string, _ model.Stat) { t.Errorf("%s has %s", dir, n) })
		if !model.IsKind(err, model.NotFound) {
			t.Errorf("%s: %v", dir, err)
		}
	}
}

// A share that is gone has said nothing of its files.
func TestStatAllOfAShareThatIsGone(t *testing.T) {
	root := plant(t, map[string]string{"m/f": "w"})
	must(t, os.RemoveAll(root))
	err := New(root, false).StatAll("m", []string{"f"}, func(string, model.Stat) { t.Error("it is there") })
	if !model.IsKind(err, model.Unavailable) {
		t.Error(err)
	}
}

// A root that is reached through links is the root all the same.
func TestRootBehindALink(t *testing.T) {
	root, _ := zoo(t)
	link := filepath.Join(t.TempDir(), "link")
	must(t, os.Symlink(root, link))
	want := map[string]string{"a/file": "file", "a/rel": "file", "a/abs": "file", "a/chain": "file", "a/up": "other", "a/out": "not found", "../tree/a/file": "not found"}
	if d := cmp.Diff(want, look(t, New(link, true), slices.Collect(maps.Keys(want))...)); d != "" {
		t.Error(d)
	}
}

func TestRel(t *testing.T) {
	for _, c := range []struct{ root, abs, want string }{
		{"/srv/m", "/srv/m/a/b.gguf", "a/b.gguf"}, {"/", "/srv/m", "srv/m"}, {"/srv/m", "/srv/m/..a", "..a"},
		{"/srv/m", "/srv/m", ""}, {"/srv/m", "/srv/m/", ""}, {"/srv/m", "/srv/m2/a", ""}, {"/srv/m", "/srv/m/../x", ""}, {"/srv/m", "/srv/m/a/../b", ""},
		{"/srv/m", "/srv/m//a", ""}, {"/srv/m", "/srv/m/.", ""}, {"/srv/m", "srv/m/a", ""}, {"/srv/m", "", ""}, {"/", "/", ""},
	} {
		if rel, ok := New(c.root, true).Rel(c.abs); ok != (c.want != "") || ok && rel != c.want {
			t.Errorf("%s in %s: %q, %v", c.abs, c.root, rel, ok)
		}
	}
}

// A reading is current as long as each of its paths has the stamp that FileStamp
// would say, whatever links there are on the way.
func TestReadingIsCurrent(t *testing.T) {
	root, outside := zoo(t)
	must(t, os.MkdirAll(filepath.Join(root, "deep/in"), 0o755))
	for label, tr := range map[string]*Tree{"local": New(root, true, outside), "shared": New(root, false, outside)} {
		held, release, err := tr.Hold()
		must(t, err)
		defer release()
		var r Reading
		for _, p := range []string{".", "b", "a/abs", "a/dir", "a/file", "a/rel", "a/dir/x", "link/deep", "link/deep/x", "deep/in"} {
			st, err := held.FileStamp(p)
			must(t, err)
			r = append(r, Read{p, st})
		}
		if !r.Current(held) || !r.Current(tr) {
			t.Errorf("%s: nothing has changed", label)
		}
		for i := range r {
			other := slices.Clone(r)
			if other[i].Stamp.size++; other.Current(held) {
				t.Errorf("%s: a change of %s is not noticed", label, r[i].Path)
			}
			gone := slices.Insert(slices.Clone(r), i+1, Read{Path: path.Join(path.Dir(r[i].Path), "none")})
			if gone.Current(held) {
				t.Errorf("%s: something beside %s that is gone is not noticed", label, r[i].Path)
			}
		}
	}
}
