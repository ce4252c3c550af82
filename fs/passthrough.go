package fs

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"modelfs/internal/model"
)

// registry is the part of fuse.Server that hands files to the kernel.
type registry interface {
	RegisterBackingFd(*fuse.BackingMap) (int32, syscall.Errno)
	UnregisterBackingFd(id int32) syscall.Errno
}

// passthrough knows which filesystems' files the kernel takes. The INIT flag
// promises it to everybody; only a trial registration tells.
type passthrough struct {
	log      *slog.Logger
	registry registry      // set before the first request
	offered  bool          // the kernel knows passthrough
	opening  chan struct{} // one element for each file that registerOpened has not closed

	mu      sync.Mutex      // guards what follows; a leaf
	devices map[uint64]bool // st_dev -> the kernel takes its files
	blobs   bool            // the kernel takes the backing dir's files
	ids     int             // registrations that are held
}

// backingRef is a node's registration. The kernel wants one and the same id
// from all descriptors of an inode that are open together.
type backingRef struct {
	id   int32
	refs int
}

// store reports whether complete files of the backing dir are handed over.
func (p *passthrough) store() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.blobs
}

func (p *passthrough) registered() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.ids
}

// usable reports whether files of a device are handed over; the first file of
// a device is the trial.
func (p *passthrough) usable(ctx context.Context, dev uint64, place model.Place) bool {
	if !p.offered {
		return false
	}
	p.mu.Lock()
	ok, known := p.devices[dev]
	p.mu.Unlock()
	if known {
		return ok
	}
	f, _, err := place.Open(ctx)
	if err != nil {
		return false // undecided: the open will say why
	}
	defer f.Close()
	err = p.trial(f)
	if err != nil && !refused(err) {
		p.log.Debug("a file could not be tried for passthrough", "file", place.Path(), "cause", err)
		return false
	}
	if err != nil {
		p.log.Warn("files of this filesystem are served by modelfs and not by the kernel itself", "file", place.Path(), "cause", err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.devices[dev] = err == nil
	return err == nil
}

// refused reports whether the kernel does not take files of the filesystem, or
// from this process. Anything else (no memory, no descriptors, a share that was
// slow) says nothing about the next file.
func refused(err error) bool {
	for _, no := range []error{unix.EPERM, unix.EOPNOTSUPP, unix.ELOOP, unix.EINVAL, unix.ENOTTY, unix.ENOSYS} {
		if errors.Is(err, no) {
			return true
		}
	}
	return false
}

// probeStore finds out whether the kernel takes the backing dir's files.
func (p *passthrough) probeStore(dir string) error {
	if !p.offered {
		return model.Errorf(model.Unavailable, "the kernel does not know passthrough (Linux 6.9 or newer does)")
	}
	f, err := os.CreateTemp(dir, ".passthrough-*")
	if err != nil {
		return err
	}
	defer f.Close()
	if err := os.Remove(f.Name()); err != nil {
		return err
	}
	if err := p.trial(f); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.blobs = true
	return nil
}

func (p *passthrough) trial(f *os.File) error {
	id, err := p.register(f)
	if err == nil {
		p.unregister(id)
	}
	return err
}

// register hands a file to the kernel. Before Linux 6.16 or so that takes no
// descriptor that only names a file (O_PATH).
func (p *passthrough) register(f *os.File) (int32, error) {
	id, err := p.registerAs(f)
	if errors.Is(err, unix.EBADF) {
		return p.registerOpened(f)
	}
	return id, err
}

func (p *passthrough) registerAs(f *os.File) (int32, error) {
	conn, err := f.SyscallConn()
	if err != nil {
		return 0, err
	}
	var id int32
	var errno syscall.Errno
	if err := conn.Control(func(fd uintptr) {
		id, errno = p.registry.RegisterBackingFd(&fuse.BackingMap{Fd: int32(fd)})
	}); err != nil {
		return 0, err
	}
	if errno != 0 {
		return 0, os.NewSyscallError("registering "+f.Name()+" for passthrough", errno)
	}
	p.mu.Lock()
	p.ids++
	p.mu.Unlock()
	return id, nil
}

const (
	// maxOpening bounds the files that are opened here for an old kernel, and
	// with them the threads that a share could hold; its own process has just
	// seen it answer.
	maxOpening = 16
	// openingWithin is how long one is waited for.
	openingWithin = time.Second
)

// registerOpened opens a file that f only names, hands it over and closes it,
// on a goroutine that can be left behind.
func (p *passthrough) registerOpened(f *os.File) (int32, error) {
	select {
	case p.opening <- struct{}{}:
	default:
		return 0, model.Errorf(model.Unavailable, "%d files are being opened for the kernel already", maxOpening)
	}
	type result struct {
		id  int32
		err error
	}
	done := make(chan result)
	gone := make(chan struct{})
	go func() {
		defer func() { <-p.opening }()
		var r result
		opened, err := reopen(f)
		if r.err = err; err == nil {
			r.id, r.err = p.registerAs(opened)
			opened.Close()
		}
		select {
		case done <- r:
		case <-gone:
			if r.err == nil {
				p.unregister(r.id)
			}
		}
	}()
	limit := time.NewTimer(openingWithin)
	defer limit.Stop()
	select {
	case r := <-done:
		return r.id, r.err
	case <-limit.C:
		close(gone)
		return 0, model.Errorf(model.Unavailable, "%s could not be opened within %v", f.Name(), openingWithin)
	}
}

// reopen opens the file that a descriptor names, for reading.
func reopen(f *os.File) (*os.File, error) {
	conn, err := f.SyscallConn()
	if err != nil {
		return nil, err
	}
	var opened *os.File
	var openErr error
	err = conn.Control(func(fd uintptr) { opened, openErr = os.Open("/proc/self/fd/" + strconv.Itoa(int(fd))) })
	return opened, firstError(err, openErr)
}

func (p *passthrough) unregister(id int32) {
	p.mu.Lock()
	p.ids--
	p.mu.Unlock()
	if errno := p.registry.UnregisterBackingFd(id); errno != 0 && errno != syscall.ENODEV && errno != syscall.ENOTCONN {
		p.log.Debug("a passthrough registration could not be given back", "cause", errno)
	}
}

// acquire returns the node's backing id, registering the file if nobody has it
// open. The file may be closed then.
func (p *passthrough) acquire(ctx context.Context, n *node, f *os.File) (int32, error) {
	for {
		n.mu.Lock()
		switch {
		case n.backing.refs > 0:
			n.backing.refs++
			id := n.backing.id
			n.mu.Unlock()
			return id, nil
		case n.opening == nil:
			ready := make(chan struct{})
			n.opening = ready
			n.mu.Unlock()
			return p.acquireFirst(n, ready, f)
		}
		ready := n.opening
		n.mu.Unlock()
		select {
		case <-ready:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
}

func (p *passthrough) acquireFirst(n *node, ready chan struct{}, f *os.File) (int32, error) {
	id, err := p.register(f)
	n.mu.Lock()
	if err == nil {
		n.backing = backingRef{id: id, refs: 1}
	}
	n.opening = nil
	n.mu.Unlock()
	close(ready)
	return id, err
}

// release gives one reference back, and the registration with the last.
func (p *passthrough) release(n *node) {
	n.mu.Lock()
	n.backing.refs--
	last, id := n.backing.refs == 0, n.backing.id
	n.mu.Unlock()
	if last {
		p.unregister(id)
	}
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
