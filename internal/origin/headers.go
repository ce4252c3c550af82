package origin

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// ParseRateLimit reads what a server says of its quota:
//
//	RateLimit: "api";r=497;t=201
//	RateLimit-Policy: "fixed window";"api";q=500;w=300
//
// remaining requests (>= 0) for reset more; quota requests for each window, both 0
// where no policy of that name is stated. Of several limits the one with the
// least remaining counts. ok is false where nothing usable is stated.
func ParseRateLimit(h http.Header) (remaining, quota int, reset, window time.Duration, ok bool) {
	var name string
	for _, item := range items(h.Values("RateLimit")) {
		names, params := itemParts(item)
		r, okR := params["r"]
		t, okT := params["t"]
		if okR && okT && (!ok || r < remaining) {
			remaining, reset, ok, name = r, time.Duration(t)*time.Second, true, strings.Join(names, "\x00")
		}
	}
	for _, item := range items(h.Values("RateLimit-Policy")) {
		names, params := itemParts(item)
		last := ""
		if len(names) > 0 {
			last = names[len(names)-1]
		}
		if ok && last == name {
			quota, window = params["q"], time.Duration(params["w"])*time.Second
			break
		}
	}
	return remaining, quota, reset, window, ok
}

func items(lines []string) []string {
	var out []string
	for _, l := range lines {
		out = append(out, splitOutside(l, ',')...)
	}
	return out
}

// itemParts takes an item of a structured header apart: its strings, and its
// parameters that are integers from 0 to 2^31-1.
func itemParts(item string) (names []string, params map[string]int) {
	params = make(map[string]int)
	for _, part := range splitOutside(item, ';') {
		part = strings.TrimSpace(part)
		key, val, isParam := strings.Cut(part, "=")
		if n, err := strconv.ParseUint(val, 10, 31); isParam && err == nil {
			params[key] = int(n)
		} else if len(part) >= 2 && part[0] == '"' && part[len(part)-1] == '"' {
			names = append(names, part[1:len(part)-1])
		}
	}
	return names, params
}

// splitOutside splits at sep outside of "strings" and <references>. A quote
// that is not closed runs to the end.
func splitOutside(s string, sep byte) []string {
	var out []string
	start, until := 0, byte(0)
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case until == '"' && c == '\\':
			i++
		case until != 0:
			if c == until {
				until = 0
			}
		case c == '"':
			until = '"'
		case c == '<':
			until = '>'
		case c == sep:
			out = append(out, s[start:i])
			start = i + 1
		}
	}
	return append(out, s[start:])
}

// NextLink is the URL that a Link header names with rel="next", absolute if
// base is; a relative one is resolved against base. "" for none.
func NextLink(h http.Header, base string) string {
	for _, item := range items(h.Values("Link")) {
		parts := splitOutside(item, ';')
		ref := strings.TrimSpace(parts[0])
		if len(ref) < 2 || ref[0] != '<' || ref[len(ref)-1] != '>' || !isNext(parts[1:]) {
			continue
		}
		b, err := url.Parse(base)
		if err != nil {
			return ""
		}
		if u, err := b.Parse(ref[1 : len(ref)-1]); err == nil {
			return u.String()
		}
	}
	return ""
}

// isNext looks at the first rel, which is the one that counts.
func isNext(params []string) bool {
	for _, p := range params {
		key, val, _ := strings.Cut(strings.TrimSpace(p), "=")
		if !strings.EqualFold(strings.TrimSpace(key), "rel") {
			continue
		}
		for _, rel := range strings.Fields(strings.Trim(strings.TrimSpace(val), `"`)) {
			if strings.EqualFold(rel, "next") {
				return true
			}
		}
		return false
	}
	return false
}

// ParseContentRange reads a Content-Range. start and end (inclusive) are -1
// for "bytes */100", the answer to a range outside the file; total is -1 for
// "bytes 0-9/*". Where ok, 0 <= start <= end < total as far as they are known.
func ParseContentRange(s string) (start, end, total int64, ok bool) {
	unit, rest, _ := strings.Cut(strings.TrimSpace(s), " ")
	span, size, slash := strings.Cut(strings.TrimSpace(rest), "/")
	if !strings.EqualFold(unit, "bytes") || !slash {
		return 0, 0, 0, false
	}
	start, end, total = -1, -1, -1
	if size != "*" {
		if total, ok = digits(size); !ok {
			return 0, 0, 0, false
		}
	}
	if span == "*" {
		return start, end, total, total >= 0
	}
	first, last, _ := strings.Cut(span, "-")
	start, ok1 := digits(first)
	end, ok2 := digits(last)
	if !ok1 || !ok2 || start > end || total >= 0 && end >= total {
		return 0, 0, 0, false
	}
	return start, end, total, true
}

func digits(s string) (int64, bool) {
	n, err := strconv.ParseUint(s, 10, 63)
	return int64(n), err == nil
}
