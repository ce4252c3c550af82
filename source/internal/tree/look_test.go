package tree

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"modelfs/internal/model"
)

// aged is a cache of a tree in which everything happened long ago.
func aged(t *testing.T, files map[string]string) (*Cache, string) {
	t.Helper()
	root, old := plant(t, files), time.Now().Add(-time.Hour)
	must(t, filepath.WalkDir(root, func(p string, d os.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			err = os.Chtimes(p, old, old)
		}
		return err
	}))
	return NewCache(New(root, true)), root
}

// A visit ends where it is told to, does not go round in circles, and leaves
// out what may not be read or is too deep.
func TestVisit(t *testing.T) {
	deep := strings.Repeat("d/", model.MaxDepth) + "f"
	c, root := aged(t, map[string]string{"m/a/f": "1", "m/b/c/f": "1", "m/a/up": "->..", "m/b/self": "->.", "m/twin": "->a", deep: "1"})
	var seen []string
	visit := func(rel, last string) []string {
		seen = nil
		must(t, c.Look().Visit(rel, func(below string, _ *Listing) bool {
			seen = append(seen, below)
			return below != last
		}))
		return seen
	}
	if d := cmp.Diff([]string{".", "a", "b", "b/c", "twin"}, visit("m", "")); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]string{".", "a", "b"}, visit("m", "b")); d != "" {
		t.Errorf("stopped at b:\n%s", d)
	}
	if n := len(visit("d", "")); n != model.MaxDepth {
		t.Errorf("%d levels, want %d", n, model.MaxDepth)
	}
	must(t, os.RemoveAll(filepath.Join(root, "m")))
	if err := c.Look().Visit("m", func(string, *Listing) bool { t.Error("visited"); return true }); !model.IsKind(err, model.NotFound) {
		t.Error(err)
	}
}

// One operation sees a directory once, whatever happens to it meanwhile.
func TestLookIsOneView(t *testing.T) {
	c, root := aged(t, map[string]string{"m/f": "1"})
	l := c.Look()
	before, err := l.Dir("m")
	must(t, err)
	must(t, os.WriteFile(filepath.Join(root, "m/new"), nil, 0o644))
	if again, err := l.Dir("m"); err != nil || again != before || !l.ModTime("m").Equal(before.Stamp.ModTime()) {
		t.Errorf("%+v, %v", again, err)
	}
	if now, err := c.Look().Dir("m"); err != nil || !Has(now.Files, "new") {
		t.Errorf("%+v, %v", now, err)
	}
}

// What was found whole stays so under the same listings only.
func TestSound(t *testing.T) {
	c, root := aged(t, map[string]string{"m/f": "1", "m/sub/f": "1"})
	_, under, err := c.Look().Walk("m")
	must(t, err)
	if c.IsSound("m", under) || c.IsSound("m", nil) {
		t.Error("sound before anyone has looked")
	}
	c.SetSound("m", under)
	if !c.IsSound("m", under) || c.IsSound("other", under) || c.IsSound("m", under[:1]) || c.IsSound("m", nil) {
		t.Error("not remembered as it was found")
	}
	must(t, os.WriteFile(filepath.Join(root, "m/sub/new"), nil, 0o644))
	if _, now, err := c.Look().Walk("m"); err != nil || c.IsSound("m", now) {
		t.Errorf("changed: %v", err)
	}
}

// A change on a share may be told late, and by another clock.
func TestSettled(t *testing.T) {
	changed := time.Unix(1_000_000, 0)
	st := Stamp{mtime: changed.UnixNano()}
	for _, c := range []struct {
		local bool
		after time.Duration
		want  bool
	}{
		{true, 2 * time.Second, false}, {true, 2*time.Second + 1, true}, {true, -time.Hour, false},
		{false, time.Minute, false}, {false, time.Minute + 1, true}, {false, 3 * time.Second, false},
	} {
		if got := New("/x", c.local).Settled(st, changed.Add(c.after)); got != c.want {
			t.Errorf("local %v, %v after: %v", c.local, c.after, got)
		}
	}
}

// Names that are never listed.
func TestHidden(t *testing.T) {
	for name, want := range map[string]bool{".git": true, "a.lock": true, "a.PARTIAL": true, "a.tmp": true, "a.incomplete": true, "a.part": true, "a.aria2": true,
		"a.downloadinprogress": true, "a.parallel_tmp": true, "partial": false, "lock": false, "model.gguf": false, "a.part.gguf": false} {
		if got := Hidden(name); got != want {
			t.Errorf("%s: %v", name, got)
		}
	}
	if Unfinished(".gitattributes") || !Unfinished(".x.incomplete") {
		t.Error("a leading dot is not what makes a file unfinished")
	}
}
