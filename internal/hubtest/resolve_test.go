package hubtest

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestResolveLFS(t *testing.T) {
	h := newStage(t)
	c := newClient(t)
	u := h.ResolveURL("org/public", "main", "sub/model.gguf")
	p := Pattern(1, 300_000)
	for _, method := range []string{"HEAD", "GET"} {
		resp := c.send(method, u, nil)
		resp.Body.Close()
		got := map[string]string{}
		for _, k := range []string{"Accept-Ranges", "Cache-Control", "X-Linked-Etag", "X-Linked-Size", "X-Repo-Commit", "X-Xet-Hash", "Link", "Vary"} {
			got[k] = resp.Header.Get(k)
		}
		want := map[string]string{"Accept-Ranges": "bytes", "Cache-Control": "no-store", "X-Linked-Etag": `"` + p.SHA256() + `"`, "X-Linked-Size": "300000",
			"X-Repo-Commit": h.Commit("org/public", "main"), "X-Xet-Hash": "", "Link": "", "Vary": "Origin, Accept"}
		if d := cmp.Diff(want, got); d != "" || resp.StatusCode != 302 || resp.ContentLength < 300 {
			t.Errorf("%s: %d, length %d (-want +got):\n%s", method, resp.StatusCode, resp.ContentLength, d)
		}
		if to := resp.Header.Get("Location"); !strings.HasPrefix(to, h.CDN()+"/") || h.CDN() == h.URL() {
			t.Errorf("Location %q is not at %s", to, h.CDN())
		}
	}
	resp, body := c.get(location(c, u), nil)
	if resp.StatusCode != 200 || Mismatch(p, []byte(body), 0) >= 0 || len(body) != 300_000 {
		t.Errorf("CDN: %d, %d bytes", resp.StatusCode, len(body))
	}
	if tag := strings.Trim(resp.Header.Get("Etag"), `"`); len(tag) != 64 || tag == p.SHA256() {
		t.Errorf("the CDN's tag %q must be 64 digits, and not the hash", tag)
	}
}

func TestResolveSmall(t *testing.T) {
	h := newStage(t)
	c := newClient(t)
	commit := h.Commit("org/public", "main")
	oid := gitSHA1(Text(`{"a":1}`))
	resp, _ := c.get(h.ResolveURL("org/public", "main", "config.json"), nil)
	to := resp.Header.Get("Location")
	want := "/api/resolve-cache/models/org/public/" + commit + "/config.json?%2Forg%2Fpublic%2Fresolve%2Fmain%2Fconfig.json=&etag=%22" + oid + "%22"
	if resp.StatusCode != 307 || to != want || resp.Header.Get("RateLimit-Policy") != `"fixed window";"resolvers";q=3000;w=300` {
		t.Errorf("%d to %q, want %q; %v", resp.StatusCode, to, want, resp.Header)
	}
	for name, u := range map[string]string{"cache": h.URL() + to, "cache without the query": h.URL() + to[:strings.Index(to, "?")],
		"by commit": h.ResolveURL("org/public", commit, "config.json")} {
		resp, body := c.get(u, nil)
		head := resp.Header
		if resp.StatusCode != 200 || body != `{"a":1}` || head.Get("Etag") != `"`+oid+`"` || head.Get("X-Repo-Commit") != commit ||
			head.Get("Content-Disposition") != `inline; filename*=UTF-8''config.json; filename="config.json";` {
			t.Errorf("%s: %d %q %v", name, resp.StatusCode, body, head)
		}
	}
	resp, body := c.get(h.ResolveURL("org/private", "main", "config.json"), bearer(goodToken))
	if resp.StatusCode != 200 || body != `{"a":1}` {
		t.Errorf("private: %d %q", resp.StatusCode, body)
	}
	resp, _ = c.get(h.ResolveURL("org/public", commit, "config.json"), header("If-None-Match", `"`+oid+`"`))
	if resp.StatusCode != 304 {
		t.Errorf("If-None-Match: %d", resp.StatusCode)
	}
	resp, body = c.get(h.URL()+location(c, h.ResolveURL("org/public", "main", "sub/a b#?%ü.txt")), nil)
	if resp.StatusCode != 200 || body != "odd" {
		t.Errorf("odd name: %d %q", resp.StatusCode, body)
	}
}

func TestGateOpensForTokens(t *testing.T) {
	h := newStage(t)
	c := newClient(t)
	u := h.ResolveURL("org/gated", h.Commit("org/gated", "main"), "config.json")
	for _, step := range []struct {
		do     func()
		status int
	}{
		{func() {}, 403},
		{func() { h.Grant(goodToken, "org/gated") }, 200},
		{func() { h.Grant(goodToken, "*") }, 200},
		{func() { h.Revoke(goodToken) }, 401},
	} {
		step.do()
		if resp, _ := c.get(u, bearer(goodToken)); resp.StatusCode != step.status {
			t.Errorf("%s, want %d", resp.Status, step.status)
		}
	}
}

