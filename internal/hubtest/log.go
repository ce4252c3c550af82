package hubtest

import (
	"net/http"
	"slices"
	"sort"
	"strings"
	"sync"
	"time"
)

// A Filter picks requests. An empty field matches everything.
type Filter struct {
	Host   HostKind
	Method string
	// Path is compared with the decoded path of the URL and with the file
	// that the request is about ("org/repo/dir/x.gguf"); either may match. A
	// '*' stands for any number of bytes, slashes included.
	Path string
}

func (f Filter) match(host HostKind, method, path, file string) bool {
	return (f.Host == "" || f.Host == host) && (f.Method == "" || f.Method == method) &&
		(f.Path == "" || glob(f.Path, path) || file != "" && glob(f.Path, file))
}

// glob reports whether s matches the pattern, in which only '*' is special.
func glob(pattern, s string) bool {
	parts := strings.Split(pattern, "*")
	if len(parts) == 1 {
		return pattern == s
	}
	s, ok := strings.CutPrefix(s, parts[0])
	if !ok {
		return false
	}
	last := len(parts) - 1
	for _, part := range parts[1:last] {
		i := strings.Index(s, part)
		if i < 0 {
			return false
		}
		s = s[i+len(part):]
	}
	return strings.HasSuffix(s, parts[last])
}

// A Request is an entry of the log. Credentials and the values of queries are
// not recorded.
type Request struct {
	Time       time.Time
	Host       HostKind
	Method     string
	Path       string   // decoded
	Query      []string // keys, sorted
	Range      string   // the header, as sent
	Authorized bool     // an Authorization or X-API-Key header was there
	UserAgent  string
	File       string // "org/repo/path" where the request is about a file, else ""
	Status     int    // 0 until answered
	Offset     int64  // of the body's first byte in the file
	Sent       int64  // bytes of body handed to the connection so far
	Done       bool   // the answer has ended, completely or not; set a moment after the client may know
}

// journal is the log of a site.
type journal struct {
	mu   sync.Mutex // guards all below and every record; leaf
	recs []*record
}

// record is an entry that may still change.
type record struct {
	journal *journal
	req     Request // guarded by journal.mu
}

func (j *journal) add(kind HostKind, r *http.Request, file string) *record {
	keys := make([]string, 0, 4)
	for k := range r.URL.Query() {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	rec := &record{journal: j, req: Request{
		Time: time.Now(), Host: kind, Method: r.Method, Path: r.URL.Path, Query: keys, File: file,
		Range: r.Header.Get("Range"), UserAgent: r.UserAgent(),
		Authorized: r.Header.Get("Authorization") != "" || r.Header.Get("X-Api-Key") != "",
	}}
	j.mu.Lock()
	j.recs = append(j.recs, rec)
	j.mu.Unlock()
	return rec
}

func (rec *record) update(change func(*Request)) {
	rec.journal.mu.Lock()
	change(&rec.req)
	rec.journal.mu.Unlock()
}

func (rec *record) end() { rec.update(func(q *Request) { q.Done = true }) }

// Requests is the part of the log that f matches, in order of arrival.
func (s *Site) Requests(f Filter) []Request {
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	var out []Request
	for _, rec := range s.log.recs {
		if q := rec.req; f.match(q.Host, q.Method, q.Path, q.File) {
			out = append(out, q)
		}
	}
	return out
}

// BytesSent counts the bytes of content, over all hosts of the site, of the
// files that path matches as in Filter; "" is all files. Error texts and
// redirects don't count.
func (s *Site) BytesSent(path string) int64 {
	var sum int64
	for _, q := range s.Requests(Filter{Path: path}) {
		if q.content() {
			sum += q.Sent
		}
	}
	return sum
}

// content reports whether the body was bytes of a file.
func (q Request) content() bool {
	return q.File != "" && (q.Status == http.StatusOK || q.Status == http.StatusPartialContent)
}

// Reset forgets the requests that were logged so far. Faults and settings stay.
func (s *Site) Reset() {
	s.log.mu.Lock()
	s.log.recs = nil
	s.log.mu.Unlock()
}

// MostSent is how often the byte that was sent most often was sent, and its
// offset, over the files that path matches as in Filter.
func (s *Site) MostSent(path string) (times int, off int64) {
	type edge struct {
		at    int64
		delta int
	}
	var edges []edge
	for _, q := range s.Requests(Filter{Path: path}) {
		if q.content() && q.Sent > 0 {
			edges = append(edges, edge{q.Offset, 1}, edge{q.Offset + q.Sent, -1})
		}
	}
	sort.Slice(edges, func(i, j int) bool {
		if edges[i].at != edges[j].at {
			return edges[i].at < edges[j].at
		}
		return edges[i].delta < edges[j].delta
	})
	depth := 0
	for _, e := range edges {
		if depth += e.delta; depth > times {
			times, off = depth, e.at
		}
	}
	return times, off
}

// SentAtMost fails the test if a byte of the file "org/repo/path" was sent more
// than times times.
func (s *Site) SentAtMost(t TB, file string, times int) {
	t.Helper()
	if n, off := s.MostSent(file); n > times {
		t.Errorf("byte %d of %s was sent %d times, want at most %d", off, file, n, times)
	}
}
