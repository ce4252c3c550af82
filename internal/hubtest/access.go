package hubtest

import (
	"cmp"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// access is what a token may read.
type access struct {
	repos map[string]bool
	all   bool
}

// Grant makes a token valid, and lets it read these private and gated
// repositories too; "*" is all of them.
func (h *Hub) Grant(token string, ids ...string) {
	a := &access{repos: map[string]bool{}}
	for _, id := range ids {
		a.repos[id] = true
		a.all = a.all || id == "*"
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.tokens[token] = a
}

// Revoke makes a token invalid.
func (h *Hub) Revoke(token string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.tokens, token)
}

// caller is who makes a request: "" is anonymous.
func (h *Hub) caller(r *http.Request) (token string, valid bool) {
	header := r.Header.Get("Authorization")
	if header == "" {
		return "", true
	}
	token, _ = strings.CutPrefix(header, "Bearer ")
	h.mu.Lock()
	defer h.mu.Unlock()
	return token, h.tokens[token] != nil
}

// allowed needs Hub.mu.
func (h *Hub) allowed(token, id string) bool {
	a := h.tokens[token]
	return a != nil && (a.all || a.repos[id])
}

// An answer is an error that the Hub gives.
type answer struct {
	status  int
	code    string // X-Error-Code
	message string // X-Error-Message and body
	commit  string // X-Repo-Commit
	login   bool   // Www-Authenticate
}

// The documented errors.
var (
	badCredentials = answer{status: http.StatusUnauthorized, message: "Invalid credentials in Authorization header"}
	loginFirst     = answer{status: http.StatusUnauthorized, message: "Invalid username or password.", login: true}
	noRepo         = answer{status: http.StatusNotFound, code: "RepoNotFound", message: "Repository not found"}
	isDisabled     = answer{status: http.StatusForbidden, message: "Access to this resource is disabled."}
	noRoute        = answer{status: http.StatusNotFound, message: "Sorry, we can't find the page you are looking for."}
)

func noRevision(rev string) answer {
	return answer{status: http.StatusNotFound, code: "RevisionNotFound", message: "Invalid rev id: " + rev}
}

func noEntry(commit string) answer {
	return answer{status: http.StatusNotFound, code: "EntryNotFound", message: "Entry not found", commit: commit}
}

func gate(id, token string) answer {
	if token == "" {
		return answer{status: http.StatusUnauthorized, code: "GatedRepo", message: "Access to model " + id +
			" is restricted. You must have access to it and be authenticated to access it. Please log in."}
	}
	return answer{status: http.StatusForbidden, code: "GatedRepo", message: "Access to model " + id +
		" is restricted and you are not in the authorized list. Visit https://huggingface.co/" + id + " to ask for access."}
}

func badRequest(format string, args ...any) answer {
	return answer{status: http.StatusBadRequest, message: fmt.Sprintf(format, args...)}
}

// fail sends an error: JSON from the API, plain text elsewhere.
func fail(w http.ResponseWriter, r *http.Request, a answer) {
	head := w.Header()
	if a.code != "" {
		head.Set("X-Error-Code", a.code)
	}
	head.Set("X-Error-Message", a.message)
	if a.commit != "" {
		head.Set("X-Repo-Commit", a.commit)
	}
	if a.login {
		head.Set("Www-Authenticate", `Bearer realm="Authentication required", charset="UTF-8"`)
	}
	if strings.HasPrefix(r.URL.Path, "/api/") && bucketName(r) == "api" {
		sendJSON(w, a.status, map[string]any{"error": a.message})
		return
	}
	sendText(w, a.status, a.message)
}

func sendText(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Content-Length", strconv.Itoa(len(text)))
	w.WriteHeader(status)
	_, _ = w.Write([]byte(text))
}

// redirect is the Hub's form of one: the text names the target too.
func redirect(w http.ResponseWriter, status int, to string) {
	w.Header().Set("Location", to)
	sendText(w, status, http.StatusText(status)+". Redirecting to "+to)
}

// find is the repository of that name as the caller may see it. Where ok is
// false the request has been answered.
func (h *Hub) find(w http.ResponseWriter, r *http.Request, id, token, rev string) (s *snapshot, ok bool) {
	if !validID(id) {
		fail(w, r, badRequest("Invalid repo name: %s - repo name includes an illegal character", id))
		return nil, false
	}
	h.mu.Lock()
	trueID := cmp.Or(h.aliases[id], id)
	repo := h.repos[trueID]
	if repo != nil && repo.Private && !h.allowed(token, trueID) {
		repo = nil
	}
	if repo != nil {
		s = repo.snapshot(rev)
	}
	h.mu.Unlock()
	switch {
	case s == nil && token == "":
		fail(w, r, loginFirst)
	case s == nil:
		fail(w, r, noRepo)
	case s.Disabled:
		fail(w, r, isDisabled)
	case trueID != id:
		redirect(w, http.StatusTemporaryRedirect, renamed(r, id, trueID))
	case s.commit == nil:
		fail(w, r, noRevision(rev))
	default:
		return s, true
	}
	return nil, false
}

// renamed is the address of the request with the repository's true id.
func renamed(r *http.Request, id, trueID string) string {
	uri := r.URL.RequestURI()
	before := ""
	for _, p := range []string{"/api/models", "/api/resolve-cache/models"} {
		if strings.HasPrefix(uri, p+"/") {
			before = p
		}
	}
	return before + "/" + trueID + strings.TrimPrefix(uri, before+"/"+id)
}

// validID follows the Hub's rule for repository names, in ASCII.
func validID(id string) bool {
	parts := strings.Split(id, "/")
	if len(parts) > 2 || strings.Contains(id, "--") || strings.Contains(id, "..") || strings.HasSuffix(id, ".git") {
		return false
	}
	for _, p := range parts {
		if p == "" || len(p) > 96 || strings.ContainsAny(p[:1]+p[len(p)-1:], "-.") {
			return false
		}
		for _, c := range []byte(p) {
			if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '-' || c == '.') {
				return false
			}
		}
	}
	return true
}

