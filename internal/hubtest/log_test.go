package hubtest

import (
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestLog(t *testing.T) {
	h, c, u := faulty(t)
	object, _ := url.Parse(u)
	h.Reset()
	c.get(u, header("Range", "bytes=1000-1099"))
	c.get(h.URL()+"/api/models/org/private?expand=sha&expand=tags", bearer(goodToken))
	c.get(h.ResolveURL("org/public", "main", "sub/a b#?%ü.txt"), header("User-Agent", "me/1"))
	if n := h.BytesSent("org/public/sub/model.gguf"); n != 100 {
		t.Errorf("BytesSent of the file = %d", n)
	}
	if n := h.BytesSent(""); n != 100 {
		t.Errorf("BytesSent of all files = %d: redirects or API answers were counted", n)
	}
	h.Close() // or the last answers may not be Done yet
	keys := []string{"Expires", "Key-Pair-Id", "Policy", "Signature", "X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Date", "X-Amz-Expires",
		"X-Amz-SignedHeaders", "X-Xet-Cas-Uid", "response-content-disposition", "x-id"}
	want := []Request{
		{Host: AtCDN, Method: "GET", Path: object.Path, Query: keys, Range: "bytes=1000-1099", File: "org/public/sub/model.gguf", Status: 206, Offset: 1000, Sent: 100, Done: true},
		{Host: AtHub, Method: "GET", Path: "/api/models/org/private", Query: []string{"expand"}, Authorized: true, Status: 200, Done: true},
		{Host: AtHub, Method: "GET", Path: "/org/public/resolve/main/sub/a b#?%ü.txt", Query: []string{}, File: "org/public/sub/a b#?%ü.txt", Status: 307, Done: true, UserAgent: "me/1"},
	}
	got := h.Requests(Filter{})
	for i := range got {
		if got[i].Host == AtHub {
			got[i].Sent = 0 // the length of its JSON is no part of the protocol
		}
	}
	if d := cmp.Diff(want, got, cmpopts.IgnoreFields(Request{}, "Time"),
		cmp.FilterValues(func(a, b string) bool { return strings.HasPrefix(a, "Go-http") || strings.HasPrefix(b, "Go-http") }, cmp.Ignore())); d != "" {
		t.Errorf("log (-want +got):\n%s", d)
	}
	if h.Reset(); len(h.Requests(Filter{})) != 0 {
		t.Error("requests after Reset")
	}
}

func TestRequestsFilter(t *testing.T) {
	h, c, u := faulty(t)
	h.Reset()
	c.get(u, nil)
	c.send("HEAD", u, nil).Body.Close()
	c.get(h.URL()+"/api/models", nil)
	for _, tt := range []struct {
		f    Filter
		want int
	}{
		{Filter{}, 3}, {Filter{Host: AtCDN}, 2}, {Filter{Method: "HEAD"}, 1}, {Filter{Host: AtHub, Method: "HEAD"}, 0},
		{Filter{Path: "/api/*"}, 1}, {Filter{Path: "org/public/*"}, 2}, {Filter{Path: "*model*"}, 3}, {Filter{Path: "org/public/sub"}, 0},
	} {
		if got := len(h.Requests(tt.f)); got != tt.want {
			t.Errorf("%+v: %d requests, want %d", tt.f, got, tt.want)
		}
	}
}

func TestGlob(t *testing.T) {
	for _, tt := range []struct {
		pattern, s string
		want       bool
	}{
		{"", "", true}, {"a", "a", true}, {"a", "ab", false}, {"*", "", true}, {"*", "a/b", true}, {"a*", "ab/c", true}, {"*c", "abc", true}, {"*c", "cab", false},
		{"a*c", "abc", true}, {"a*c", "ac", true}, {"a*bc", "abbc", true}, {"a*b*c", "axxbyyc", true}, {"a*b*c", "axxcyyb", false}, {"aba*aba", "aba", false},
		{"?", "x", false}, {"[a]", "a", false}, {"[a]", "[a]", true},
	} {
		if got := glob(tt.pattern, tt.s); got != tt.want {
			t.Errorf("glob(%q, %q) = %v", tt.pattern, tt.s, got)
		}
	}
}

func TestSentAtMost(t *testing.T) {
	h, c, u := faulty(t)
	for _, r := range []string{"bytes=0-99", "bytes=100-199", "bytes=50-149"} {
		c.get(u, header("Range", r))
	}
	const file = "org/public/sub/model.gguf"
	if n, off := h.MostSent(file); n != 2 || off != 50 {
		t.Errorf("MostSent = %d at %d, want 2 at 50", n, off)
	}
	rec := &recorder{}
	h.SentAtMost(rec, file, 2)
	if len(rec.failures) != 0 {
		t.Errorf("at most 2: %q", rec.failures)
	}
	h.SentAtMost(rec, file, 1)
	if d := cmp.Diff([]string{"byte 50 of " + file + " was sent 2 times, want at most 1"}, rec.failures); d != "" {
		t.Errorf("at most 1 (-want +got):\n%s", d)
	}
}

func TestBytesThatWereCutCount(t *testing.T) {
	h, c, u := faulty(t)
	h.Fault(Filter{Host: AtCDN}, Always(), CutAt(1234, CleanClose))
	if _, _, err := c.read(u, nil); err == nil {
		t.Error("no error for a cut body")
	}
	h.Close()
	if got := h.Requests(Filter{Host: AtCDN})[0]; got.Sent != 1234 || !got.Done {
		t.Errorf("%+v", got)
	}
}
