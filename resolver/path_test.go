package resolver

import (
	"strings"
	"testing"

	"modelfs/internal/model"
)

// Whatever the kernel asks for, an answer comes, and a name that the tree does
// not have is not found.
func FuzzLookup(f *testing.F) {
	for _, s := range []string{"m", "org/m", "org", "m:Q4_K_M", "m@main", "m:Q8_0@refs/pr/1", "../m", "a/b/c", "", ".", "x.gguf", "naïve", "a\x00b", "org/", "/m", ":", "@"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, path string) {
		local := newFake(model.Local, "org/m", "x.gguf", "m")
		hub := newFake(model.Hub, "org/hub")
		r := New(Config{Sources: []Source{hub, local}})
		defer r.Close()
		e, err := r.Lookup(t.Context(), path)
		if err != nil && !model.IsKind(err, model.NotFound) {
			t.Fatalf("lookup of %q: %v", path, err)
		}
		if err == nil && (e.Name == "" || e.Source == "" || !strings.HasSuffix("/"+path, "/"+e.Name)) {
			t.Fatalf("lookup of %q = %+v", path, e)
		}
		if ex := r.Explain(t.Context(), path); (ex.Answer == nil) != (err != nil) {
			t.Fatalf("lookup of %q: %v, explained as %+v", path, err, ex)
		}
		if _, verr := r.View(t.Context(), path); err == nil && (verr == nil) != (e.Kind != model.Namespace) {
			t.Fatalf("%q is %+v, view: %v", path, e, verr)
		}
	})
}

func BenchmarkLookupLocal(b *testing.B) {
	r := New(Config{Sources: []Source{newFake(model.Local, "org/m"), newFake(model.Shared), newFake(model.Hub)}})
	defer r.Close()
	for b.Loop() {
		if _, err := r.Lookup(b.Context(), "org/m"); err != nil {
			b.Fatal(err)
		}
	}
}
