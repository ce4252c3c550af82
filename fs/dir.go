package fs

import (
	"cmp"
	"context"
	"path"
	"slices"
	"sort"
	"strings"
	"sync"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"modelfs/internal/model"
)

// A listing is what one open of a directory shows, in the order of cookies.
type listing struct {
	mu      sync.Mutex // guards what follows; not held across I/O
	entries []dirent
	stale   bool // the entries must be read again before offset 0, or before anything
}

// A dirent is one entry of a listing. Its cookie is made from its name, not
// from its place, so that it means the same in the next listing and in the
// next process.
type dirent struct {
	name   string
	mode   uint32
	cookie uint64
	// node looks the entry up without asking anybody, its lookup count raised;
	// nil where that is not possible.
	node func(ctx context.Context) (*node, time.Duration, error)
}

// The cookies of "." and ".."; those of names begin after them.
const (
	cookieSelf   = 1
	cookieParent = 2
)

// OpenDir takes the listing.
func (r *rawFS) OpenDir(cancel <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	n := r.nodes.get(in.NodeId)
	if n == nil {
		return fuse.Status(unix.ESTALE)
	}
	if fh, h := r.handles.again(in.Unique, in.NodeId); h != nil {
		out.Fh = fh
		return fuse.OK
	}
	ctx, end := r.requestContext(cancel, &in.InHeader, leaving)
	defer end()
	entries, err := r.list(ctx, n)
	if err != nil {
		return status(err)
	}
	out.Fh = r.handles.add(&handle{node: n, unique: in.Unique &^ uniqueResent, dir: &listing{entries: entries}})
	return fuse.OK
}

// ReleaseDir ends a directory's open.
func (r *rawFS) ReleaseDir(in *fuse.ReleaseIn) { r.handles.remove(in.Fh) }

// ReadDir lists names.
func (r *rawFS) ReadDir(cancel <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	ctx, end := r.requestContext(cancel, &in.InHeader, leaving)
	defer end()
	return r.readDir(ctx, in, func(n *node, e dirent) bool {
		return out.AddDirEntry(fuse.DirEntry{Name: e.name, Mode: e.mode, Ino: entryIno(n, e), Off: e.cookie})
	})
}

// ReadDirPlus lists names with their attributes, where these cost nothing.
func (r *rawFS) ReadDirPlus(cancel <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	ctx, end := r.requestContext(cancel, &in.InHeader, leaving)
	defer end()
	return r.readDir(ctx, in, func(n *node, e dirent) bool {
		entry := out.AddDirLookupEntry(fuse.DirEntry{Name: e.name, Mode: e.mode, Ino: entryIno(n, e), Off: e.cookie})
		if entry == nil {
			return false
		}
		if e.node == nil {
			return true
		}
		if found, timeout, err := e.node(ctx); err == nil {
			r.fillEntry(found, timeout, entry)
		}
		return true
	})
}

// entryIno is what d_ino shows; only whether it is there matters before the
// entry is looked up.
func entryIno(n *node, e dirent) uint64 { return inoOf("entry", n.path, e.name) }

func (r *rawFS) readDir(ctx context.Context, in *fuse.ReadIn, add func(*node, dirent) bool) fuse.Status {
	h := r.handles.get(in.Fh)
	if h == nil || h.dir == nil {
		return fuse.EBADF
	}
	entries, err := r.entriesFrom(ctx, h, in.Offset)
	if err != nil {
		return status(err)
	}
	for _, e := range entries {
		if !add(h.node, e) {
			break
		}
	}
	return fuse.OK
}

// entriesFrom returns what comes after a cookie. Offset 0 for the second time
// is rewinddir(), which must see the directory as it is now.
func (r *rawFS) entriesFrom(ctx context.Context, h *handle, cookie uint64) ([]dirent, error) {
	h.dir.mu.Lock()
	entries, again := h.dir.entries, h.dir.stale && (cookie == 0 || h.dir.entries == nil)
	h.dir.stale = true
	h.dir.mu.Unlock()
	if again {
		fresh, err := r.list(ctx, h.node)
		if err != nil {
			return nil, err
		}
		h.dir.mu.Lock()
		h.dir.entries, entries = fresh, fresh
		h.dir.mu.Unlock()
	}
	i := sort.Search(len(entries), func(i int) bool { return entries[i].cookie > cookie })
	return entries[i:], nil
}

