package fs

import (
	"context"
	"log/slog"
	"os"
	"sync"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"

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
	registry registry // set before the first request
	offered  bool     // the kernel knows passthrough

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
	if err != nil {
		p.log.Warn("files of this filesystem are served by modelfs and not by the kernel itself", "file", place.Path(), "cause", err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.devices[dev] = err == nil
	return err == nil
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

func (p *passthrough) register(f *os.File) (int32, error) {
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

func (p *passthrough) unregister(id int32) {
	p.mu.Lock()
	p.ids--
	p.mu.Unlock()
	if errno := p.registry.UnregisterBackingFd(id); errno != 0 && errno != syscall.ENODEV && errno != syscall.ENOTCONN {
		p.log.Debug("a passthrough registration could not be given back", "cause", errno)
	}
}

// acquire returns the node's backing id, registering the file that open
// returns if nobody has it open. The file is closed if close says so: the
// kernel keeps its own reference.
func (p *passthrough) acquire(ctx context.Context, n *node, open func() (*os.File, bool, error)) (int32, error) {
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
			return p.acquireFirst(n, ready, open)
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

func (p *passthrough) acquireFirst(n *node, ready chan struct{}, open func() (*os.File, bool, error)) (int32, error) {
	var id int32
	f, done, err := open()
	if err == nil {
		id, err = p.register(f)
		if done {
			err = firstError(err, f.Close())
		}
	}
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
