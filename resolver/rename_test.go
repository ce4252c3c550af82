package resolver

import (
	"context"
	"testing"
	"time"

	"modelfs/internal/model"
)

// An aliases gives models of a fake names of their own.
type aliases struct {
	*fake                   // whose models they are
	names map[string]string // name -> true name
}

func (a aliases) ID() string { return "aliases" }

func (a aliases) Find(ctx context.Context, n model.Name) (model.Found, error) {
	target, ok := a.names[n.Path()]
	if !ok {
		return model.Found{}, model.Errorf(model.NotFound, "%s is no alias", n)
	}
	m, err := model.ParseName(target)
	if err != nil {
		return model.Found{}, err
	}
	return a.fake.Find(ctx, m)
}

func (a aliases) Renamed(n model.Name) (source, meaning string) {
	if a.names[n.Path()] == "" {
		return "", ""
	}
	return a.fake.id, a.names[n.Path()]
}

// named restarts the world with names for models of its Hub.
func (w *world) named(names map[string]string) {
	w.restart(Config{Sources: []Source{aliases{w.hub, names}, w.hub, w.local, w.router}})
}

func TestAnAliasKeepsItsCommit(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		names := map[string]string{"llama": "org/m"}
		w.named(names)
		w.hub.add("org/m", "m-Q4_K_M.gguf=10", "m-Q8_0.gguf=20")
		w.Stored("llama", w.mustView("llama").Model)
		w.hub.commit("org/m", "commit-2")
		pass(time.Hour)
		for range 2 {
			for _, name := range []string{"llama", "llama:Q8_0"} {
				if v := w.mustView(name); v.Revision != "commit-1" || v.Source != w.hub.id {
					t.Errorf("%s is at %s of %s", name, v.Revision, v.Source)
				}
			}
			w.named(names)
		}
		if v := w.mustView("org/m"); v.Revision != "commit-2" {
			t.Errorf("the model's own name, of which nothing is stored, is at %s", v.Revision)
		}
		w.hub.become(failing)
		w.expect("llama", by("aliases"))
		w.mustView("llama")
		w.restart(Config{Sources: []Source{w.local, w.router}}) // HF_HUB_OFFLINE=1
		w.expect("llama", unsettled("aliases"))
		if v := w.mustView("llama"); v.Revision != "commit-1" || v.Source != w.hub.id {
			t.Errorf("without the Hub: %+v", v.Model)
		}
		w.hub.become(healthy)
		w.named(names)
		if err := w.Update("llama"); err != nil {
			t.Fatal(err)
		}
		if v := w.mustView("llama"); v.Revision != "commit-2" {
			t.Errorf("after an update still at %s", v.Revision)
		}
	})
}

// What is recorded of a name is of what it stood for.
func TestAnAliasThatStandsForAnotherModel(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.hub.add("org/old", "a.gguf=10")
		w.hub.add("org/new", "b.gguf=20")
		w.named(map[string]string{"llama": "org/old"})
		w.Stored("llama", w.mustView("llama").Model)
		w.named(map[string]string{"llama": "org/new"})
		w.hub.become(failing)
		w.expect("llama", unavailable)
		w.hub.become(healthy)
		pass(time.Second)
		if v := w.mustView("llama"); v.Name != "org/new" {
			t.Errorf("it is still %s", v.Name)
		}
		w.named(map[string]string{"other": "org/new"})
		w.expect("llama", notFound)
	})
}
