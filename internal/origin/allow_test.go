package origin

import (
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"modelfs/internal/model"
)

// oldDefault is the default list of the system that modelfs replaces.
const oldDefault = "huggingface.co/*,cdn-lfs.huggingface.co/*"

func allowed(t *testing.T, list, rawURL string) bool {
	t.Helper()
	l, err := newAllowList([]string{list}, nil)
	if err != nil {
		t.Fatalf("list %q: %v", list, err)
	}
	return allows(t, l, nil, rawURL)
}

func allows(t *testing.T, l *allowList, from *url.URL, rawURL string) bool {
	t.Helper()
	u, err := url.Parse(rawURL)
	if err != nil {
		return false
	}
	_, err = l.check(from, u)
	if err != nil && !model.IsKind(err, model.Denied) {
		t.Errorf("%s: error %v is not of kind denied", rawURL, err)
	}
	return err == nil
}

// The vectors of the system that modelfs replaces, its answer (old) and
// modelfs's (want). Where they differ, why says why.
func TestOldVectors(t *testing.T) {
	const hub = "https://huggingface.co/"
	for _, c := range []struct {
		list, url string
		old, want bool
		why       string
	}{
		{oldDefault, hub + "openai/gpt-oss-20b/resolve/main/model.safetensors", true, true, ""},
		{oldDefault, "https://cdn-lfs.huggingface.co/repos/aa/bb", true, true, ""},
		{oldDefault, "https://cdn-lfs-us-1.huggingface.co/x", false, false, ""},
		{oldDefault, "https://cas-bridge.xethub.hf.co/x", false, false, ""},
		{oldDefault, "http://huggingface.co/x", true, false, "only https unless the pattern says http"},
		{oldDefault, "ftp://huggingface.co/x", true, false, "only http and https are spoken"},
		{oldDefault, "file://huggingface.co/etc/passwd", true, false, "only http and https are spoken"},
		{oldDefault, "https://huggingface.co", true, true, ""},
		{oldDefault, "https://HuggingFace.CO/Org/Repo", true, true, ""},
		{oldDefault, "https://huggingface.co:8443/x", true, true, ""},
		{oldDefault, "https://user@huggingface.co/x", false, false, ""},
		{oldDefault, "https://huggingface.co@evil.com/x", false, false, ""},
		{oldDefault, "https://huggingface.co:x@evil.com/x", false, false, ""},
		{oldDefault, "https://huggingface.co.evil.com/x", false, false, ""},
		{oldDefault, "https://evil.com/huggingface.co/x", false, false, ""},
		{oldDefault, "https://huggingface.co?x=1", false, true, "the same host; the old parser could not read it"},
		{oldDefault, "//huggingface.co/x", false, false, ""},
		{oldDefault, "huggingface.co/x", false, false, ""},
		{oldDefault, "", false, false, ""},
		{oldDefault, "https://[::1]/x", false, false, ""},
		{"*", "https://anything.example/x", true, true, ""},
		{"*", "not-a-url", false, false, ""},
		{"", "https://anything.example/x", false, false, ""},
		{" , ", hub + "x", false, false, ""},
		{"openai/*", hub + "openai/gpt-oss/resolve/main/model.gguf", true, true, ""},
		{"openai/*", "https://huggingface.co.evil.com/openai/gpt-oss/resolve/main/model.gguf", false, false, ""},
		{"openai/*", "https://example.com/openai/gpt-oss/resolve/main/model.gguf", false, false, ""},
		{"openai/*", "https://hf.huggingface.co/openai/gpt-oss/x", true, true, ""},
		{"openai/*", hub + "OpenAI/GPT-OSS/x", true, true, ""},
		{"openai/*", hub + "openai///gpt-oss/x", true, true, ""},
		{"OpenAI/*", hub + "openai/gpt-oss/x", true, true, ""},
		{"openai/gpt-oss", hub + "openai/gpt-oss/resolve/main/a", true, true, ""},
		{"openai/gpt-oss", hub + "openai/gpt-oss-20b/resolve/main/a", false, false, ""},
		{"openai/gpt-oss-*", hub + "openai/gpt-oss-20b/resolve/main/a", true, true, ""},
		{"openai/*", hub + "api/models/openai/x", false, false, ""},
		{"api/*", hub + "api/models/openai/x", false, false, ""},
		{"openai/*,api/*", hub + "api/models/openai/x", false, false, ""},
		{"meta-llama/llama-3.1-8b", hub + "meta-llama/Llama-3.1-8B/resolve/main/a", false, true, "a repository may have a dot in its name; its organisation has none"},
		{"huggingface.co", hub + "a/b", true, true, ""},
		{"huggingface.co", "https://cdn.huggingface.co/a/b", false, false, ""},
		{"*.huggingface.co", "https://cdn.huggingface.co/a", true, true, ""},
		{"*.huggingface.co", hub + "a", false, false, ""},
		{"*huggingface.co", "https://evilhuggingface.co/a/b", true, false, "'*' in front of a name ends at a dot"},
		{"*.com", hub + "a.com", true, false, "a host pattern is compared with the host alone"},
		{"huggingface.co/openai/*", hub + "openai/../evil/x", true, false, "paths with .. are not fetched"},
		{"localhost", "http://localhost:9000/x", true, false, "only https unless the pattern says http"},
		{"localhost:9000", "http://localhost:9000/x", false, false, ""},
		{"localhost/*", "http://localhost:9000/x", false, false, ""},
		{"127.0.0.1/*", "http://127.0.0.1:20001/f", true, false, "only https unless the pattern says http"},
		{"127.0.0.1:20001/*", "http://127.0.0.1:20001/f", false, false, ""},
		{"https://huggingface.co/*", hub + "a", true, true, ""},
		{"https://huggingface.co/*", "http://huggingface.co/a", false, false, ""},
		{"https://huggingface.co", hub + "a", false, false, ""},
		{"http://127.0.0.1:20001/*", "http://127.0.0.1:20001/x", false, true, "a port in a pattern must match, instead of never matching"},
		{"http://127.0.0.1/*", "http://127.0.0.1:20001/x", true, true, ""},
		{"huggingface.co/openai/?", hub + "openai/a", false, false, ""},
		{"internal", "http://internal/x", true, false, "only https unless the pattern says http"},
		{"int*", "http://internal/x", true, false, "only https unless the pattern says http"},
		{"example.com/*", "http://127.0.0.1:9/x", false, false, ""},
	} {
		if c.old != c.want && c.why == "" {
			t.Errorf("%q on %s: a difference without a reason", c.list, c.url)
		}
		if got := allowed(t, c.list, c.url); got != c.want {
			t.Errorf("%q on %s: allowed %v, want %v (%s)", c.list, c.url, got, c.want, c.why)
		}
	}
}

