package tree

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"modelfs/internal/leaktest"
	"modelfs/internal/model"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// plant makes a tree. A content that begins with "->" is a link's target.
func plant(t *testing.T, files map[string]string) string {
	t.Helper()
	root := filepath.Join(t.TempDir(), "tree")
	must(t, os.MkdirAll(root, 0o755))
	for rel, content := range files {
		p := filepath.Join(root, rel)
		must(t, os.MkdirAll(filepath.Dir(p), 0o755))
		content = strings.ReplaceAll(content, "$ROOT", root)
		if link, ok := strings.CutPrefix(content, "->"); ok {
			must(t, os.Symlink(link, p))
			continue
		}
		must(t, os.WriteFile(p, []byte(content), 0o644))
	}
	return root
}

// zoo is a tree with links of every kind, and the directory outside.
func zoo(t *testing.T) (root, outside string) {
	outside = filepath.Join(t.TempDir(), "outside")
	must(t, os.MkdirAll(filepath.Join(outside, "deep"), 0o755))
	must(t, os.WriteFile(filepath.Join(outside, "deep/x"), []byte("outside"), 0o644))
	root = plant(t, map[string]string{
		"a/file": "file", "a/rel": "->file", "a/abs": "->$ROOT/a/file", "a/chain": "->abs", "a/up": "->../b/file", "b/file": "other",
		"a/out": "->" + outside + "/deep/x", "a/via": "->out", "a/dir": "->" + outside + "/deep", "a/loop": "->loop", "a/proc": "->/proc/self/exe",
		"a/passwd": "->../../../../../../../etc/passwd", "a/gone": "->none", "link": "->" + outside,
	})
	must(t, syscall.Mkfifo(filepath.Join(root, "a/pipe"), 0o644))
	return root, outside
}

// look is what a tree says of each path: its content, or the kind of error. By
// name, by stat, and with the root held it has to be the same.
func look(t *testing.T, tr *Tree, paths ...string) map[string]string {
	t.Helper()
	held, release, err := tr.Hold()
	must(t, err)
	defer release()
	got := map[string]string{}
	for _, p := range paths {
		for _, by := range []*Tree{tr, held} {
			content := ""
			b, _, err := by.ReadFile(p, 100)
			if content = string(b); err != nil {
				content = model.KindOf(err).String()
			}
			if st, err := by.Stat(p); (err == nil) != (content != "not found") || err == nil && st.Size != int64(len(content)) {
				t.Errorf("%s: %s, but stat says %+v, %v", p, content, st, err)
			}
			if had, twice := got[p]; twice && had != content {
				t.Errorf("%s: %s, and %s while held", p, had, content)
			}
			got[p] = content
		}
	}
	return got
}

func TestLinks(t *testing.T) {
	root, outside := zoo(t)
	refused := []string{"a/loop", "a/proc", "a/passwd", "a/gone", "a/pipe", "a", "none", "../outside/deep/x", "/etc/passwd"}
	want := map[string]string{"a/file": "file", "a/rel": "file", "a/abs": "file", "a/chain": "file", "a/up": "other",
		"a/out": "not found", "a/via": "not found", "a/dir/x": "not found", "link/deep/x": "not found"}
	var paths []string
	for _, p := range refused {
		want[p] = "not found"
	}
	for p := range want {
		paths = append(paths, p)
	}
	if d := cmp.Diff(want, look(t, New(root, true), paths...)); d != "" {
		t.Error(d)
	}
	for _, p := range []string{"a/out", "a/via", "a/dir/x", "link/deep/x"} {
		want[p] = "outside"
	}
	if d := cmp.Diff(want, look(t, New(root, true, outside), paths...)); d != "" {
		t.Errorf("trusted:\n%s", d)
	}
}

// What is within a directory ends at that directory.
func TestWithin(t *testing.T) {
	root, outside := zoo(t)
	want := map[string]string{"file": "file", "rel": "file", "abs": "file", "up": "not found", "out": "not found", "../b/file": "not found"}
	if d := cmp.Diff(want, look(t, New(root, true).Within("a"), "file", "rel", "abs", "up", "out", "../b/file")); d != "" {
		t.Error(d)
	}
	if _, _, err := New(root, true).Within("link").ReadFile("deep/x", 100); !model.IsKind(err, model.NotFound) {
		t.Errorf("a directory that is a link out: %v", err)
	}
	if got := look(t, New(root, true, outside).Within("link"), "deep/x")["deep/x"]; got != "outside" {
		t.Errorf("a trusted directory: %s", got)
	}
	if _, err := New(root, true).Within("none").Stat("x"); !model.IsKind(err, model.NotFound) {
		t.Errorf("a directory that is not there: %v", err)
	}
}

func TestResolve(t *testing.T) {
	root, outside := zoo(t)
	tr := New(root, true, outside)
	home, _, err := tr.Resolve(".")
	must(t, err)
	for p, want := range map[string][2]string{"a/chain": {home, "a/file"}, "a/via": {outside, "deep/x"}} {
		base, inside, err := tr.Resolve(p)
		if base, _ = filepath.EvalSymlinks(base); err != nil || inside != want[1] || base != mustEval(t, want[0]) {
			t.Errorf("%s: %s, %s, %v", p, base, inside, err)
		}
	}
	if _, _, err := tr.Resolve("a/proc"); !model.IsKind(err, model.NotFound) {
		t.Error(err)
	}
}

