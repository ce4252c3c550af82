package resolver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"modelfs/internal/model"
)

const hash1, hash2 = "1111111111111111111111111111111111111111111111111111111111111111", "2222222222222222222222222222222222222222222222222222222222222222"

func TestWhoMayStandIn(t *testing.T) {
	recorded := []string{"a.safetensors=10", "b.safetensors=20=" + hash1, "README.md=5"}
	for _, c := range []struct {
		name string
		hub  []string
		same bool
		why  string
	}{
		{"the same", recorded, true, ""},
		{"another README, more small files", []string{"a.safetensors=10", "b.safetensors=20", "README.md=6", "LICENSE=1"}, true, ""},
		{"the same hash", []string{"a.safetensors=10", "b.safetensors=20=" + hash1}, true, ""},
		{"another size", []string{"a.safetensors=10", "b.safetensors=21"}, false, "size"},
		{"another hash", []string{"a.safetensors=10", "b.safetensors=20=" + hash2}, false, "hash"},
		{"a file less", []string{"a.safetensors=10"}, false, "lacks b.safetensors"},
		{"a file more", append([]string{"c.gguf=1"}, recorded...), false, "has c.gguf"},
		{"a size that nobody states", []string{"a.safetensors=-1", "b.safetensors=20"}, false, "a.safetensors"},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				w.shared.add("m", recorded...)
				w.hub.add("m", c.hub...)
				w.mustView("m")
				w.shared.become(failing)
				want := unavailable
				if c.same {
					want = unsettled("hub")
				}
				w.expect("m", want)
				e := w.Explain(context.Background(), "m")
				if !c.same && (!strings.Contains(fmt.Sprint(e.Sources), c.why) || e.Sources[2].Verdict != "refused") {
					t.Errorf("explain does not say %q: %+v", c.why, e.Sources)
				}
				w.shared.become(healthy)
				pass(time.Second)
				w.expect("m", by("shared"))
				w.shared.remove("m") // an authority gave the name up
				w.expect("m", by("hub"))
			})
		})
	}
}

func TestAStandInForASilentSourceIsComparedInTime(t *testing.T) {
	for _, c := range []struct {
		name  string
		list  time.Duration
		size  string
		want  answer
		lists int
	}{
		{"the same, listed in time", 800 * msec, "a.gguf=10", unsettled("hub").in(900 * msec), 1},
		{"others, listed in time", 800 * msec, "a.gguf=11", unavailable.in(900 * msec), 1},
		{"listed too late", 2 * time.Second, "a.gguf=10", unavailable.in(900 * msec), 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				w.shared.add("m", "a.gguf=10")
				w.hub.add("m", c.size)
				w.hub.listsAfter(c.list)
				w.mustView("m")
				w.shared.become(hanging)
				w.expect("m", c.want)
				if n := w.hub.times("list m"); n != c.lists {
					t.Errorf("listed %d times, want %d", n, c.lists)
				}
			})
		})
	}
}

func TestAThirdSourceMayAgreeWhereTheSecondDoesNot(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.shared.add("m", "a.gguf=10")
		w.hub.add("m", "a.gguf=11")
		w.router.add("m", "a.gguf=10")
		w.mustView("m")
		w.shared.become(failing)
		w.expect("m", unsettled("router"))
		if v := w.mustView("m"); v.Files[0].Size != 10 || v.Settled {
			t.Errorf("view = %+v", v)
		}
	})
}

func TestWhatWasComparedIsWhatIsShown(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.router.add("m", "a.gguf=10")
		w.mustView("m")
		w.shared.add("m", "a.gguf=10")
		w.mustView("m")
		w.shared.become(failing)
		w.router.add("m", "a.gguf=11")
		pass(2 * time.Minute) // the router's old listing is good for one more answer
		q, o, err := w.resolve(t.Context(), model.Name{Repo: "m"}, 900*msec)
		if err != nil {
			t.Fatal(err)
		}
		pass(msec) // and is refreshed between the comparison and the view
		if v, err := w.show(t.Context(), q, o, time.Second, nil); err != nil || v.Files[0].Size != 10 {
			t.Errorf("shows %+v, %v", v, err)
		}
		w.expect("m", unavailable)
	})
}

