package stores

import (
	"context"
	"fmt"
	"testing"

	"modelfs/internal/model"
)

func BenchmarkLMStudio(b *testing.B) {
	files := make(map[string]string)
	for i := range 10_000 {
		files[fmt.Sprintf("org-%02d/model-%05d/m-Q4_K_M.gguf", i%100, i)] = "w"
	}
	root, ctx := plant(b, files), context.Background()
	age(b, root)
	b.Run("NamesFirst", func(b *testing.B) {
		for b.Loop() {
			if found, err := source(b, LMStudio, root).Names(ctx); err != nil || len(found) != 10_000 {
				b.Fatal(len(found), err)
			}
		}
	})
	s := source(b, LMStudio, root)
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
			_, err := s.Find(ctx, model.Name{Org: "org-42", Repo: "model-00042", Quant: "Q4_K_M"})
			must(b, err)
		}
	})
}
