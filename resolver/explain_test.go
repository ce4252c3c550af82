package resolver

import (
	"context"
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"modelfs/internal/model"
)

func (w *world) explain(name string) Explanation { return w.Explain(context.Background(), name) }

func TestExplainSaysWhoSaidWhat(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.local.add("m", "part=1")
		w.local.breaks("m", "a part is missing")
		w.shared.become(failing)
		w.hub.takes(40 * msec)
		w.hub.add("m", "m-F16.gguf=1", "m-Q4_K_M.gguf=2")
		w.mustView("m")
		e := w.explain("m:F16")
		if e.Answer == nil || e.Answer.Source != "hub:test" || e.Answer.Revision != "commit-1" || e.Answer.Settled || e.Rule != ruleUnsettled {
			t.Fatalf("answer %+v, rule %q", e.Answer, e.Rule)
		}
		if *e.Parsed != (ParsedName{Repo: "m", Quant: "F16"}) || e.Default != "m-F16.gguf" || e.Why != "the name asks for F16" {
			t.Errorf("parsed %+v, default %q because %q", e.Parsed, e.Default, e.Why)
		}
		verdicts := ""
		for _, s := range e.Sources {
			verdicts += s.Verdict + " "
		}
		if !strings.HasPrefix(verdicts, "absent unknown present ") { // the last one need not be waited for
			t.Errorf("verdicts: %s", verdicts)
		}
		e = w.explain("m")
		if s := e.Sources; s[0].Broken != "a part is missing" || !strings.Contains(s[1].Error, "500") || !s[2].Cached || s[2].TookMS != 40 || s[2].Breaker != "closed" {
			t.Errorf("sources: %+v", s)
		}
		if len(e.Files) != 2 || e.Files[0].Hosts[0] != "example.com" || e.Files[1].Size != 2 || e.Files[0].Key == "" {
			t.Errorf("files: %+v", e.Files)
		}
		raw, err := json.Marshal(e)
		if err != nil || strings.Contains(string(raw), "https://") {
			t.Errorf("JSON: %s, %v", raw, err)
		}
	})
}

func TestExplainOfWhatIsNotThere(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		e := w.explain("../x")
		if e.Kind != "not found" || e.Parsed != nil || e.Sources != nil {
			t.Errorf("%+v", e)
		}
		if e = w.explain("nobody"); e.Kind != "not found" || e.Rule != ruleAbsent || len(e.Sources) != 4 || e.Answer != nil {
			t.Errorf("%+v", e)
		}
		if e = w.explain("x.gguf"); e.Sources[2].Verdict != "not asked" || e.Sources[2].Error == "" {
			t.Errorf("%+v", e.Sources)
		}
		w.router.become(hanging)
		w.hub.become(denying)
		e = w.explain("other")
		if e.Kind != "unavailable" || !strings.Contains(e.Error, "router:test: no answer in time") || e.TookMS != 900 || e.Sources[2].Verdict != "denied" {
			t.Errorf("%+v", e)
		}
	})
}

func TestExplainCostsNoMoreThanALookup(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.hub.add("m", "a.gguf=1")
		w.local.add("org/l", "l.gguf=1")
		e := w.explain("m")
		if e.Answer == nil || e.Files != nil || e.Listing == "" || w.hub.times("list m") != 0 || w.hub.times("find m") != 1 {
			t.Errorf("%+v, asked %v", e, w.hub.asked)
		}
		w.look("m")
		if w.hub.total() != 1 {
			t.Errorf("asked %v", w.hub.asked)
		}
		if e = w.explain("org/l"); len(e.Files) != 1 || e.Default != "l.gguf" {
			t.Errorf("a tree's model: %+v", e)
		}
		if e = w.explain("org"); e.Answer == nil || e.Answer.Kind != "namespace" || e.Files != nil || e.Listing != "" {
			t.Errorf("a namespace: %+v", e)
		}
		w.local.listsAfter(5 * time.Second)
		if e = w.explain("org/l"); e.TookMS > 900 || e.Files != nil || e.Listing == "" {
			t.Errorf("a slow tree: %+v", e)
		}
	})
}

func TestExplainShowsPlacesAndHiddenFiles(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.restart(Config{Filter: func(*model.Model, string) Filtered {
			return Filtered{Hidden: map[string]bool{"h.gguf": true}, Runs: true}
		}})
		m := w.local.add("m", "a.gguf=1", "h.gguf=1")
		m.Files[0].Place = place("/srv/m/a.gguf")
		e := w.explain("m")
		if len(e.Files) != 2 || e.Files[0].Place != "/srv/m/a.gguf" || !e.Files[1].Hidden || e.Default != "a.gguf" {
			t.Errorf("%+v", e.Files)
		}
	})
}

type place string

func (p place) Path() string                                 { return string(p) }
func (p place) Stat(context.Context) (s model.Stat, _ error) { return s, nil }
func (p place) Reader(context.Context) (model.Reader, model.Stat, error) {
	return nil, model.Stat{}, nil
}
func (p place) Head(context.Context, int64) ([]byte, error) { return nil, os.ErrNotExist }
func (p place) Open(context.Context) (*os.File, model.Stat, error) {
	return nil, model.Stat{}, os.ErrNotExist
}
