package origin

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

func TestParseRateLimit(t *testing.T) {
	for _, c := range []struct {
		limit, policy string
		remaining     int
		quota         int
		reset, window time.Duration
		ok            bool
	}{
		{`"api";r=497;t=201`, `"fixed window";"api";q=500;w=300`, 497, 500, 201 * time.Second, 300 * time.Second, true},
		{`"resolvers";r=0;t=0`, `"api";q=500;w=300, "fixed window";"resolvers";q=3000;w=60`, 0, 3000, 0, time.Minute, true},
		{`"api"; r=1 ; t=2`, ``, 1, 0, 2 * time.Second, 0, true},
		{`"a";r=9;t=1, "b";r=3;t=2`, `"a";q=1;w=1, "b";q=2;w=2`, 3, 2, 2 * time.Second, 2 * time.Second, true},
		{`"a,b";r=9;t=1`, `"a,b";q=5;w=1`, 9, 5, time.Second, time.Second, true},
		{`"api";r=497`, `"api";q=500;w=300`, 0, 0, 0, 0, false},
		{`"api";r=-1;t=2`, ``, 0, 0, 0, 0, false},
		{`"api";r=99999999999;t=2`, ``, 0, 0, 0, 0, false},
		{`100, 100;w=60`, ``, 0, 0, 0, 0, false},
		{``, `"api";q=500;w=300`, 0, 0, 0, 0, false},
	} {
		h := http.Header{}
		h.Set("RateLimit", c.limit)
		h.Set("RateLimit-Policy", c.policy)
		r, q, reset, window, ok := ParseRateLimit(h)
		if r != c.remaining || q != c.quota || reset != c.reset || window != c.window || ok != c.ok {
			t.Errorf("%s / %s: %d of %d, %v of %v, %v", c.limit, c.policy, r, q, reset, window, ok)
		}
	}
}

func TestPauseOf(t *testing.T) {
	now := time.Date(2026, 9, 1, 12, 0, 0, 0, time.UTC)
	date := func(d time.Duration) string { return now.Add(d).Format(http.TimeFormat) }
	for _, c := range []struct {
		header map[string]string
		want   time.Duration
	}{
		{nil, 5 * time.Second},
		{map[string]string{"RateLimit": `"api";r=0;t=201`}, 201 * time.Second},
		{map[string]string{"RateLimit": `"api";r=0;t=201`, "Retry-After": "7"}, 201 * time.Second},
		{map[string]string{"RateLimit": `"api";r=5;t=201`, "Retry-After": "7"}, 7 * time.Second},
		{map[string]string{"RateLimit": `"api";r=5;t=201`}, 5 * time.Second},
		{map[string]string{"RateLimit": `"api";r=0;t=0`}, time.Second},
		{map[string]string{"RateLimit": `"api";r=0;t=99999`}, 10 * time.Minute},
		{map[string]string{"Retry-After": "0"}, time.Second},
		{map[string]string{"Retry-After": "soon"}, 5 * time.Second},
		{map[string]string{"Retry-After": date(30 * time.Second)}, 30 * time.Second},
		{map[string]string{"Retry-After": date(time.Hour + 30*time.Second), "Date": date(time.Hour)}, 30 * time.Second},
		{map[string]string{"Retry-After": date(-time.Hour)}, time.Second},
	} {
		h := http.Header{}
		for k, v := range c.header {
			h.Set(k, v)
		}
		if got := pauseOf(h, now); got != c.want {
			t.Errorf("%v: %v, want %v", c.header, got, c.want)
		}
	}
}

func TestNextLink(t *testing.T) {
	const base = "https://hub.test/api/models?cursor=1"
	for link, want := range map[string]string{
		`<https://huggingface.co/api/x?recursive=true&cursor=a%3D>; rel="next"`: "https://huggingface.co/api/x?recursive=true&cursor=a%3D",
		`<https://a/1>; rel="prev", <https://a/3>; rel="next"`:                  "https://a/3",
		`<https://a/1,2;3>; rel=next`:                                           "https://a/1,2;3",
		`<https://a/1>; title="a, b; rel=\"x\""; REL="Last NEXT"`:               "https://a/1",
		`<?cursor=2>; rel="next"`:                                               "https://hub.test/api/models?cursor=2",
		`</p>; rel="next"`:                                                      "https://hub.test/p",
		`<https://a/1>; rel="xet-auth", <https://b/2>; rel="next2"`:             "",
		`<https://a/1>; rel="prev"; rel="next"`:                                 "",
		`<https://a/1>`:                                                         "",
		`https://a/1; rel="next"`:                                               "",
		`<https://a/1; rel="next"`:                                              "",
		`<http://[>; rel="next"`:                                                "",
		``:                                                                      "",
	} {
		if got := NextLink(http.Header{"Link": {link}}, base); got != want {
			t.Errorf("%s: %q, want %q", link, got, want)
		}
	}
	if got := NextLink(http.Header{"Link": {`</2>; rel="next"`}}, "http://[/"); got != "" {
		t.Errorf("a base that is no URL: %q", got)
	}
	if got := NextLink(http.Header{"Link": {`<https://a/1>; rel="x"`, `<https://a/2>; rel="next"`}}, base); got != "https://a/2" {
		t.Errorf("two lines: %q", got)
	}
}

