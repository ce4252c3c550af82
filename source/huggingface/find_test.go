package huggingface

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode"

	"github.com/google/go-cmp/cmp"

	"modelfs/internal/hubtest"
	"modelfs/internal/model"
)

// What each documented answer to a model's info means.
func TestVerdict(t *testing.T) {
	html := http.Header{"Content-Type": {"text/html; charset=utf-8"}}
	bad := reply{status: 401, message: "Invalid credentials in Authorization header"}
	found := "org/repo@" + commit
	for name, c := range map[string]struct {
		reply reply
		token bool
		want  string
	}{
		"there":                       {reply{status: 200, body: infoOf("org/repo")}, false, found},
		"repo not found":              {reply{status: 404, code: "RepoNotFound"}, true, "not found"},
		"revision not found":          {reply{status: 404, code: "RevisionNotFound"}, false, "not found"},
		"entry not found":             {reply{status: 404, code: "EntryNotFound"}, false, "not found"},
		"404 without code":            {reply{status: 404, body: `{"error":"Not found"}`}, false, "unavailable"},
		"404 of another code":         {reply{status: 404, code: "SomethingElse"}, false, "unavailable"},
		"404 page":                    {reply{status: 404, code: "RepoNotFound", header: html, body: "<html>"}, false, "unavailable"},
		"200 page":                    {reply{status: 200, body: "\n <!doctype html>"}, false, "unavailable"},
		"anonymous 401 header":        {reply{status: 401, message: "Invalid username or password."}, false, "not found"},
		"anonymous 401 JSON":          {reply{status: 401, body: `{"error":"Invalid username or password."}`}, false, "not found"},
		"anonymous 401 list":          {reply{status: 401, body: `{"error":["Invalid username or password."]}`}, false, "not found"},
		"anonymous 401 text":          {reply{status: 401, body: "Invalid username or password."}, false, "not found"},
		"anonymous 401 in errors":     {reply{status: 401, body: `{"errors":[{"message":"Invalid username or password."}]}`}, false, "not found"},
		"anonymous 401 other text":    {reply{status: 401, body: "Log in first"}, false, "unavailable"},
		"anonymous 401 and a code":    {reply{status: 401, code: "X", message: "Invalid username or password."}, false, "unavailable"},
		"401 though a token was sent": {reply{status: 401, message: "Invalid username or password."}, true, "unavailable"},
		"bad token, there":            {reply{status: 200, body: infoOf("org/repo"), withToken: &bad}, true, found},
		"bad token, not there":        {reply{status: 401, message: "Invalid username or password.", withToken: &bad}, true, "not found"},
		"gated, anonymous":            {reply{status: 401, code: "GatedRepo"}, false, "denied"},
		"gated, not on the list":      {reply{status: 403, code: "GatedRepo"}, true, "denied"},
		"disabled":                    {reply{status: 403, message: "Access to this resource is disabled."}, false, "unavailable"},
		"forbidden":                   {reply{status: 403}, true, "unavailable"},
		"too many":                    {reply{status: 429}, false, "unavailable"},
		"server error":                {reply{status: 503, body: "x"}, false, "unavailable"},
		"no content":                  {reply{status: 204}, false, "unavailable"},
		"cut off":                     {reply{err: errors.New("connection reset")}, false, "unavailable"},
		"allow-list":                  {reply{err: model.Errorf(model.Denied, "not allowed")}, false, "denied"},
		"body too large":              {reply{err: model.Errorf(model.Invalid, "too large")}, false, "unavailable"},
		"info: gated, anonymous":      {reply{status: 200, body: `{"id":"org/repo","sha":"` + commit + `","gated":"auto"}`}, false, "denied"},
		"info: gated true, anonymous": {reply{status: 200, body: `{"id":"org/repo","sha":"` + commit + `","gated":true}`}, false, "denied"},
		"info: gated, with a token":   {reply{status: 200, body: `{"id":"org/repo","sha":"` + commit + `","gated":"manual"}`}, true, found},
		"info: gated of another type": {reply{status: 200, body: `{"id":"org/repo","sha":"` + commit + `","gated":{}}`}, true, "unavailable"},
		"info: renamed":               {reply{status: 200, body: infoOf("new-org/new-name")}, false, "new-org/new-name@" + commit},
		"info: no commit":             {reply{status: 200, body: `{"id":"org/repo"}`}, false, "unavailable"},
		"info: a branch as commit":    {reply{status: 200, body: `{"id":"org/repo","sha":"main"}`}, false, "unavailable"},
		"info: a hostile commit":      {reply{status: 200, body: `{"id":"org/repo","sha":"../../../../../../../../../../../etc/passwd"}`}, false, "unavailable"},
		"info: a hostile id":          {reply{status: 200, body: `{"id":"../..","sha":"` + commit + `"}`}, false, "unavailable"},
		"info: three parts":           {reply{status: 200, body: `{"id":"a/b/c","sha":"` + commit + `"}`}, false, "unavailable"},
		"info: wrong types":           {reply{status: 200, body: `{"id":1,"sha":{},"tags":"x"}`}, false, "unavailable"},
		"info: a list":                {reply{status: 200, body: `[]`}, false, "unavailable"},
		"info: null":                  {reply{status: 200, body: `null`}, false, "unavailable"},
		"info: cut":                   {reply{status: 200, body: infoOf("org/repo")[:40]}, false, "unavailable"},
		"info: empty":                 {reply{status: 200}, false, "unavailable"},
	} {
		t.Run(name, func(t *testing.T) {
			s, _ := scripted(t, map[string]reply{"/api/models/org/repo": c.reply})
			s.authorized = func() bool { return c.token }
			if got := outcome(find(t, s, "org/repo")); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

// Which requests a name costs, in order.
func TestFindAsks(t *testing.T) {
	info := map[string]reply{
		"/api/models?author=org&limit=1":              {status: 200, body: `[{"id":"Org/x"}]`},
		"/api/models?author=gpt2&limit=1":             {status: 200, body: `[]`},
		"/api/models?author=none&limit=1":             {status: 200, body: `[]`},
		"/api/models?author=stranger&limit=1":         {status: 200, body: `[{"id":"somebody/else"}]`},
		"/api/models?author=lacks&limit=1":            {status: 404},
		"/api/models?author=page&limit=1":             {status: 200, body: "<html>"},
		"/api/models?author=object&limit=1":           {status: 200, body: `{"error":"x"}`},
		"/api/models?author=down&limit=1":             {status: 503},
		"/api/models?author=lacks-canonical&limit=1":  {status: 404},
		"/api/models/lacks-canonical":                 {status: 200, body: infoOf("x/lacks-canonical")},
		"/api/models/gpt2":                            {status: 200, body: infoOf("openai-community/gpt2")},
		"/api/models/org/repo":                        {status: 200, body: infoOf("org/repo")},
		"/api/models/org/repo/revision/refs%2Fpr%2F1": {status: 200, body: infoOf("org/repo")},
		"/api/models/org/repo/revision/v1.0":          {status: 404, code: "RevisionNotFound"},
		"/api/models/lacks-canonical/revision/v1.0":   {status: 404, code: "RevisionNotFound"},
	}
	for _, c := range []struct {
		name  model.Name
		want  string
		asked []string
	}{
		{model.Name{Org: "org", Repo: "repo"}, "org/repo@" + commit, []string{"/api/models/org/repo"}},
		{model.Name{Org: "org", Repo: "repo", Quant: "Q4"}, "org/repo@" + commit, []string{"/api/models/org/repo"}},
		{model.Name{Org: "org", Repo: "repo", Revision: "refs/pr/1"}, "org/repo@" + commit, []string{"/api/models/org/repo/revision/refs%2Fpr%2F1"}},
		{model.Name{Org: "org", Repo: "repo", Revision: "v1.0"}, "not found", []string{"/api/models/org/repo/revision/v1.0"}},
		{model.Name{Org: "org", Repo: "absent"}, "not found", []string{"/api/models/org/absent"}},
		{model.Name{Repo: "org"}, "namespace Org", []string{"/api/models?author=org&limit=1"}},
		{model.Name{Repo: "gpt2"}, "openai-community/gpt2@" + commit, []string{"/api/models?author=gpt2&limit=1", "/api/models/gpt2"}},
		{model.Name{Repo: "none"}, "not found", []string{"/api/models?author=none&limit=1", "/api/models/none"}},
		{model.Name{Repo: "stranger"}, "unavailable", []string{"/api/models?author=stranger&limit=1", "/api/models/stranger"}},
		{model.Name{Repo: "lacks"}, "unavailable", []string{"/api/models?author=lacks&limit=1", "/api/models/lacks"}},
		{model.Name{Repo: "page"}, "unavailable", []string{"/api/models?author=page&limit=1", "/api/models/page"}},
		{model.Name{Repo: "object"}, "unavailable", []string{"/api/models?author=object&limit=1", "/api/models/object"}},
		{model.Name{Repo: "lacks-canonical"}, "x/lacks-canonical@" + commit, []string{"/api/models?author=lacks-canonical&limit=1", "/api/models/lacks-canonical"}},
		{model.Name{Repo: "lacks-canonical", Revision: "v1.0"}, "not found",
			[]string{"/api/models?author=lacks-canonical&limit=1", "/api/models/lacks-canonical/revision/v1.0"}},
		{model.Name{Repo: "down"}, "unavailable", []string{"/api/models?author=down&limit=1"}},
		{model.Name{Repo: "model.gguf"}, "not found", nil},
		{model.Name{Org: "org", Repo: "config.json"}, "not found", nil},
		{model.Name{Repo: "foo--bar"}, "not found", nil},
		{model.Name{Repo: "name with space"}, "not found", nil},
		{model.Name{Org: "-org", Repo: "x"}, "not found", nil},
		{model.Name{Repo: "x.git"}, "not found", nil},
	} {
		t.Run(c.name.String(), func(t *testing.T) {
			s, door := scripted(t, info)
			if got := outcome(s.Find(context.Background(), c.name)); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
			if d := cmp.Diff(c.asked, door.asked); d != "" {
				t.Errorf("asked:\n%s", d)
			}
		})
	}
}

// A bad token is flagged and not sent again for a minute.
func TestBadTokenIsLeftOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bad := reply{status: 401, message: badTokenText}
		s, door := scripted(t, map[string]reply{"/api/models/org/repo": {status: 200, body: infoOf("org/repo"), withToken: &bad}})
		s.authorized = func() bool { return true }
		for range 3 {
			_, err := find(t, s, "org/repo")
			must(t, err)
		}
		if s.Trouble() == "" {
			t.Error("no trouble")
		}
		if _, err := find(t, s, "org/private"); !model.IsKind(err, model.NotFound) || !strings.Contains(err.Error(), "refuses the token") {
			t.Errorf("a name that the token may hide: %v", err)
		}
		<-time.After(badTokenFor)
		if s.Trouble() != "" {
			t.Error(s.Trouble())
		}
		_, err := find(t, s, "org/repo")
		must(t, err)
		const p, private = "/api/models/org/repo", "/api/models/org/private"
		if d := cmp.Diff([]string{p + " token", p, p, p, private, p + " token", p}, door.asked); d != "" {
			t.Error(d)
		}
		s.Close()
	})
}

// stating is the header of a Hub with a quota.
func stating(quota int, window time.Duration) http.Header {
	h := http.Header{}
	h.Set("RateLimit", fmt.Sprintf(`"api";r=%d;t=300`, quota))
	h.Set("RateLimit-Policy", fmt.Sprintf(`"fixed window";"api";q=%d;w=%d`, quota, int(window/time.Second)))
	return h
}

// typos asks for 300 names that nobody has, and says how many of them the Hub
// was asked about.
func typos(t *testing.T, s *Source, format string) (absent int) {
	t.Helper()
	for i := range 300 {
		_, err := find(t, s, fmt.Sprintf(format, i))
		switch {
		case model.IsKind(err, model.NotFound):
			absent++
		case !model.IsKind(err, model.Unavailable):
			t.Errorf("a typo: %v", err)
		}
	}
	return absent
}

// Of a quota of 500, unknown names may spend 125 at once and one more each
// 2.4 s; known ones are not charged, and a new one gets through.
func TestBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		answers := map[string]reply{}
		for _, id := range []string{"org/repo", "org/new", "org/newer", "single"} {
			answers["/api/models/"+id] = reply{status: 200, body: infoOf(id), header: stating(500, 300*time.Second)}
		}
		for i := range 300 {
			answers[fmt.Sprintf("/api/models?author=typo-%d&limit=1", i)] = reply{status: 200, body: "[]"}
		}
		s, door := scripted(t, answers)
		for _, name := range slices.Repeat([]string{"org/repo"}, 30) { // present names cost the budget nothing
			_, err := find(t, s, name)
			must(t, err)
		}
		wantTypos := func(when string, want int) {
			t.Helper()
			if got := typos(t, s, "org/typo-%d"); got != want {
				t.Errorf("%s %d unknown names were asked, want %d", when, got, want)
			}
		}
		wantTypos("at first", 125)
		wantTypos("right after", 0)
		_, err := find(t, s, "org/new")
		if want := time.Now().Add(3 * time.Second).Format(time.TimeOnly); !model.IsKind(err, model.Unavailable) || !strings.Contains(err.Error(), want) {
			t.Errorf("a new name: %v, want one that says %s", err, want)
		}
		_, err = find(t, s, "org/repo")
		must(t, err)
		<-time.After(2400*time.Millisecond - 1)
		wantTypos("a moment too early", 0)
		<-time.After(1)
		for _, name := range []string{"org/new", "org/newer"} { // a name that is there gives back what it took
			_, err = find(t, s, name)
			must(t, err)
		}
		wantTypos("after 2.4 s", 1)
		<-time.After(2400 * time.Millisecond)
		if _, err = find(t, s, "single"); !model.IsKind(err, model.Unavailable) {
			t.Errorf("a name that costs two requests, with one left: %v", err)
		}
		<-time.After(2400 * time.Millisecond)
		_, err = find(t, s, "single")
		must(t, err)
		wantTypos("after 7.2 s", 2)
		<-time.After(60 * time.Second)
		wantTypos("a minute later", 25)
		<-time.After(300*time.Second - 1)
		wantTypos("after most of a window", 124)
		<-time.After(time.Hour)
		wantTypos("after an hour", 125)
		<-time.After(time.Hour)
		if got := typos(t, s, "typo-%d"); got != 62 {
			t.Errorf("%d names of one part were asked about, want 62 with two requests each", got)
		}
		if got, want := len(door.asked), 30+125+1+2+1+2+2+25+124+125+124; got != want {
			t.Errorf("%d requests, want %d", got, want)
		}
		s.Close()
	})
}

