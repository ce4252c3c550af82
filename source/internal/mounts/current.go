package mounts

import (
	"sync"

	"golang.org/x/sys/unix"

	"modelfs/internal/mountinfo"
)

// Current is the mount table of now. It costs one system call unless mounts have
// changed; reading the table asks no filesystem. Without one, because there is no
// /proc, every path is of this machine.
func Current() *Table { return now.table() }

// now is this process's, and open as long as that lives.
var now watch

// A watch has the kernel say whether the table that was read last still holds.
type watch struct {
	mu      sync.Mutex // guards the rest; held for a poll, which does not wait, and not while the table is read
	fd      int        // of mountinfo.File; not of os, whose poller would take the news
	opened  bool
	changes uint64 // what the kernel has said so far
	last    *Table // nil: none was read
	lastOf  uint64 // changes when last was read
}

func (w *watch) table() *Table {
	changes, last := w.look()
	if last != nil {
		return last
	}
	list, err := mountinfo.Read()
	if err != nil {
		return &Table{}
	}
	read := of(list)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.last == nil || w.lastOf <= changes {
		w.last, w.lastOf = read, changes
	}
	return read
}

// look is the table, or nil if it has to be read, as of so many changes. Of those
// who ask at the same time the kernel tells only one of a change; the number tells
// the others.
func (w *watch) look() (changes uint64, last *Table) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.opened {
		fd, err := unix.Open(mountinfo.File, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return 0, nil
		}
		w.fd, w.opened = fd, true
	}
	fds := []unix.PollFd{{Fd: int32(w.fd), Events: unix.POLLPRI}} //nolint:gosec // a descriptor's number
	if n, err := unix.Poll(fds, 0); err != nil || n != 0 {
		w.changes++ // on an error, too: the table is read once too often
	}
	if w.last == nil || w.lastOf != w.changes {
		return w.changes, nil
	}
	return w.changes, w.last
}
