package origin

import (
	"net/url"
	"strings"

	"modelfs/internal/model"
)

// An allowList says which URLs may be asked.
//
//   - A configured endpoint is allowed as a whole (scheme, host, port).
//   - A pattern allows what it matches; pattern.go says what that is.
//   - A repository pattern ("org/*") says which repositories may be read, so
//     where there is one, an endpoint on the Hub's hosts is allowed only for
//     those repositories and for paths that name none.
//   - Whoever allows the Hub allows its CDN: a redirect from an endpoint (it may
//     be a mirror) or from one of the Hub's own hosts may lead to any host below
//     the Hub's two domains, over https on the usual port.
//
// Everything else is denied. The zero value denies everything.
type allowList struct {
	patterns  []pattern
	endpoints map[site]bool
}

// DefaultAllow is the allow-list of a configuration that states none: each
// endpoint, and where one is https://huggingface.co also the CDN that its
// redirects lead to. An endpoint that is no URL is left out; New reports it.
func DefaultAllow(endpoints []string) []string {
	var list []string
	for _, e := range endpoints {
		s, err := parseSite(e)
		if err != nil {
			continue
		}
		list = append(list, s.bare()+"/*")
		if s == (site{"https", "huggingface.co", "443"}) {
			list = append(list, "https://*.huggingface.co/*", "https://*.hf.co/*")
		}
	}
	return list
}

func parseSite(base string) (site, error) {
	u, err := parseURL(base)
	if err != nil {
		return site{}, err
	}
	return siteOf(u)
}

func newAllowList(patterns, endpoints []string) (*allowList, error) {
	l := &allowList{endpoints: make(map[site]bool)}
	for _, e := range endpoints {
		s, err := parseSite(e)
		if err != nil {
			return nil, model.Errorf(model.Invalid, "an endpoint can't be used: %v; write it like https://host", err)
		}
		l.endpoints[s] = true
	}
	for _, csv := range patterns {
		for _, text := range strings.Split(csv, ",") {
			if text = strings.TrimSpace(text); text == "" {
				continue
			}
			p, err := parsePattern(text)
			if err != nil {
				return nil, err
			}
			l.patterns = append(l.patterns, p)
		}
	}
	return l, nil
}

// A permit is what the allow-list says of a URL that may be asked.
type permit struct {
	site  site
	exact bool // a pattern or an endpoint names this very host, so its address may be any, not only a public one
}

// check says whether the URL may be asked; the error is of kind Denied. from
// is the hop that redirected here, which has passed the check itself, or nil.
func (l *allowList) check(from, to *url.URL) (permit, error) {
	s, err := siteOf(to)
	if err != nil {
		return permit{}, err
	}
	path, err := cleanPath(to)
	if err != nil {
		return permit{}, err
	}
	allowed := from != nil && l.leadsToCDN(from, s)
	pm := permit{site: s}
	if l.endpoints[s] && l.repoAllowed(s, path) {
		allowed, pm.exact = true, true
	}
	for _, p := range l.patterns {
		if p.match(s, path) {
			allowed, pm.exact = true, pm.exact || p.names(s)
		}
	}
	if !allowed {
		return permit{}, model.Errorf(model.Denied, "%s is not in the allow-list; to allow its host: --allow '%s/*'", redact(to), s.bare())
	}
	if !pm.exact {
		err = checkHostName(s.host)
	}
	return pm, err
}

// repoAllowed says whether an endpoint's blanket permission covers the path.
func (l *allowList) repoAllowed(s site, path string) bool {
	if !isHubHost(s.host) {
		return true
	}
	repo, confined := namedRepo(path), false
	for _, p := range l.patterns {
		if p.repo == "" {
			continue
		}
		if confined = true; repo == "" || glob(p.repo, repo) {
			return true
		}
	}
	return !confined
}

// leadsToCDN: the Hub's redirects, and those of its mirrors, lead to hosts that
// come and go without notice, all of them below its two domains.
func (l *allowList) leadsToCDN(from *url.URL, to site) bool {
	f, err := siteOf(from)
	trusted := l.endpoints[f] || f.scheme == "https" && (isHubHost(f.host) || isCDNHost(f.host))
	return err == nil && trusted && to.scheme == "https" && to.port == "443" && isCDNHost(to.host)
}

func isHubHost(h string) bool {
	return h == "huggingface.co" || strings.HasSuffix(h, ".huggingface.co")
}

func isCDNHost(h string) bool {
	return strings.HasSuffix(h, ".hf.co") || strings.HasSuffix(h, ".huggingface.co")
}
