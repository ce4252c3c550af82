package directory

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"modelfs/internal/model"
)

var removeAll = os.RemoveAll

func TestList(t *testing.T) {
	s := local(t, plant(t, zoo))
	for name, want := range map[string][]string{
		"gpt2":            {"config.json", "model.safetensors"},
		"GPT2":            {"config.json", "model.safetensors"},
		"loose.gguf":      {"loose.gguf"},
		"LOOSE":           {"model.gguf"},
		"plain":           {"model.safetensors"},
		"two":             {"model.gguf"},
		"both":            {"model.gguf"},
		"llama3:8b":       {"model.gguf"},
		"Qwen/deep":       {"a/b/model.onnx"},
		"unsloth/G-GGUF":  {"BF16/G-00001-of-00002.gguf", "BF16/G-00002-of-00002.gguf", "G-Q4_K_M.gguf", "G-Q8_0.gguf"},
		"Qwen/OnlyConfig": {"config.json"},
	} {
		m := list(t, s, name)
		if d := cmp.Diff(want, paths(m)); d != "" {
			t.Errorf("List(%s):\n%s", name, d)
		}
		if m.Source != s.ID() || m.Kind != model.Local || m.ModTime.IsZero() || m.Revision != "" {
			t.Errorf("List(%s) = %+v", name, m)
		}
		for _, f := range m.Files {
			if f.Place == nil || f.Key != "" || f.URLs != nil || f.ModTime.IsZero() || f.Size <= 0 {
				t.Errorf("List(%s): %+v", name, f)
			}
		}
	}
}

func TestListHides(t *testing.T) {
	s := local(t, plant(t, map[string]string{
		"m/model.gguf": "w", "m/model.gguf.lock": "", "m/b.gguf.partial": "w", "m/c.TMP": "w", "m/d.incomplete": "w",
		"m/e.part": "w", "m/f.aria2": "w", "m/.cache/huggingface/g.gguf": "w", "m/.git/h.gguf": "w", "m/sub/.i": "w", "m/sub/j.txt": "w",
		"m/bad\\name.gguf": "w", "m/bad\nname.gguf": "w", "m/partial": "kept",
	}))
	if d := cmp.Diff([]string{"model.gguf", "partial", "sub/j.txt"}, paths(list(t, s, "m"))); d != "" {
		t.Error(d)
	}
}

func TestListRefuses(t *testing.T) {
	s := local(t, plant(t, zoo))
	for _, f := range []model.Found{
		{Kind: model.Namespace, Name: "Qwen"}, {Kind: model.ModelDir, Name: "../tree/gpt2"}, {Kind: model.ModelDir, Name: ""},
	} {
		if _, err := s.List(context.Background(), model.Name{Repo: "x"}, f); !model.IsKind(err, model.Invalid) {
			t.Errorf("List(%+v): %v", f, err)
		}
	}
	if _, err := s.List(context.Background(), model.Name{Repo: "x"}, model.Found{Kind: model.ModelDir, Name: "GPT2"}); !model.IsKind(err, model.NotFound) {
		t.Errorf("a name that is not the true one: %v", err)
	}
}

// Links that stay inside the root are followed, relative or absolute; no
// other one shows, opens or is stat'ed.
func TestLinks(t *testing.T) {
	outside := filepath.Join(t.TempDir(), "outside")
	must(t, os.MkdirAll(outside, 0o755))
	must(t, os.WriteFile(filepath.Join(outside, "secret.gguf"), []byte("secret"), 0o644))
	root := plant(t, map[string]string{
		"blobs/a.bin":     "weights",
		"m/rel.gguf":      "->../blobs/a.bin",
		"m/abs.gguf":      "->$ROOT/blobs/a.bin",
		"m/chain.gguf":    "->abs.gguf",
		"m/out.gguf":      "->" + outside + "/secret.gguf",
		"m/up.gguf":       "->../../outside/secret.gguf",
		"m/dangling.gguf": "->nothing",
		"m/loop.gguf":     "->loop.gguf",
		"m/self":          "->.",
		"m/sub":           "->../blobs",
		"m/abssub":        "->$ROOT/blobs",
		"m/proc.gguf":     "->/proc/self/exe",
		"outdir":          "->" + outside,
		"alias":           "->m",
		"rootlink":        "->.",
	})
	must(t, os.Symlink(outside, filepath.Join(filepath.Dir(root), "outside")))
	must(t, syscall.Mkfifo(filepath.Join(root, "m", "pipe.gguf"), 0o644))
	s := local(t, root)
	for _, name := range []string{"m", "alias"} {
		m := list(t, s, name)
		if d := cmp.Diff([]string{"abs.gguf", "abssub/a.bin", "chain.gguf", "rel.gguf", "sub/a.bin"}, paths(m)); d != "" {
			t.Errorf("%s:\n%s", name, d)
		}
		for _, f := range m.Files {
			if got := readAll(t, f.Place); got != "weights" {
				t.Errorf("%s = %q", f.Path, got)
			}
		}
	}
	for _, name := range []string{"outdir", "rootlink"} {
		if got := outcome(find(t, s, name)); got != "not found" {
			t.Errorf("%s: %s", name, got)
		}
	}
	for _, rel := range []string{"m/out.gguf", "m/up.gguf", "outdir/secret.gguf", "m/proc.gguf", "m/dangling.gguf", "m/loop.gguf", "../outside/secret.gguf", "m/pipe.gguf", "m"} {
		p := s.Tree.Place(s.Guard, rel, -1)
		if f, _, err := p.Open(context.Background()); !model.IsKind(err, model.NotFound) {
			t.Errorf("Open(%s) = %v, %v", rel, f, err)
		}
		if st, err := p.Stat(context.Background()); !model.IsKind(err, model.NotFound) {
			t.Errorf("Stat(%s) = %+v, %v", rel, st, err)
		}
	}
}

