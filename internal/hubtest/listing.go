package hubtest

import (
	"cmp"
	"crypto/sha1"
	"encoding/hex"
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"
)

const (
	treePage       = 1000 // entries, as documented
	treePageExpand = 50
)

// SetPageSize makes pages of the tree at most n entries long; 0: as documented.
func (h *Hub) SetPageSize(n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.pageSize = n
}

// info answers GET /api/models/{id}[/revision/{rev}].
func (h *Hub) info(c *call) {
	rev := "main"
	if len(c.rest) > 0 {
		rev = c.rest[0]
	}
	s, ok := h.find(c.w, c.r, c.id, c.token, rev)
	if !ok {
		return
	}
	q := c.r.URL.Query()
	expand, blobs := q["expand"], truth(q.Get("blobs"))
	if len(expand) > 0 && (blobs || truth(q.Get("securityStatus"))) {
		c.fail(badRequest("`expand` can't be combined with `blobs` or `securityStatus`"))
		return
	}
	all := s.fields(blobs)
	if len(expand) > 0 {
		all = pick(all, append(expand, "id", "_id"))
	}
	sendJSON(c.w, http.StatusOK, all)
}

func pick(all map[string]any, keys []string) map[string]any {
	out := map[string]any{}
	for _, k := range keys {
		if v, ok := all[k]; ok {
			out[k] = v
		}
	}
	return out
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }

// fields is everything that the Hub says of a model.
func (s *snapshot) fields(blobs bool) map[string]any {
	org, _, two := strings.Cut(s.ID, "/")
	if !two {
		org = ""
	}
	var gated any = false
	if s.Gated != "" {
		gated = s.Gated
	}
	tags := s.Tags
	if tags == nil {
		tags = []string{}
	}
	all := map[string]any{
		"_id": s.oid, "id": s.ID, "modelId": s.ID, "author": org, "sha": s.commit.id, "private": s.Private, "gated": gated,
		"disabled": s.Disabled, "downloads": s.Downloads, "likes": s.Likes, "tags": tags, "lastModified": stamp(s.LastModified),
		"createdAt": stamp(s.LastModified.Add(-24 * time.Hour)), "spaces": []any{}, "cardData": map[string]any{},
		"config": map[string]any{}, "transformersInfo": map[string]any{}, "widgetData": map[string]any{}, "model-index": nil,
		"usedStorage": 0, "siblings": s.siblings(blobs),
	}
	if s.Library != "" {
		all["library_name"] = s.Library
	}
	if s.Pipeline != "" {
		all["pipeline_tag"] = s.Pipeline
	}
	maps.Copy(all, s.Extra)
	return all
}

func (s *snapshot) siblings(blobs bool) []map[string]any {
	out := []map[string]any{}
	for _, b := range s.commit.files {
		f := map[string]any{"rfilename": b.Path}
		if blobs {
			f["size"], f["blobId"] = b.statedSize(), b.oid()
		}
		if blobs && b.LFS {
			f["lfs"] = map[string]any{"sha256": b.sha256(), "size": b.statedSize(), "pointerSize": len(b.pointer())}
		}
		out = append(out, f)
	}
	return out
}

// entry is an item of the tree before its hashes are asked for.
type entry struct {
	path string
	file *blob // nil: a directory
}

// entries is the tree of a commit in order of path, directories included.
func (c *commit) entries() []entry {
	dirs := map[string]bool{}
	var out []entry
	for _, b := range c.files {
		out = append(out, entry{b.Path, b})
		for i, ch := range b.Path {
			if dir := b.Path[:i]; ch == '/' && sane(dir) && !dirs[dir] {
				dirs[dir] = true
				out = append(out, entry{dir, nil})
			}
		}
	}
	slices.SortStableFunc(out, func(a, b entry) int { return strings.Compare(a.path, b.path) })
	return out
}

// sane reports whether a path could be a directory's; of hostile ones only the
// files are listed.
func sane(dir string) bool {
	for seg := range strings.SplitSeq(dir, "/") {
		if seg == "" || seg == "." || seg == ".." {
			return false
		}
	}
	return true
}

func (e entry) json(c *commit, expand bool) map[string]any {
	if e.file == nil {
		sum := sha1.Sum([]byte("tree " + e.path + " " + c.id))
		return map[string]any{"type": "directory", "oid": hex.EncodeToString(sum[:]), "size": 0, "path": e.path}
	}
	b := e.file
	out := map[string]any{"type": "file", "oid": b.oid(), "size": b.statedSize(), "path": b.Path}
	if b.LFS {
		out["lfs"] = map[string]any{"oid": b.sha256(), "size": b.statedSize(), "pointerSize": len(b.pointer())}
		if b.PointerSize {
			out["size"] = len(b.pointer())
		}
	}
	if expand {
		out["lastCommit"] = map[string]any{"id": c.id, "title": "Upload", "date": stamp(c.time)}
		out["securityFileStatus"] = map[string]any{"status": "safe"}
	}
	return out
}

// tree answers GET /api/models/{id}/tree/{rev}[/{dir}].
func (h *Hub) tree(c *call) {
	s, ok := h.find(c.w, c.r, c.id, c.token, c.rest[0])
	if !ok {
		return
	}
	dir := strings.Trim(strings.Join(c.rest[1:], "/"), "/")
	q := c.r.URL.Query()
	items := s.commit.under(dir, truth(q.Get("recursive")))
	if dir != "" && len(items) == 0 {
		c.fail(noEntry(s.commit.id))
		return
	}
	expand, size := truth(q.Get("expand")), treePage
	if expand {
		size = treePageExpand
	}
	h.mu.Lock()
	size = cmp.Or(h.pageSize, size)
	h.mu.Unlock()
	out := []any{}
	for _, e := range page(h, c, items, size) {
		out = append(out, e.json(s.commit, expand))
	}
	sendJSON(c.w, http.StatusOK, out)
}

// under is the part of the tree below dir: all of it, or one level.
func (c *commit) under(dir string, recursive bool) []entry {
	var out []entry
	for _, e := range c.entries() {
		rest := e.path
		if dir != "" {
			var below bool
			if rest, below = strings.CutPrefix(e.path, dir+"/"); !below {
				continue
			}
		}
		if recursive || !strings.Contains(rest, "/") {
			out = append(out, e)
		}
	}
	return out
}

// pathsInfo answers POST /api/models/{id}/paths-info/{rev}: form or JSON.
func (h *Hub) pathsInfo(c *call) {
	s, ok := h.find(c.w, c.r, c.id, c.token, c.rest[0])
	if !ok {
		return
	}
	var ask struct {
		Paths  []string `json:"paths"`
		Expand bool     `json:"expand"`
	}
	body := http.MaxBytesReader(c.w, c.r.Body, 8<<20)
	if strings.HasPrefix(c.r.Header.Get("Content-Type"), "application/json") {
		if err := json.NewDecoder(body).Decode(&ask); err != nil {
			c.fail(badRequest("Invalid JSON: %v", err))
			return
		}
	} else {
		c.r.Body = body
		if err := c.r.ParseForm(); err != nil {
			c.fail(badRequest("Invalid form: %v", err))
			return
		}
		ask.Paths, ask.Expand = c.r.PostForm["paths"], truth(c.r.PostForm.Get("expand"))
	}
	out := []any{}
	for _, e := range s.commit.entries() {
		if slices.Contains(ask.Paths, e.path) {
			out = append(out, e.json(s.commit, ask.Expand))
		}
	}
	sendJSON(c.w, http.StatusOK, out)
}
