package ollama

import (
	"context"
	"fmt"
	"testing"

	"modelfs/internal/model"
)

func BenchmarkStore(b *testing.B) {
	shop, ctx := newShop(b), context.Background()
	for i := range 10_000 {
		shop.pull(fmt.Sprintf("hf.co/org-%02d/model-%05d/Q4_K_M", i%100, i), piece{kind: "model", content: fmt.Sprint("weights ", i)}, piece{kind: "template", content: "t"})
	}
	shop.age()
	b.Run("NamesFirst", func(b *testing.B) {
		for b.Loop() {
			if found, err := shop.source().Names(ctx); err != nil || len(found) != 10_000 {
				b.Fatal(len(found), err)
			}
		}
	})
	s := shop.source()
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
	must(b, s.Refresh(ctx))
	b.Run("Refresh", func(b *testing.B) {
		for b.Loop() {
			must(b, s.Refresh(ctx))
		}
	})
}
