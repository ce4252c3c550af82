package fs

import (
	"context"
	"strings"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"modelfs/internal/model"
)

// fopenNoFlush tells the kernel that close() needs no FLUSH (fuse.h, 1<<5).
const fopenNoFlush = 1 << 5

// Open opens a file in the way that its node was made for.
func (r *rawFS) Open(cancel <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	n := r.nodes.get(in.NodeId)
	if n == nil {
		return fuse.Status(unix.ESTALE)
	}
	if r.openedBefore(in, out) {
		return fuse.OK
	}
	ctx, end := r.requestContext(cancel, &in.InHeader, leaving)
	defer end()
	h := &handle{node: n, unique: in.Unique &^ uniqueResent}
	var err error
	switch n.kind {
	case kindInPlace:
		err = r.openInPlace(ctx, h, out)
	case kindServed:
		err = r.openServed(ctx, h, out)
	case kindBlob:
		err = r.openBlob(ctx, h, out)
	case kindCold:
		err = r.openCold(ctx, h, in.Caller.Pid, out)
	case kindStatic:
		h.reader = textReader(n.text)
		out.OpenFlags = fuse.FOPEN_KEEP_CACHE
	case kindCtlFile:
		h.reader, err = r.controlText(ctx, n)
		out.OpenFlags = fuse.FOPEN_DIRECT_IO
	default:
		return fuse.EINVAL
	}
	if err != nil {
		r.closeHandle(h)
		return status(err)
	}
	if h.pinned {
		r.count.passthrough.Add(1)
	} else {
		r.count.served.Add(1)
	}
	out.OpenFlags |= fopenNoFlush
	out.Fh = r.handles.add(h)
	return fuse.OK
}

// openedBefore answers an open that the kernel sends again although an earlier
// server has made it: only the reply was lost.
func (r *rawFS) openedBefore(in *fuse.OpenIn, out *fuse.OpenOut) bool {
	fh, h := r.handles.again(in.Unique, in.NodeId)
	if h == nil {
		return false
	}
	out.Fh, out.OpenFlags = fh, fopenNoFlush
	switch {
	case h.pinned:
		h.node.mu.Lock()
		out.BackingID = h.node.backing.id
		h.node.mu.Unlock()
		out.OpenFlags |= fuse.FOPEN_PASSTHROUGH
	case h.node.kind == kindCold || h.node.kind == kindStatic:
		out.OpenFlags |= fuse.FOPEN_KEEP_CACHE
	default:
		out.OpenFlags |= fuse.FOPEN_DIRECT_IO
	}
	return true
}

// Release may come twice after a restart of the connection's server.
func (r *rawFS) Release(_ <-chan struct{}, in *fuse.ReleaseIn) {
	if h := r.handles.remove(in.Fh); h != nil {
		r.closeHandle(h)
	}
}

// openInPlace hands a tree's file to the kernel. Another file under the name
// is ESTALE, on which the kernel looks the name up again by itself; another
// size or time is not: a file that is being copied in must open.
func (r *rawFS) openInPlace(ctx context.Context, h *handle, out *fuse.OpenOut) error {
	n, b := h.node, h.node.getBound()
	place := b.file.Place
	// Also where the node's file is registered already: only an open finds out
	// what lies on NFS now.
	f, st, err := place.Open(ctx)
	if err != nil {
		return b.unplaced(err)
	}
	defer f.Close() // the kernel keeps a reference of its own
	if !n.same(st) {
		return stale(place)
	}
	id, err := r.passthrough.acquire(ctx, n, f)
	if err != nil {
		return b.unplaced(err)
	}
	h.pinned = true
	out.OpenFlags, out.BackingID = fuse.FOPEN_PASSTHROUGH, id
	return nil
}

// unplaced makes the error of a file that spared a download, and is gone now,
// one on which the kernel looks the name up again: it can be fetched.
func (b bound) unplaced(err error) error {
	if b.view.Kind.InPlace() || !model.IsKind(err, model.NotFound) {
		return err
	}
	return model.Errorf(model.Stale, "%s has to be fetched after all: %w", b.file.Path, err)
}

func (n *node) same(st model.Stat) bool { return st.Dev == n.key.dev && st.Ino == n.key.ino }

func stale(place model.Place) error {
	return model.Errorf(model.Stale, "%s was replaced by another file", place.Path())
}

// openServed opens a tree's file that the kernel does not take. The page
// cache is kept only while the file is what the node was made for; else the
// reads go past it, for pages in use must never be dropped.
func (r *rawFS) openServed(ctx context.Context, h *handle, out *fuse.OpenOut) (err error) {
	n, b := h.node, h.node.getBound()
	if n.hasMoved() {
		h.reader, err = r.relayedLater(n, b)
		out.OpenFlags = fuse.FOPEN_KEEP_CACHE
		return err
	}
	place := b.file.Place
	reader, st, err := place.Reader(ctx)
	if err != nil {
		return b.unplaced(err)
	}
	h.reader = reader
	switch {
	case !n.same(st):
		return stale(place)
	case st.Size == n.key.size && st.ModTime.UnixNano() == n.key.modTime:
		h.reader = r.relayed(n, b, reader, st)
		out.OpenFlags = fuse.FOPEN_KEEP_CACHE
	default:
		out.OpenFlags = fuse.FOPEN_DIRECT_IO
	}
	return nil
}