func TestPatterns(t *testing.T) {
	for _, c := range []struct {
		list, url string
		want      bool
	}{
		// Schemes and ports.
		{"http://*", "http://example.com/", true},
		{"http://*", "http://example.com/x", false}, // with a scheme, no path is "/"
		{"http://*/*", "http://example.com/x", true},
		{"http://*/*", "https://example.com/x", false},
		{"*", "http://example.com/x", false},
		{"*", "https://example.com:8443/x", false},
		{"*:8443", "https://example.com:8443/x", true},
		{"*.example.com", "https://a.example.com:8443/x", false},
		{"*.example.com:8443", "https://a.example.com:8443/x", true},
		{"example.com", "https://example.com:443/x", true},
		{"example.com:0443", "https://example.com/x", true},
		{"example.com:443", "https://example.com:8443/x", false},
		{"example.com", "https://example.com:0/x", false},
		{"example.com", "https://example.com:65536/x", false},
		{"http://127.0.0.1:80/*", "http://127.0.0.1/x", true},
		{"10.1.2.3", "https://10.1.2.3:9/x", true},
		{"[::1]:8080/*", "https://[::1]:8080/x", true},
		{"http://[::1]/*", "http://[0:0:0:0:0:0:0:1]:8080/x", true},
		{"[::1]", "https://[::1%25eth0]/x", false},
		// Hosts.
		{"*huggingface.co", "https://huggingface.co/x", true},
		{"*huggingface.co", "https://a.b.huggingface.co/x", true},
		{"*a.huggingface.co", "https://huggingface.co/x", false},
		{"*.hf.co", "https://us.aws.cdn.hf.co/x", true},
		{"*.hf.co", "https://evilhf.co/x", false},
		{"*.hf.co", "https://.hf.co/x", false},
		{"*.hf.co", "https://x.hf.co.evil.com/x", false},
		{"cdn-lfs*.hf.co", "https://cdn-lfs-us-1.hf.co/x", true},
		{"cdn-lfs*.hf.co", "https://cdn-lfs.evil.hf.co/x", false},
		{"hug*.co", "https://huggingface.co/x", true},
		{"hug*.co", "https://hug.evil.co/x", false},
		{"int*", "https://internal/x", true},
		{"int*", "https://int.evil.com/x", false},
		{"example.com", "https://example.com./x", false},
		{"example.com", "https://exampl\u00e9.com/x", false},
		{"*", "https://\u212aelvin.example/x", false},
		{"*", "https://a..example.com/x", false},
		{"*", "https://exa%6dple.com/x", false},
		// Paths.
		{"example.com/a/*", "https://example.com/a/b/c", true},
		{"example.com/a/*", "https://example.com//a/b", true},
		{"example.com/a/*", "https://example.com/a", false},
		{"example.com/a/*", "https://example.com/ab/c", false},
		{"example.com/a/*", "https://example.com/%61/b", true},
		{"example.com/a/*", "https://example.com/a/%2e%2e/b", false},
		{"example.com/a/*", "https://example.com/a%2f..%2fb", false},
		{"example.com/a/*", "https://example.com/a/./b", false},
		{"example.com/a/*", `https://example.com/a/..\b`, false},
		{"example.com/a/*", "https://example.com/a/b%00", false},
		{"example.com/*.gguf", "https://example.com/x/y.GGUF", true},
		{"example.com/*.gguf", "https://example.com/x?y.gguf", false},
		{"example.com/*.gguf", "https://example.com/x#y.gguf", false},
		{"example.com/*", "https://example.com/a/...", true},
		{"example.com/*", "https:example.com/a", false},
		// Repositories.
		{"openai/*", "https://huggingface.co/openai", false},
		{"openai/*", "https://huggingface.co/openai-evil/x/resolve/main/a", false},
		{"openai/*", "http://huggingface.co/openai/x/resolve/main/a", false},
		{"openai/*", "https://huggingface.co:8443/openai/x/resolve/main/a", false},
		{"openai/*", "https://huggingface.co/api/resolve-cache/models/openai/x/sha/a", true},
		{"openai/*", "https://huggingface.co/api/resolve-cache/models/evil/x/sha/a", false},
		{"openai/*", "https://us.aws.cdn.hf.co/openai/x/a", false},
		{"*/*", "https://huggingface.co/any/repo/resolve/main/a", true},
		{"org.dot/x", "https://huggingface.co/org.dot/x/resolve/main/a", false}, // a host, by its dot
	} {
		if got := allowed(t, c.list, c.url); got != c.want {
			t.Errorf("%q on %s: allowed %v, want %v", c.list, c.url, got, c.want)
		}
	}
}

