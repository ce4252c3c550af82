package resolver

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"modelfs/internal/model"
)

// applesOnly says that nothing runs here of a model with a file "metal", and
// hides what has the quantisation's name.
func applesOnly(m *model.Model, quant string) Filtered {
	f := Filtered{Runs: m.File("metal") == nil}
	if !f.Runs {
		f.Why = "nothing of it runs on cpu"
	}
	if quant != "" {
		f.Hidden = map[string]bool{"not-" + quant: true}
	}
	return f
}

func TestWhatDoesNotRunIsNotListed(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.restart(Config{Filter: applesOnly})
		w.local.add("x", "model.gguf=1")
		w.local.add("apple", "metal=1")
		w.local.add("org/apple", "metal=1")
		w.local.add("only/apple", "metal=1")
		w.local.add("org/x", "a=1")
		w.shared.add("apple", "model.gguf=1") // it would open as the local one
		w.shared.add("cut", "metal=1")
		w.shared.breaks("cut", "a part is missing")
		w.router.add("r", "metal=1")
		local, router := w.local.id, w.router.id
		w.expectList("", "org namespace "+local, "r model "+router, "x model "+local)
		w.expectList("org", "x model "+local)
		w.expectList("only")
		if n := w.router.times("list r"); n != 0 {
			t.Errorf("the router was asked for %d listings", n)
		}
		for _, name := range []string{"apple", "only/apple", "r"} { // by name they open
			if v := w.mustView(name); len(v.Hidden) != 0 {
				t.Errorf("%s hides %v", name, v.Hidden)
			}
		}
		w.expectList("", "org namespace "+local, "x model "+local) // the router's listing is in memory now

		w.local.add("apple", "model.gguf=1")
		w.local.set(func() { w.local.models["apple"].ModTime = time.Unix(2e9, 0) })
		w.expectList("", "apple model "+local, "org namespace "+local, "x model "+local)
	})
}

func TestEverythingIsListedUnfiltered(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.restart(Config{Filter: applesOnly})
		w.local.add("apple", "metal=1", "not-Q=1")
		w.local.add("f.gguf", "f.gguf=1")
		all := w.Unfiltered()
		entries, err := all.Entries(t.Context(), "")
		if err != nil || len(entries) != 2 {
			t.Errorf("%v, %v", entries, err)
		}
		if e, err := all.Lookup(t.Context(), "f.gguf"); err != nil || e.View == nil || e.View.Hidden != nil {
			t.Errorf("%+v, %v", e, err)
		}
		if v, err := all.View(t.Context(), "apple"); err != nil || v.Hidden != nil || len(v.Files) != 2 {
			t.Errorf("%+v, %v", v, err)
		}
		if _, err := all.Lookup(t.Context(), "nobody"); !model.IsKind(err, model.NotFound) {
			t.Error(err)
		}
	})
}

func TestTheFilterIsToldTheQuantisation(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.restart(Config{Filter: applesOnly})
		w.hub.add("m", "m-Q8_0.gguf=1", "not-Q8_0=1")
		if v := w.mustView("m:Q8_0"); !v.Hidden["not-Q8_0"] {
			t.Errorf("hidden: %v", v.Hidden)
		}
		if v := w.mustView("m"); v.Hidden != nil {
			t.Errorf("hidden: %v", v.Hidden)
		}
	})
}

func TestExplainSaysWhyItIsNotListed(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.restart(Config{Filter: applesOnly})
		w.local.add("apple", "metal=1")
		w.local.add("x", "a=1")
		if e := w.explain("apple"); !e.Unlisted || e.LeftOut != "nothing of it runs on cpu" {
			t.Errorf("%+v", e)
		}
		if e := w.explain("x"); e.Unlisted || e.LeftOut != "" {
			t.Errorf("%+v", e)
		}
	})
}

