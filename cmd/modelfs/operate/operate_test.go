package operate

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"modelfs/cmd/modelfs/control"
	"modelfs/internal/leaktest"
	"modelfs/internal/model"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

// world is everything that an Operator works on.
type world struct {
	views   map[string]*model.View
	entries map[string][]model.Entry
	known   map[string]*model.Model
	fill    func(ctx context.Context, path string, progress func(done, total int64)) error

	mu     sync.Mutex // guards what follows
	here   map[model.Key]int64
	pinned map[model.Key]bool
	open   map[model.Key]bool
	said   []string // what was asked of records and filler
}

func (w *world) note(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.said = append(w.said, fmt.Sprintf(format, args...))
}

// notes are what was asked, in order of the alphabet.
func (w *world) notes() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Sorted(slices.Values(w.said))
}

func (w *world) View(_ context.Context, path string) (*model.View, error) {
	if v := w.views[path]; v != nil {
		return v, nil
	}
	return nil, model.Errorf(model.NotFound, "nobody has %s", path)
}

func (w *world) Entries(_ context.Context, dir string) ([]model.Entry, error) {
	return w.entries[dir], nil
}
func (w *world) Known(path string) *model.Model     { return w.known[path] }
func (w *world) Update(path string) error           { w.note("update %s", path); return nil }
func (w *world) Forget(path string) error           { w.note("forget %s", path); return nil }
func (w *world) Stored(path string, m *model.Model) { w.note("stored %s %s", path, m.Revision) }
func (w *world) Pinned(key model.Key) bool          { return w.pinned[key] }
func (w *world) Pin(key model.Key) error            { w.pinned[key] = true; return nil }
func (w *world) Unpin(key model.Key) error          { delete(w.pinned, key); return nil }
func (w *world) Pull(ctx context.Context, _ *model.View, f *model.File, progress func(done, total int64)) error {
	w.note("pull %s", f.Path)
	return w.fill(ctx, f.Path, progress)
}

func (w *world) Present(key model.Key) int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.here[key]
}

func (w *world) Remove(key model.Key) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.open[key]:
		return model.Errorf(model.InUse, "open")
	case w.pinned[key]:
		return model.Errorf(model.Denied, "pinned")
	case w.here[key] == 0:
		return model.Errorf(model.NotFound, "nothing")
	}
	delete(w.here, key)
	return nil
}

// files are of the given size, with a key made of the path.
func files(paths ...string) []model.File {
	var list []model.File
	for _, p := range paths {
		list = append(list, model.File{Path: p, Size: 100, Key: key(p)})
	}
	return list
}

func key(path string) model.Key {
	return model.Key("k-" + strings.ToLower(strings.NewReplacer(".", "-", "_", "-").Replace(path)))
}

func view(name string, kind model.SourceKind, files []model.File) *model.View {
	return &model.View{Model: &model.Model{Name: name, Source: kind.String() + ":x", Kind: kind, Revision: "c1", Files: files}}
}

// newWorld has a model of two quantisations at a Hub and one of a tree.
func newWorld() (*world, *Operator) {
	w := &world{
		here: make(map[model.Key]int64), pinned: make(map[model.Key]bool), open: make(map[model.Key]bool),
		known: make(map[string]*model.Model), entries: make(map[string][]model.Entry),
		fill: func(_ context.Context, _ string, progress func(int64, int64)) error { progress(100, 100); return nil },
	}
	hub := files("README.md", "m-Q4.gguf", "m-Q8.gguf", "m.metal.bin")
	v := view("org/m", model.Hub, hub)
	v.Hidden = map[string]bool{"m.metal.bin": true}
	w.views = map[string]*model.View{"org/m": v, "org/m:Q4": v, "tree": view("tree", model.Local, files("x.gguf"))}
	o := New(Config{Names: w, All: w, Records: w, Filler: w, Keeper: w, Shelf: w,
		InPlace: func(source string) bool { return strings.HasPrefix(source, "local:") },
		Variants: func(_ *model.Model, quant string) Variant {
			if quant != "Q4" {
				return Variant{}
			}
			return Variant{Own: map[string]bool{"m-Q4.gguf": true}, Others: map[string]bool{"m-Q8.gguf": true}}
		},
	})
	return w, o
}

