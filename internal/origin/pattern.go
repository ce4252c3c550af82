package origin

import (
	"strings"

	"modelfs/internal/model"
)

// A pattern is one entry of the allow-list. Four forms, told apart in this order:
//
//	scheme://host[:port][/path]   http or https; without a path only "/"
//	*                             any host
//	org/name                      repositories on the Hub's hosts, where the first segment has neither '.' nor ':'
//	host[:port][/path]            without a path any path
//
// Only '*' is special, and case does not matter.
//
//   - Without a scheme a pattern means https.
//   - In a path '*' is any text, '/' included; the path it is compared with is
//     decoded and clean.
//   - In a host '*' is any text without '.', except in front: "*.x.org" is all
//     hosts below x.org, and "*x.org" is x.org and all hosts below it (never evilx.org).
//   - With a port the port must match. Without one a host that is named
//     without '*' may have any port, others only the scheme's own.
type pattern struct {
	scheme string
	host   string // canonical if it has no '*'
	port   string // "" for the rule above
	path   string // "" for any
	repo   string // not "": "org/name", and the fields above are unused
}

func parsePattern(text string) (pattern, error) {
	lower := strings.ToLower(text)
	scheme, rest, hasScheme := strings.Cut(lower, "://")
	if !hasScheme {
		scheme, rest = "https", lower
	}
	if scheme != "https" && scheme != "http" {
		return pattern{}, badPattern(text, "the scheme is neither https nor http")
	}
	first, tail, hasPath := strings.Cut(rest, "/")
	if !hasScheme && hasPath && !strings.ContainsAny(first, ".:") {
		return parseRepo(text, first, tail)
	}
	p := pattern{scheme: scheme}
	switch {
	case hasPath:
		p.path = "/" + tail
	case hasScheme:
		p.path = "/"
	}
	return p, p.parseHost(text, first)
}

func badPattern(text, why string) error {
	return model.Errorf(model.Invalid, "allow-list pattern %q: %s; patterns look like host/*, https://host:8443/path/* or org/name", text, why)
}

func parseRepo(text, org, name string) (pattern, error) {
	if org == "" || name == "" || strings.Contains(name, "/") {
		return pattern{}, badPattern(text, "a repository is org/name")
	}
	return pattern{repo: org + "/" + name}, nil
}

func (p *pattern) parseHost(text, hostport string) error {
	p.host = hostport
	if i := strings.LastIndexByte(hostport, ':'); i > strings.LastIndexByte(hostport, ']') {
		var ok bool
		p.host = hostport[:i]
		if p.port, ok = canonicalPort(hostport[i+1:]); !ok || p.port == "" {
			return badPattern(text, "the port is not a number from 1 to 65535")
		}
	}
	if strings.HasPrefix(p.host, "[") && strings.HasSuffix(p.host, "]") {
		p.host = p.host[1 : len(p.host)-1]
	}
	// A '*' stands for a part of a name, so with an 'x' there it is still one.
	canon, ok := canonicalHost(strings.ReplaceAll(p.host, "*", "x"))
	if !ok {
		return badPattern(text, "that is not the name of a host")
	}
	if !p.wild() {
		p.host = canon
	}
	return nil
}

func (p *pattern) wild() bool { return strings.Contains(p.host, "*") }

// match reports whether the pattern allows a URL with this site and clean path.
func (p *pattern) match(s site, path string) bool {
	if p.repo != "" {
		return s.scheme == "https" && s.port == "443" && isHubHost(s.host) && glob(p.repo, fileRepo(path))
	}
	return p.scheme == s.scheme && p.matchPort(s) && matchHost(p.host, s.host) &&
		(p.path == "" || glob(p.path, path))
}

func (p *pattern) matchPort(s site) bool {
	if p.port != "" {
		return p.port == s.port
	}
	return !p.wild() || s.port == defaultPort(s.scheme)
}

// names reports whether a pattern that matches a site names its very host.
func (p *pattern) names(s site) bool {
	if p.repo != "" {
		return s.host == "huggingface.co"
	}
	return !p.wild()
}

// matchHost compares label by label from the right.
func matchHost(pat, host string) bool {
	if pat == "*" || pat == host {
		return true
	}
	if strings.Contains(host, ":") {
		return false // an IPv6 address has no labels
	}
	want, have := strings.Split(pat, "."), strings.Split(host, ".")
	switch {
	case want[0] == "*":
		if len(have) < len(want) {
			return false
		}
		want = want[1:]
	case want[0][0] == '*':
		want[0] = want[0][1:]
	case len(have) != len(want):
		return false
	}
	if len(have) < len(want) {
		return false
	}
	have = have[len(have)-len(want):]
	for i := range want {
		if !glob(want[i], have[i]) {
			return false
		}
	}
	return true
}

// glob reports whether s matches pat, in which '*' is any text and nothing
// else is special. It takes time in the product of the lengths at most.
func glob(pat, s string) bool {
	star, mark, i, j := -1, 0, 0, 0
	for j < len(s) {
		switch {
		case i < len(pat) && pat[i] == '*':
			star, mark = i, j
			i++
		case i < len(pat) && pat[i] == s[j]:
			i++
			j++
		case star >= 0:
			mark++
			i, j = star+1, mark
		default:
			return false
		}
	}
	return strings.Trim(pat[i:], "*") == ""
}

// fileRepo is the "org/name" whose file a Hub path names, or "". The Hub
// redirects /org/name/resolve/ to /api/resolve-cache/models/org/name/ itself.
func fileRepo(path string) string {
	path = strings.TrimPrefix(path, "/")
	cached, ok := strings.CutPrefix(path, "api/resolve-cache/models/")
	if !ok && (path == "api" || strings.HasPrefix(path, "api/")) {
		return ""
	}
	return firstTwo(cached)
}

// namedRepo is fileRepo, and also the repository of an API call.
func namedRepo(path string) string {
	if rest, ok := strings.CutPrefix(path, "/api/models/"); ok {
		return firstTwo(rest)
	}
	return fileRepo(path)
}

// firstTwo is the first two segments of a path; a single one stands alone.
func firstTwo(path string) string {
	segs := strings.SplitN(path, "/", 3)
	return strings.Join(segs[:min(2, len(segs))], "/")
}
