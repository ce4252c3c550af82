package resolver

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"modelfs/internal/model"
)

// A confinement says which names belong to which sources. Patterns are globs
// of path.Match on "org/repo" or "repo", ignoring case, because the Hub does.
type confinement []rule

type rule struct {
	pattern string
	allowed []string // kinds ("local", "shared", "hub", "router") or IDs of sources
}

func newConfinement(c map[string][]string) confinement {
	var rules confinement
	for p, allowed := range c {
		rules = append(rules, rule{strings.ToLower(p), allowed})
	}
	slices.SortFunc(rules, func(a, b rule) int { return strings.Compare(a.pattern, b.pattern) })
	return rules
}

// CheckConfine says what is wrong with a confinement: a pattern that is
// malformed, or a source that is neither a kind nor the ID of one of sources.
// The error is of kind Invalid.
func CheckConfine(c map[string][]string, sources []Source) error {
	known := map[string]bool{}
	for kind := model.Local; kind <= model.Router; kind++ {
		known[kind.String()] = true
	}
	for _, s := range sources {
		known[s.ID()] = true
	}
	for p, allowed := range c {
		if _, err := path.Match(p, ""); err != nil || p == "" {
			return model.Errorf(model.Invalid, "sources: %q is not a pattern of names; write one like \"acme/*\"", p)
		}
		for _, a := range allowed {
			if !known[a] {
				return model.Errorf(model.Invalid, "sources: %q allows %q, which is not configured; write local, shared, hub, router, or the ID of a source", p, a)
			}
		}
	}
	return nil
}

// allows reports whether a source may be asked for n. Of several patterns that
// match, each must allow it. The organisation of a pattern is confined with
// it: nobody else says that "acme" is a namespace.
func (c confinement) allows(n model.Name, id string, kind model.SourceKind) bool {
	return c.forbids(n, id, kind) == ""
}

func (c confinement) forbids(n model.Name, id string, kind model.SourceKind) string {
	name := strings.ToLower(n.Path())
	for _, r := range c {
		if r.matches(name, n.Org == "") && !slices.Contains(r.allowed, id) && !slices.Contains(r.allowed, kind.String()) {
			return fmt.Sprintf("the configuration confines %s to %s", r.pattern, strings.Join(r.allowed, ", "))
		}
	}
	return ""
}

func (r rule) matches(name string, single bool) bool {
	if ok, err := path.Match(r.pattern, name); ok || err != nil && r.pattern == name {
		return true
	}
	org, rest, two := strings.Cut(r.pattern, "/")
	if !single || !two || rest != "*" {
		return false
	}
	ok, _ := path.Match(org, name)
	return ok
}

// excludes says why a source is not asked for n, or "". Names that only files
// have, and names that no repository can have, are never asked of the network.
func (c confinement) excludes(n model.Name, a *asker) string {
	switch {
	case a.kind.InPlace():
	case model.LooksLikeFile(n.Repo):
		return "the name is that of a file, which is not asked of the network"
	case !model.ValidRepoPart(n.Repo) || n.Org != "" && !model.ValidRepoPart(n.Org):
		return "no repository can have the name"
	}
	return c.forbids(n, a.id, a.kind)
}
