package share

import (
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

const (
	// slotSize is the largest READ that the kernel makes.
	slotSize = 1 << 20
	// slots bounds the reads that one share makes at a time, stuck ones
	// included, and with slotSize the memory for them.
	slots = 16
)

// A window is memory that a share's child reads into and its parent copies
// from. It is a file, sealed against being made smaller: who reads beyond the
// end of a mapping is killed.
type window struct {
	mu     sync.Mutex // guards the rest
	mem    []byte
	users  int
	closed bool
}

// newWindow makes a window and the file that the child maps.
func newWindow() (*window, *os.File, error) {
	fd, err := unix.MemfdCreate("modelfs-share", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, nil, os.NewSyscallError("memfd_create", err)
	}
	f := os.NewFile(uintptr(fd), "window")
	err = f.Truncate(slots * slotSize)
	if err == nil {
		_, err = unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, unix.F_SEAL_SHRINK|unix.F_SEAL_GROW)
	}
	var mem []byte
	if err == nil {
		mem, err = mapWindow(f)
	}
	if err != nil {
		f.Close()
		return nil, nil, fmt.Errorf("making memory to read into: %w", err)
	}
	return &window{mem: mem}, f, nil
}

func mapWindow(f *os.File) ([]byte, error) {
	return unix.Mmap(int(f.Fd()), 0, slots*slotSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
}

// slot is the memory of a slot, 1 to slots.
func slot(mem []byte, n int) []byte { return mem[(n-1)*slotSize : n*slotSize] }

// copy copies what the child has read into a slot; false: the window is gone,
// or the child has said nonsense.
func (w *window) copy(p []byte, from, n int) bool {
	w.mu.Lock()
	if w.closed || from < 1 || from > slots || n < 0 || n > len(p) || n > slotSize {
		w.mu.Unlock()
		return false
	}
	w.users++
	w.mu.Unlock()
	copy(p, slot(w.mem, from)[:n])
	w.mu.Lock()
	w.users--
	w.unmapLocked()
	w.mu.Unlock()
	return true
}

// close gives the memory back once nobody copies from it.
func (w *window) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	w.unmapLocked()
}

func (w *window) unmapLocked() {
	if w.closed && w.users == 0 && w.mem != nil {
		_ = unix.Munmap(w.mem) // a mapping that exists can be unmapped
		w.mem = nil
	}
}
