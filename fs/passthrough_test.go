package fs

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// oldKernel takes no descriptor that only names a file, as Linux 6.9 to 6.15.
type oldKernel struct {
	mu    sync.Mutex // guards the rest
	files map[int32]string
}

func (k *oldKernel) RegisterBackingFd(m *fuse.BackingMap) (int32, syscall.Errno) {
	flags, err := unix.FcntlInt(uintptr(m.Fd), unix.F_GETFL, 0)
	if err != nil || flags&unix.O_PATH != 0 {
		return 0, unix.EBADF
	}
	b := make([]byte, 100)
	n, err := unix.Pread(int(m.Fd), b, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return 0, unix.EIO
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	id := int32(len(k.files) + 1)
	k.files[id] = string(b[:n])
	return id, 0
}

func (k *oldKernel) UnregisterBackingFd(id int32) syscall.Errno {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.files, id)
	return 0
}

// A descriptor that only names a file reaches a kernel that wants one that can
// be read as such a one, of the same file.
func TestRegisteringForAnOldKernel(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(path, []byte("weights"), 0o644); err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), path)
	defer f.Close()
	if err := os.Rename(path, path+".moved"); err != nil {
		t.Fatal(err)
	}
	k := &oldKernel{files: make(map[int32]string)}
	p := &passthrough{log: slog.New(slog.DiscardHandler), registry: k, offered: true, opening: make(chan struct{}, maxOpening)}
	n := &node{}
	id, err := p.acquire(context.Background(), n, f)
	if err != nil || k.files[id] != "weights" || p.registered() != 1 {
		t.Errorf("%v, %q, %d registered", err, k.files, p.registered())
	}
	p.release(n)
	if len(k.files) != 0 || p.registered() != 0 {
		t.Errorf("%q, %d registered after the release", k.files, p.registered())
	}
	for range maxOpening {
		p.opening <- struct{}{}
	}
	if _, err := p.register(f); err == nil {
		t.Error("files are opened without a bound")
	}
}

// oddKernel answers registrations with one errno.
type oddKernel struct{ errno syscall.Errno }

func (k *oddKernel) RegisterBackingFd(*fuse.BackingMap) (int32, syscall.Errno) { return 1, k.errno }
func (k *oddKernel) UnregisterBackingFd(int32) syscall.Errno                   { return 0 }

// A trial that fails for want of memory or the like says nothing about the
// filesystem; one that the kernel refuses does.
func TestOnlyARefusalIsRemembered(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	must(t, os.WriteFile(path, []byte("weights"), 0o644))
	place, ctx := treePlace(path), context.Background()
	for errno, refused := range map[syscall.Errno]bool{
		unix.ENOMEM: false, unix.ENFILE: false, unix.EIO: false, unix.EPERM: true, unix.EOPNOTSUPP: true, unix.ELOOP: true,
	} {
		k := &oddKernel{errno}
		p := &passthrough{log: slog.New(slog.DiscardHandler), registry: k, offered: true, devices: make(map[uint64]bool), opening: make(chan struct{}, maxOpening)}
		if p.usable(ctx, 1, place) {
			t.Errorf("%v: usable", errno)
		}
		k.errno = 0
		if p.usable(ctx, 1, place) == refused {
			t.Errorf("after %v once, usable: %v", errno, !refused)
		}
	}
}
