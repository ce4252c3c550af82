package store

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"modelfs/internal/model"
)

type listing struct {
	Commit string
	Files  []string
}

func TestFacts(t *testing.T) {
	s := newStore(t)
	f := s.Facts("listings")
	ids := []string{"", "a", "../../etc/passwd", "hub:https://hf.co org/repo@main", strings.Repeat("x", 5000), "\x00\xff"[:1]}
	for _, id := range ids {
		var got listing
		if ok, err := f.Get(id, &got); ok || err != nil {
			t.Fatalf("Get(%.20q) before Put: %v, %v", id, ok, err)
		}
		for _, commit := range []string{"c1", "c2"} {
			want := listing{commit, []string{id}}
			if err := f.Put(id, want); err != nil {
				t.Fatal(err)
			}
			if ok, err := f.Get(id, &got); !ok || err != nil || !cmp.Equal(got, want) {
				t.Fatalf("Get(%.20q): %+v, %v, %v", id, got, ok, err)
			}
		}
	}
	s = reopen(t, s)
	f = s.Facts("listings")
	seen := map[string]bool{}
	if err := f.Each(func(id string, raw json.RawMessage) { seen[id] = json.Valid(raw) }); err != nil {
		t.Fatal(err)
	}
	for _, id := range ids {
		if !seen[id] {
			t.Errorf("Each lacks %.20q", id)
		}
		for range 2 {
			if err := f.Delete(id); err != nil {
				t.Fatal(err)
			}
		}
	}
	if got := tree(t, s, metaDir+"/listings"); len(got) != 0 || len(seen) != len(ids) {
		t.Errorf("left: %v; seen %d", got, len(seen))
	}
	if err := s.Facts("other").Each(func(string, json.RawMessage) { t.Error("an empty bucket has a fact") }); err != nil {
		t.Fatal(err)
	}
}

func TestFactsRefuse(t *testing.T) {
	s := newStore(t)
	for _, bucket := range []string{"", "A", "a/b", "..", "store-pins", "a1"} {
		f := s.Facts(bucket)
		_, err := f.Get("x", new(int))
		for _, err := range []error{err, f.Put("x", 1), f.Delete("x"), f.Each(nil)} {
			wantKind(t, err, model.Internal)
		}
	}
	f := s.Facts("big")
	wantKind(t, f.Put("x", make([]byte, maxFact*3/4)), model.Invalid)
	if err := f.Put("x", make(chan int)); err == nil {
		t.Error("a channel became JSON")
	}
	if err := f.Put("x", "text"); err != nil {
		t.Fatal(err)
	}
	_, err := f.Get("x", new(int))
	wantKind(t, err, model.Invalid)
}

func TestDamagedFactsAreNone(t *testing.T) {
	s := newStore(t)
	f := s.Facts("b")
	for name, text := range map[string]string{
		"empty": "", "half": `{"id":"x","val`, "another's": `{"id":"y","value":1}`, "no object": `[1]`, "noise": "\x00\x01",
	} {
		if err := f.Put("x", 1); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(s.path(f.name("x")), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if ok, err := f.Get("x", new(int)); ok || err != nil {
			t.Errorf("%s: %v, %v", name, ok, err)
		}
		if err := f.Each(func(id string, _ json.RawMessage) { t.Errorf("%s: Each gives %q", name, id) }); err != nil {
			t.Error(err)
		}
	}
}
