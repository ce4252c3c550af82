package hubtest

import (
	"cmp"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// listPage is how many models a page of the search has at most.
const listPage = 1000

// list answers GET /api/models?search=&author=&filter=.
func (h *Hub) list(c *call) {
	q := c.r.URL.Query()
	var found []*snapshot
	h.mu.Lock()
	for id, r := range h.repos {
		if s := r.snapshot("main"); s.commit != nil && (!r.Private || h.allowed(c.token, id)) && s.matches(q) {
			found = append(found, s)
		}
	}
	h.mu.Unlock()
	slices.SortFunc(found, order(q.Get("sort"), q.Get("direction")))
	keys := []string{"_id", "id", "modelId", "likes", "downloads", "tags", "pipeline_tag", "library_name", "private", "createdAt"}
	if expand := q["expand"]; len(expand) > 0 {
		keys = append(expand, "_id", "id", "modelId")
	}
	for param, more := range map[string][]string{"full": {"sha", "lastModified", "siblings", "author", "gated"}, "config": {"config"}, "cardData": {"cardData"}} {
		if truth(q.Get(param)) {
			keys = append(keys, more...)
		}
	}
	out := []any{}
	for _, s := range page(h, c, found, listPage) {
		out = append(out, pick(s.fields(false), keys))
	}
	sendJSON(c.w, http.StatusOK, out)
}

func (s *snapshot) matches(q url.Values) bool {
	org, _, _ := strings.Cut(s.ID, "/")
	if a := q.Get("author"); a != "" && a != org {
		return false
	}
	if text := q.Get("search"); !strings.Contains(strings.ToLower(s.ID), strings.ToLower(text)) {
		return false
	}
	if p := q.Get("pipeline_tag"); p != "" && p != s.Pipeline {
		return false
	}
	if g := q.Get("gated"); g != "" && truth(g) != (s.Gated != "") {
		return false
	}
	for _, f := range q["filter"] {
		for tag := range strings.SplitSeq(f, ",") {
			if !slices.Contains(s.Tags, tag) && tag != s.Library && tag != s.Pipeline {
				return false
			}
		}
	}
	return true
}

// order compares by a documented sort key, the most first; by id otherwise.
func order(key, direction string) func(a, b *snapshot) int {
	sign := -1
	if direction == "1" {
		sign = 1
	}
	return func(a, b *snapshot) int {
		n := 0
		switch key {
		case "downloads", "trendingScore":
			n = cmp.Compare(a.Downloads, b.Downloads)
		case "likes":
			n = cmp.Compare(a.Likes, b.Likes)
		case "lastModified", "createdAt":
			n = a.LastModified.Compare(b.LastModified)
		}
		return cmp.Or(sign*n, strings.Compare(a.ID, b.ID))
	}
}
