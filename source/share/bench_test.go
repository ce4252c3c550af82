package share

import (
	"context"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func BenchmarkStat(b *testing.B) {
	root := plant(b, map[string]string{"m/model.gguf": "weights"})
	b.Setenv(childOf, root)
	s := New(Config{ID: "x", Root: root, Command: []string{"child"}, Timeout: time.Second, Output: &output{}, Log: slog.New(slog.DiscardHandler)})
	defer s.Close()
	p, ctx := s.At(filepath.Join(root, "m/model.gguf")), context.Background()
	for b.Loop() {
		_, err := p.Stat(ctx)
		must(b, err)
	}
}

func BenchmarkRead(b *testing.B) {
	root := plant(b, map[string]string{"m/model.gguf": strings.Repeat("w", slotSize)})
	b.Setenv(childOf, root)
	s := New(Config{ID: "x", Root: root, Command: []string{"child"}, Timeout: time.Second, Output: &output{}, Log: slog.New(slog.DiscardHandler)})
	defer s.Close()
	r, _, err := s.At(filepath.Join(root, "m/model.gguf")).Reader(context.Background())
	must(b, err)
	defer r.Close()
	buf := make([]byte, slotSize)
	b.SetBytes(slotSize)
	for b.Loop() {
		_, err := r.ReadAt(context.Background(), buf, 0)
		must(b, err)
	}
}