func mustEval(t *testing.T, p string) string {
	t.Helper()
	p, err := filepath.EvalSymlinks(p)
	must(t, err)
	return p
}

func TestReadFile(t *testing.T) {
	root := plant(t, map[string]string{"ten": "0123456789", "empty": "", "link": "->ten"})
	tr := New(root, true)
	for p, want := range map[string]string{"ten": "0123456789", "empty": ""} {
		b, st, err := tr.ReadFile(p, 10)
		if err != nil || string(b) != want {
			t.Errorf("%s: %q, %v", p, b, err)
		}
		if now, err := tr.FileStamp(p); err != nil || now != st {
			t.Errorf("%s: read under %+v, is %+v, %v", p, st, now, err)
		}
	}
	if _, _, err := tr.ReadFile("ten", 9); !model.IsKind(err, model.Invalid) {
		t.Errorf("over the limit: %v", err)
	}
	if b, err := tr.Head("ten", 3); err != nil || string(b) != "012" {
		t.Errorf("head: %q, %v", b, err)
	}
	if l, err := tr.Readlink("link"); err != nil || l != "ten" {
		t.Errorf("%q, %v", l, err)
	}
	for _, p := range []string{"ten", "none"} {
		if _, err := tr.Readlink(p); !model.IsKind(err, model.NotFound) {
			t.Errorf("%s as a link: %v", p, err)
		}
	}
	// A file of the kernel's states no size.
	if b, _, err := New("/proc/self", true).ReadFile("status", 1<<20); err != nil || !strings.HasPrefix(string(b), "Name:") {
		t.Errorf("%q, %v", b, err)
	}
}

// A place with a size is there only while the file has it.
func TestPlace(t *testing.T) {
	root, ctx := plant(t, map[string]string{"f": "four"}), context.Background()
	tr := New(root, true)
	exact, any := tr.Place(nil, "f", 4), tr.Place(nil, "f", -1)
	for _, p := range []*Place{exact, any} {
		f, st, err := p.Open(ctx)
		must(t, err)
		f.Close()
		if now, err := p.Stat(ctx); err != nil || now != st || st.Size != 4 {
			t.Errorf("%+v, %+v, %v", st, now, err)
		}
	}
	must(t, os.WriteFile(filepath.Join(root, "f"), []byte("longer"), 0o644))
	if _, _, err := exact.Open(ctx); !model.IsKind(err, model.NotFound) {
		t.Errorf("Open: %v", err)
	}
	if _, err := exact.Stat(ctx); !model.IsKind(err, model.NotFound) {
		t.Errorf("Stat: %v", err)
	}
	if st, err := any.Stat(ctx); err != nil || st.Size != 6 {
		t.Errorf("%+v, %v", st, err)
	}
	if exact.Path() != filepath.Join(root, "f") {
		t.Error(exact.Path())
	}
}

func TestMissingRoot(t *testing.T) {
	root := filepath.Join(t.TempDir(), "none")
	for local, want := range map[bool]model.Kind{true: model.NotFound, false: model.Unavailable} {
		tr := New(root, local)
		_, err := tr.Stat("x")
		_, _, readErr := tr.ReadFile("x", 1)
		_, _, holdErr := tr.Hold()
		_, listErr := NewCache(tr).Dir(".")
		for _, err := range []error{err, readErr, holdErr, listErr} {
			if !model.IsKind(err, want) {
				t.Errorf("local %v: %v", local, err)
			}
		}
	}
}

// A listing is remembered while the directory is as it was, and never if it
// was read within the tick of a coarse clock.
func TestCache(t *testing.T) {
	root := plant(t, map[string]string{"a/x": "1", "a/.hidden": "1", "a/y.part": "1", "a/z.INCOMPLETE": "1", "a/sub/f": "1", "a/l": "->x", "a/dangling": "->none", "a/self": "->."})
	c, dir := NewCache(New(root, true)), filepath.Join(root, "a")
	fresh, err := c.Dir("a")
	must(t, err)
	if d := cmp.Diff([][]string{{"l", "x"}, {"self", "sub"}}, [][]string{fresh.Files, fresh.Dirs}); d != "" {
		t.Error(d)
	}
	if again, err := c.Dir("a"); err != nil || again == fresh {
		t.Errorf("a fresh directory was remembered: %v", err)
	}
	old := time.Now().Add(-time.Hour)
	must(t, os.Chtimes(dir, old, old))
	first, err := c.Dir("a")
	must(t, err)
	if again, err := c.Dir("a"); err != nil || again != first {
		t.Errorf("an old directory was read again: %v", err)
	}
	must(t, os.WriteFile(filepath.Join(dir, "new"), nil, 0o644))
	if l, err := c.Dir("a"); err != nil || !Has(l.Files, "new") {
		t.Errorf("%+v, %v", l, err)
	}
	files, under, err := c.Look().Walk("a")
	if d := cmp.Diff([]string{"l", "new", "sub/f", "x"}, files); d != "" || err != nil || len(under) != 2 {
		t.Errorf("%v, %d listings:\n%s", err, len(under), d)
	}
}

func TestMatch(t *testing.T) {
	sorted := []string{"Abc", "aBC", "one"}
	for name, want := range map[string]string{"Abc": "Abc", "aBC": "aBC", "abc": "", "ONE": "one", "two": ""} {
		if got, ok := Match(sorted, name); got != want || ok != (want != "") {
			t.Errorf("%s: %q, %v", name, got, ok)
		}
	}
}