func readAll(t *testing.T, p model.Place) string {
	t.Helper()
	f, st, err := p.Open(context.Background())
	must(t, err)
	defer f.Close()
	b, err := io.ReadAll(f)
	must(t, err)
	if int64(len(b)) != st.Size {
		t.Errorf("%s: size %d of %d bytes", p.Path(), st.Size, len(b))
	}
	return string(b)
}

// The very next look sees a file that was replaced, rewritten, added or removed,
// also in a directory that is remembered.
func TestChangesShowAtOnce(t *testing.T) {
	root := plant(t, map[string]string{"m/model.gguf": "old", "m/x.txt": "x"})
	age(t, root)
	s := local(t, root)
	m := list(t, s, "m")
	place := m.File("model.gguf").Place
	before, err := place.Stat(context.Background())
	must(t, err)

	put(t, root, "m/model.gguf", "rewritten in place")
	if got := list(t, s, "m").File("model.gguf").Size; got != 18 {
		t.Errorf("rewritten: size %d", got)
	}
	put(t, root, "m/.new", "replaced")
	must(t, os.Rename(root+"/m/.new", root+"/m/model.gguf"))
	after, err := place.Stat(context.Background())
	must(t, err)
	if after.Ino == before.Ino || after.Dev != before.Dev || after.Size != 8 {
		t.Errorf("replaced: %+v, then %+v", before, after)
	}
	if got := readAll(t, place); got != "replaced" {
		t.Errorf("replaced: %q", got)
	}
	put(t, root, "m/y.txt", "y")
	must(t, os.Remove(root+"/m/x.txt"))
	if d := cmp.Diff([]string{"model.gguf", "y.txt"}, paths(list(t, s, "m"))); d != "" {
		t.Error(d)
	}
	must(t, os.RemoveAll(root+"/m"))
	if got := outcome(find(t, s, "m")); got != "not found" {
		t.Errorf("removed: %s", got)
	}
}

// A file that is being copied in makes its model broken only until it has
// bytes, though its directory does not change meanwhile.
func TestBrokenIsNotRemembered(t *testing.T) {
	root := plant(t, map[string]string{"m/model.gguf": ""})
	age(t, root)
	s := local(t, root)
	for range 2 {
		if f, err := find(t, s, "m"); err != nil || f.Broken == "" {
			t.Fatalf("empty: %+v, %v", f, err)
		}
	}
	put(t, root, "m/model.gguf", "weights")
	if f, err := find(t, s, "m"); err != nil || f.Broken != "" {
		t.Errorf("filled: %+v, %v", f, err)
	}
}

// A directory that changed a moment ago is read again even if its times do
// not tell: two changes within one tick.
func TestFreshDirectoryIsNotRemembered(t *testing.T) {
	root := plant(t, map[string]string{"m/model.gguf": "w"})
	s := local(t, root)
	list(t, s, "m")
	for _, rel := range []string{".", "m"} {
		if remembered(t, s, rel) {
			t.Errorf("%s was remembered", rel)
		}
	}
	age(t, root)
	list(t, s, "m")
	for _, rel := range []string{".", "m"} {
		if !remembered(t, s, rel) {
			t.Errorf("%s was not remembered", rel)
		}
	}
}

// remembered reports whether a directory is not read again.
func remembered(t *testing.T, s *Source, rel string) bool {
	t.Helper()
	first, err := s.dirs.Dir(rel)
	must(t, err)
	second, err := s.dirs.Dir(rel)
	must(t, err)
	return first == second
}

// After a restart a file is found again by the path that its place had.
func TestAt(t *testing.T) {
	root := plant(t, zoo)
	s := local(t, root)
	for _, name := range []string{"unsloth/G-GGUF", "gpt2", "loose.gguf", "loose", "llama3:8b"} {
		for _, f := range list(t, s, name).Files {
			p := s.At(f.Place.Path())
			if p == nil || p.Path() != f.Place.Path() || readAll(t, p) != readAll(t, f.Place) {
				t.Errorf("%s: %s is found as %v", name, f.Path, p)
			}
		}
	}
	if p := s.At(filepath.Dir(root) + "/x"); p != nil {
		t.Errorf("outside: %s", p.Path())
	}
}

// What is skipped is not listed, found or opened, and a change beside it is
// seen as ever.
func TestSkip(t *testing.T) {
	root := plant(t, map[string]string{"gpt2/model.safetensors": "w", "hub/models--a--b/snapshots/x/model.gguf": "w", "hub2/m/model.gguf": "w"})
	s, err := New(Config{Root: root, Kind: model.Local, Skip: []string{"hub"}})
	must(t, err)
	names := func() (got []string) {
		found, err := s.Names(context.Background())
		must(t, err)
		for _, f := range found {
			got = append(got, f.Name)
		}
		return got
	}
	if d := cmp.Diff([]string{"gpt2", "hub2/m"}, names()); d != "" {
		t.Error(d)
	}
	for _, name := range []string{"hub", "hub/models--a--b", "HUB"} {
		if got := outcome(find(t, s, name)); got != "not found" {
			t.Errorf("%s: %s", name, got)
		}
	}
	must(t, os.MkdirAll(filepath.Join(root, "new"), 0o755))
	must(t, os.WriteFile(filepath.Join(root, "new", "model.gguf"), []byte("w"), 0o644))
	if d := cmp.Diff([]string{"gpt2", "hub2/m", "new"}, names()); d != "" {
		t.Error(d)
	}
}