func TestBytesOfAStandInDoNotMakeItTheRecordedSource(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.shared.add("m", "a.gguf=10")
		w.router.add("m", "a.gguf=10")
		w.mustView("m")
		w.shared.become(failing)
		w.Stored("m", w.mustView("m").Model)
		w.hub.add("m", "a.gguf=11") // it ranks above the router, and below the share
		pass(2 * time.Minute)
		w.expect("m", unsettled("router"))
		if e := w.explain("m"); e.Recorded.Source != w.shared.id {
			t.Errorf("recorded: %+v", e.Recorded)
		}
	})
}

func TestFallbackAny(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.restart(Config{Fallback: FallbackAny})
		w.shared.add("m", "a.gguf=10")
		w.hub.add("m", "a.gguf=11")
		w.mustView("m")
		w.shared.become(failing)
		w.expect("m", unsettled("hub"))
	})
}

func TestAStandInDoesNotBecomeTheRecordedSource(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.shared.add("m", "a.gguf=10")
		w.hub.add("m", "a.gguf=10")
		w.mustView("m")
		w.shared.become(failing)
		w.mustView("m")
		w.restart(Config{})
		if e := w.Explain(context.Background(), "m"); e.Recorded == nil || e.Recorded.Source != "shared:test" {
			t.Errorf("recorded: %+v", e.Recorded)
		}
	})
}

func TestAStandInForASourceThatIsDownDoesNotEither(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.shared.add("m", "a.gguf=10", "README.md=1")
		w.hub.add("m", "a.gguf=10")
		w.mustView("m")
		w.shared.become(failing)
		for i := range tripAfter {
			w.look(fmt.Sprint("n", i))
		}
		if v := w.mustView("m"); v.Source != w.hub.id || !v.Settled {
			t.Errorf("view of %s, settled %v", v.Source, v.Settled)
		}
		if e := w.explain("m"); e.Recorded.Source != w.shared.id {
			t.Errorf("recorded: %+v", e.Recorded)
		}
	})
}

func TestAnEarlierSourceTakesANameOver(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.hub.add("m", "a.gguf=10")
		w.mustView("m")
		w.local.add("m", "b.gguf=20")
		w.expect("m", by("local"))
		if v := w.mustView("m"); v.Files[0].Path != "b.gguf" {
			t.Errorf("view = %+v", v.Files)
		}
	})
}

func TestListedModelsStayUsableWithoutTheirSource(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.hub.add("org/m", "m-Q4_K_M.gguf=10", "m-Q8_0.gguf=20")
		w.mustView("org/m")
		w.restart(Config{}) // nothing but the facts is left
		w.hub.become(failing)
		w.expect("org", answer{source: "records", kind: model.Namespace})
		w.expect("org/m", by("hub"))
		w.expect("org/m:Q8_0", by("hub"))
		w.expect("org/m:Q2_K", unavailable)
		v := w.mustView("org/m:Q8_0")
		if v.Default != "m-Q8_0.gguf" || v.Revision != "commit-1" || v.Files[0].URLs == nil {
			t.Errorf("view = %+v", v.Model)
		}
		if w.hub.times("list org/m") != 1 {
			t.Error("a commit's listing was asked for again")
		}
	})
}

