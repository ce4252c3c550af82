package inplace

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
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

func store(t *testing.T, c Config) *Store {
	t.Helper()
	s, err := New("kind", c)
	must(t, err)
	t.Cleanup(s.Close)
	return s
}

func TestIdentity(t *testing.T) {
	here, err := filepath.Abs("x")
	must(t, err)
	for _, c := range []struct {
		config Config
		want   string
	}{
		{Config{Root: "/srv/x/", Kind: model.Local}, "kind:/srv/x"},
		{Config{Root: "/srv/../x", Kind: model.Shared}, "kind:/x"},
		{Config{Root: "x", Kind: model.Local}, "kind:" + here},
	} {
		s := store(t, c.config)
		if s.ID() != c.want || s.Kind() != c.config.Kind || (s.Guard != nil) != (c.config.Kind == model.Shared) {
			t.Errorf("%+v: %s, %v, guard %v", c.config, s.ID(), s.Kind(), s.Guard)
		}
		if err := s.Absent(model.Name{Org: "a", Repo: "b"}); !model.IsKind(err, model.NotFound) {
			t.Error(err)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	for _, c := range []Config{{Kind: model.Local}, {Root: "/x", Kind: model.Hub}, {Root: "/x", Kind: model.Router}} {
		if _, err := New("kind", c); !model.IsKind(err, model.Invalid) {
			t.Errorf("New(%+v): %v", c, err)
		}
	}
}

func TestModel(t *testing.T) {
	s := store(t, Config{Root: "/srv/x"})
	when := time.Unix(1000, 0)
	m := s.Model(model.Found{Name: "a/b", Revision: "r", ModTime: when}, []model.File{{Path: "z"}, {Path: "../up"}, {Path: "a"}})
	want := &model.Model{Name: "a/b", Source: "kind:/srv/x", Kind: model.Local, Revision: "r", ModTime: when, Files: []model.File{{Path: "a"}, {Path: "z"}}}
	if d := cmp.Diff(want, m); d != "" {
		t.Error(d)
	}
}

// A place is found again by its path, in the store and where links may lead,
// and nowhere else.
func TestAt(t *testing.T) {
	base := t.TempDir()
	root, trusted := filepath.Join(base, "store"), filepath.Join(base, "trusted")
	for _, p := range []string{"store/a/b/f", "trusted/f", "store2/f", "f"} {
		p = filepath.Join(base, p)
		must(t, os.MkdirAll(filepath.Dir(p), 0o755))
		must(t, os.WriteFile(p, []byte("four"), 0o644))
	}
	must(t, os.Symlink(filepath.Join(base, "f"), filepath.Join(root, "out")))
	for _, kind := range []model.SourceKind{model.Local, model.Shared} {
		s := store(t, Config{Root: root, Kind: kind, Trust: []string{trusted + "/"}})
		for _, abs := range []string{root + "/a/b/f", trusted + "/f"} {
			p := s.At(abs)
			if p == nil || p.Path() != abs {
				t.Fatalf("%s: %v", abs, p)
			}
			st, err := p.Stat(context.Background())
			if err != nil || st.Size != 4 {
				t.Errorf("%s: %+v, %v", abs, st, err)
			}
			f, opened, err := p.Open(context.Background())
			must(t, err)
			f.Close()
			if opened != st {
				t.Errorf("%s: %+v, then %+v", abs, st, opened)
			}
		}
		for _, abs := range []string{"", "/", root, root + "/", root + "/a/../../f", root + "/a//b/f", root + "2/f", base + "/store2/f", "a/b/f", base + "/f"} {
			if p := s.At(abs); p != nil {
				t.Errorf("%s is at %s", abs, p.Path())
			}
		}
		for _, abs := range []string{root + "/out", root + "/a", root + "/none"} {
			if _, err := s.At(abs).Stat(context.Background()); !model.IsKind(err, model.NotFound) {
				t.Errorf("%s: %v", abs, err)
			}
		}
	}
	if p := store(t, Config{Root: "/"}).At(root + "/a/b/f"); p == nil || p.Path() != root+"/a/b/f" {
		t.Errorf("below /: %v", p)
	}
}

// A shared store is waited for no longer than its timeout; a local one is the
// caller's.
func TestRunOfAShareEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, err := New("kind", Config{Root: "/srv/x", Kind: model.Shared})
		must(t, err)
		defer s.Close()
		back, start := make(chan struct{}), time.Now()
		_, err = Run(context.Background(), s, "reading", func() (int, error) { <-back; return 0, nil })
		if !model.IsKind(err, model.Unavailable) || time.Since(start) != defaultTimeout {
			t.Errorf("%v after %v", err, time.Since(start))
		}
		close(back)
	})
	s := store(t, Config{Root: "/srv/x"})
	s.Close()
	if v, err := Run(context.Background(), s, "reading", func() (int, error) { return 7, nil }); v != 7 || err != nil {
		t.Errorf("%v, %v", v, err)
	}
}
