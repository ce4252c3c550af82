package fs

import (
	"context"
	"path"
	"sort"
	"strings"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"modelfs/internal/model"
)

// aliasName is the name under which every model with a single-file GGUF can be
// opened.
const aliasName = "model.gguf"

// cacheTag is what archivers and backups look for at the top of a tree that
// they should pass over (bford.info/cachedir).
const (
	cacheTagName = "CACHEDIR.TAG"
	cacheTagText = "Signature: 8a477f597d28d172789f06886806bc55\n# modelfs shows files that may have to be downloaded; don't archive it.\n"
)

// Lookup answers what name is in a directory.
func (r *rawFS) Lookup(cancel <-chan struct{}, in *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	r.count.lookups.Add(1)
	parent := r.nodes.get(in.NodeId)
	if parent == nil {
		return fuse.Status(unix.ESTALE)
	}
	ctx, end := r.requestContext(cancel, in, leaving)
	defer end()
	n, timeout, err := r.child(ctx, parent, name)
	if err != nil {
		return status(err)
	}
	r.fillEntry(n, timeout, out)
	return fuse.OK
}

func (r *rawFS) fillEntry(n *node, timeout time.Duration, out *fuse.EntryOut) {
	out.NodeId = n.id
	out.Generation = 1
	out.SetEntryTimeout(timeout)
	out.SetAttrTimeout(n.attrTimeout())
	n.fillAttr(&out.Attr, r.owner)
}

// child returns the node of a name, its lookup count raised, and how long the
// kernel may keep the entry.
func (r *rawFS) child(ctx context.Context, parent *node, name string) (*node, time.Duration, error) {
	if parent.kind == kindCtlDir {
		return r.controlChild(parent, name)
	}
	if !parent.kind.isDir() {
		return nil, 0, model.Errorf(model.NotFound, "%s is not a directory", parent.path)
	}
	in := parent.getRole()
	switch {
	case name == model.ControlDir && in.sub == "" && (parent.kind == kindRoot || in.model != ""):
		return r.controlDir(parent, in.model), settledTimeout, nil
	case parent.kind == kindRoot && name == cacheTagName:
		return r.staticFile(path.Join(parent.path, name), cacheTagText), settledTimeout, nil
	case in.model == "":
		return r.named(ctx, parent, name)
	}
	return r.insideModel(ctx, parent, in, name)
}

// named looks up a name in the root or in a namespace.
func (r *rawFS) named(ctx context.Context, parent *node, name string) (*node, time.Duration, error) {
	full, in := join(parent.path, name), parent.getRole()
	entry, err := r.names(in).Lookup(ctx, nameAt(full, in))
	if err != nil {
		return nil, 0, err
	}
	return r.entryNode(ctx, full, in.all, entry)
}

// entryNode returns the node of the entry at a path; all says that it lies in
// .modelfs/all.
func (r *rawFS) entryNode(ctx context.Context, full string, all bool, entry model.Entry) (*node, time.Duration, error) {
	switch as := (role{all: all}); entry.Kind {
	case model.Namespace:
		return r.directory(full, as, entry.ModTime), keep(entry.Settled), nil
	case model.ModelDir:
		as.model = nameAt(full, as)
		return r.directory(full, as, entry.ModTime), keep(entry.Settled), nil
	case model.LooseFile:
		if entry.View != nil && len(entry.View.Files) > 0 {
			return r.file(ctx, bound{entry.View, &entry.View.Files[0], ""})
		}
	}
	return nil, 0, model.Errorf(model.NotFound, "%s is nothing that can be shown", full)
}

// insideModel looks up a name in a model; only the model's own listing
// answers.
func (r *rawFS) insideModel(ctx context.Context, parent *node, in role, name string) (*node, time.Duration, error) {
	view, err := r.names(in).View(ctx, in.model)
	if err != nil {
		return nil, 0, err
	}
	rel := join(in.sub, name)
	if f := view.File(rel); f != nil {
		n, timeout, err := r.file(ctx, bound{view, f, in.model})
		if err == nil && n.kind == kindCold {
			n.remember(nameIn{parent.id, name})
		}
		return n, timeout, err
	}
	if hasDir(view, rel) {
		return r.directory(join(parent.path, name), role{model: in.model, sub: rel, all: in.all}, view.ModTime), keepView(view), nil
	}
	if rel == aliasName && view.Default != "" {
		return r.alias(join(parent.path, name), view), keepView(view), nil
	}
	return nil, 0, model.Errorf(model.NotFound, "%s has no file %s", in.model, rel)
}

