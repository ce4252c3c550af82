package hubtest

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"sync"
)

// A Generation is an age of the router's API.
type Generation int

// The generations.
const (
	NewGen Generation = iota // /api: manifests that point at the Hub, no files
	OldGen                   // /v0: manifests and files of its own
)

// A ListShape is how an old router wraps its list of models.
type ListShape int

// The shapes.
const (
	ListArray ListShape = iota // [...]
	ListData                   // {"data":[...]}
	ListValue                  // {"value":[...]}
)

// RouterConfig says which router to be.
type RouterConfig struct {
	Gen  Generation
	List ListShape // of OldGen
	// Keys are the API keys with their permissions ("registry.read",
	// "models.manage"; "node" or "admin" of OldGen). nil: RouterKey, which may
	// read, is the only one.
	Keys map[string][]string
	Open bool // asks for no key
}

// RouterKey is the key that a router accepts if its config names none.
const RouterKey = "sk_hubtest"

// RouterModel is a model that the router knows.
type RouterModel struct {
	Name         string // lower case, may have slashes
	Files        []RouterFile
	Format       string          // "gguf" or "safetensors"; NewGen only
	Quantization string          // NewGen only
	Manifest     json.RawMessage // instead of the one that is made of Files
	Listed       map[string]any  // fields of its element in the list, over the usual ones
	Unlisted     bool            // resolves, but is in no list
}

// RouterFile is an artifact of a model.
type RouterFile struct {
	Name     string
	URL      string   // where the manifest says it is; "" says nothing
	Priority int      // 0 says nothing
	Runtimes []string // nil says nothing
	Optional bool
	Digest   string // sha256 in hex, which no real router sends; "" says nothing
	Size     int64  // likewise; 0 says nothing
	// Content is what an old router sends for it from its own disk; nil: it
	// does not have the file.
	Content Content
}

// A Router is a scripted model router.
type Router struct {
	*Site
	host   *host
	config RouterConfig

	mu     sync.Mutex // guards all below; leaf
	models map[string]RouterModel
}

// NewRouter starts a router that is closed at the end of the test.
func NewRouter(t TB, c RouterConfig, opts ...Option) *Router {
	t.Helper()
	r, err := StartRouter(c, opts...)
	if err != nil {
		t.Fatalf("hubtest: %v", err)
	}
	r.Site.reportTo(t)
	return r
}

// StartRouter starts a router outside of a test. The caller closes it.
func StartRouter(c RouterConfig, opts ...Option) (*Router, error) {
	if c.Keys == nil {
		c.Keys = map[string][]string{RouterKey: {"registry.read", "node"}}
	}
	r := &Router{Site: newSite(opts), config: c, models: map[string]RouterModel{}}
	r.host = r.newHost(AtRouter, http.HandlerFunc(r.serve), routerTarget)
	if err := r.Site.open("127.0.0.1", r.host); err != nil {
		return nil, err
	}
	return r, nil
}

// URL is the router's base URL, without a final slash.
func (r *Router) URL() string { return r.host.url() }

// SetModel adds a model, or replaces the one of that name.
func (r *Router) SetModel(m RouterModel) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.models[m.Name] = m
}

// RemoveModel makes the router forget a model.
func (r *Router) RemoveModel(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.models, name)
}

func (r *Router) model(name string) (RouterModel, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	m, ok := r.models[name]
	return m, ok
}

// listed is the models that a list shows, by name.
func (r *Router) listed() []RouterModel {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []RouterModel
	for _, m := range r.models {
		if !m.Unlisted {
			out = append(out, m)
		}
	}
	slices.SortFunc(out, func(a, b RouterModel) int { return strings.Compare(a.Name, b.Name) })
	return out
}

func (r *Router) serve(w http.ResponseWriter, req *http.Request) {
	segs, ok := segments(req.URL)
	if !ok {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	if r.config.Gen == OldGen {
		r.serveOld(w, req, segs)
	} else {
		r.serveNew(w, req, segs)
	}
}

// The texts of a refused key.
const (
	keyMissing = "Missing X-API-Key header or Authorization header"
	keyFormat  = "Invalid Authorization header format. Expected 'Bearer <token>'"
	keyInvalid = "Invalid API key"
	keyNoRight = "Insufficient API key permission"
)

// mayDo checks the request's key for one of the permissions; otherwise it
// answers, with the text if the key lacks them, and reports false.
func (r *Router) mayDo(w http.ResponseWriter, req *http.Request, lacking string, permissions ...string) bool {
	if r.config.Open {
		return true
	}
	key, auth := req.Header.Get("X-Api-Key"), req.Header.Get("Authorization")
	if key == "" {
		var bearer bool
		key, bearer = strings.CutPrefix(auth, "Bearer ")
		if auth == "" {
			sendText(w, http.StatusUnauthorized, keyMissing)
			return false
		}
		if !bearer {
			sendText(w, http.StatusUnauthorized, keyFormat)
			return false
		}
	}
	has, known := r.config.Keys[key]
	if !known {
		sendText(w, http.StatusUnauthorized, keyInvalid)
		return false
	}
	if !slices.ContainsFunc(permissions, func(p string) bool { return slices.Contains(has, p) }) {
		sendText(w, http.StatusForbidden, lacking)
		return false
	}
	return true
}
