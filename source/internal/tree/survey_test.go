package tree

import (
	"errors"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"modelfs/internal/model"
)

// surveyor looks at directories through a cache, and counts how often.
type surveyor struct {
	Survey
	cache *Cache
	looks atomic.Int32
}

func newSurveyor(c *Cache, workers int) *surveyor {
	s := &surveyor{cache: c}
	s.Workers = workers
	s.Look = func(held *Tree, dir string) (*Sight, error) {
		s.looks.Add(1)
		readAt, l, sight := time.Now(), c.LookAt(held), &Sight{}
		err := l.Visit(dir, func(below string, d *Listing) bool {
			for _, f := range d.Files {
				sight.Found = append(sight.Found, model.Found{Name: dir + "/" + below + "/" + f})
			}
			return true
		})
		under, all := l.Reading()
		sight.Under, sight.Settled = under, all && held.SettledAll(under, readAt)
		return sight, Tolerable(err)
	}
	return s
}

// names are what is found, and how many directories were looked at for it.
func (s *surveyor) names(t *testing.T) (found []model.Found, names []string, looks int32) {
	t.Helper()
	s.looks.Store(0)
	top, err := s.cache.Dir(".")
	must(t, err)
	found, err = s.Names(s.cache.tree, top, top.Dirs, func(seen []*Sight) (all []model.Found) {
		for _, one := range seen {
			all = append(all, one.Found...)
		}
		return all
	})
	must(t, err)
	for _, f := range found {
		names = append(names, f.Name)
	}
	return found, names, s.looks.Load()
}

// What has not changed is not looked at again, and what has changed is, at any
// depth, whether or not its time is old.
func TestSurvey(t *testing.T) {
	for _, workers := range []int{1, 3} {
		c, root := aged(t, map[string]string{"a/f": "1", "b/sub/f": "1", "c/f": "1"})
		s := newSurveyor(c, workers)
		first, names, looks := s.names(t)
		if d := cmp.Diff([]string{"a/./f", "b/sub/f", "c/./f"}, names); d != "" || looks != 3 {
			t.Errorf("%d looks:\n%s", looks, d)
		}
		if again, _, looks := s.names(t); looks != 0 || &again[0] != &first[0] {
			t.Errorf("%d looks although nothing changed", looks)
		}
		must(t, os.WriteFile(filepath.Join(root, "b/sub/g"), nil, 0o644))
		if _, names, looks := s.names(t); looks != 1 || len(names) != 4 {
			t.Errorf("a file deep in b: %d looks, %q", looks, names)
		}
		if _, _, looks := s.names(t); looks != 1 {
			t.Errorf("%d looks: what has just changed was remembered", looks)
		}
		old := time.Now().Add(-time.Hour)
		must(t, os.Chtimes(filepath.Join(root, "b/sub"), old, old))
		must(t, os.RemoveAll(filepath.Join(root, "a")))
		must(t, os.Chtimes(root, old, old))
		if _, names, looks := s.names(t); looks != 1 || len(names) != 3 {
			t.Errorf("a is gone: %d looks, %q", looks, names)
		}
		if _, _, looks := s.names(t); looks != 0 {
			t.Errorf("%d looks although all is old", looks)
		}
	}
}

// An error ends a survey; the next one begins anew.
func TestSurveyThatFails(t *testing.T) {
	c, _ := aged(t, map[string]string{"a/f": "1", "b/f": "1"})
	s := newSurveyor(c, 2)
	look, broken := s.Look, errors.New("the share is gone")
	s.Look = func(held *Tree, dir string) (*Sight, error) {
		if dir == "b" {
			return nil, broken
		}
		return look(held, dir)
	}
	top, err := c.Dir(".")
	must(t, err)
	if found, err := s.Names(c.tree, top, top.Dirs, nil); !errors.Is(err, broken) || found != nil {
		t.Errorf("%v, %v", found, err)
	}
	s.Look = look
	if _, names, _ := s.names(t); len(names) != 2 {
		t.Errorf("%q", names)
	}
}

// A directory that can't be read leaves no stamp by which a change would show.
func TestReadingOfWhatCanNotBeRead(t *testing.T) {
	c, root := aged(t, map[string]string{"m/f": "1"})
	l := c.Look()
	if _, err := l.Dir("m"); err != nil {
		t.Fatal(err)
	}
	if r, all := l.Reading(); !all || len(r) != 1 || !r.Current(c.tree) {
		t.Errorf("%+v, %v", r, all)
	}
	if _, err := l.Dir("none"); err == nil {
		t.Fatal("there is none")
	}
	r, all := l.Reading()
	if all {
		t.Error("all was read, it is said")
	}
	must(t, os.RemoveAll(filepath.Join(root, "m")))
	if r.Current(c.tree) {
		t.Error("what is gone is as it was, it is said")
	}
}