// file returns the node of a model's file.
func (r *rawFS) file(ctx context.Context, b bound) (*node, time.Duration, error) {
	v, f := b.view, b.file
	if f.Place != nil {
		there, err := f.Place.Stat(ctx)
		if err != nil {
			return nil, 0, err
		}
		return r.placedFile(ctx, b, there)
	}
	st := r.cfg.Content.State(v.Model, f)
	if place, there := r.elsewhere(ctx, f, st); place != nil {
		here := *f
		here.Place = place
		return r.placedFile(ctx, bound{v, &here, b.path}, there)
	}
	n := &node{size: st.Size, modTime: f.ModTime, ino: inoOf("key", f.Key, f.ModTime.UnixNano()), bound: b}
	n.key = nodeKey{path: string(f.Key), size: st.Size, modTime: f.ModTime.UnixNano()}
	if st.Complete && r.passthrough.store() {
		n.kind = kindBlob
	} else {
		n.kind = kindCold
		n.key.source = v.Source
		n.key.attempt = r.attempt(n.key, st)
	}
	n.key.kind = n.kind
	n = r.node(n)
	if st.Size < 0 {
		return n, 0, nil // the next open knows the size, and then it is another node
	}
	return n, keepView(v), nil
}

// elsewhereWithin is how long a file of a tree that may spare a download is
// waited for. A share that is silent spares none.
const elsewhereWithin = 100 * time.Millisecond

// elsewhere is a file of a tree with the content of one that would have to be
// fetched, and what it is now, or nil. It has to open: one that only another
// user may read spares no download.
func (r *rawFS) elsewhere(ctx context.Context, f *model.File, here model.FileState) (model.Place, model.Stat) {
	if r.cfg.Elsewhere == nil || f.SHA256 == "" || here.Complete {
		return nil, model.Stat{}
	}
	place := r.cfg.Elsewhere(f.SHA256, f.Size)
	if place == nil {
		return nil, model.Stat{}
	}
	ctx, cancel := context.WithTimeout(ctx, elsewhereWithin)
	defer cancel()
	there, ok := f.OpensAt(ctx, place)
	if !ok {
		return nil, model.Stat{}
	}
	return place, there
}

// placedFile returns the node of a file that is read in place and is st now.
// Its entry is never kept: the next open must see a file that replaced it.
func (r *rawFS) placedFile(ctx context.Context, b bound, st model.Stat) (*node, time.Duration, error) {
	f := b.file
	n := &node{size: st.Size, modTime: st.ModTime, ino: inoOf("inode", st.Dev, st.Ino), bound: b}
	n.key = nodeKey{dev: st.Dev, ino: st.Ino}
	if !isRelayed(f.Place) && r.passthrough.usable(ctx, st.Dev, f.Place) {
		n.kind = kindInPlace
	} else {
		n.kind = kindServed
		n.key.size, n.key.modTime = st.Size, st.ModTime.UnixNano()
	}
	n.key.kind = n.kind
	r.nodes.settle(n)
	return r.node(n), 0, nil
}

// isRelayed reports whether a file is read by modelfs whatever the kernel could
// do.
func isRelayed(place model.Place) bool {
	p, ok := place.(interface{ Relayed() bool })
	return ok && p.Relayed()
}

// node returns the node of proto's identity, its lookup count raised, with
// what proto says of it.
func (r *rawFS) node(proto *node) *node {
	n := r.nodes.lookup(proto)
	if n != proto && n.take(proto) {
		r.nodes.save(n)
	}
	return n
}

func (r *rawFS) directory(full string, as role, modTime time.Time) *node {
	return r.node(&node{
		kind: kindDir, path: full, role: as, modTime: modTime, ino: inoOf("dir", full), key: nodeKey{kind: kindDir, path: full},
	})
}

// alias is a symlink; one with another target is another node.
func (r *rawFS) alias(full string, v *model.View) *node {
	return r.node(&node{
		kind: kindAlias, ino: inoOf("alias", full), text: v.Default, size: int64(len(v.Default)), modTime: v.ModTime,
		key: nodeKey{kind: kindAlias, path: full, source: v.Default, modTime: v.ModTime.UnixNano()},
	})
}

func (r *rawFS) staticFile(full, text string) *node {
	return r.node(&node{
		kind: kindStatic, ino: inoOf("static", full), text: text, size: int64(len(text)),
		key: nodeKey{kind: kindStatic, path: full},
	})
}

// keep is the entry timeout of something whose source answered.
func keep(settled bool) time.Duration {
	if settled {
		return settledTimeout
	}
	return 0
}

// keepView is keep for what a model's listing shows; a tree's can change.
func keepView(v *model.View) time.Duration { return keep(v.Settled && !v.Kind.InPlace()) }

func hasDir(v *model.View, rel string) bool {
	prefix := rel + "/"
	i := sort.Search(len(v.Files), func(i int) bool { return v.Files[i].Path >= prefix })
	return i < len(v.Files) && strings.HasPrefix(v.Files[i].Path, prefix)
}

func join(dir, name string) string {
	if dir == "" {
		return name
	}
	return dir + "/" + name
}