func TestBadPatterns(t *testing.T) {
	for _, p := range []string{"ftp://x.org/*", "*://x.org/*", "://x.org", "x.org:port/*", "x.org:0", "x.org:65536/", "x.org:/*",
		"exa mple.org", "user@x.org", "a/b/c", "/x", "org/", "*/resolve/main/x.gguf", "x..org", ".x.org", "[::1", "::1", "http://", "https:///x"} {
		_, err := newAllowList([]string{"good.org/*," + p}, nil)
		if !model.IsKind(err, model.Invalid) || !strings.Contains(err.Error(), strings.ToLower(p)) && !strings.Contains(err.Error(), p) {
			t.Errorf("%q: error %v, want one of kind invalid that names it", p, err)
		}
	}
}

func TestDefaultAllow(t *testing.T) {
	got := DefaultAllow([]string{"https://huggingface.co/", "http://127.0.0.1:8080/base", "http://[::1]", "%"})
	want := []string{"https://huggingface.co/*", "https://*.huggingface.co/*", "https://*.hf.co/*", "http://127.0.0.1:8080/*", "http://[::1]/*"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatal(diff)
	}
	if _, err := newAllowList(got, nil); err != nil {
		t.Fatal(err)
	}
	if got := DefaultAllow([]string{"https://hf-mirror.com"}); len(got) != 1 {
		t.Fatalf("a mirror's default list is %q", got)
	}
}

