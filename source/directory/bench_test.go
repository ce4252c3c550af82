package directory

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"modelfs/internal/model"
)

// many makes a tree of 10,000 models: 100 namespaces of 90, and 1000 at the top.
func many(b *testing.B) string {
	b.Helper()
	root, old := b.TempDir(), time.Now().Add(-time.Hour)
	for i := range 10_000 {
		rel := fmt.Sprintf("model-%05d", i)
		if i >= 1000 {
			rel = fmt.Sprintf("org-%02d/%s", i%100, rel)
		}
		dir := filepath.Join(root, rel)
		must(b, os.MkdirAll(dir, 0o755))
		must(b, os.WriteFile(filepath.Join(dir, "config.json"), []byte("{}"), 0o644))
		must(b, os.WriteFile(filepath.Join(dir, "model.gguf"), []byte("weights"), 0o644))
		must(b, os.Chtimes(dir, old, old))
		must(b, os.Chtimes(filepath.Dir(dir), old, old))
	}
	must(b, os.Chtimes(root, old, old))
	return root
}

func BenchmarkNamesFirst(b *testing.B) {
	root := many(b)
	for b.Loop() {
		s := local(b, root)
		if found, err := s.Names(context.Background()); err != nil || len(found) != 10_000 {
			b.Fatal(len(found), err)
		}
	}
}

func BenchmarkKnown(b *testing.B) {
	s := local(b, many(b))
	name := model.Name{Org: "org-42", Repo: "model-01042"}
	f, err := s.Find(context.Background(), name)
	must(b, err)
	_, err = s.Names(context.Background())
	must(b, err)
	b.Run("Names", func(b *testing.B) {
		for b.Loop() {
			_, err := s.Names(context.Background())
			must(b, err)
		}
	})
	b.Run("Find", func(b *testing.B) {
		for b.Loop() {
			_, err := s.Find(context.Background(), name)
			must(b, err)
		}
	})
	b.Run("List", func(b *testing.B) {
		for b.Loop() {
			_, err := s.List(context.Background(), name, f)
			must(b, err)
		}
	})
	b.Run("FindAbsent", func(b *testing.B) {
		for b.Loop() {
			if _, err := s.Find(context.Background(), model.Name{Repo: "absent"}); !model.IsKind(err, model.NotFound) {
				b.Fatal(err)
			}
		}
	})
}
