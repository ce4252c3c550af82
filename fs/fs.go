// Package fs is the kernel's door: it shows the tree of models to the kernel
// through FUSE's raw protocol and answers its requests. It is the only
// importer of go-fuse.
//
// It knows the rest of modelfs through the interfaces [Names] and [Content].
//
// Invariants:
//
//  1. A file node's mode (passthrough, or served by this process) is fixed
//     when the node is made, because one inode can't mix the two. Every state
//     of a file has a node id of its own; only Attr.Ino stays. A node id is
//     never used for another thing.
//  2. Size, times, mode and inode number of a node that is being fetched
//     never change, and the kernel is never asked to drop pages: it would wait
//     for pages that a pending read has locked, and could not be killed.
//  3. A directory's node id names a path, never a model.
//  4. A lookup count is raised before the reply that tells the kernel of it.
//  5. An entry notification is sent only for names in a model's directory,
//     never from a request's handler, never with a lock held.
//
// It does not decide what a name means (resolver), nor where bytes come from
// (fetcher), nor does it write anything.
package fs

import (
	"context"
	"fmt"
	"log/slog"
	"sync"

	"github.com/hanwen/go-fuse/v2/fuse"

	"modelfs/internal/model"
)

// Names answers what a path means. Paths are "x" or "org/x", without quotes
// or slashes at the ends.
type Names interface {
	// Lookup answers what path is; it returns within its own time limit.
	Lookup(ctx context.Context, path string) (model.Entry, error)
	// View returns the listing of the model at path.
	View(ctx context.Context, path string) (*model.View, error)
	// Entries lists the root ("") or a namespace.
	Entries(ctx context.Context, dir string) ([]model.Entry, error)
}

// Content gives the bytes of files that have to be fetched.
type Content interface {
	// State says what is here of a file, without I/O.
	State(m *model.Model, file *model.File) model.FileState
	// Open prepares a file for reading. It waits for no byte of the content,
	// except where nobody states the file's length.
	Open(ctx context.Context, v *model.View, file *model.File) (model.Reader, error)
}

// Config says what to mount, where and how. MountPoint, Names and Content are
// required.
type Config struct {
	MountPoint string
	Names      Names
	Content    Content
	// Status is rendered as .modelfs/status.json, Explain as
	// .modelfs/explain/<name>.json. Both must be safe for concurrent use.
	Status  func() any
	Explain func(ctx context.Context, name string) any
	// ColdDeny are the names of programs (as in /proc/<pid>/comm) whose opens
	// of files that would have to be fetched are refused.
	ColdDeny []string
	// AllowOther lets other users in; always so for root.
	AllowOther bool
	UID, GID   uint32 // owner of everything that is shown
	// BackingDir is where statfs gets its numbers from and where a trial file
	// is registered for passthrough.
	BackingDir string
	// StackOn are directories whose files may be handed to the kernel. If one
	// lies on overlayfs or FUSE, the mount's stack depth is 2, else 1.
	StackOn []string
	Log     *slog.Logger
}

// Server is a mounted tree. Its goroutines end with Wait.
type Server struct {
	raw    *rawFS
	server *fuse.Server
	mount  *mountPoint
	done   chan struct{} // closed when the request loop has ended
}

// Mount mounts the tree and returns when the kernel can use it. Its errors
// name the mount point and what to do.
func Mount(cfg Config) (*Server, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	mp, err := openMountPoint(cfg)
	if err != nil {
		return nil, fmt.Errorf("mounting on %s: %w", cfg.MountPoint, err)
	}
	raw := newRawFS(cfg)
	server, err := fuse.NewServer(raw, mp.fusePath(), mp.options(cfg))
	if err != nil {
		mp.abandon()
		return nil, fmt.Errorf("mounting on %s: %w", cfg.MountPoint, err)
	}
	s := &Server{raw: raw, server: server, mount: mp, done: make(chan struct{})}
	raw.probePassthrough()
	raw.notifier.start()
	go s.serve()
	mp.tune(cfg.Log)
	return s, nil
}

func (s *Server) serve() {
	defer close(s.done)
	s.server.Serve()
	s.raw.shutdown()
}

// Wait blocks until the tree is unmounted, by Unmount or by somebody else,
// and every request has been answered.
func (s *Server) Wait() { <-s.done }

// Done is closed when the tree is unmounted.
func (s *Server) Done() <-chan struct{} { return s.done }

// Unmount takes the mount away and releases every reader that waits; what a
// passthrough reader has open stays readable. It does not wait for requests
// that are stuck in the kernel: Wait does.
func (s *Server) Unmount() error { return s.mount.unmount() }

// Leave ends the service but keeps the mount point: the connection is
// aborted, and the next Mount mounts over it, so that containers that bind
// the mount point see the new one.
func (s *Server) Leave() error { return s.mount.abort() }

// Changed tells the kernel to forget the names of a file whose state changed:
// it is complete, or a new attempt began. It does not block.
func (s *Server) Changed(key model.Key, source string) { s.raw.notifier.changed(key, source) }

// Stats counts what the kernel asked of this process since it was mounted.
type Stats struct {
	Lookups     uint64 // names looked up
	Reads       uint64 // READ requests: passthrough reads are not among them
	ReadBytes   uint64 // bytes of their replies
	Passthrough uint64 // opens that were handed to the kernel
	Served      uint64 // opens that this process serves
	Nodes       int    // nodes that the kernel knows now
	Handles     int    // open files and directories now
	Backing     int    // files registered for passthrough now
}

// Stats returns the counters.
func (s *Server) Stats() Stats { return s.raw.stats() }

// background runs goroutines that end with a context; close waits for them.
type background struct {
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

func newBackground() *background {
	b := &background{}
	b.ctx, b.cancel = context.WithCancel(context.Background())
	return b
}

func (b *background) run(f func(ctx context.Context)) { b.wg.Go(func() { f(b.ctx) }) }

func (b *background) close() {
	b.cancel()
	b.wg.Wait()
}