// What is recorded on disk of a model decides after a restart, too, with what
// the source said of it.
func TestWhatIsRecordedDoesNotRunAfterARestart(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		byTraits := func(m *model.Model, _ string) Filtered { return Filtered{Runs: m.Traits.Scheme != "awq"} }
		w.hub.add("org/a", "x=1").Traits.Scheme = "awq"
		w.hub.add("org/b", "x=1").Traits.Scheme = "gptq"
		w.Stored("org/a", w.mustView("org/a").Model)
		w.Stored("org/b", w.mustView("org/b").Model)
		for range 2 {
			w.restart(Config{Sources: []Source{w.local}, Filter: byTraits})
			w.expectList("org", "b model "+w.hub.id+"?")
		}
		if v := w.mustView("org/a"); v.Traits.Scheme != "awq" { // by name it opens
			t.Errorf("traits: %+v", v.Traits)
		}
		w.expectList("org", "b model "+w.hub.id+"?")
	})
}

// A tree whose models take long to look at is listed as it is, and the next
// listing knows.
func TestUndecidedIsListed(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.restart(Config{Filter: applesOnly})
		for i := range 10 {
			w.local.add(fmt.Sprintf("apple-%d", i), "metal=1")
		}
		w.local.listsAfter(35 * time.Millisecond)
		began := time.Now()
		if got := w.list(""); len(got) != 8 {
			t.Errorf("the first listing has %v", got)
		}
		if took := time.Since(began); took != deciding {
			t.Errorf("it took %v", took)
		}
		pass(time.Second)
		asked := w.local.total()
		w.expectList("")
		if n := w.local.total() - asked; n != 1 { // the names
			t.Errorf("the second listing asked %d times", n)
		}
		pass(decidedFor)
		began = time.Now()
		w.expectList("") // known, and decided again behind
		if took := time.Since(began); took != 0 {
			t.Errorf("a listing waited %v for what is known", took)
		}
	})
}

// What a slow source costs a listing is not spent twice.
func TestAListingThatWaitedDecidesBehind(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.restart(Config{Filter: applesOnly})
		w.local.add("apple", "metal=1")
		w.local.listsAfter(90 * time.Millisecond)
		w.local.takes(210 * time.Millisecond)
		began := time.Now()
		w.list("")
		if took := time.Since(began); took != decidedBy {
			t.Errorf("it took %v", took)
		}
	})
}

// The names that the operator configured are listed, whatever they need.
// A list that is the very same is not gone through again, until the first of
// its decisions is a minute old.
func TestAnUnchangedListIsDecidedAgain(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.restart(Config{Filter: applesOnly})
		w.local.add("m", "model.gguf=1")
		found, err := w.local.Names(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		j := w.asker(w.local.id).judge
		<-j.begin(found)
		w.local.add("m", "metal=1") // its directory's own time is the same
		for _, c := range []struct {
			after time.Duration
			lists int
			shown bool
		}{{0, 1, true}, {decidedFor / 2, 1, true}, {decidedFor / 2, 2, false}, {decidedFor / 2, 2, false}} {
			<-time.After(c.after)
			if round := j.begin(found); round != nil {
				t.Error("a listing waits for what was decided before")
			}
			synctest.Wait()
			if n := w.local.times("list m"); n != c.lists || j.shows(found[0]) != c.shown {
				t.Errorf("%v later: %d listings, shown %v", c.after, n, j.shows(found[0]))
			}
		}
	})
}

func TestConfiguredIsListed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		aliases := newFake(model.Router, "llama3")
		aliases.add("llama3", "metal=1")
		w.start(Config{Sources: []Source{asHub{aliases}, w.hub}, Filter: applesOnly})
		defer w.Close()
		w.mustView("llama3")
		if got := w.list(""); len(got) != 1 || !strings.HasPrefix(got[0], "llama3 model") {
			t.Errorf("%v", got)
		}
	})
}

// asHub ranks with the Hub and lists its names.
type asHub struct{ *fake }

func (asHub) Kind() model.SourceKind { return model.Hub }

// A source that panics over a listing, or can't make one, has its model shown.
func TestAModelThatCantBeListedIsShown(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		bad := newFake(model.Local, "bad")
		w.restart(Config{Sources: []Source{panicky{bad}}, Filter: applesOnly})
		w.expectList("", "bad model "+bad.id)
	})
}

type panicky struct{ *fake }

func (panicky) List(context.Context, model.Name, model.Found) (*model.Model, error) {
	panic("a listing from outside")
}