func TestAPinnedNameKeepsItsCommit(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.hub.add("m", "m-Q4_K_M.gguf=10", "m-Q8_0.gguf=20")
		w.Stored("m", w.mustView("m").Model)
		w.hub.commit("m", "commit-2")
		pass(time.Hour)
		finds := w.hub.times("find m")
		for range 2 {
			for _, name := range []string{"m", "m:Q8_0"} {
				w.expect(name, by("hub"))
				if v := w.mustView(name); v.Revision != "commit-1" {
					t.Errorf("%s moved to %s", name, v.Revision)
				}
			}
			w.restart(Config{})
		}
		w.expect("m:Q2_K", notFound)
		if n := w.hub.times("find m"); n != finds {
			t.Errorf("the Hub was asked for a pinned name %d times", n-finds)
		}
		w.hub.commit("m", "commit-2")
		w.Stored("m", w.hub.models["m"]) // too late
		if e := w.Explain(context.Background(), "m"); e.Pin == nil || e.Pin.Revision != "commit-1" || e.Sources[2].From != "pin" {
			t.Errorf("explain: pin %+v, sources %+v", e.Pin, e.Sources[2])
		}
		w.hub.add("m2", "a.gguf=1") // nothing else is pinned
		w.expect("m2", by("hub"))
	})
}

func TestBeforeItsFirstByteANameFollowsItsBranch(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.hub.add("m", "a.gguf=10")
		w.mustView("m")
		w.hub.commit("m", "commit-2")
		pass(9 * time.Minute)
		if v := w.mustView("m"); v.Revision != "commit-1" {
			t.Errorf("asked too early: %s", v.Revision)
		}
		pass(2 * time.Minute)
		if v := w.mustView("m"); v.Revision != "commit-2" {
			t.Errorf("still at %s", v.Revision)
		}
	})
}

func TestUpdateAndForget(t *testing.T) {
	for name, let := range map[string]func(w *world) error{
		"update": func(w *world) error { return w.Update("m") },
		"forget": func(w *world) error { return w.Forget("m") },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				w.hub.add("m", "a.gguf=10")
				w.Stored("m", w.mustView("m").Model)
				w.hub.commit("m", "commit-2")
				if err := let(w); err != nil {
					t.Fatal(err)
				}
				if v := w.mustView("m"); v.Revision != "commit-2" {
					t.Errorf("still at %s", v.Revision)
				}
				w.restart(Config{})
				if e := w.Explain(context.Background(), "m"); e.Pin != nil || e.Recorded == nil || e.Recorded.Stored {
					t.Errorf("pin %+v, recorded %+v", e.Pin, e.Recorded)
				}
				if err := let(w); err != nil {
					t.Fatal(err)
				}
				w.hub.become(failing)
				if a := w.look("m"); (a.err == "") != (name == "update") {
					t.Errorf("with the Hub down: %+v", a)
				}
			})
		})
	}
	bubble(t, func(t *testing.T, w *world) {
		if err := errors.Join(w.Update("../x"), w.Forget("../x")); !model.IsKind(err, model.NotFound) {
			t.Errorf("a name that can't be: %v", err)
		}
	})
}

func TestWhatIsStoredWaitsForNobody(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.hub.add("org/m", "a.gguf=10")
		w.router.add("r", "a.gguf=10")
		w.Stored("org/m", w.mustView("org/m").Model)
		w.Stored("r", w.mustView("r").Model)
		w.restart(Config{})
		for _, f := range []*fake{w.shared, w.hub, w.router} {
			f.become(hanging)
		}
		w.expect("org", answer{source: "records", kind: model.Namespace, took: patience})
		w.expect("org/m", unsettled("hub").in(patience)) // the share is not the network, but may not hold it up either
		w.expect("r", unsettled("router").in(patience))
		w.shared.become(healthy)
		pass(time.Second)
		w.expect("org/m", by("hub"))
		if v := w.mustView("org/m"); !v.Settled {
			t.Error("a pinned model is not settled although only later sources hang")
		}
	})
}