// What the budget refuses is no sign of an outage.
func TestSpentIsThrottled(t *testing.T) {
	s, _ := scripted(t, map[string]reply{"/api/models/org/a": {status: 404, code: "RepoNotFound", header: stating(2, 300*time.Second)}})
	_, _ = find(t, s, "org/a")
	_, err := find(t, s, "org/b")
	var throttled interface{ Throttled() bool }
	if !model.IsKind(err, model.Unavailable) || !errors.As(err, &throttled) || !throttled.Throttled() {
		t.Errorf("got %v", err)
	}
}

// The info of a gated repository can be read by all; a file tells whether the
// token opens it.
func TestGatedWithAToken(t *testing.T) {
	hub := hubtest.New(t)
	hub.AddRepo(hubtest.Repo{ID: "org/gated", Gated: "auto", Files: []hubtest.File{{Path: "../x"}, {Path: "a b.gguf", LFS: true, Content: hubtest.Text("x")}}})
	hub.AddRepo(hubtest.Repo{ID: "org/empty", Gated: "auto"})
	hub.Grant("friend", "org/gated")
	hub.Grant("stranger")
	for _, c := range []struct{ token, name, want string }{
		{"", "org/gated", "denied"}, {"stranger", "org/gated", "denied"}, {"friend", "org/gated", "org/gated"}, {"stranger", "org/empty", "org/empty"},
	} {
		got, _, _ := strings.Cut(outcome(find(t, atHub(t, hub, c.token), c.name)), "@")
		if got != c.want {
			t.Errorf("%s with %q is %s, want %s", c.name, c.token, got, c.want)
		}
	}
}

