package hubtest

import (
	"crypto/sha1"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// call is a request at the Hub, taken apart.
type call struct {
	w     http.ResponseWriter
	r     *http.Request
	token string   // "" is anonymous
	id    string   // of the repository, as asked
	rest  []string // decoded segments of the path after the id and the verb
}

const exposed = "X-Repo-Commit,X-Request-Id,X-Error-Code,X-Error-Message,X-Total-Count,ETag,Link,Accept-Ranges,Content-Range,X-Linked-Size,X-Linked-ETag,X-Xet-Hash"

// serveHub answers everything at the Hub's address.
func (h *Hub) serveHub(w http.ResponseWriter, r *http.Request) {
	h.mu.Lock()
	h.requests++
	n := h.requests
	h.mu.Unlock()
	for k, v := range map[string]string{
		"X-Powered-By": "huggingface-moon", "Vary": "Origin", "Via": "1.1 hubtest (CloudFront)", "X-Cache": "Miss from cloudfront",
		"X-Request-Id":                  fmt.Sprintf("Root=1-%08x-000000000000000000000000;%s", n, r.Header.Get("X-Amzn-Trace-Id")),
		"Access-Control-Expose-Headers": exposed,
	} {
		w.Header().Set(k, v)
	}
	token, valid := h.caller(r)
	if !h.count(w, r, token) {
		return
	}
	if !valid {
		fail(w, r, badCredentials)
		return
	}
	h.route(&call{w: w, r: r, token: token})
}

// route takes the path apart by hand: a ServeMux would clean hostile paths away.
func (h *Hub) route(c *call) {
	segs, ok := segments(c.r.URL)
	if !ok {
		c.fail(badRequest("Invalid URL"))
		return
	}
	switch {
	case len(segs) >= 2 && segs[0] == "api":
		h.routeAPI(c, segs[1:])
	default:
		id, verb, rest := splitID(segs)
		c.id, c.rest = id, rest
		if verb != "resolve" || len(rest) < 2 {
			c.fail(noRoute)
		} else if c.method(http.MethodGet, http.MethodHead) {
			h.resolve(c)
		}
	}
}

func (h *Hub) routeAPI(c *call, segs []string) {
	read := []string{http.MethodGet, http.MethodHead}
	switch {
	case segs[0] == "whoami-v2" && len(segs) == 1:
		if c.method(read...) {
			h.whoami(c)
		}
	case segs[0] == "resolve-cache" && len(segs) > 5 && segs[1] == "models":
		c.id, c.rest = segs[2]+"/"+segs[3], segs[4:]
		if c.method(read...) {
			h.resolveCache(c)
		}
	case segs[0] == "models" && len(segs) == 1:
		if c.method(read...) {
			h.list(c)
		}
	case segs[0] == "models":
		var verb string
		c.id, verb, c.rest = splitID(segs[1:])
		h.routeModel(c, verb)
	default:
		c.fail(noRoute)
	}
}

func (h *Hub) routeModel(c *call, verb string) {
	type handler struct {
		do     func(*call)
		min    int // segments after the verb
		method string
	}
	do, ok := map[string]handler{
		"":           {h.info, 0, http.MethodGet},
		"revision":   {h.info, 1, http.MethodGet},
		"tree":       {h.tree, 1, http.MethodGet},
		"paths-info": {h.pathsInfo, 1, http.MethodPost},
		"refs":       {h.refs, 0, http.MethodGet},
	}[verb]
	if !ok || len(c.rest) < do.min {
		c.fail(noRoute)
		return
	}
	allowed := []string{do.method}
	if do.method == http.MethodGet {
		allowed = append(allowed, http.MethodHead)
	}
	if c.method(allowed...) {
		do.do(c)
	}
}

func (c *call) fail(a answer) { fail(c.w, c.r, a) }

func (c *call) method(allowed ...string) bool {
	if slices.Contains(allowed, c.r.Method) {
		return true
	}
	c.w.Header().Set("Allow", strings.Join(allowed, ", "))
	c.fail(answer{status: http.StatusMethodNotAllowed, message: "Method not allowed"})
	return false
}

// segments decodes the segments of a path, each for itself.
func segments(u *url.URL) ([]string, bool) {
	segs := strings.Split(strings.TrimPrefix(u.EscapedPath(), "/"), "/")
	for i, s := range segs {
		plain, err := url.PathUnescape(s)
		if err != nil {
			return nil, false
		}
		segs[i] = plain
	}
	return segs, true
}

var verbs = []string{"revision", "tree", "paths-info", "refs", "resolve"}

// splitID finds the verb that ends a repository's id of one or two segments;
// "" if nothing follows the id.
func splitID(segs []string) (id, verb string, rest []string) {
	n := min(2, len(segs))
	if len(segs) > 1 && slices.Contains(verbs, segs[1]) {
		n = 1
	}
	id = strings.Join(segs[:n], "/")
	if len(segs) > n {
		return id, segs[n], segs[n+1:]
	}
	return id, "", nil
}

func escapePath(path string) string {
	segs := strings.Split(path, "/")
	for i, s := range segs {
		segs[i] = url.PathEscape(s)
	}
	return strings.Join(segs, "/")
}

// hubTarget is the file that a request to the Hub is about.
func hubTarget(r *http.Request) string {
	segs, _ := segments(r.URL)
	if len(segs) > 6 && segs[0] == "api" && segs[1] == "resolve-cache" {
		return segs[3] + "/" + segs[4] + "/" + strings.Join(segs[6:], "/")
	}
	if id, verb, rest := splitID(segs); verb == "resolve" && len(rest) > 1 {
		return id + "/" + strings.Join(rest[1:], "/")
	}
	return ""
}

func sendJSON(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("hubtest: Extra of a repository: %v", err))
	}
	sum := sha1.Sum(body)
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	if status == http.StatusOK {
		w.Header().Set("Etag", fmt.Sprintf(`W/"%x-%s"`, len(body), hex.EncodeToString(sum[:])))
	}
	w.WriteHeader(status)
	_, _ = w.Write(body)
}