func TestStoredModelsSurviveTheirSource(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.hub.add("org/m", "a-Q8_0.gguf=10")
		w.hub.add("viewed", "a.gguf=10")
		w.Stored("org/m", w.mustView("org/m").Model)
		w.mustView("viewed")
		w.restart(Config{Sources: []Source{w.local, w.router}}) // HF_HUB_OFFLINE=1
		w.expect("org", answer{source: "records", kind: model.Namespace})
		w.expect("org/m", unsettled("hub"))
		w.expect("org/m:Q8_0", unsettled("hub"))
		w.expect("viewed", notFound)
		if v := w.mustView("org/m"); v.Source != "hub:test" || v.Revision != "commit-1" {
			t.Errorf("view = %+v", v.Model)
		}
		w.restart(Config{Sources: []Source{w.local}, Confine: map[string][]string{"org/*": {"local"}}})
		w.expect("org/m", notFound)
	})
}

func TestARoutersNewListingIsStillStored(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.router.add("m", "a.gguf=10")
		w.Stored("m", w.mustView("m").Model)
		w.router.add("m", "a.gguf=10", "b.json=1")
		if err := w.Forget("other"); err != nil {
			t.Error(err)
		}
		pass(61 * time.Second)
		w.mustView("m")
		pass(msec)
		if v := w.mustView("m"); len(v.Files) != 2 {
			t.Errorf("files: %+v", v.Files)
		}
		w.restart(Config{Sources: []Source{w.local}})
		w.expect("m", unsettled("router"))
	})
}

func TestForgetListsARouterAnew(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.router.add("m", "a.gguf=10")
		w.mustView("m")
		w.router.add("m", "a.gguf=11")
		if err := w.Forget("m"); err != nil {
			t.Error(err)
		}
		if v := w.mustView("m"); v.Files[0].Size != 11 {
			t.Errorf("files: %+v", v.Files)
		}
	})
}

func TestRecordsHoldNoCredentials(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		m := w.router.add("m", "a.gguf=10")
		m.Files[0].SHA256 = hash1
		m.Files[0].URLs = []string{"https://u:secret@h/a", "https://h/a?sig=secret", "https://h/plain", "::"}
		w.Stored("m", w.mustView("m").Model)
		e := fmt.Sprint(w.Explain(context.Background(), "m"))
		w.Close()
		for id, raw := range w.facts.facts {
			e += id + string(raw)
		}
		if strings.Contains(e, "secret") || !strings.Contains(e, "https://h/plain") {
			t.Errorf("recorded and explained: %s", e)
		}
		w.start(Config{})
	})
}

func TestFactsThatFailCostOnlyTheRecord(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.facts.fail = errors.New("disk full")
		w.restart(Config{})
		w.hub.add("m", "a.gguf=10")
		w.Stored("m", w.mustView("m").Model)
		pass(msec)
		w.expect("m", by("hub"))
	})
}

