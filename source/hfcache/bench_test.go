package hfcache

import (
	"context"
	"fmt"
	"testing"

	"modelfs/internal/model"
)

// many makes a cache of 10,000 models.
func many(b *testing.B) *hub {
	b.Helper()
	h := newHub(b)
	for i := range 10_000 {
		repo := fmt.Sprintf("models--org-%02d--model-%05d", i%100, i)
		h.add(repo, commitA, map[string]string{"config.json": "{}", "model.safetensors": fmt.Sprint("weights ", i)})
		h.ref(repo, "main", commitA)
	}
	h.age()
	return h
}

func BenchmarkCache(b *testing.B) {
	h, ctx := many(b), context.Background()
	b.Run("NamesFirst", func(b *testing.B) {
		for b.Loop() {
			if found, err := h.source().Names(ctx); err != nil || len(found) != 10_000 {
				b.Fatal(len(found), err)
			}
		}
	})
	s := h.source()
	_, err := s.Names(ctx)
	must(b, err)
	b.Run("Names", func(b *testing.B) {
		for b.Loop() {
			_, err := s.Names(ctx)
			must(b, err)
		}
	})
	b.Run("Find", func(b *testing.B) {
		for b.Loop() {
			_, err := s.Find(ctx, model.Name{Org: "org-42", Repo: "model-00042"})
			must(b, err)
		}
	})
	b.Run("FindAbsent", func(b *testing.B) {
		for b.Loop() {
			if _, err := s.Find(ctx, model.Name{Repo: "absent"}); !model.IsKind(err, model.NotFound) {
				b.Fatal(err)
			}
		}
	})
	b.Run("RefreshFirst", func(b *testing.B) {
		for b.Loop() {
			must(b, h.source().Refresh(ctx))
		}
	})
	must(b, s.Refresh(ctx))
	b.Run("Refresh", func(b *testing.B) {
		for b.Loop() {
			must(b, s.Refresh(ctx))
		}
	})
}
