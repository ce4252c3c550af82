package fs

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"modelfs/internal/model"
)

// A file that would have to be fetched is read where the same content lies,
// and fetched when that is gone or of another size.
func TestAFileThatLiesElsewhere(t *testing.T) {
	data := pattern(3<<20, 11)
	blob := filepath.Join(t.TempDir(), "blob")
	if err := os.WriteFile(blob, data, 0o644); err != nil {
		t.Fatal(err)
	}
	names, content := coldModel(data)
	names.models["org/cold"].Files[0].SHA256 = "aa"
	file := names.models["org/cold"].Files[0].Path
	var there atomic.Bool
	there.Store(true)
	dir, s := mountTest(t, names, content, func(c *Config) {
		c.Elsewhere = func(sha256 string, size int64) model.Place {
			if sha256 != "aa" || size != int64(len(data)) {
				t.Errorf("asked for %q of %d bytes", sha256, size)
			}
			if !there.Load() {
				return nil
			}
			return treePlace(blob)
		}
	})
	mounted := filepath.Join(dir, "org/cold", file)
	read := func(what string, reads bool) {
		t.Helper()
		before := s.Stats().Reads
		got, err := os.ReadFile(mounted)
		if err != nil || !bytes.Equal(got, data) {
			t.Errorf("%s: %d bytes, %v", what, len(got), err)
		}
		if (s.Stats().Reads > before) != reads {
			t.Errorf("%s: %d reads", what, s.Stats().Reads-before)
		}
	}
	read("there", false)
	held, err := os.Open(mounted)
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	if err := os.Remove(blob); err != nil {
		t.Fatal(err)
	}
	read("pruned, and not noticed yet", true)
	if err := os.WriteFile(blob, data[1:], 0o644); err != nil {
		t.Fatal(err)
	}
	read("another size", false) // the kernel has kept the pages of what was fetched
	there.Store(false)
	read("nowhere", false)
	kept := make([]byte, len(data))
	if n, err := held.ReadAt(kept, 0); err != nil || !bytes.Equal(kept[:n], data) {
		t.Errorf("the descriptor that was open: %d bytes, %v", n, err)
	}
}

// A lockedPlace may be looked at, and not opened.
type lockedPlace struct{ treePlace }

func (p lockedPlace) Open(context.Context) (*os.File, model.Stat, error) {
	return nil, model.Stat{}, model.Errorf(model.Denied, "opening %s: %w", p.Path(), syscall.EACCES)
}

func (p lockedPlace) Reader(ctx context.Context) (model.Reader, model.Stat, error) {
	_, st, err := p.Open(ctx)
	return nil, st, err
}

// Another user's file that only he may read spares no download.
func TestAFileElsewhereThatMayNotBeReadIsFetched(t *testing.T) {
	data := pattern(100_000, 11)
	blob := filepath.Join(t.TempDir(), "blob")
	must(t, os.WriteFile(blob, data, 0o600))
	names, content := coldModel(data)
	names.models["org/cold"].Files[0].SHA256 = "aa"
	dir, _ := mountTest(t, names, content, func(c *Config) {
		c.Elsewhere = func(string, int64) model.Place { return lockedPlace{treePlace(blob)} }
	})
	got, err := os.ReadFile(filepath.Join(dir, "org/cold", names.models["org/cold"].Files[0].Path))
	if err != nil || !bytes.Equal(got, data) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

// What was found elsewhere and is gone when it is opened is stale, so that the
// kernel looks its name up again; a tree's own file is just gone.
func TestGoneElsewhereIsStale(t *testing.T) {
	gone := model.Errorf(model.NotFound, "no such file")
	for kind, want := range map[model.SourceKind]model.Kind{model.Hub: model.Stale, model.Router: model.Stale, model.Local: model.NotFound} {
		v := view(kind, "s", model.File{Path: "f"})
		b := bound{view: v, file: &v.Files[0]}
		if err := b.unplaced(gone); !model.IsKind(err, want) {
			t.Errorf("%v: %v", kind, err)
		}
		if err := b.unplaced(syscall.EACCES); !errors.Is(err, syscall.EACCES) {
			t.Errorf("%v: another error became %v", kind, err)
		}
	}
}

// .modelfs/all is the whole tree again, by other Names.
func TestAll(t *testing.T) {
	files := []model.File{{Path: "a.gguf", Size: 1, Key: "git-a"}, {Path: "sub/b", Size: 1, Key: "git-b"}}
	some := &fakeNames{models: map[string]*model.View{"m": view(model.Hub, "hub", files...)}}
	some.models["m"].Hidden = map[string]bool{"sub/b": true}
	all := &fakeNames{models: map[string]*model.View{"m": view(model.Hub, "hub", files...), "org/x": view(model.Hub, "hub", files...)}}
	dir, _ := mountTest(t, some, &fakeContent{}, func(c *Config) { c.All = all })
	for at, want := range map[string][]string{
		".": {"m"}, "m": {"a.gguf"}, ".modelfs": {"all", "explain", "status.json"}, ".modelfs/all": {"m", "org"}, ".modelfs/all/m": {"a.gguf", "sub"},
		".modelfs/all/m/sub": {"b"}, ".modelfs/all/org": {"x"}, ".modelfs/all/org/x": {"a.gguf", "sub"}, "m/.modelfs": {"explain.json", "status.json"},
		".modelfs/all/org/x/.modelfs": {"explain.json", "status.json"},
	} {
		entries, err := os.ReadDir(filepath.Join(dir, at))
		if err != nil {
			t.Error(err)
		}
		var got []string
		for _, e := range entries {
			got = append(got, e.Name())
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", at, diff)
		}
	}
	for _, at := range []string{"org", ".modelfs/all/.modelfs", ".modelfs/all/nobody", ".modelfs/all/CACHEDIR.TAG", "m/.modelfs/all"} {
		if _, err := os.Stat(filepath.Join(dir, at)); !errors.Is(err, syscall.ENOENT) {
			t.Errorf("%s: %v, want ENOENT", at, err)
		}
	}
	inos := map[string]uint64{}
	for _, at := range []string{"m", ".modelfs/all/m", "m/a.gguf", ".modelfs/all/m/a.gguf"} {
		info, err := os.Stat(filepath.Join(dir, at))
		if err != nil {
			t.Fatal(err)
		}
		inos[at] = info.Sys().(*syscall.Stat_t).Ino
	}
	if inos["m"] == inos[".modelfs/all/m"] || inos["m/a.gguf"] != inos[".modelfs/all/m/a.gguf"] {
		t.Errorf("inode numbers: %v", inos)
	}
	got, err := os.ReadFile(filepath.Join(dir, ".modelfs/all/org/x/.modelfs/explain.json"))
	if err != nil || !bytes.Contains(got, []byte(`"org/x"`)) {
		t.Errorf("explain: %s, %v", got, err)
	}
}

func TestWithoutAll(t *testing.T) {
	names, content := coldModel(pattern(10, 6))
	dir, _ := mountTest(t, names, content)
	if _, err := os.Stat(filepath.Join(dir, ".modelfs/all")); !errors.Is(err, syscall.ENOENT) {
		t.Errorf("%v, want ENOENT", err)
	}
}