func TestGarbageInFactsIsPassedOver(t *testing.T) {
	for name, facts := range map[string]map[string]string{
		"the index is no object":     {"index": "[]"},
		"a name that can't be":       {"index": `{"name:x":{"Name":"../x","Source":"hub:test"}}`},
		"the record is gone":         {"index": `{"name:m":{"Name":"m","Source":"hub:test","Stored":true}}`},
		"the record is another's":    {"index": `{"name:m":{"Name":"m","Source":"hub:test"}}`, "name:m": `{"Source":"shared:test"}`},
		"the record is no JSON":      {"index": `{"pin:hub:test m":{"Name":"m","Source":"hub:test","Pin":true}}`, "pin:hub:test m": `{`},
		"its paths lead out":         {"index": `{"name:m":{"Name":"m","Source":"hub:test"}}`, "name:m": `{"Source":"hub:test","Whole":true,"Files":[{"Path":"../x","Size":1}]}`},
		"a record of a strange kind": {"index": `{"name:m":{"Name":"m","Source":"hub:test","Kind":99}}`, "name:m": `{"Source":"hub:test","Kind":99}`},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				for id, raw := range facts {
					w.facts.facts[id] = []byte(raw)
				}
				w.restart(Config{})
				w.hub.add("m", "a.gguf=10")
				w.expect("m", by("hub"))
				if v := w.mustView("m"); len(v.Files) != 1 || v.Files[0].Path != "a.gguf" {
					t.Errorf("files = %+v", v.Files)
				}
				if _, err := w.Entries(context.Background(), ""); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

func TestALongListingIsRecordedWithoutItsFiles(t *testing.T) {
	m := &model.Model{Name: "m", Source: "shared:test", Files: make([]model.File, maxRecordedFiles+1)}
	rec := newRecord(m)
	if rec.Whole || rec.Files != nil || rec.usable() {
		t.Errorf("recorded whole: %v, %d files", rec.Whole, len(rec.Files))
	}
	if difference(rec, m) == "" {
		t.Error("a listing that is not there was found to agree")
	}
}

func TestOnceKeysAreNotUsedTwice(t *testing.T) {
	once := model.OnceKey()
	rec := newRecord(&model.Model{Kind: model.Router, Files: []model.File{{Path: "a", Key: once}, {Path: "b", Key: "sha256-x"}}})
	rec.of = nil // another process
	if m := rec.model(); m.Files[0].Key == once || !m.Files[0].Key.Once() || m.Files[1].Key != "sha256-x" {
		t.Errorf("keys: %v", m.Files)
	}
}

// What is kept under a key that was made of an address is not gone on with from
// another one, where that address can't be recorded.
func TestOtherAddressesOfAKeptFileAreNotRecorded(t *testing.T) {
	signed, open := "https://cdn.test/a?sig=x", "https://router.test/a"
	at := model.AtKey("https://cdn.test", "/a", "v1")
	for name, tt := range map[string]struct {
		file model.File
		want []string
	}{
		"the first is signed":      {model.File{Key: at, Validator: "v1", URLs: []string{signed, open}}, nil},
		"another is signed":        {model.File{Key: at, Validator: "v1", URLs: []string{open, signed}}, []string{open}},
		"a hash shows what it is":  {model.File{Key: model.SHA256Key(hash1), SHA256: hash1, URLs: []string{signed, open}}, []string{open}},
		"nothing of it is kept":    {model.File{Key: model.OnceKey(), URLs: []string{signed, open}}, []string{open}},
		"git's shows what it is":   {model.File{Key: at, GitSHA1: "x", URLs: []string{signed, open}}, []string{open}},
		"known by its place alone": {model.File{Key: at, URLs: []string{signed, open}}, nil},
	} {
		tt.file.Path = "a"
		got := newRecord(&model.Model{Kind: model.Router, Files: []model.File{tt.file}}).Files[0]
		if !slices.Equal(got.URLs, tt.want) {
			t.Errorf("%s: recorded %q, want %q", name, got.URLs, tt.want)
		}
		if kept := got.Validator != ""; kept != (name == "another is signed") {
			t.Errorf("%s: recorded validator %q", name, got.Validator)
		}
	}
}

func TestRecordsAreBounded(t *testing.T) {
	r := newRecords(nil, slog.New(slog.DiscardHandler))
	keep := newRecord(&model.Model{Name: "kept", Source: "hub:test", Kind: model.Hub})
	r.keep(model.Name{Repo: "kept"}, keep)
	for i := range maxRecords + 50 {
		n := model.Name{Org: "org", Repo: fmt.Sprint("m", i)}
		r.answered(n, newRecord(&model.Model{Name: n.Path(), Source: "hub:test", Kind: model.Hub}))
	}
	if len(r.index) != maxRecords || len(r.loaded) > maxRecords || r.byOrg["org"] != maxRecords-1 {
		t.Errorf("%d records, %d loaded, %d counted", len(r.index), len(r.loaded), r.byOrg["org"])
	}
	if r.get(nameID(model.Name{Repo: "kept"})) == nil {
		t.Error("a record with bytes here was dropped")
	}
}
