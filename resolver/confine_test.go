package resolver

import (
	"testing"

	"modelfs/internal/model"
)

func TestConfinement(t *testing.T) {
	rules := newConfinement(map[string][]string{
		"acme/*":      {"shared", "local:/srv"},
		"acme/pub-*":  {"shared", "hub"},
		"gpt2":        {"hub"},
		"bad/[":       {"local"},
		"*/internal":  {"local"},
		"nobody/*":    {},
		"exact/model": {"router"},
	})
	for _, c := range []struct {
		name, id string
		kind     model.SourceKind
		want     bool
	}{
		{"acme/x", "shared:/mnt", model.Shared, true},
		{"acme/x", "local:/srv", model.Local, true},
		{"acme/x", "local:/home", model.Local, false},
		{"acme/x", "hub:h", model.Hub, false},
		{"ACME/X", "hub:h", model.Hub, false}, // the Hub ignores case
		{"acme/x:Q4_K_M@main", "hub:h", model.Hub, false},
		{"acme", "hub:h", model.Hub, false}, // nor is it asked for the organisation
		{"acme", "shared:/mnt", model.Shared, true},
		{"acme/pub-x", "shared:/mnt", model.Shared, true},
		{"acme/pub-x", "hub:h", model.Hub, false}, // both patterns must allow it
		{"acme2/x", "hub:h", model.Hub, true},
		{"gpt2", "hub:h", model.Hub, true},
		{"gpt2", "router:r", model.Router, false},
		{"gpt2/x", "router:r", model.Router, true},
		{"any/internal", "hub:h", model.Hub, false},
		{"any", "hub:h", model.Hub, true}, // the organisation has other models
		{"bad/x", "hub:h", model.Hub, true},
		{"nobody/x", "local:/srv", model.Local, false},
		{"exact/model", "hub:h", model.Hub, false},
		{"exact", "hub:h", model.Hub, true},
	} {
		n, err := model.ParseName(c.name)
		if err != nil {
			t.Fatal(err)
		}
		if got := rules.allows(n, c.id, c.kind); got != c.want {
			t.Errorf("%s may be asked for %s: %v, want %v", c.id, c.name, got, c.want)
		}
	}
}

func TestCheckConfine(t *testing.T) {
	sources := []Source{newFake(model.Local)}
	for _, c := range []struct {
		pattern, allowed string
		ok               bool
	}{
		{"acme/*", "shared", true}, {"acme/*", "hub", true}, {"acme/*", "local:test", true},
		{"acme/[", "shared", false}, {"", "shared", false}, {"acme/*", "nfs", false}, {"acme/*", "local:other", false},
	} {
		err := CheckConfine(map[string][]string{c.pattern: {c.allowed}}, sources)
		if (err == nil) != c.ok || err != nil && !model.IsKind(err, model.Invalid) {
			t.Errorf("CheckConfine(%q: %q) = %v, want ok %v", c.pattern, c.allowed, err, c.ok)
		}
	}
}