// Endpoints are allowed whatever the list says, but not repositories that a
// repository pattern leaves out; their redirects may lead to the Hub's CDN.
func TestEndpoints(t *testing.T) {
	list := func(endpoint string, patterns ...string) *allowList {
		l, err := newAllowList(patterns, []string{endpoint})
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	const hub, mirror, router, cdn = "https://huggingface.co", "https://mirror.example/hf", "http://127.0.0.1:8080", "https://us.aws.cdn.hf.co/x?sig"
	for _, c := range []struct {
		name      string
		list      *allowList
		from, url string
		want      bool
	}{
		{"endpoint", list(hub), "", hub + "/any/repo/resolve/main/x", true},
		{"endpoint, another port", list(hub), "", hub + ":8443/x", false},
		{"endpoint, another scheme", list(hub), "", "http://huggingface.co/x", false},
		{"endpoint, outside its path", list(mirror), "", "https://mirror.example/api/x", true},
		{"router on loopback", list(router), "", router + "/v0/models", true},
		{"router, another port", list(router), "", "http://127.0.0.1:8081/x", false},
		{"confined, this repository", list(hub, "openai/*"), "", hub + "/openai/x/resolve/main/a", true},
		{"confined, another", list(hub, "openai/*"), "", hub + "/evil/x/resolve/main/a", false},
		{"confined, another's API", list(hub, "openai/*"), "", hub + "/api/models/evil/x/tree/main", false},
		{"confined, this API", list(hub, "openai/*"), "", hub + "/api/models/OpenAI/x/tree/main", true},
		{"confined, no repository", list(hub, "openai/*"), "", hub + "/api/whoami-v2", true},
		{"confined, but the host is listed", list(hub, "openai/*", "huggingface.co"), "", hub + "/evil/x/resolve/main/a", true},
		{"confined, one segment", list(hub, "openai/*"), "", hub + "/gpt2/resolve/main/a", false},
		{"confined, a router is no Hub", list(router, "openai/*"), "", router + "/api/models/registry/x", true},
		{"CDN by redirect", list(hub), hub + "/x", cdn, true},
		{"CDN by a mirror's redirect", list(mirror), "https://mirror.example/x", cdn, true},
		{"CDN of its own accord", list(hub), "", cdn, false},
		{"CDN from elsewhere", list(hub, "example.com"), "https://example.com/x", cdn, false},
		{"CDN, old list", list("https://r.example", oldDefault), hub + "/x", cdn, true},
		{"CDN over http", list(hub), hub + "/x", "http://us.aws.cdn.hf.co/x", false},
		{"CDN, odd port", list(hub), hub + "/x", "https://us.aws.cdn.hf.co:8443/x", false},
		{"elsewhere by redirect", list(hub), hub + "/x", "https://evil.com/x", false},
		{"private by redirect", list(hub), hub + "/x", "https://10.0.0.1/x", false},
		{"private by redirect, any host", list(hub, "*"), hub + "/x", "https://10.0.0.1/x", false},
		{"private by redirect, named", list(hub, "*", "10.0.0.1"), hub + "/x", "https://10.0.0.1/x", true},
		{"numbers, any host", list(hub, "*"), "", "https://2130706433/x", false},
		{"hex, any host", list(hub, "*"), "", "https://127.0.0.0x1/x", false},
	} {
		var from *url.URL
		if c.from != "" {
			from, _ = url.Parse(c.from)
		}
		if got := allows(t, c.list, from, c.url); got != c.want {
			t.Errorf("%s: %s allowed %v, want %v", c.name, c.url, got, c.want)
		}
	}
}

// Only a pattern or endpoint without '*' in the host makes an address exempt.
func TestExact(t *testing.T) {
	l, err := newAllowList([]string{"*.example.com,a.example.com/x/*,openai/*"}, []string{"http://localhost:8080"})
	if err != nil {
		t.Fatal(err)
	}
	for rawURL, want := range map[string]bool{
		"https://a.example.com/x/1":           true,
		"https://a.example.com/y/1":           false,
		"https://b.example.com/x/1":           false,
		"http://localhost:8080/":              true,
		"https://huggingface.co/openai/x/a":   true,
		"https://s.huggingface.co/openai/x/a": false,
	} {
		u, _ := url.Parse(rawURL)
		if pm, err := l.check(nil, u); err != nil || pm.exact != want {
			t.Errorf("%s: exact %v, error %v, want %v", rawURL, pm.exact, err, want)
		}
	}
}

func TestGlob(t *testing.T) {
	for _, c := range []struct {
		pat, s string
		want   bool
	}{{"", "", true}, {"*", "", true}, {"**", "x", true}, {"a*c", "abc", true}, {"a*c", "ab", false}, {"*b*", "abc", true}, {"a", "ab", false},
		{"*ab", "aab", true}, {"a?c", "abc", false}, {"*a*b*c*", "xxaxxbxxc", true}, {"a*a", "a", false}} {
		if got := glob(c.pat, c.s); got != c.want {
			t.Errorf("glob(%q, %q) = %v", c.pat, c.s, got)
		}
	}
	if glob(strings.Repeat("*a", 2000)+"b", strings.Repeat("a", 8000)) {
		t.Error("matched")
	}
}

// Whatever a URL looks like: what is allowed has the pattern's scheme and a
// host that is below or at the pattern's.
func FuzzAllow(f *testing.F) {
	for _, s := range []string{"https://huggingface.co/a/b", "https://huggingface.co@evil.com/x", "https://evilhuggingface.co/", "https://a.huggingface.co:443//x/../y",
		"https://[::ffff:127.0.0.1]/", "https://huggingface.co\\@evil.com", "https://huggingface.co%2f.evil.com/", "HTTPS://HUGGINGFACE.CO:0443/%2e%2e/x", "https://a.huggingface.co./"} {
		f.Add("*huggingface.co/*", s)
	}
	f.Add("openai/*", "https://huggingface.co/openai%2f..%2fx")
	f.Add("*", "https://0x7f.1/")
	f.Add("http://[::1]:80/*", "http://[0::1]/")
	fixed, err := newAllowList([]string{"https://*.huggingface.co/a/*"}, nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, pattern, rawURL string) {
		u, err := url.Parse(rawURL)
		if err != nil {
			return
		}
		if l, err := newAllowList([]string{pattern}, nil); err == nil {
			if pm, err := l.check(nil, u); err == nil && !pm.exact && checkHostName(pm.site.host) != nil {
				t.Errorf("%q allows %q without naming it", pattern, rawURL)
			}
		} else if !model.IsKind(err, model.Invalid) {
			t.Errorf("%q: %v", pattern, err)
		}
		if _, err := fixed.check(nil, u); err == nil {
			host := strings.ToLower(u.Hostname())
			if !strings.EqualFold(u.Scheme, "https") || !strings.HasSuffix(host, ".huggingface.co") || u.User != nil ||
				strings.Contains("/"+u.Path+"/", "/../") || !strings.Contains(strings.ToLower(u.Path), "a/") {
				t.Errorf("%q is allowed", rawURL)
			}
		}
	})
}