// relayed is what reads a file of a share that is not handed to the kernel.
// All opens of a node are of one relay, as they share its pages.
func (r *rawFS) relayed(n *node, b bound, reader model.Reader, st model.Stat) model.Reader {
	if relay := r.relayOf(n, b, st); relay != nil {
		return relay.Reader(reader)
	}
	return reader
}

// relayedLater is relayed for a share that may hang: the file is opened by the
// first read that needs it. It must still be what the node was made for.
func (r *rawFS) relayedLater(n *node, b bound) (model.Reader, error) {
	st := model.Stat{Dev: n.key.dev, Ino: n.key.ino, Size: n.key.size, ModTime: time.Unix(0, n.key.modTime)}
	relay := r.relayOf(n, b, st)
	if relay == nil {
		return nil, model.Errorf(model.Stale, "%s was read from another source than its share", b.file.Path)
	}
	return relay.Reader(nil), nil
}

// relayOf is the relay of a node, made if there is none; nil if it needs none.
func (r *rawFS) relayOf(n *node, b bound, st model.Stat) Relay {
	if have := n.getRelay(); have != nil || r.cfg.Relay == nil || n.kind != kindServed {
		return have
	}
	made := r.cfg.Relay(b.view, b.file, st, n.older, n.moved)
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.relay == nil {
		n.relay = made
	}
	return n.relay
}

// openBlob hands a complete file of the backing dir to the kernel. One that
// was evicted since it was looked up is ESTALE: the kernel asks again, and
// gets a node that fetches.
func (r *rawFS) openBlob(ctx context.Context, h *handle, out *fuse.OpenOut) error {
	b := h.node.getBound()
	reader, err := r.cfg.Content.Open(ctx, b.view, b.file)
	if err != nil {
		return err
	}
	h.reader = reader
	f := reader.File()
	if f == nil {
		return model.Errorf(model.Stale, "%s is not in the backing dir any more", b.file.Path)
	}
	id, err := r.passthrough.acquire(ctx, h.node, f)
	if err != nil {
		return err
	}
	h.pinned = true
	r.noteStored(h)
	out.OpenFlags, out.BackingID = fuse.FOPEN_PASSTHROUGH, id
	return nil
}

// openCold opens a file that has to be fetched. Where nobody stated its
// length the content's Open has waited for the end; the node that shows size
// 0 is then stale, and the kernel looks up the one with the true size.
func (r *rawFS) openCold(ctx context.Context, h *handle, pid uint32, out *fuse.OpenOut) error {
	n, b := h.node, h.node.getBound()
	if err := r.mayOpenCold(pid, b); err != nil {
		return err
	}
	reader, err := r.cfg.Content.Open(ctx, b.view, b.file)
	if err != nil {
		return err
	}
	h.reader = reader
	if reader.Size() != n.key.size {
		return model.Errorf(model.Stale, "%s has another length now", b.file.Path)
	}
	if n.failed(r) { // the kernel's pages of the node are wrong
		return model.Errorf(model.Stale, "%s turned out corrupt and is fetched anew", b.file.Path)
	}
	out.OpenFlags = fuse.FOPEN_KEEP_CACHE
	return nil
}

// noteStored says once for each open that bytes of the file are here.
func (r *rawFS) noteStored(h *handle) {
	if r.cfg.Stored == nil {
		return
	}
	h.stored.Do(func() {
		if b := h.node.getBound(); b.path != "" {
			r.cfg.Stored(b.path, b.view.Model)
		}
	})
}

// mayOpenCold refuses programs that read everything they find: an indexer
// must not download the world.
func (r *rawFS) mayOpenCold(pid uint32, b bound) error {
	if len(r.deny) == 0 || pid == 0 || r.cfg.Content.State(b.view.Model, b.file).Complete {
		return nil
	}
	program := callerProgram(pid)
	if !r.deny[program] {
		return nil
	}
	return model.Errorf(model.Denied, "%s is on cold_deny: it may read only what is already here", program)
}

// callerProgram is the name of the program that a thread runs: its process's
// name, for threads may have names of their own.
func callerProgram(tid uint32) string {
	for line := range strings.Lines(readSmall(threadDir(tid) + "status")) {
		if tgid, ok := strings.CutPrefix(line, "Tgid:"); ok {
			return strings.TrimSpace(readSmall("/proc/" + strings.TrimSpace(tgid) + "/comm"))
		}
	}
	return ""
}
