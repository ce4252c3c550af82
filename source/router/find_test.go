package router

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"modelfs/internal/hubtest"
	"modelfs/internal/model"
)

const (
	newList = "/api/models"
	oldList = "/v0/models"
)

func TestFind(t *testing.T) {
	s, door := scripted(t, map[string]reply{newList: {status: 200, body: `[
		{"name":"gpt-oss-20b","last_modified":"2026-01-02T03:04:05Z"},{"name":"openai/gpt-oss-7b"},{"id":"qwen/qwen3"},{"name":"Mixed/Case"},
		{"name":"both"},{"name":"both/x"},{"name":1,"id":["x"]},{"name":"../evil"},{"name":"a/b/c"},{"name":"x.gguf"},{"name":""},{}]`}})
	for name, want := range map[string]string{
		"gpt-oss-20b": "gpt-oss-20b", "GPT-OSS-20B": "gpt-oss-20b", "gpt-oss-20b:Q4_K_M": "gpt-oss-20b", "gpt-oss-20b@main": "not found",
		"openai": "namespace openai", "OpenAI/GPT-OSS-7B": "openai/gpt-oss-7b", "qwen/qwen3": "qwen/qwen3", "mixed/case": "Mixed/Case",
		"both": "both", "both/x": "both/x", "absent": "not found", "openai/absent": "not found", "a": "not found", "x.gguf": "not found",
		"name with space": "not found",
	} {
		if got := said(find(t, s, name)); got != want {
			t.Errorf("%s is %s, want %s", name, got, want)
		}
	}
	if d := cmp.Diff([]string{newList}, door.asked); d != "" {
		t.Errorf("asked:\n%s", d)
	}
	f, err := find(t, s, "gpt-oss-20b")
	if err != nil || !f.ModTime.Equal(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)) {
		t.Errorf("%+v, %v", f, err)
	}
	names, err := s.Names(context.Background())
	must(t, err)
	var got []string
	for _, f := range names {
		got = append(got, said(f, nil))
	}
	if d := cmp.Diff([]string{"Mixed/Case", "both", "both/x", "gpt-oss-20b", "openai/gpt-oss-7b", "qwen/qwen3"}, got); d != "" {
		t.Errorf("names:\n%s", d)
	}
}

// What each answer to the question for the list means for a name.
func TestListVerdict(t *testing.T) {
	html := http.Header{"Content-Type": {"text/html"}}
	for name, c := range map[string]struct {
		reply reply
		want  string
	}{
		"array":          {reply{status: 200, body: `[{"name":"m"}]`}, "m"},
		"data":           {reply{status: 200, body: `{"data":[{"name":"m"}]}`}, "m"},
		"value":          {reply{status: 200, body: `{"value":[{"id":"m"}]}`}, "m"},
		"not on it":      {reply{status: 200, body: `[]`}, "not found"},
		"data empty":     {reply{status: 200, body: `{"data":[]}`}, "not found"},
		"null":           {reply{status: 200, body: `null`}, "unavailable"},
		"error with 200": {reply{status: 200, body: `{"error":"x"}`}, "unavailable"},
		"text":           {reply{status: 200, body: `models`}, "unavailable"},
		"wrong shape":    {reply{status: 200, body: `{"data":{"m":1}}`}, "unavailable"},
		"nothing named":  {reply{status: 200, body: `{"data":[{"id":1},{"name":{}}]}`}, "unavailable"},
		"one named":      {reply{status: 200, body: `[{"id":1},{"name":"m"}]`}, "m"},
		"many":           {reply{status: 200, body: `[{"name":"m"}` + strings.Repeat(`,{}`, maxListed) + `]`}, "unavailable"},
		"too deep":       {reply{status: 200, body: strings.Repeat(`[`, 1<<20)}, "unavailable"},
		"strings":        {reply{status: 200, body: `["m"]`}, "unavailable"},
		"page":           {reply{status: 200, body: `<html>`, header: html}, "unavailable"},
		"no key":         {reply{status: 401, body: `Missing X-API-Key header or Authorization header`}, "denied"},
		"weak key":       {reply{status: 403, body: `Missing required permission: registry.read`}, "denied"},
		"proxy's 403":    {reply{status: 403, body: `<html>`, header: html}, "unavailable"},
		"404 with JSON":  {reply{status: 404, body: `{"error":"x"}`}, "unavailable"},
		"404 with text":  {reply{status: 404, body: `nothing`}, "unavailable"},
		"not a router":   {reply{status: 404}, "unavailable"},
		"too many":       {reply{status: 429}, "unavailable"},
		"gateway":        {reply{status: 502, body: `{"error":"Backend service unavailable"}`}, "unavailable"},
		"timeout":        {reply{status: 504, body: `{"error":"Request timeout"}`}, "unavailable"},
		"refused":        {reply{err: errors.New("connection refused")}, "unavailable"},
		"allow-list":     {reply{err: model.Errorf(model.Denied, "not allowed")}, "denied"},
		"too large":      {reply{err: model.Errorf(model.Invalid, "too large")}, "unavailable"},
	} {
		t.Run(name, func(t *testing.T) {
			s, _ := scripted(t, map[string]reply{newList: c.reply})
			if got := said(find(t, s, "m")); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

// The prefix is found out once, and again when the router was replaced by
// another generation.
func TestPrefix(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		here := reply{status: 200, body: `[{"name":"m"}]`}
		s, door := scripted(t, map[string]reply{oldList: here})
		for range 2 {
			_, err := find(t, s, "m")
			must(t, err)
			<-time.After(usableFor)
		}
		door.answers = map[string]reply{newList: here, oldList: {status: 405}}
		for range 2 {
			_, err := find(t, s, "m")
			must(t, err)
			<-time.After(usableFor)
		}
		if d := cmp.Diff([]string{newList, oldList, oldList, oldList, newList, newList}, door.asked); d != "" {
			t.Error(d)
		}
		s.Close()
	})
}

// A name is absent on a list that is younger than ten seconds, whatever the
// number of names; a model that was added since is found.
func TestAbsentIsTenSecondsOld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, door := scripted(t, map[string]reply{newList: {status: 200, body: `[{"name":"m"}]`}})
		for range 7 { // 9.1 s
			for i := range 200 {
				if _, err := find(t, s, fmt.Sprintf("absent%d", i)); !model.IsKind(err, model.NotFound) {
					t.Error(err)
				}
			}
			<-time.After(1300 * time.Millisecond)
		}
		if n := door.count(newList); n != 1 {
			t.Errorf("the list was asked for %d times in nine seconds", n)
		}
		door.answers = map[string]reply{newList: {status: 200, body: `[{"name":"m"},{"name":"absent0"}]`}}
		<-time.After(time.Second)
		if got := said(find(t, s, "absent0")); got != "absent0" {
			t.Errorf("a model that was added ten seconds ago is %s", got)
		}
		if n := door.count(newList); n != 2 {
			t.Errorf("the list was asked for %d times", n)
		}
		s.Close()
	})
}

