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
	"log/slog"
	"os"
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
	// All is Names with nothing left out, shown as .modelfs/all; nil: there is
	// no such directory.
	All Names
	// Elsewhere is where a file that would have to be fetched lies on this
	// machine all the same, by its sha256 and size (-1: unknown); nil: nowhere.
	// It does no I/O. The function may be nil.
	Elsewhere func(sha256 string, size int64) model.Place
	// Status is rendered as .modelfs/status.json, Explain as
	// .modelfs/explain/<name>.json. Both must be safe for concurrent use.
	Status  func() any
	Explain func(ctx context.Context, name string) any
	// Stored is told, once for each open, that bytes of the model at path are
	// here now; nil: nobody wants to know. It must not block.
	Stored func(path string, m *model.Model)
	// ColdDeny are the names of programs (as in /proc/<pid>/comm) whose opens
	// of files that would have to be fetched are refused.
	ColdDeny   []string
	AllowOther bool   // users may use the mount who did not make it
	UID, GID   uint32 // owner of everything that is shown
	// BackingDir is where statfs gets its numbers from and where a trial file
	// is registered for passthrough.
	BackingDir string
	// StackOn are directories on this machine whose files may be handed to the
	// kernel. If one lies on overlayfs or FUSE, or with Stacked, the mount's
	// stack depth is 2, else 1.
	StackOn []string
	Stacked bool
	// Places finds a file of a tree again after a restart: source is the ID of
	// the source that listed it, path what Place.Path said. nil: none is found.
	Places func(source, path string) model.Place
	// Relay makes what reads a file of a share that is not handed to the
	// kernel; nil, or a nil result: its place does. older says that the kernel
	// may have pages of the file from an earlier server, moved what that one's
	// Relay.Moved said.
	Relay func(v *model.View, f *model.File, st model.Stat, older bool, moved string) Relay
	Log   *slog.Logger
}

// A Relay reads one file of a share. It lives as long as the kernel knows the
// file, for whose pages it answers.
type Relay interface {
	// Reader takes over the share's reader, or opens one itself if it is nil.
	Reader(share model.Reader) model.Reader
	// Moved is not "" once the file is read from elsewhere, for ever: the
	// identity of that content. Who opens the file anew gets another node.
	Moved() string
}

// Connection is what a supervisor keeps of a mount, so that one server can
// take it over from another. It owns the files.
type Connection struct {
	Device *os.File // /dev/fuse, mounted
	Ledger *os.File // from NewLedger, empty for the first server
	Init   []byte   // what the first server's Handshake returned; nil for the first
}

// NewLedger makes the memory file in which servers note what the kernel was
// told. The caller closes it.
func NewLedger() (*os.File, error) { return newLedgerFile() }

// Server is a mounted tree. Its goroutines end with Wait.
type Server struct {
	raw    *rawFS
	server *fuse.Server
	ledger *ledger
	mount  *MountPoint   // nil where a supervisor holds it
	done   chan struct{} // closed when the request loop has ended
}

// Mount mounts the tree and returns when the kernel can use it. Its errors
// name the mount point and what to do.
func Mount(cfg Config) (*Server, error) {
	mp, err := OpenMountPoint(cfg.MountPoint, cfg.AllowOther)
	if err != nil {
		return nil, err
	}
	ledger, err := NewLedger()
	if err != nil {
		mp.abandon()
		return nil, err
	}
	defer ledger.Close() // its mapping stays
	s, err := serve(cfg, mp.fusePath(), ledger, nil)
	if err != nil {
		mp.abandon()
		return nil, mp.failed(err)
	}
	s.mount = mp
	s.start()
	mp.Tune(s.raw.log)
	return s, nil
}

// Serve serves a mount that a supervisor holds, and takes over what an
// earlier server told the kernel of.
func Serve(cfg Config, conn Connection) (*Server, error) {
	if conn.Init == nil {
		fd, err := dup(conn.Device)
		if err != nil {
			return nil, err
		}
		s, err := serve(cfg, devPath(fd), conn.Ledger, nil)
		if err == nil {
			s.start()
		}
		return s, err
	}
	path, replay, err := replayInit(conn.Init)
	if err != nil {
		return nil, err
	}
	s, err := serve(cfg, path, conn.Ledger, func() error { return replay(conn.Device) })
	if err != nil {
		return nil, err
	}
	s.raw.bg.run(s.raw.sweep)
	s.raw.keepInherited(s.raw.bg.ctx)
	if err := resend(conn.Device); err != nil {
		s.raw.log.Warn("the kernel can't be asked for the requests that were lost", "cause", err)
	}
	s.start()
	return s, nil
}

// serve makes a server on a descriptor of /dev/fuse or for fusermount3;
// connect is called between the handshake and the first use of the descriptor.
func serve(cfg Config, path string, ledgerFile *os.File, connect func() error) (*Server, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	l, records, err := openLedger(ledgerFile)
	if l == nil {
		return nil, err
	}
	if err != nil {
		cfg.Log.Warn("what the earlier server told the kernel is lost; its open files have to be opened again", "cause", err)
	}
	raw := newRawFS(cfg, l)
	server, err := fuse.NewServer(raw, path, mountOptions(cfg, raw))
	if err == nil && connect != nil {
		err = connect()
	}
	if err != nil {
		return nil, firstError(err, l.close())
	}
	if err := keepRequests(server); err != nil {
		cfg.Log.Warn("a request that arrives while this process dies may fail", "cause", err)
	}
	if raw.conn, err = connectionOf(server); err != nil {
		cfg.Log.Warn("a mount that somebody else unmounts may take long to end", "cause", err)
	}
	raw.inherit(records)
	raw.probePassthrough()
	return &Server{raw: raw, server: server, ledger: l, done: make(chan struct{})}, nil
}

// start begins to answer requests.
func (s *Server) start() {
	s.raw.bg.run(s.raw.notifier.loop)
	go s.serve()
}

func (s *Server) serve() {
	defer close(s.done)
	s.server.Serve()
	s.raw.shutdown()
	if err := s.ledger.close(); err != nil {
		s.raw.log.Debug("closing the ledger", "cause", err)
	}
}

// Handshake is the kernel's half of the handshake, for Connection.Init of the
// servers that come after this one.
func (s *Server) Handshake() []byte { return initRequest(s.server.KernelSettings()) }

// Wait blocks until the tree is unmounted, by Unmount or by somebody else,
// and every request has been answered.
func (s *Server) Wait() { <-s.done }

// Done is closed when the tree is unmounted.
func (s *Server) Done() <-chan struct{} { return s.done }

// Unmount takes the mount away and releases every reader that waits; what a
// passthrough reader has open stays readable. It does not wait for requests
// that are stuck in the kernel: Wait does.
func (s *Server) Unmount() error { return s.mount.Unmount() }

// Leave ends the service but keeps the mount point: the connection is
// aborted, and the next Mount mounts over it, so that containers that bind
// the mount point see the new one.
func (s *Server) Leave() error { return s.mount.Abort() }

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