func TestParseContentRange(t *testing.T) {
	for s, want := range map[string][3]int64{
		"bytes 0-9/100":   {0, 9, 100},
		"bytes 99-99/100": {99, 99, 100},
		"bytes 0-9/*":     {0, 9, -1},
		"bytes */100":     {-1, -1, 100},
		"bytes */0":       {-1, -1, 0},
		" Bytes  5-6/7 ":  {5, 6, 7},
	} {
		start, end, total, ok := ParseContentRange(s)
		if !ok || [3]int64{start, end, total} != want {
			t.Errorf("%q: %d-%d/%d, %v", s, start, end, total, ok)
		}
	}
	for _, s := range []string{"", "bytes", "bytes 0-9", "bytes 9-0/100", "bytes 0-100/100", "bytes -1-5/10", "bytes 0-/10", "bytes +0-5/10", "bytes */*",
		"items 0-9/100", "bytes 0-9/9223372036854775808", "bytes 0-9/1e3", "bytes=0-9/100"} {
		if start, end, total, ok := ParseContentRange(s); ok {
			t.Errorf("%q: %d-%d/%d", s, start, end, total)
		}
	}
}

func FuzzContentRange(f *testing.F) {
	for _, s := range []string{"bytes 0-9/100", "bytes 0-9/*", "bytes */5", "bytes 9223372036854775806-9223372036854775807/*", "bytes 0-0/1,bytes 1-1/2"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		start, end, total, ok := ParseContentRange(s)
		switch {
		case !ok:
		case start < 0:
			if start != -1 || end != -1 || total < 0 {
				t.Errorf("%q: %d-%d/%d", s, start, end, total)
			}
		case end < start || total >= 0 && end >= total || total < -1:
			t.Errorf("%q: %d-%d/%d", s, start, end, total)
		default:
			back := fmt.Sprintf("bytes %d-%d/%d", start, end, total)
			if a, b, c, ok := ParseContentRange(strings.Replace(back, "/-1", "/*", 1)); !ok || a != start || b != end || c != total {
				t.Errorf("%q does not come back from %q", s, back)
			}
		}
	})
}

func FuzzNextLink(f *testing.F) {
	for _, s := range []string{`<https://a/1>; rel="prev", <https://a/3>; rel="next"`, `<?x>;rel=next`, `<a>;"<>";rel="next"`, `<,>;rel="\"next"`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		next := NextLink(http.Header{"Link": {s}}, "https://hub.test/api/")
		if next == "" {
			return
		}
		if u, err := url.Parse(next); err != nil || u.Scheme == "" {
			t.Errorf("%q: %q is not absolute (%v)", s, next, err)
		}
		if !strings.Contains(strings.ToLower(s), "next") || !strings.Contains(s, "<") {
			t.Errorf("%q: %q out of nothing", s, next)
		}
	})
}

func FuzzRateLimit(f *testing.F) {
	f.Add(`"api";r=497;t=201`, `"fixed window";"api";q=500;w=300`)
	f.Add(`"a\";r=1";r=2;t=3`, `,;,"`)
	f.Add(`r=1;t=1`, `q=1;w=1`)
	f.Fuzz(func(t *testing.T, limit, policy string) {
		r, q, reset, window, ok := ParseRateLimit(http.Header{"Ratelimit": {limit}, "Ratelimit-Policy": {policy}})
		if r < 0 || q < 0 || reset < 0 || window < 0 || !ok && (r != 0 || q != 0 || reset != 0 || window != 0) {
			t.Errorf("%q %q: %d of %d, %v of %v, %v", limit, policy, r, q, reset, window, ok)
		}
		if p := pauseOf(http.Header{"Ratelimit": {limit}}, time.Now()); p < time.Second || p > maxPause {
			t.Errorf("%q: a pause of %v", limit, p)
		}
	})
}