// A quota is how many requests a caller has in a window.
type quota struct {
	requests int
	window   time.Duration
}

// bucket counts one caller's requests of one class.
type bucket struct {
	start time.Time
	used  int
}

// The documented quotas of a window of 300 s: anonymous, with a free account.
var quotas = map[string][2]int{"api": {500, 1000}, "resolvers": {3000, 5000}, "pages": {100, 200}}

// SetQuota replaces the documented quota of a class ("api" or "resolvers") by n
// requests in each window, for every caller alike, and starts a new window.
func (h *Hub) SetQuota(class string, n int, window time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.quotas[class] = quota{n, window}
	clear(h.buckets)
}

func bucketName(r *http.Request) string {
	switch {
	case strings.HasPrefix(r.URL.Path, "/api/resolve-cache/"):
		return "resolvers"
	case strings.HasPrefix(r.URL.Path, "/api/"):
		return "api"
	case strings.Contains(r.URL.Path, "/resolve/"):
		return "resolvers"
	}
	return "pages"
}

// count takes one request from the caller's quota and states what is left. It
// reports false, having answered 429, when there was nothing left.
func (h *Hub) count(w http.ResponseWriter, r *http.Request, token string) bool {
	class, now := bucketName(r), time.Now()
	h.mu.Lock()
	q, set := h.quotas[class]
	if !set {
		q = quota{quotas[class][min(len(token), 1)], 300 * time.Second}
	}
	b := h.buckets[class+" "+token]
	if b == nil || now.Sub(b.start) >= q.window {
		b = &bucket{start: now}
		h.buckets[class+" "+token] = b
	}
	b.used++
	left, reset := q.requests-b.used, b.start.Add(q.window).Sub(now)
	h.mu.Unlock()
	seconds := int((reset + time.Second - 1) / time.Second)
	w.Header().Set("RateLimit", fmt.Sprintf(`"%s";r=%d;t=%d`, class, max(left, 0), seconds))
	w.Header().Set("RateLimit-Policy", fmt.Sprintf(`"fixed window";"%s";q=%d;w=%d`, class, q.requests, int(q.window/time.Second)))
	if left >= 0 {
		return true
	}
	fail(w, r, answer{status: http.StatusTooManyRequests, message: "We had to rate limit you. Wait, or log in."})
	return false
}
