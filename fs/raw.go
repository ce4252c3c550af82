package fs

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// rawFS answers the kernel's requests. What it does not implement is ENOSYS,
// which the kernel remembers; what would write is refused by the kernel
// itself, because the mount is read-only.
type rawFS struct {
	fuse.RawFileSystem // the defaults
	cfg                Config
	log                *slog.Logger
	nodes              *nodeTable
	handles            *handleTable
	passthrough        *passthrough
	notifier           *notifier
	bg                 *background
	deny               map[string]bool // programs of ColdDeny
	server             *fuse.Server    // set by Init, before the first request
	conn               *connection     // set before the first request; nil: not known
	owner              fuse.Owner
	// attempts is the first attempt of this server for contents of which an
	// earlier one made nodes. It does not change once requests come.
	attempts map[contentID]uint32

	count struct{ lookups, reads, readBytes, passthrough, served atomic.Uint64 }
}

func newRawFS(cfg Config, l *ledger) *rawFS {
	r := &rawFS{
		RawFileSystem: fuse.NewDefaultRawFileSystem(),
		cfg:           cfg,
		log:           cfg.Log,
		nodes:         newNodeTable(l),
		handles:       newHandleTable(l),
		deny:          make(map[string]bool),
		owner:         fuse.Owner{Uid: cfg.UID, Gid: cfg.GID},
		attempts:      make(map[contentID]uint32),
	}
	for _, program := range cfg.ColdDeny {
		r.deny[program] = true
	}
	r.passthrough = &passthrough{log: cfg.Log, devices: make(map[uint64]bool), opening: make(chan struct{}, maxOpening)}
	r.bg = newBackground()
	r.notifier = newNotifier(r)
	return r
}

// String names the filesystem; go-fuse asks for it.
func (r *rawFS) String() string { return "modelfs" }

// Init is called by go-fuse after the handshake, before the first request.
func (r *rawFS) Init(s *fuse.Server) {
	r.server = s
	r.passthrough.registry = s
	r.passthrough.offered = s.KernelSettings().Flags64()&fuse.CAP_PASSTHROUGH != 0
}

// shutdown lets go of everything that the kernel can't ask for any more.
func (r *rawFS) shutdown() {
	r.bg.close()
	for _, h := range r.handles.clear() {
		r.closeHandle(h)
	}
}

func (r *rawFS) stats() Stats {
	return Stats{
		Lookups:     r.count.lookups.Load(),
		Reads:       r.count.reads.Load(),
		ReadBytes:   r.count.readBytes.Load(),
		Passthrough: r.count.passthrough.Load(),
		Served:      r.count.served.Load(),
		Nodes:       r.nodes.len(),
		Handles:     r.handles.len(),
		Backing:     r.passthrough.registered(),
	}
}

// panicked turns a panic in a handler into EIO for one request.
func (r *rawFS) panicked(v any) fuse.Status {
	r.log.Error("a request ended in a panic", "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
	return fuse.EIO
}

// Forget lowers a node's lookup count.
func (r *rawFS) Forget(nodeID, count uint64) { r.nodes.forget(nodeID, count) }

// GetAttr answers from the node; nothing is asked of anybody.
func (r *rawFS) GetAttr(_ <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	n := r.nodes.get(in.NodeId)
	if n == nil {
		return fuse.Status(unix.ESTALE)
	}
	n.fillAttr(&out.Attr, r.owner)
	out.SetTimeout(n.attrTimeout())
	return fuse.OK
}

// Readlink answers an alias's target.
func (r *rawFS) Readlink(_ <-chan struct{}, in *fuse.InHeader) ([]byte, fuse.Status) {
	n := r.nodes.get(in.NodeId)
	if n == nil || n.kind != kindAlias {
		return nil, fuse.EINVAL
	}
	return []byte(n.text), fuse.OK
}

// StatFs shows the filesystem that the backing dir lies on.
func (r *rawFS) StatFs(_ <-chan struct{}, _ *fuse.InHeader, out *fuse.StatfsOut) fuse.Status {
	var st unix.Statfs_t
	if r.cfg.BackingDir != "" && unix.Statfs(r.cfg.BackingDir, &st) == nil {
		out.Blocks, out.Bfree, out.Bavail = st.Blocks, st.Bfree, st.Bavail
		out.Files, out.Ffree = st.Files, st.Ffree
		out.Bsize, out.Frsize = uint32(st.Bsize), uint32(st.Frsize)
	} else {
		out.Bsize, out.Frsize = blockSize, blockSize
	}
	out.NameLen = 255
	return fuse.OK
}

// Fsync has nothing to do: nothing is ever written.
func (r *rawFS) Fsync(<-chan struct{}, *fuse.FsyncIn) fuse.Status { return fuse.OK }

// FsyncDir has nothing to do either.
func (r *rawFS) FsyncDir(<-chan struct{}, *fuse.FsyncIn) fuse.Status { return fuse.OK }

// Flush is asked of by kernels that don't know FOPEN_NOFLUSH.
func (r *rawFS) Flush(<-chan struct{}, *fuse.FlushIn) fuse.Status { return fuse.OK }

// Statx is left to GetAttr.
func (r *rawFS) Statx(<-chan struct{}, *fuse.StatxIn, *fuse.StatxOut) fuse.Status {
	return fuse.ENOSYS
}

// requestContext is the context of one request. It ends when gone says so of
// the caller's thread; the handler calls end when it has answered.
//
// The kernel says that a signal came, whichever: a profiler's timer or a child
// that ended, too. No program expects stat to fail for these, and few that open
// does, so the request goes on unless the caller is gone, or the connection
// ends.
func (r *rawFS) requestContext(cancel <-chan struct{}, header *fuse.InHeader, gone func(tid uint32) bool) (request context.Context, end func()) {
	ctx, leave := context.WithCancel(context.Background())
	tid := header.Pid
	unhook := context.AfterFunc(&fuse.Context{Cancel: cancel}, func() {
		r.awaitGone(ctx, tid, gone)
		leave()
	})
	if r.conn.ended() {
		leave()
	}
	return ctx, func() {
		unhook()
		leave()
	}
}

// awaitGone waits until a thread is gone, or the request or the connection has
// ended. The kernel speaks of the first signal only, so later ones are looked
// for.
func (r *rawFS) awaitGone(ctx context.Context, tid uint32, gone func(tid uint32) bool) {
	tick := time.NewTicker(signalCheck)
	defer tick.Stop()
	for !gone(tid) && !r.conn.ended() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// threadDir is /proc's directory of the caller's thread; pid 0 is a caller
// that this process can't see (another pid namespace).
func threadDir(pid uint32) string { return fmt.Sprintf("/proc/%d/", pid) }

func readSmall(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	return string(b)
}
