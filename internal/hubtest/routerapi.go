package hubtest

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

func (r *Router) serveNew(w http.ResponseWriter, req *http.Request, segs []string) {
	read := req.Method == http.MethodGet || req.Method == http.MethodHead
	switch {
	case len(segs) < 2 || segs[0] != "api" || segs[1] != "models":
		w.WriteHeader(http.StatusNotFound)
	case len(segs) == 2 && read:
		if r.mayDo(w, req, "Missing required permission: registry.read", "registry.read") {
			sendJSON(w, http.StatusOK, r.list())
		}
	case len(segs) == 2:
		w.WriteHeader(http.StatusMethodNotAllowed)
	case len(segs) == 5 && segs[2] == "registry" && segs[4] == "manifest.json" && read:
		if r.mayDo(w, req, keyNoRight, "registry.read") {
			r.newManifest(w, segs[3])
		}
	default:
		// The wildcard of DELETE /api/models/{*name} takes everything else.
		if r.mayDo(w, req, keyNoRight, "models.manage") {
			w.Header().Set("Allow", http.MethodDelete)
			w.WriteHeader(http.StatusMethodNotAllowed)
		}
	}
}

func (r *Router) newManifest(w http.ResponseWriter, name string) {
	if text := badModelName(name); text != "" {
		sendJSON(w, http.StatusBadRequest, map[string]any{"error": text})
		return
	}
	m, ok := r.model(name)
	if !ok {
		sendJSON(w, http.StatusNotFound, map[string]any{"error": "Model not found: " + name})
		return
	}
	sendManifest(w, m, NewGen)
}

// badModelName is what the router says of a name that it does not look up.
func badModelName(name string) string {
	switch {
	case name == "":
		return "Model name is empty"
	case strings.Contains(name, "..") || strings.Contains(name, "\x00"):
		return "Invalid model name (contains dangerous pattern): " + name
	case strings.HasPrefix(name, "/") || strings.HasSuffix(name, "/"):
		return "Invalid model name (leading/trailing slash): " + name
	case strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789-_./") != "":
		return "Invalid model name: " + name
	}
	return ""
}

func sendManifest(w http.ResponseWriter, m RouterModel, gen Generation) {
	body := []byte(m.Manifest)
	if body == nil {
		body, _ = json.Marshal(m.manifest(gen)) // strings, numbers and booleans only
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(http.StatusOK)
	_, _ = w.Write(body)
}

func (m RouterModel) manifest(gen Generation) map[string]any {
	files := []any{}
	for _, f := range m.Files {
		item := map[string]any{"name": f.Name}
		for k, v := range map[string]any{"url": f.URL, "priority": f.Priority, "optional": f.Optional, "digest": f.Digest, "size": f.Size} {
			if v != "" && v != 0 && v != int64(0) && v != false {
				item[k] = v
			}
		}
		if f.Runtimes != nil {
			item["runtimes"] = f.Runtimes
		}
		files = append(files, item)
	}
	out := map[string]any{"files": files}
	if gen == NewGen {
		out["format"] = m.Format
		if m.Quantization != "" {
			out["quantization"] = m.Quantization
		}
	}
	return out
}

func (r *Router) list() []map[string]any {
	out := []map[string]any{}
	for _, m := range r.listed() {
		item := map[string]any{"name": m.Name, "size": 0, "description": "", "required_memory": 0, "tags": []string{},
			"capabilities": []string{"TextGeneration"}, "source": "hf_" + cmp.Or(m.Format, "gguf")}
		if r.config.Gen == OldGen {
			item["id"] = m.Name
			item["status"] = "available"
		}
		for k, v := range m.Listed {
			if item[k] = v; v == nil {
				delete(item, k)
			}
		}
		out = append(out, item)
	}
	return out
}

func (r *Router) serveOld(w http.ResponseWriter, req *http.Request, segs []string) {
	if len(segs) < 2 || segs[0] != "v0" || segs[1] != "models" {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	rest := segs[2:]
	var do func()
	switch {
	case len(rest) == 0:
		do = func() { r.oldList(w) }
	case len(rest) == 2 && rest[0] == "blob":
		do = func() { r.oldFile(w, req, rest[1], "model.gguf", true) }
	case len(rest) == 3 && rest[0] == "registry" && rest[2] == "manifest.json":
		do = func() { r.oldManifest(w, rest[1]) }
	case len(rest) == 4 && rest[0] == "registry" && rest[2] == "files":
		do = func() { r.oldFile(w, req, rest[1], rest[3], false) }
	default:
		w.WriteHeader(http.StatusNotFound)
		return
	}
	if req.Method != http.MethodGet && req.Method != http.MethodHead {
		w.WriteHeader(http.StatusMethodNotAllowed)
	} else if r.mayDo(w, req, keyNoRight, "node", "admin") {
		do()
	}
}

func (r *Router) oldList(w http.ResponseWriter) {
	switch r.config.List {
	case ListData:
		sendJSON(w, http.StatusOK, map[string]any{"data": r.list()})
	case ListValue:
		sendJSON(w, http.StatusOK, map[string]any{"value": r.list()})
	default:
		sendJSON(w, http.StatusOK, r.list())
	}
}

func (r *Router) oldManifest(w http.ResponseWriter, name string) {
	if m, ok := r.model(strings.ToLower(name)); ok {
		sendManifest(w, m, OldGen)
	} else {
		oldError(w, http.StatusNotFound, "Model not found: "+name)
	}
}

// oldFile sends a file of the router's own disk, whole, whatever range was
// asked for: with a length where it is the blob route, chunked elsewhere.
func (r *Router) oldFile(w http.ResponseWriter, req *http.Request, name, file string, blob bool) {
	if file == "" || strings.Contains(file, "..") || strings.ContainsAny(file, "/\\\x00") {
		oldError(w, http.StatusBadRequest, "Invalid file name")
		return
	}
	m, _ := r.model(strings.ToLower(name))
	i := slices.IndexFunc(m.Files, func(f RouterFile) bool { return f.Name == file && f.Content != nil })
	if i < 0 {
		text := "File not found"
		if blob {
			text = "Model not found: " + name
		}
		oldError(w, http.StatusNotFound, text)
		return
	}
	c := m.Files[i].Content
	w.Header().Set("Content-Type", "application/octet-stream")
	if blob {
		w.Header().Set("Content-Length", strconv.FormatInt(c.Size(), 10))
		w.Header().Set("Content-Disposition", `attachment; filename="model.gguf"`)
	}
	w.WriteHeader(http.StatusOK)
	if !blob {
		w.(http.Flusher).Flush()
	}
	if req.Method == http.MethodHead {
		return
	}
	if err := streamTo(w, c, 0, c.Size()); err != nil {
		abort()
	}
}

// oldError has no Content-Type, as the real one.
func oldError(w http.ResponseWriter, status int, text string) {
	quoted, _ := json.Marshal(text) // a string always can be
	w.Header()["Content-Type"] = nil
	w.WriteHeader(status)
	_, _ = fmt.Fprintf(w, `{"error": %s}`, quoted)
}

// routerTarget is the file that a request to an old router is about.
func routerTarget(req *http.Request) string {
	segs, _ := segments(req.URL)
	switch {
	case len(segs) == 4 && segs[2] == "blob":
		return segs[3] + "/model.gguf"
	case len(segs) == 6 && segs[2] == "registry" && segs[4] == "files":
		return segs[3] + "/" + segs[5]
	}
	return ""
}
