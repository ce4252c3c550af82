package origin

import (
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"modelfs/internal/model"
)

// A site is what decides who answers a request, and who may see a credential.
type site struct {
	scheme string // "http" or "https"
	host   string // lower case; an IPv6 address has no brackets
	port   string // never "", no leading zeros
}

func (s site) String() string { return s.scheme + "://" + net.JoinHostPort(s.host, s.port) }

// bare is the site as people write it: without the port that the scheme implies.
func (s site) bare() string {
	if s.port != defaultPort(s.scheme) {
		return s.String()
	}
	if strings.Contains(s.host, ":") {
		return s.scheme + "://[" + s.host + "]"
	}
	return s.scheme + "://" + s.host
}

func defaultPort(scheme string) string {
	if scheme == "http" {
		return "80"
	}
	return "443"
}

// siteOf takes a URL's site apart, or refuses what no request is made to.
// The error never holds the query or the user part.
func siteOf(u *url.URL) (site, error) {
	s := site{scheme: strings.ToLower(u.Scheme)}
	if s.scheme != "https" && s.scheme != "http" {
		return site{}, model.Errorf(model.Denied, "a URL with the scheme %q is not fetched, only https and http", u.Scheme)
	}
	if u.User != nil {
		return site{}, model.Errorf(model.Denied, "a URL on %q has a user part, which is not fetched", u.Hostname())
	}
	var ok bool
	if s.host, ok = canonicalHost(u.Hostname()); !ok || u.Opaque != "" {
		return site{}, model.Errorf(model.Denied, "%q is not the name of a host", u.Hostname())
	}
	if s.port, ok = canonicalPort(u.Port()); !ok {
		return site{}, model.Errorf(model.Denied, "%q is not a port", u.Port())
	}
	if s.port == "" {
		s.port = defaultPort(s.scheme)
	}
	return s, nil
}

// canonicalHost lowers a name's case and writes an address in its one
// canonical form. Names in other alphabets have to come as punycode: how they
// are folded must not differ between the check and the connection.
func canonicalHost(h string) (string, bool) {
	if ip, err := netip.ParseAddr(h); err == nil {
		return ip.String(), ip.Zone() == ""
	}
	if h == "" || len(h) > 253 || h[0] == '.' || strings.Contains(h, "..") {
		return "", false
	}
	for i := 0; i < len(h); i++ {
		c := h[i] | 0x20
		if (c < 'a' || c > 'z') && (h[i] < '0' || h[i] > '9') && h[i] != '-' && h[i] != '_' && h[i] != '.' {
			return "", false
		}
	}
	return strings.ToLower(h), true
}

func canonicalPort(p string) (string, bool) {
	if p == "" {
		return "", true
	}
	n, err := strconv.ParseUint(p, 10, 16)
	return strconv.FormatUint(n, 10), err == nil && n > 0
}

// cleanPath is the decoded path for comparison with patterns, lower-cased and
// with runs of slashes made one. A path with "." or ".." segments, a
// backslash or a control character (encoded or not) is refused, because
// servers disagree about what it means.
func cleanPath(u *url.URL) (string, error) {
	segs := strings.Split(u.Path, "/")
	kept := segs[:0]
	for i, s := range segs {
		if s == "." || s == ".." || strings.ContainsFunc(s, unsafeRune) {
			return "", model.Errorf(model.Denied, "%s: the path is not clean, so it is not fetched", redact(u))
		}
		if s != "" || i == len(segs)-1 && i > 0 {
			kept = append(kept, s)
		}
	}
	return "/" + strings.ToLower(strings.Join(kept, "/")), nil
}

func unsafeRune(r rune) bool { return r < 0x20 || r == 0x7f || r == '\\' }

// redact is a URL as it may be shown: no user, no query, no fragment.
func redact(u *url.URL) string {
	shown := url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path, RawPath: u.RawPath}
	return shown.String()
}

// parseURL is url.Parse with errors that don't repeat what may be secret.
func parseURL(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	if err != nil {
		return nil, model.Errorf(model.Invalid, "a URL can't be parsed")
	}
	return u, nil
}
