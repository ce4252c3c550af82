package ollama

import (
	"fmt"
	"path"
	"slices"

	"modelfs/internal/model"
	"modelfs/source/internal/tree"
)

const (
	ownHost    = "registry.ollama.ai"
	library    = "library" // the namespace that short names leave out
	defaultTag = "latest"
)

// hubHosts are names of the Hugging Face Hub, whose namespaces and models are
// organisations and repositories, and whose tags are quantisations.
var hubHosts = []string{"hf.co", "huggingface.co"}

func isHub(host string) bool { return slices.Contains(hubHosts, host) }

// A ref is one manifest: a model with a tag, as the store spells it.
type ref struct {
	host, namespace, model, tag string
}

// dir is the directory of as much of r as is known.
func (r ref) dir() string { return path.Join("manifests", r.host, r.namespace, r.model) }

func (r ref) path() string { return path.Join(r.dir(), r.tag) }

// name is what modelfs calls it, or "" if no model can have that name.
func (r ref) name() string {
	name := r.model
	if r.host != ownHost || r.namespace != library {
		name = r.namespace + "/" + r.model
	}
	if r.tag != defaultTag {
		name += ":" + r.tag
	}
	if n, err := model.ParseName(name); err != nil || n.Revision != "" {
		return ""
	}
	return name
}

// hosts are those of the store, in the order in which they are believed: the
// Hub first, because its repositories are what org/repo means everywhere else.
func (l *look) hosts() ([]string, error) {
	have, err := l.list("manifests")
	if err != nil {
		return nil, err
	}
	var ordered []string
	for _, h := range append(slices.Clone(hubHosts), ownHost) {
		if tree.Has(have.Dirs, h) {
			ordered = append(ordered, h)
		}
	}
	for _, h := range have.Dirs {
		if h != ownHost && !isHub(h) {
			ordered = append(ordered, h)
		}
	}
	return ordered, nil
}

// nameless is why a Hub repository without a quantisation is a last resort.
const nameless = "Ollama keeps only one file of this repository, without its name"

// A look is one operation's view of the manifests.
type look struct {
	*tree.Look
	tree *tree.Tree
	s    *Source
}

// look begins an operation; the caller calls release when it is over.
func (s *Source) look() (l *look, release func(), err error) {
	held, release, err := s.Tree.Hold()
	if err != nil {
		return nil, nil, err
	}
	return &look{s.dirs.LookAt(held), held, s}, release, nil
}

// list is the listing of a directory; one that is not there is empty.
func (l *look) list(rel string) (*tree.Listing, error) {
	d, err := l.Dir(rel)
	if model.IsKind(err, model.NotFound) {
		return &tree.Listing{}, nil
	}
	return d, err
}

// locate is the manifest that n names: its tag, or latest, or for a Hub
// repository without one the only tag that is here.
func (l *look) locate(n model.Name) (ref, error) {
	if n.Revision != "" {
		return ref{}, model.Errorf(model.NotFound, "%s: this store records no revisions", n)
	}
	if n.Org == "" || n.Org == library {
		return l.locateAt(ownHost, library, n)
	}
	hosts, err := l.hosts()
	if err != nil {
		return ref{}, err
	}
	for _, h := range hosts {
		r, err := l.locateAt(h, n.Org, n)
		if err == nil || !model.IsKind(err, model.NotFound) {
			return r, err
		}
	}
	return ref{}, l.s.Absent(n)
}

func (l *look) locateAt(host, namespace string, n model.Name) (ref, error) {
	r := ref{host: host}
	for _, step := range []struct {
		want string
		have *string
	}{{namespace, &r.namespace}, {n.Repo, &r.model}} {
		in, err := l.list(r.dir())
		if err != nil {
			return ref{}, err
		}
		name, ok := tree.Match(in.Dirs, step.want)
		if !ok {
			return ref{}, l.s.Absent(n)
		}
		*step.have = name
	}
	return l.tagged(r, n)
}

func (l *look) tagged(r ref, n model.Name) (ref, error) {
	in, err := l.list(r.dir())
	if err != nil {
		return ref{}, err
	}
	tag := n.Quant
	if tag == "" {
		tag = defaultTag
	}
	var ok bool
	if r.tag, ok = tree.Match(in.Files, tag); ok {
		return r, nil
	}
	if n.Quant == "" && isHub(r.host) && len(in.Files) == 1 {
		r.tag = in.Files[0]
		return r, nil
	}
	return ref{}, fmt.Errorf("%w; its tags are %.200q", l.s.Absent(n), in.Files)
}

// find is Find, for the goroutine that may get stuck.
func (s *Source) find(n model.Name) (model.Found, error) {
	l, release, err := s.look()
	if err != nil {
		return model.Found{}, err
	}
	defer release()
	r, err := l.locate(n)
	if model.IsKind(err, model.NotFound) && n.Org == "" && n.Quant == "" && n.Revision == "" {
		found, nsErr := l.namespace(n.Repo)
		if nsErr == nil || !model.IsKind(nsErr, model.NotFound) {
			return found, nsErr
		}
	}
	if err != nil {
		return model.Found{}, err
	}
	found := model.Found{Kind: model.ModelDir, Name: r.name()}
	if found.Name == "" {
		return model.Found{}, s.Absent(n)
	}
	m, err := l.manifest(r)
	if model.IsKind(err, model.Invalid) {
		found.Broken = err.Error()
		return found, nil
	}
	if err != nil {
		return model.Found{}, err
	}
	found.ModTime = m.stamp.ModTime()
	found.Broken, err = l.broken(m)
	if found.Broken == "" && n.Quant == "" && isHub(r.host) {
		found.Broken = nameless
	}
	return found, err
}

// namespace finds the namespace called org: one with a model at any host.
func (l *look) namespace(org string) (model.Found, error) {
	hosts, err := l.hosts()
	if err != nil {
		return model.Found{}, err
	}
	for _, h := range hosts {
		in, err := l.list(path.Join("manifests", h))
		if err != nil {
			return model.Found{}, err
		}
		name, ok := tree.Match(in.Dirs, org)
		if !ok {
			continue
		}
		some, err := l.anyTag(path.Join("manifests", h, name))
		if err != nil {
			return model.Found{}, err
		}
		if some {
			return model.Found{Kind: model.Namespace, Name: name}, nil
		}
	}
	return model.Found{}, l.s.Absent(model.Name{Repo: org})
}

func (l *look) anyTag(namespace string) (bool, error) {
	in, err := l.list(namespace)
	if err != nil {
		return false, err
	}
	for _, m := range in.Dirs {
		tags, err := l.list(path.Join(namespace, m))
		if err != nil {
			return false, err
		}
		if len(tags.Files) > 0 {
			return true, nil
		}
	}
	return false, nil
}