func (h *Hub) whoami(c *call) {
	if c.token == "" {
		c.fail(loginFirst)
		return
	}
	sendJSON(c.w, http.StatusOK, map[string]any{
		"type": "user", "id": "0123456789abcdef01234567", "name": "tester", "fullname": "Tester", "isPro": false, "orgs": []any{},
		"auth": map[string]any{"type": "access_token", "accessToken": map[string]any{"displayName": "test", "role": "read"}},
	})
}

func (h *Hub) refs(c *call) {
	s, ok := h.find(c.w, c.r, c.id, c.token, "main")
	if !ok {
		return
	}
	kinds := map[string][]any{"heads": {}, "tags": {}, "convert": {}, "pr": {}}
	names := make([]string, 0, len(s.refs))
	for ref := range s.refs {
		names = append(names, ref)
	}
	slices.Sort(names)
	for _, ref := range names {
		kind, name, _ := strings.Cut(strings.TrimPrefix(ref, "refs/"), "/")
		kinds[kind] = append(kinds[kind], map[string]any{"name": name, "ref": ref, "targetCommit": s.refs[ref]})
	}
	out := map[string]any{"branches": kinds["heads"], "tags": kinds["tags"], "converts": kinds["convert"]}
	if truth(c.r.URL.Query().Get("include_prs")) {
		out["pullRequests"] = kinds["pr"]
	}
	sendJSON(c.w, http.StatusOK, out)
}

// truth reads a boolean of a query as the Hub does.
func truth(v string) bool { return v == "1" || strings.EqualFold(v, "true") }

// page cuts a list as limit and cursor ask and states where the next part is.
func page[T any](h *Hub, c *call, all []T, size int) []T {
	q := c.r.URL.Query()
	if n, err := strconv.Atoi(q.Get("limit")); err == nil && n > 0 {
		size = min(n, size)
	}
	raw, _ := base64.RawURLEncoding.DecodeString(q.Get("cursor"))
	from, _ := strconv.Atoi(string(raw))
	from = min(max(from, 0), len(all))
	to := min(from+size, len(all))
	if to < len(all) {
		next := base64.RawURLEncoding.EncodeToString([]byte(strconv.Itoa(to)))
		c.w.Header().Set("Link", nextLink(h.URL(), c.r.URL, next))
	}
	return all[from:to]
}

// nextLink is the Link header for the page at that cursor of the list at u.
func nextLink(base string, u *url.URL, cursor string) string {
	q := u.Query()
	q.Set("cursor", cursor)
	return "<" + base + u.EscapedPath() + "?" + q.Encode() + `>; rel="next"`
}