func TestRanges(t *testing.T) {
	h := newStage(t)
	h.AddRepo(Repo{ID: "org/empty", Files: []File{{Path: "x", LFS: true}}})
	c := newClient(t)
	u := location(c, h.ResolveURL("org/public", "main", "sub/model.gguf"))
	resp, _ := c.get(u, nil)
	tag := resp.Header.Get("Etag")
	const size = 300_000
	for _, tt := range []struct {
		spec, ifRange string
		status        int
		off, n        int64
		contentRange  string
	}{
		{"", "", 200, 0, size, ""},
		{"bytes=0-0", "", 206, 0, 1, "bytes 0-0/300000"},
		{"bytes=1000-70000", "", 206, 1000, 69001, "bytes 1000-70000/300000"},
		{"bytes=299999-", "", 206, 299999, 1, "bytes 299999-299999/300000"},
		{"bytes=299000-999999", "", 206, 299000, 1000, "bytes 299000-299999/300000"},
		{"bytes=-5", "", 206, size - 5, 5, "bytes 299995-299999/300000"},
		{"bytes=-999999", "", 206, 0, size, "bytes 0-299999/300000"},
		{"bytes=300000-", "", 416, 0, 0, "bytes */300000"},
		{"bytes=300000-300001", "", 416, 0, 0, "bytes */300000"},
		{"bytes=-0", "", 416, 0, 0, "bytes */300000"},
		{"bytes=5-2", "", 200, 0, size, ""},
		{"bytes=a-b", "", 200, 0, size, ""},
		{"bytes=-", "", 200, 0, size, ""},
		{"bytes=0-1,4-5", "", 200, 0, size, ""},
		{"lines=0-1", "", 200, 0, size, ""},
		{"bytes=0-99999999999999999999", "", 200, 0, size, ""},
		{"bytes=5-9", tag, 206, 5, 5, "bytes 5-9/300000"},
		{"bytes=5-9", `"other"`, 200, 0, size, ""},
	} {
		head := header("Range", tt.spec)
		if tt.ifRange != "" {
			head.Set("If-Range", tt.ifRange)
		}
		resp, body := c.get(u, head)
		if d := cmp.Diff([]any{tt.status, tt.contentRange}, []any{resp.StatusCode, resp.Header.Get("Content-Range")}); d != "" {
			t.Errorf("%q (-want +got):\n%s", tt.spec, d)
		}
		if tt.status != 416 && (int64(len(body)) != tt.n || resp.ContentLength != tt.n || Mismatch(Pattern(1, size), []byte(body), tt.off) >= 0) {
			t.Errorf("%q: %d bytes, length %d, want %d from %d", tt.spec, len(body), resp.ContentLength, tt.n, tt.off)
		}
	}
	head := c.send("HEAD", u, header("Range", "bytes=0-9"))
	head.Body.Close()
	if head.StatusCode != 200 || head.ContentLength != size || head.Header.Get("Etag") != tag {
		t.Errorf("HEAD with a range: %s, length %d", head.Status, head.ContentLength)
	}
	resp, _ = c.get(location(c, h.ResolveURL("org/empty", "main", "x")), header("Range", "bytes=0-0"))
	if resp.StatusCode != 416 || resp.Header.Get("Content-Range") != "bytes */0" {
		t.Errorf("a range of an empty file: %s %q", resp.Status, resp.Header.Get("Content-Range"))
	}
}

func FuzzParseRange(f *testing.F) {
	for _, s := range []string{"bytes=0-0", "bytes=-1", "bytes=5-", "bytes=9-3", "bytes=99999999999999999999-", "bytes=-99999999999999999999", "", "bytes=0-,1-"} {
		f.Add(s, int64(10))
		f.Add(s, int64(0))
	}
	f.Fuzz(func(t *testing.T, spec string, size int64) {
		size = max(size, 0)
		off, n, status := parseRange(spec, size)
		switch status {
		case http.StatusOK:
			if off != 0 || n != size {
				t.Errorf("%q of %d: the whole is [%d,+%d)", spec, size, off, n)
			}
		case http.StatusPartialContent:
			if off < 0 || n <= 0 || off > size-n {
				t.Errorf("%q of %d: [%d,+%d) is not inside", spec, size, off, n)
			}
		case http.StatusRequestedRangeNotSatisfiable:
		default:
			t.Errorf("%q of %d: %d", spec, size, status)
		}
	})
}