// However many names of the list are looked up, it is asked for once a minute.
func TestOneListAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		body := `[{"name":"m"}`
		for i := range 200 {
			body += fmt.Sprintf(`,{"name":"org/m%d"}`, i)
		}
		s, door := scripted(t, map[string]reply{newList: {status: 200, body: body + "]"}})
		start := time.Now()
		for time.Since(start) < 10*time.Minute {
			for i := range 200 {
				_, err := find(t, s, fmt.Sprintf("org/m%d", i))
				must(t, err)
			}
			_, err := s.Names(context.Background())
			must(t, err)
			<-time.After(7 * time.Second)
			synctest.Wait()
		}
		if n := door.count(newList); n < 9 || n > 10 {
			t.Errorf("the list was asked for %d times in ten minutes", n)
		}
		s.Close()
	})
}

// While the router is down: what was listed stays present for ten minutes,
// what was not is unknown as soon as the list is a minute old.
func TestRouterGoesDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, door := scripted(t, map[string]reply{newList: {status: 200, body: `[{"name":"m"}]`}})
		check := func(when, name, want string) {
			t.Helper()
			if got := said(find(t, s, name)); got != want {
				t.Errorf("%s: %s is %s, want %s", when, name, got, want)
			}
			synctest.Wait()
		}
		check("up", "m", "m")
		up := door.answers
		door.answers = map[string]reply{newList: {err: errors.New("connection refused")}}
		check("at once", "absent", "not found")
		<-time.After(freshFor)
		check("after a minute", "m", "m")
		before := door.count(newList)
		for range 50 {
			check("after a minute", "absent", "unavailable")
		}
		if n := door.count(newList) - before; n > 1 {
			t.Errorf("%d attempts within the time that a failure counts", n)
		}
		<-time.After(usableFor)
		check("after ten minutes", "m", "unavailable")
		door.answers = up
		<-time.After(failureFor)
		check("up again", "absent", "not found")
		check("up again", "m", "m")
		s.Close()
	})
}

// A caller that leaves does not end the question.
func TestSlowList(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ready := make(chan struct{})
		s, door := scripted(t, map[string]reply{newList: {status: 200, body: `[{"name":"m"}]`, wait: ready}})
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if _, err := s.Find(ctx, model.Name{Repo: "m"}); !model.IsKind(err, model.Unavailable) {
			t.Errorf("hanging: %v", err)
		}
		close(ready)
		if _, err := find(t, s, "m"); err != nil {
			t.Error(err)
		}
		if n := door.count(newList); n != 1 {
			t.Errorf("%d requests", n)
		}
		s.Close()
	})
}

func TestNewRefuses(t *testing.T) {
	for _, u := range []string{"", "router:8080", "ftp://r", "http://", "http://k:p@r", "http://r?x=1"} {
		if _, err := New(Config{URL: u}); !model.IsKind(err, model.Invalid) {
			t.Errorf("New(%q): %v", u, err)
		}
	}
}

func TestFindAtRouter(t *testing.T) {
	hub := hubtest.New(t)
	for _, c := range []struct {
		config hubtest.RouterConfig
		key    string
		want   map[string]string
	}{
		{hubtest.RouterConfig{}, hubtest.RouterKey, map[string]string{"m": "m", "org/m": "org/m", "org": "namespace org", "absent": "not found"}},
		{hubtest.RouterConfig{Gen: hubtest.OldGen, List: hubtest.ListData}, hubtest.RouterKey, map[string]string{"m": "m", "absent": "not found"}},
		{hubtest.RouterConfig{Gen: hubtest.OldGen, List: hubtest.ListValue}, hubtest.RouterKey, map[string]string{"m": "m"}},
		{hubtest.RouterConfig{}, "", map[string]string{"m": "denied", "absent": "denied"}},
		{hubtest.RouterConfig{Keys: map[string][]string{"weak": nil}}, "weak", map[string]string{"m": "denied"}},
	} {
		r := hubtest.NewRouter(t, c.config)
		r.SetModel(hubtest.RouterModel{Name: "m"})
		r.SetModel(hubtest.RouterModel{Name: "org/m"})
		s := atRouter(t, r, hub, c.key)
		for name, want := range c.want {
			if got := said(find(t, s, name)); got != want {
				t.Errorf("%+v: %s is %s, want %s", c.config, name, got, want)
			}
		}
	}
}
