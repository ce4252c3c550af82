package backend

import (
	"os"
	"slices"
	"strings"
	"testing"

	"modelfs/internal/format"
	"modelfs/internal/model"
)

func writeFile(name string) error { return os.WriteFile(name, []byte("x"), 0o600) }

func rulesOf(t testing.TB) *Rules {
	t.Helper()
	r, err := DefaultRules()
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func only(b ...Backend) Selection { return Selection{Backends: b} }

// repo is a model of files of 1000 bytes each.
func repo(name string, tags []string, files ...string) *model.Model {
	m := &model.Model{Name: name, Tags: tags}
	for _, p := range files {
		m.Files = append(m.Files, model.File{Path: p, Size: 1000})
	}
	m.Files, _ = model.Listing(m.Files)
	return m
}

func filter(t testing.TB, sel Selection, m *model.Model) Shown {
	t.Helper()
	return rulesOf(t).Filter(sel, format.Of(m, format.Hints{}))
}

// listing are the paths that are shown.
func listing(m *model.Model, s Shown) []string {
	var list []string
	for _, f := range m.Files {
		if !s.Hidden[f.Path] {
			list = append(list, f.Path)
		}
	}
	return list
}

func hidden(s Shown) []string {
	var list []string
	for p := range s.Hidden {
		list = append(list, p)
	}
	slices.Sort(list)
	return list
}

func split(s string) []string { return strings.Fields(s) }
