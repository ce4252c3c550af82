package resolver

import (
	"context"
	"sync"
	"testing"
	"time"

	"modelfs/internal/model"
)

func TestView(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.restart(Config{Filter: func(*model.Model, string) Filtered {
			return Filtered{Hidden: map[string]bool{"model.metal.bin": true}, Runs: true}
		}})
		w.hub.add("m", "m-F16.gguf=1", "m-Q4_K_M.gguf=2", "model.metal.bin=3")
		v := w.mustView("m")
		if v.Default != "m-Q4_K_M.gguf" || !v.Hidden["model.metal.bin"] || !v.Settled || len(v.Files) != 3 || v.Source != w.hub.id {
			t.Errorf("view = %+v", v)
		}
		if v := w.mustView("m:F16"); v.Default != "m-F16.gguf" {
			t.Errorf("model.gguf of m:F16 is %q", v.Default)
		}
	})
}

func TestAViewOfWhatIsNoModel(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.local.add("org/m", "a=1")
		for _, path := range []string{"org", "nobody", "../x", "a/b/c"} {
			if v, err := w.view(path); !model.IsKind(err, model.NotFound) {
				t.Errorf("view of %q = %v, %v", path, v, err)
			}
		}
		w.hub.become(failing)
		if _, err := w.view("other"); !model.IsKind(err, model.Unavailable) {
			t.Errorf("view with the Hub down: %v", err)
		}
	})
}

func TestHowLongListingsAreGood(t *testing.T) {
	for _, c := range []struct {
		name string
		pick func(w *world) *fake
		// how often it was listed after each view
		first, second, afterAMinute, afterADay int
	}{
		{"a tree's is made each time", func(w *world) *fake { return w.local }, 1, 2, 3, 4},
		{"a commit's is good for ever", func(w *world) *fake { return w.hub }, 1, 1, 1, 1},
		{"a router's is refreshed behind", func(w *world) *fake { return w.router }, 1, 1, 2, 3},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				f := c.pick(w)
				f.add("m", "a.gguf=1")
				check := func(want int) {
					t.Helper()
					w.mustView("m")
					pass(msec)
					if n := f.times("list m"); n != want {
						t.Errorf("listed %d times, want %d", n, want)
					}
				}
				check(c.first)
				check(c.second)
				pass(time.Minute)
				check(c.afterAMinute)
				pass(24 * time.Hour)
				check(c.afterADay)
			})
		})
	}
}

func TestARoutersOldListingServesWhileItIsRefreshed(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.router.add("m", "a.gguf=1")
		w.mustView("m")
		w.router.add("m", "a.gguf=2")
		w.router.listsAfter(time.Second)
		pass(61 * time.Second)
		began := time.Now()
		if v := w.mustView("m"); v.Files[0].Size != 1 || time.Since(began) != 0 {
			t.Errorf("size %d after %v, want the old one at once", v.Files[0].Size, time.Since(began))
		}
		pass(time.Second)
		if v := w.mustView("m"); v.Files[0].Size != 2 {
			t.Errorf("size %d, want the new one", v.Files[0].Size)
		}
	})
}

func TestViewsWaitForTheListing(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.hub.add("slow", "a.gguf=1")
		w.hub.add("never", "a.gguf=1")
		w.hub.listsAfter(9 * time.Second)
		var wg sync.WaitGroup
		for range 64 {
			wg.Go(func() { w.mustView("slow") })
		}
		wg.Wait()
		if n := w.hub.times("list slow"); n != 1 {
			t.Errorf("listed %d times for 64 callers", n)
		}
		w.hub.listsAfter(20 * time.Second)
		w.look("never")
		began := time.Now()
		for range 5 { // an engine that probes does not wait each time
			if _, err := w.view("never"); !model.IsKind(err, model.Unavailable) {
				t.Errorf("got %v", err)
			}
		}
		if took := time.Since(began); took != 10*time.Second {
			t.Errorf("five views took %v, want 10s", took)
		}
		pass(10 * time.Second)
		w.mustView("never")
		if n := w.hub.times("list never"); n != 1 {
			t.Errorf("listed %d times", n)
		}
	})
}

func TestAViewIsInterruptible(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.hub.add("m", "a.gguf=1")
		w.hub.listsAfter(5 * time.Second)
		ctx, cancel := context.WithCancel(context.Background())
		time.AfterFunc(time.Second, cancel)
		began := time.Now()
		_, err := w.View(ctx, "m")
		if !model.IsKind(err, model.Interrupted) || time.Since(began) != time.Second {
			t.Errorf("got %v after %v", err, time.Since(began))
		}
		pass(4 * time.Second)
		began = time.Now()
		w.mustView("m")
		if time.Since(began) != 0 {
			t.Error("the listing was not finished behind")
		}
	})
}

func TestAModelThatIsGoneSinceItWasFound(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.hub.add("m", "a.gguf=1")
		w.router.add("m", "b.gguf=1")
		w.expect("m", by("hub"))
		w.hub.remove("m")
		if v := w.mustView("m"); v.Source != w.router.id {
			t.Errorf("view of %s", v.Source)
		}
	})
}

func TestAFailedListingIsAnError(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.restart(Config{Sources: []Source{empty{w.hub}}})
		w.hub.add("m", "a.gguf=1")
		if _, err := w.view("m"); !model.IsKind(err, model.Invalid) {
			t.Errorf("got %v", err)
		}
	})
	bubble(t, func(t *testing.T, w *world) {
		w.hub.add("m", "a.gguf=1")
		w.expect("m", by("hub"))
		w.hub.become(denying)
		if _, err := w.view("m"); !model.IsKind(err, model.Denied) {
			t.Errorf("got %v", err)
		}
		w.hub.become(healthy)
		pass(time.Second)
		w.mustView("m")
	})
}

// empty is a source that lists nothing, against its contract.
type empty struct{ *fake }

func (empty) List(context.Context, model.Name, model.Found) (*model.Model, error) { return nil, nil }