// pulled pulls and returns the events, the last one of each file.
func pulled(t *testing.T, o *Operator, req control.PullRequest) (map[string]control.Event, error) {
	t.Helper()
	last := make(map[string]control.Event)
	err := o.Pull(t.Context(), req, func(e control.Event) { last[e.Path] = e })
	return last, err
}

func TestPullFetchesWhatIsListed(t *testing.T) {
	for _, tt := range []struct {
		req   control.PullRequest
		notes []string
		files int
	}{
		{control.PullRequest{Name: "org/m"}, []string{"pull README.md", "pull m-Q4.gguf", "pull m-Q8.gguf", "stored org/m c1"}, 3},
		{control.PullRequest{Name: "org/m:Q4"}, []string{"pull README.md", "pull m-Q4.gguf", "stored org/m:Q4 c1"}, 2},
		{control.PullRequest{Name: "org/m:Q4", Update: true},
			[]string{"pull README.md", "pull m-Q4.gguf", "stored org/m:Q4 c1", "update org/m:Q4"}, 2},
		{control.PullRequest{Name: "tree"}, nil, 0},
	} {
		w, o := newWorld()
		last, err := pulled(t, o, tt.req)
		if diff := cmp.Diff(tt.notes, w.notes()); diff != "" || err != nil {
			t.Errorf("%+v: %v, -want +got:\n%s", tt.req, err, diff)
		}
		if e := last[""]; e.State != control.Listed || e.Files != tt.files || e.Source == "" {
			t.Errorf("%+v was announced as %+v", tt.req, e)
		}
		for path, e := range last {
			if path != "" && (e.State != control.Done || e.Done != 100) {
				t.Errorf("%+v: %s ended as %+v", tt.req, path, e)
			}
		}
	}
}

func TestAPullThatFailsTriesTheRest(t *testing.T) {
	w, o := newWorld()
	bad := model.Errorf(model.Corrupt, "wrong hash")
	w.fill = func(_ context.Context, path string, progress func(int64, int64)) error {
		if strings.HasSuffix(path, ".gguf") {
			return fmt.Errorf("fetch %s: %w", path, bad)
		}
		progress(100, 100)
		return nil
	}
	last, err := pulled(t, o, control.PullRequest{Name: "org/m"})
	if err == nil || !strings.Contains(err.Error(), "2 of 3 files failed") || !strings.Contains(err.Error(), "wrong hash") {
		t.Errorf("error: %v", err)
	}
	if last["m-Q4.gguf"].State != control.Failed || last["README.md"].State != control.Done {
		t.Errorf("events: %+v", last)
	}
	if _, err := pulled(t, o, control.PullRequest{Name: "nothing"}); !model.IsKind(err, model.NotFound) {
		t.Errorf("a name that nobody has: %v", err)
	}
}

// Where nobody sends, the read timeout is waited for once, and what is coming
// is not given up for it.
func TestAPullWaitsOnceForAnOriginThatIsGone(t *testing.T) {
	w, o := newWorld()
	coming, given := make(chan struct{}), make(chan struct{})
	w.fill = func(ctx context.Context, path string, progress func(int64, int64)) error {
		switch path {
		case "m-Q4.gguf":
			<-coming
			return model.Errorf(model.Timeout, "no byte came for 5m0s")
		case "README.md":
			progress(1, 100)
			progress(50, 100)
			close(coming)
			<-given
			progress(100, 100)
			return nil
		}
		defer close(given)
		<-coming
		for ctx.Err() == nil { // as the fetcher does while it waits for its turn
			progress(0, 100)
		}
		return model.Errorf(model.Interrupted, "fetch %s: %w", path, ctx.Err())
	}
	last, err := pulled(t, o, control.PullRequest{Name: "org/m"})
	if err == nil || !strings.Contains(err.Error(), "2 of 3 files failed") || !strings.Contains(err.Error(), "no byte came") {
		t.Errorf("error: %v", err)
	}
	if e := last["m-Q8.gguf"]; e.State != control.Failed || !strings.Contains(e.Error, "was not waited for") {
		t.Errorf("a file whose turn had not come: %+v", e)
	}
	if last["README.md"].State != control.Done {
		t.Errorf("a file that was coming: %+v", last["README.md"])
	}
}

