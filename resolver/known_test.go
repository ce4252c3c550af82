package resolver

import (
	"testing"
)

// What is known of a name is what would be served if nobody could be asked,
// after a restart, too; asking for it asks nobody.
func TestKnown(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.hub.add("org/m", "m-Q4.gguf=10", "m-Q8.gguf=20")
		w.hub.add("other", "m-Q4.gguf=10")
		w.local.add("tree", "x.gguf=1")
		if w.Known("org/m") != nil || w.Known("bad//name") != nil {
			t.Error("something is known of what nobody has asked for")
		}
		m := w.mustView("org/m").Model
		w.Stored("org/m", m)
		w.mustView("other:Q4")
		w.mustView("tree")
		w.restart(Config{})
		asked := w.hub.times("find org/m")
		for path, files := range map[string]int{"org/m": 2, "org/m:Q4": 2, "other": 1, "tree": 0, "none": 0, "org/m@c9": 0} {
			m := w.Known(path)
			switch {
			case m == nil && files == 0:
			case m == nil:
				t.Errorf("nothing is known of %s", path)
			case len(m.Files) != files:
				t.Errorf("of %s %d files are known, want %d", path, len(m.Files), files)
			}
		}
		if again := w.hub.times("find org/m"); again != asked {
			t.Errorf("the Hub was asked %d times", again-asked)
		}
	})
}
