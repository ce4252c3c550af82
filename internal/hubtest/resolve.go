package hubtest

import (
	"fmt"
	"net/http"
	"net/url"
	"path"
	"regexp"
	"strconv"
	"strings"
)

var commitID = regexp.MustCompile(`^[0-9a-f]{40}$`)

// resolve answers {id}/resolve/{rev}/{path}: a redirect to the CDN for LFS, to
// the resolve cache for small files of public repositories, else the file.
func (h *Hub) resolve(c *call) {
	rev, file := c.rest[0], strings.Join(c.rest[1:], "/")
	s, b, ok := h.findFile(c, rev, file)
	if !ok {
		return
	}
	switch {
	case b.LFS:
		h.toCDN(c, s, b)
	case s.Private || commitID.MatchString(rev):
		sendFile(c, s, b)
	default:
		from := url.QueryEscape(c.r.URL.EscapedPath())
		c.w.Header().Set("Vary", "Origin, Accept")
		redirect(c.w, http.StatusTemporaryRedirect, fmt.Sprintf("/api/resolve-cache/models/%s/%s/%s?%s=&etag=%s",
			s.ID, s.commit.id, escapePath(file), from, url.QueryEscape(`"`+b.oid()+`"`)))
	}
}

// resolveCache answers /api/resolve-cache/models/{id}/{commit}/{path}.
func (h *Hub) resolveCache(c *call) {
	s, b, ok := h.findFile(c, c.rest[0], strings.Join(c.rest[1:], "/"))
	if ok {
		sendFile(c, s, b)
	}
}

// findFile is find for a file, which the gate is asked for too.
func (h *Hub) findFile(c *call, rev, file string) (*snapshot, *blob, bool) {
	s, ok := h.find(c.w, c.r, c.id, c.token, rev)
	if !ok {
		return nil, nil, false
	}
	h.mu.Lock()
	allowed := s.Gated == "" || h.allowed(c.token, s.ID)
	h.mu.Unlock()
	if !allowed {
		c.fail(gate(s.ID, c.token))
		return nil, nil, false
	}
	b := s.commit.file(file)
	if b == nil {
		c.fail(noEntry(s.commit.id))
		return nil, nil, false
	}
	return s, b, true
}

// toCDN is the 302 of a file that git does not hold.
func (h *Hub) toCDN(c *call, s *snapshot, b *blob) {
	head := c.w.Header()
	head.Set("Accept-Ranges", "bytes")
	head.Set("Cache-Control", "no-store")
	head.Set("Vary", "Origin, Accept")
	head.Set("X-Hub-Cache", "MISS")
	head.Set("X-Linked-Etag", `"`+b.sha256()+`"`)
	head.Set("X-Linked-Size", strconv.FormatInt(b.Content.Size(), 10))
	head.Set("X-Repo-Commit", s.commit.id)
	redirect(c.w, http.StatusFound, h.sign(s, b))
}

// sendFile serves a file that git holds.
func sendFile(c *call, s *snapshot, b *blob) {
	name := path.Base(b.Path)
	head := c.w.Header()
	head.Set("Content-Disposition", fmt.Sprintf(`inline; filename*=UTF-8''%s; filename="%s";`, url.PathEscape(name), quotable(name)))
	head.Set("Content-Security-Policy", "default-src 'none'; sandbox")
	head.Set("Content-Type", "text/plain; charset=utf-8")
	head.Set("X-Repo-Commit", s.commit.id)
	head.Set("Etag", `"`+b.oid()+`"`)
	if c.r.Header.Get("If-None-Match") == head.Get("Etag") {
		c.w.WriteHeader(http.StatusNotModified)
		return
	}
	serveRange(c.w, c.r, b.Content)
}

// quotable is a name as it may stand between quotes in a header.
func quotable(name string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' || r == '"' || r == '\\' {
			return '?'
		}
		return r
	}, name)
}

// serveRange serves c, or the range that was asked for. The other headers, the
// entity tag among them, have been set.
func serveRange(w http.ResponseWriter, r *http.Request, c Content) {
	head, size := w.Header(), c.Size()
	head.Set("Accept-Ranges", "bytes")
	off, n, status := int64(0), size, http.StatusOK
	// A range has a meaning with GET only.
	if spec := r.Header.Get("Range"); r.Method == http.MethodGet && spec != "" && (r.Header.Get("If-Range") == "" || r.Header.Get("If-Range") == head.Get("Etag")) {
		off, n, status = parseRange(spec, size)
	}
	switch status {
	case http.StatusRequestedRangeNotSatisfiable:
		head.Set("Content-Range", fmt.Sprintf("bytes */%d", size))
		sendText(w, status, "The requested range is not satisfiable")
		return
	case http.StatusPartialContent:
		head.Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", off, off+n-1, size))
	}
	head.Set("Content-Length", strconv.FormatInt(n, 10))
	w.WriteHeader(status)
	if r.Method == http.MethodHead {
		return
	}
	if err := streamTo(w, c, off, n); err != nil {
		abort()
	}
}

var rangeSpec = regexp.MustCompile(`^bytes=(\d*)-(\d*)$`)

// parseRange reads a Range header as RFC 9110 has it. What is malformed, and
// what names several ranges, is ignored: 200 and the whole.
func parseRange(spec string, size int64) (off, n int64, status int) {
	m := rangeSpec.FindStringSubmatch(spec)
	if m == nil || m[1]+m[2] == "" {
		return 0, size, http.StatusOK
	}
	first, errFirst := strconv.ParseInt(m[1], 10, 64)
	last, errLast := strconv.ParseInt(m[2], 10, 64)
	switch {
	case m[1] == "" && errLast != nil, m[2] == "" && errFirst != nil, m[1] != "" && m[2] != "" && (errFirst != nil || errLast != nil || last < first):
		return 0, size, http.StatusOK
	case m[1] == "":
		first, last = max(size-last, 0), size-1
	case m[2] == "":
		last = size - 1
	}
	last = min(last, size-1)
	if first >= size || last < first {
		return 0, 0, http.StatusRequestedRangeNotSatisfiable
	}
	return first, last - first + 1, http.StatusPartialContent
}