// A pull that is interrupted ends, reports nothing more and says so.
func TestPullEndsWithItsContext(t *testing.T) {
	w, o := newWorld()
	ctx, cancel := context.WithCancel(t.Context())
	w.fill = func(ctx context.Context, _ string, progress func(int64, int64)) error {
		progress(1, 100)
		<-ctx.Done()
		return ctx.Err()
	}
	over := false
	err := o.Pull(ctx, control.PullRequest{Name: "org/m"}, func(e control.Event) {
		if over {
			t.Errorf("reported after the end: %+v", e)
		}
		if e.State == control.Filling {
			cancel()
		}
	})
	over = true
	if !model.IsKind(err, model.Interrupted) {
		t.Errorf("error: %v", err)
	}
}

func TestPinAndUnpin(t *testing.T) {
	w, o := newWorld()
	w.here[key("m-Q4.gguf")] = 40
	kept, err := o.Pin(t.Context(), "org/m:Q4")
	if want := (control.Kept{Name: "org/m:Q4", Files: 2, Bytes: 40}); err != nil || !cmp.Equal(want, kept) {
		t.Errorf("pin: %+v, %v", kept, err)
	}
	if !w.pinned[key("m-Q4.gguf")] || !w.pinned[key("README.md")] || w.pinned[key("m-Q8.gguf")] {
		t.Errorf("pinned: %v", w.pinned)
	}
	w.pinned[key("m.metal.bin")] = true // it was listed then
	if _, err := o.Unpin(t.Context(), "org/m"); err != nil || len(w.pinned) > 0 {
		t.Errorf("unpin: %v, left %v", err, w.pinned)
	}
	for _, name := range []string{"tree", "nothing", "bad//name"} {
		if _, err := o.Pin(t.Context(), name); err == nil {
			t.Errorf("%s was pinned", name)
		}
	}
}

func TestRemove(t *testing.T) {
	all := []string{"README.md", "m-Q4.gguf", "m-Q8.gguf", "m.metal.bin"}
	for _, tt := range []struct {
		what, name   string
		open, pinned []string
		want         control.Kept
		left         []string
		kinds        []model.Kind // nil: no error
		forgotten    bool
	}{
		{"all", "org/m", nil, nil, control.Kept{Files: 4, Bytes: 400}, nil, nil, true},
		{"one quantisation", "org/m:Q4", nil, nil, control.Kept{Files: 1, Bytes: 100}, []string{"README.md", "m-Q8.gguf", "m.metal.bin"}, nil, false},
		{"one open", "org/m", []string{"m-Q4.gguf"}, nil, control.Kept{Files: 3, Bytes: 300, Paths: []string{"m-Q4.gguf"}},
			[]string{"m-Q4.gguf"}, []model.Kind{model.InUse}, false},
		{"one open, one pinned", "org/m", []string{"m-Q4.gguf"}, []string{"README.md"},
			control.Kept{Files: 2, Bytes: 200, Paths: []string{"m-Q4.gguf", "README.md"}},
			[]string{"README.md", "m-Q4.gguf"}, []model.Kind{model.InUse, model.Denied}, false},
	} {
		t.Run(tt.what, func(t *testing.T) {
			w, o := newWorld()
			for _, p := range all {
				w.here[key(p)] = 100
			}
			for _, p := range tt.open {
				w.open[key(p)] = true
			}
			for _, p := range tt.pinned {
				w.pinned[key(p)] = true
			}
			kept, err := o.Remove(t.Context(), tt.name)
			tt.want.Name = tt.name
			if diff := cmp.Diff(tt.want, kept); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			checkRefusal(t, err, append(tt.open, tt.pinned...), tt.kinds)
			left := slices.DeleteFunc(slices.Clone(all), func(p string) bool { return w.here[key(p)] == 0 })
			if !slices.Equal(left, tt.left) {
				t.Errorf("left: %v, want %v", left, tt.left)
			}
			if got := slices.Contains(w.notes(), "forget "+tt.name); got != tt.forgotten {
				t.Errorf("forgotten: %v", got)
			}
		})
	}
	_, o := newWorld()
	if _, err := o.Remove(t.Context(), "tree"); !model.IsKind(err, model.Invalid) {
		t.Errorf("a tree's model: %v", err)
	}
	if kept, err := o.Remove(t.Context(), "org/m"); err != nil || kept.Files != 0 {
		t.Errorf("nothing is here: %+v, %v", kept, err)
	}
}