// list makes the entries of a directory.
func (r *rawFS) list(ctx context.Context, n *node) ([]dirent, error) {
	var entries []dirent
	var err error
	switch {
	case n.kind == kindCtlDir:
		entries = r.controlEntries(n)
	case n.getRole().model == "":
		entries, err = r.listNames(ctx, n)
	default:
		entries, err = r.listModel(ctx, n)
	}
	if err != nil {
		return nil, err
	}
	return withCookies(entries), nil
}

// listNames lists the root or a namespace: what is known, nobody is asked for
// an entry of it.
func (r *rawFS) listNames(ctx context.Context, n *node) ([]dirent, error) {
	in := n.getRole()
	known, err := r.names(in).Entries(ctx, nameAt(n.path, in))
	if err != nil {
		return nil, err
	}
	entries := make([]dirent, 0, len(known))
	for _, e := range known {
		d := dirent{name: e.Name, mode: unix.S_IFDIR}
		if e.Kind == model.LooseFile {
			d.mode = unix.S_IFREG
		} else {
			d.node = func(ctx context.Context) (*node, time.Duration, error) {
				return r.entryNode(ctx, join(n.path, e.Name), in.all, e)
			}
		}
		entries = append(entries, d)
	}
	return entries, nil
}

// listModel lists a model's directory or one inside it.
func (r *rawFS) listModel(ctx context.Context, n *node) ([]dirent, error) {
	in := n.getRole()
	view, err := r.names(in).View(ctx, in.model)
	if err != nil {
		return nil, err
	}
	var entries []dirent
	seen := ""
	for _, f := range shown(view, in.sub) {
		name, rest, deeper := strings.Cut(f.Path[prefixLen(in.sub):], "/")
		if name == seen {
			continue
		}
		seen = name
		mode := uint32(unix.S_IFREG)
		if deeper && rest != "" {
			mode = unix.S_IFDIR
		}
		entries = append(entries, r.modelDirent(n, in, name, mode))
	}
	if in.sub == "" && view.Default != "" && view.File(aliasName) == nil {
		entries = append(entries, r.modelDirent(n, in, aliasName, unix.S_IFLNK))
	}
	return entries, nil
}

func (r *rawFS) modelDirent(n *node, in role, name string, mode uint32) dirent {
	return dirent{name: name, mode: mode, node: func(ctx context.Context) (*node, time.Duration, error) {
		return r.insideModel(ctx, n, in, name)
	}}
}

// shown returns the files below sub that are not hidden.
func shown(v *model.View, sub string) []model.File {
	files := v.Files
	if sub != "" {
		prefix := sub + "/"
		i := sort.Search(len(files), func(i int) bool { return files[i].Path >= prefix })
		j := i + sort.Search(len(files)-i, func(j int) bool { return !strings.HasPrefix(files[i+j].Path, prefix) })
		files = files[i:j]
	}
	if len(v.Hidden) == 0 {
		return files
	}
	kept := make([]model.File, 0, len(files))
	for _, f := range files {
		if !v.Hidden[f.Path] {
			kept = append(kept, f)
		}
	}
	return kept
}

func prefixLen(sub string) int {
	if sub == "" {
		return 0
	}
	return len(sub) + 1
}

// withCookies puts entries in the order of their cookies, "." and ".." first.
func withCookies(entries []dirent) []dirent {
	for i := range entries {
		entries[i].cookie = inoOf("cookie", entries[i].name)>>1 + cookieParent + 1
	}
	slices.SortFunc(entries, func(a, b dirent) int {
		return cmp.Or(cmp.Compare(a.cookie, b.cookie), cmp.Compare(a.name, b.name))
	})
	for i := 1; i < len(entries); i++ {
		if entries[i].cookie <= entries[i-1].cookie {
			entries[i].cookie = entries[i-1].cookie + 1
		}
	}
	return append([]dirent{
		{name: ".", mode: unix.S_IFDIR, cookie: cookieSelf},
		{name: "..", mode: unix.S_IFDIR, cookie: cookieParent},
	}, entries...)
}

// base is the last segment of a directory's path.
func base(p string) string { return path.Base(p) }