func TestNoQuotaNoLimit(t *testing.T) {
	s, _ := scripted(t, nil)
	for i := range 1000 {
		if _, err := find(t, s, fmt.Sprintf("org/typo%d", i)); !model.IsKind(err, model.NotFound) {
			t.Fatal(err)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	for _, e := range []string{"", "huggingface.co", "ftp://huggingface.co", "https://", "https://u:p@huggingface.co", "https://h?x=1", "https://h#x", "://"} {
		if _, err := New(Config{Endpoint: e}); !model.IsKind(err, model.Invalid) {
			t.Errorf("New(%q): %v", e, err)
		}
	}
}

// Against the scripted Hub, through the real door.
func TestFindAtHub(t *testing.T) {
	hub := hubtest.New(t)
	at := hub.AddRepo(hubtest.Repo{ID: "org/repo", Renamed: []string{"old/repo"}})
	canonical := hub.AddRepo(hubtest.Repo{ID: "openai-community/gpt2", Renamed: []string{"gpt2"}})
	hub.AddRepo(hubtest.Repo{ID: "org/gated", Gated: "auto"})
	secret := hub.AddRepo(hubtest.Repo{ID: "org/private", Private: true})
	gated := hub.Commit("org/gated", "main")
	hub.Grant("hf_good", "org/private")
	hub.Grant("hf_poor")
	for token, names := range map[string]map[string]string{
		"": {"org/repo": "org/repo@" + at, "old/repo": "org/repo@" + at, "gpt2": "openai-community/gpt2@" + canonical, "org": "namespace org",
			"org/absent": "not found", "absent": "not found", "org/repo@nowhere": "not found", "org/repo@" + at: "org/repo@" + at,
			"org/gated": "denied", "org/private": "not found"},
		"hf_good": {"org/private": "org/private@" + secret, "org/gated": "org/gated@" + gated, "org/absent": "not found"},
		"hf_poor": {"org/private": "not found"},
		"hf_bad":  {"org/repo": "org/repo@" + at, "org/private": "not found", "org/gated": "denied"},
	} {
		s := atHub(t, hub, token)
		for name, want := range names {
			if got, err := find(t, s, name); outcome(got, err) != want {
				t.Errorf("token %q: %s is %s, want %s (%v)", token, name, outcome(got, err), want, err)
			}
		}
	}
}

// What the Hub says of an error, and how it labels a model, is shown so that a
// terminal obeys none of it.
func TestWhatTheHubSaysIsHarmless(t *testing.T) {
	const text, inJSON = "no \x1b[2J\a\r\n access", `no \u001b[2J\u0007\r\n access`
	for _, r := range []reply{
		{status: 403, code: "GatedRepo", message: text}, {status: 401, body: `{"error":"` + inJSON + `"}`}, {status: 500, body: text},
		{status: 500, body: `{"errors":[{"message":"` + inJSON + `"}]}`}, {status: 400, body: `{"error":["` + inJSON + `"]}`},
	} {
		s, _ := scripted(t, map[string]reply{"/api/models/org/m": r})
		if _, err := find(t, s, "org/m"); err == nil || strings.ContainsFunc(err.Error(), unicode.IsControl) {
			t.Errorf("%+v: %q", r, err)
		}
	}
	info, err := parseInfo([]byte(`{"id":"org/m","sha":"` + commit + `","library_name":"` + inJSON + `","gguf":{"architecture":"` + inJSON + `","total":1},
		"config":{"model_type":"` + inJSON + `","architectures":["` + inJSON + `"],"torch_dtype":"` + inJSON + `"}}`))
	must(t, err)
	if traits := fmt.Sprintf("%+v", info.traits()); strings.ContainsFunc(traits, unicode.IsControl) {
		t.Errorf("%q", traits)
	}
}
