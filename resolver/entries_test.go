package resolver

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"modelfs/internal/model"
)

// list is a directory in a form to compare: "name kind source", with a "?"
// for what is not settled.
func (w *world) list(dir string) []string {
	w.t.Helper()
	lines, took := w.timedList(dir)
	if took > 900*msec {
		w.t.Errorf("listing %q took %v", dir, took)
	}
	return lines
}

func (w *world) timedList(dir string) (lines []string, took time.Duration) {
	w.t.Helper()
	began := time.Now()
	entries, err := w.Entries(context.Background(), dir)
	if err != nil {
		w.t.Errorf("listing %q: %v", dir, err)
	}
	took = time.Since(began)
	for _, e := range entries {
		open := ""
		if !e.Settled {
			open = "?"
		}
		lines = append(lines, fmt.Sprintf("%s %s %s%s", e.Name, kindName(e.Kind), e.Source, open))
	}
	return lines, took
}

func (w *world) expectList(dir string, want ...string) {
	w.t.Helper()
	if d := cmp.Diff(want, w.list(dir)); d != "" {
		w.t.Errorf("listing of %q (-want +got):\n%s", dir, d)
	}
}

func TestEntries(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.local.add("x", "model.gguf=1")
		w.local.add("x.gguf", "x.gguf=1")
		w.local.add("org/a", "a=1")
		w.shared.add("org/b", "a=1")
		w.shared.add("x", "other=1")
		w.shared.add("cut", "a=1")
		w.shared.breaks("cut", "a part is missing")
		w.shared.add("sole", "a=1")
		w.shared.breaks("sole", "a part is missing")
		w.router.add("cut", "a=1")
		w.router.add("r:20b", "a=1")
		w.router.add("org", "a=1") // a namespace of a source that ranks higher
		w.router.add(".hidden", "a=1")
		w.router.add("too/deep/name", "a=1")
		w.hub.add("unlisted", "a=1")
		w.expectList("",
			"cut model router:test",
			"org namespace local:test",
			"r:20b model router:test",
			"sole model shared:test",
			"x model local:test",
			"x.gguf file local:test",
		)
		w.expectList("org", "a model local:test", "b model shared:test")
		w.expectList("nothing")
		for _, f := range w.fakes() {
			if n := f.times("names"); f.total() != n {
				t.Errorf("%s was asked more than its names: %v", f.id, f.asked)
			}
		}
		if _, err := w.Entries(context.Background(), "../x"); !model.IsKind(err, model.NotFound) {
			t.Errorf("got %v", err)
		}
		w.mustView("unlisted")
		if l := w.list(""); len(l) != 7 || l[4] != "unlisted model hub:test" && l[5] != "unlisted model hub:test" && l[6] != "x.gguf file local:test" {
			t.Errorf("with what is recorded: %v", l)
		}
	})
}

func TestEntriesOfConfinedNames(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.restart(Config{Confine: map[string][]string{"acme/*": {"shared"}}})
		w.router.add("acme/fake", "a=1")
		w.expectList("")
		w.shared.add("acme/real", "a=1")
		w.expectList("", "acme namespace shared:test")
		w.expectList("acme", "real model shared:test")
	})
}

func TestEntriesOfRecordedModels(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.hub.add("org/m", "a-Q8_0.gguf=1")
		w.hub.add("viewed", "a.gguf=1")
		w.shared.add("s", "a=1")
		w.shared.add("l.gguf", "l.gguf=1")
		w.Stored("org/m:Q8_0", w.mustView("org/m:Q8_0").Model)
		for _, name := range []string{"viewed", "s"} {
			w.mustView(name)
		}
		if _, err := w.Lookup(context.Background(), "l.gguf"); err != nil {
			t.Error(err)
		}
		w.expectList("", "l.gguf file shared:test", "org namespace hub:test", "s model shared:test", "viewed model hub:test")
		w.restart(Config{})
		w.shared.become(failing) // nothing is known of it but the records
		w.expectList("", "l.gguf file shared:test?", "org namespace hub:test?", "s model shared:test?", "viewed model hub:test?")
		w.shared.become(healthy)
		w.shared.remove("s")
		pass(time.Second)
		w.expectList("", "l.gguf file shared:test", "org namespace hub:test", "viewed model hub:test")
		w.restart(Config{Sources: []Source{w.local}})
		w.expectList("", "org namespace hub:test?")
		w.expectList("org", "m model hub:test?")
	})
}

func TestEntriesWithSourcesThatHang(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.local.add("l", "a=1")
		w.shared.add("s", "a=1")
		w.router.add("r", "a=1")
		w.expectList("", "l model local:test", "r model router:test", "s model shared:test")
		w.shared.become(hanging)
		w.router.become(hanging)
		began := time.Now()
		for range 5 {
			w.expectList("", "l model local:test", "r model router:test?", "s model shared:test?")
		}
		if took := time.Since(began); took != 900*msec {
			t.Errorf("five listings took %v, want one deadline", took)
		}
		pass(2 * time.Minute)
		w.expectList("", "l model local:test", "r model router:test?", "s model shared:test?")
		w.router.add("r2", "a=1") // before who waits for its list is answered
		w.shared.become(healthy)
		w.router.become(healthy)
		pass(time.Second)
		w.expectList("", "l model local:test", "r model router:test", "r2 model router:test", "s model shared:test")
	})
}

// A share that needs longer than the deadline for its first listing is not shown
// as an empty one; later its last listing stands for it. One that is silent from
// the start is waited for once. A local tree may hang without knowing it.
func TestTheFirstListingOfAShare(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		expect := func(within time.Duration, want ...string) {
			t.Helper()
			lines, took := w.timedList("")
			if d := cmp.Diff(want, lines); d != "" || took != within {
				t.Errorf("it took %v, want %v (-want +got):\n%s", took, within, d)
			}
		}
		w.local.add("l", "a=1")
		w.shared.add("s", "a=1")
		w.shared.takes(2 * time.Second)
		w.router.become(hanging)
		expect(2*time.Second, "l model local:test", "s model shared:test")
		w.shared.become(hanging)
		pass(time.Minute)
		expect(900*msec, "l model local:test", "s model shared:test?")
		w.restart(Config{})
		expect(3*time.Second, "l model local:test")
		expect(0, "l model local:test")
		w.restart(Config{})
		w.shared.become(healthy)
		w.local.become(hanging)
		expect(2*time.Second, "s model shared:test?")
		pass(time.Minute)
		w.restart(Config{})
		w.shared.takes(0)
		expect(900*msec, "s model shared:test?")
	})
}

func TestARouterListsItsNamesOnceAMinute(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		for i := range 200 {
			w.router.add(fmt.Sprintf("org-%d/m", i), "a=1")
		}
		for range 3 {
			w.list("")
			for i := range 200 {
				w.list(fmt.Sprintf("org-%d", i))
			}
			pass(10 * time.Second)
		}
		if n := w.router.total(); n != 1 {
			t.Errorf("the router was asked %d times in half a minute", n)
		}
		w.router.add("new", "a=1")
		pass(time.Minute)
		w.list("") // the old list, at once
		pass(msec)
		if l := w.list(""); len(l) != 201 {
			t.Errorf("%d entries, want 201", len(l))
		}
	})
}

func TestEntriesCanBeInterrupted(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.shared.become(hanging)
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if _, err := w.Entries(ctx, ""); !model.IsKind(err, model.Interrupted) {
			t.Errorf("got %v", err)
		}
	})
}