func TestSignedURLs(t *testing.T) {
	h := newStage(t)
	c := newClient(t)
	fresh := func() string { return location(c, h.ResolveURL("org/public", "main", "sub/model.gguf")) }
	good := fresh()
	again, err := url.Parse(good)
	if err != nil {
		t.Fatal(err)
	}
	again.RawQuery = again.Query().Encode()
	for name, tt := range map[string]struct {
		url    string
		status int
	}{
		"as given":      {good, 206},
		"no query":      {good[:strings.Index(good, "?")], 403},
		"encoded anew":  {again.String(), 403},
		"another path":  {strings.Replace(good, "/xet-bridge-us/", "/xet-bridge-eu/", 1), 403},
		"a later end":   {strings.Replace(good, "&Expires=", "&Expires=9", 1), 403},
		"no such thing": {h.CDN() + "/favicon.ico", 403},
	} {
		resp, body := c.get(tt.url, header("Range", "bytes=0-9"))
		if resp.StatusCode != tt.status || tt.status == 403 && !strings.Contains(body, "<Code>AccessDenied</Code>") {
			t.Errorf("%s: %s %q, want %d", name, resp.Status, body, tt.status)
		}
	}
	h.AcceptEncodedAnew()
	loose, err := url.Parse(fresh())
	if err != nil {
		t.Fatal(err)
	}
	query := loose.Query()
	for _, status := range []int{200, 403} {
		loose.RawQuery = query.Encode()
		if resp, _ := c.get(loose.String(), nil); resp.StatusCode != status {
			t.Errorf("%s: %s, want %d", loose, resp.Status, status)
		}
		query.Set("Expires", "9"+query.Get("Expires")) // what is encoded anew must still say the same
	}
	h.ExpireURLs()
	if resp, _ := c.get(good, nil); resp.StatusCode != 403 {
		t.Errorf("after ExpireURLs: %s", resp.Status)
	}
	if resp, _ := c.get(fresh(), nil); resp.StatusCode != 200 {
		t.Errorf("a fresh URL after ExpireURLs: %s", resp.Status)
	}
}

func TestURLLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := NewNetwork()
		h := newStage(t, On(n))
		c := clientOn(t, n)
		h.SetURLLife(10 * time.Second)
		u := location(c, h.ResolveURL("org/public", "main", "sub/model.gguf"))
		parsed, _ := url.Parse(u)
		if q := parsed.Query(); q.Get("Expires") != fmt.Sprint(time.Now().Unix()+10) || q.Get("X-Amz-Expires") != "10" ||
			q.Get("X-Amz-Date") != time.Now().UTC().Format("20060102T150405Z") {
			t.Errorf("query %v at %d", q, time.Now().Unix())
		}
		for _, want := range []int{206, 206, 403} {
			if resp, _ := c.get(u, header("Range", "bytes=0-9")); resp.StatusCode != want {
				t.Errorf("%s, want %d", resp.Status, want)
			}
			<-time.After(5 * time.Second)
		}
	})
}

func TestCredentialAtCDNFailsTheTest(t *testing.T) {
	rec := &recorder{}
	h := New(rec)
	t.Cleanup(rec.end)
	h.AddRepo(Repo{ID: "org/x", Files: []File{{Path: "f", LFS: true}}})
	c := newClient(t)
	u := location(c, h.ResolveURL("org/x", "main", "f"))
	if resp, _ := c.get(u, nil); resp.StatusCode != 200 || len(rec.failed()) != 0 {
		t.Fatalf("without a credential: %s, %q", resp.Status, rec.failed())
	}
	resp, _ := c.get(u, bearer("hf_secret"))
	if resp.StatusCode != 400 || len(rec.failed()) != 1 || strings.Contains(rec.failed()[0], "hf_secret") || len(h.Violations()) != 1 {
		t.Errorf("%s; failures %q, violations %q", resp.Status, rec.failed(), h.Violations())
	}
}

func TestQuota(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := NewNetwork()
		h := newStage(t, On(n))
		c := clientOn(t, n)
		h.SetQuota("api", 2, 10*time.Second)
		type answer struct {
			status int
			limit  string
		}
		ask := func(path string, head http.Header) answer {
			resp, _ := c.get(h.URL()+path, head)
			return answer{resp.StatusCode, resp.Header.Get("RateLimit")}
		}
		info, file := "/api/models/org/public", "/org/public/resolve/main/config.json"
		same := func(what string, got, want answer) {
			t.Helper()
			if got != want {
				t.Errorf("%s: %v, want %v", what, got, want)
			}
		}
		same("first", ask(info, nil), answer{200, `"api";r=1;t=10`})
		<-time.After(4 * time.Second)
		same("second", ask(info, nil), answer{200, `"api";r=0;t=6`})
		same("third", ask(info, nil), answer{429, `"api";r=0;t=6`})
		same("another class", ask(file, nil), answer{307, `"resolvers";r=2999;t=300`})
		same("another caller", ask(info, bearer(goodToken)), answer{200, `"api";r=1;t=10`})
		<-time.After(6 * time.Second)
		same("the next window", ask(info, nil), answer{200, `"api";r=1;t=10`})
	})
}