func checkRefusal(t *testing.T, err error, names []string, kinds []model.Kind) {
	t.Helper()
	if (err != nil) != (kinds != nil) {
		t.Fatalf("error: %v", err)
	}
	if err == nil {
		return
	}
	if !model.IsKind(errors.Join(err), kinds[0]) {
		t.Errorf("kind %v, want %v", model.KindOf(err), kinds[0])
	}
	for _, name := range names {
		if !strings.Contains(err.Error(), name) {
			t.Errorf("%q does not name %s", err, name)
		}
	}
}

func TestList(t *testing.T) {
	w, o := newWorld()
	o.Describe = func(_ context.Context, m *model.Model) Description {
		return Description{Format: "gguf", Backends: []string{"cpu"}, Hidden: m.Name == "tree"}
	}
	o.Elsewhere = func(sha256 string, _ int64) model.Place {
		if sha256 == "ee" {
			return somewhere{}
		}
		return nil
	}
	w.entries[""] = []model.Entry{{Name: "org", Kind: model.Namespace}, {Name: "tree", Kind: model.ModelDir, Source: "local:x"},
		{Name: "broken", Kind: model.ModelDir, Source: "local:x"}}
	w.entries["org"] = []model.Entry{{Name: "m", Kind: model.ModelDir, Source: "hub:x"}, {Name: "far", Kind: model.ModelDir, Source: "router:x"}}
	known := *w.views["org/m"].Model
	known.Files = append(files("README.md", "m-Q4.gguf"), model.File{Path: "z", Size: 50, SHA256: "ee"}, model.File{Path: "zz", Size: -1})
	w.known["org/m"] = &known
	w.here[key("m-Q4.gguf")], w.here["sha256-ee"] = 40, 0
	w.pinned[key("README.md")] = true
	got, err := o.List(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	want := []control.Model{
		{Name: "broken", Source: "local:x", InPlace: true, Files: -1, Size: -1, Why: "nobody has broken"},
		{Name: "org/far", Source: "router:x", Files: -1, Size: -1},
		{Name: "org/m", Source: "hub:x", Revision: "c1", Files: 4, Size: -1, Here: 90, Pinned: true, Format: "gguf", Backends: []string{"cpu"}},
		{Name: "tree", Source: "local:x", Revision: "c1", InPlace: true, Files: 1, Size: 100, Format: "gguf", Backends: []string{"cpu"}, Hidden: true},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	for pattern, n := range map[string]int{"m": 1, "org/*": 2, "*": 4, "x*": 0, "org/m": 1} {
		if got, err := o.List(t.Context(), pattern); err != nil || len(got) != n {
			t.Errorf("%q: %d models, %v", pattern, len(got), err)
		}
	}
	if _, err := o.List(t.Context(), "["); !model.IsKind(err, model.Invalid) {
		t.Errorf("a bad pattern: %v", err)
	}
	ended, end := context.WithCancel(t.Context())
	end()
	if _, err := o.List(ended, ""); !model.IsKind(err, model.Interrupted) {
		t.Errorf("ended: %v", err)
	}
}

// somewhere is a place that nothing looks at.
type somewhere struct{ model.Place }
