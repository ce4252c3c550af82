package tree

import (
	"errors"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// openBeneath opens rel without ever leaving the root, but for what is
// trusted. The error is an errno; EXDEV says that a link leads out, or to a
// network filesystem from a local tree.
func (t *Tree) openBeneath(rel string, flags int) (int, error) {
	if t.held < 0 && t.within == "" && filepath.IsLocal(rel) {
		// A path without any link in it can't lead out. Most have none, and
		// the root need not be opened for them.
		fd, err := t.openPlain(rel, flags)
		if !errors.Is(err, unix.ELOOP) {
			return fd, err
		}
	}
	root, release, err := t.base()
	if err != nil {
		return -1, err
	}
	defer release()
	around, err := t.fenceHeld(root)
	if err != nil {
		return -1, err
	}
	if around.holds() {
		fd, err := open(root, rel, flags, unix.RESOLVE_BENEATH|unix.RESOLVE_NO_MAGICLINKS)
		if !errors.Is(err, unix.EXDEV) {
			return fd, err
		}
	}
	// An absolute link leaves the root by definition, even where it leads
	// back into it.
	base, inside, err := t.eval(rel, around)
	if err != nil {
		return -1, err
	}
	return openExactly(base, inside, flags)
}

// openPlain opens rel if there is no link in its path, nor in the root's; ELOOP
// if there is.
func (t *Tree) openPlain(rel string, flags int) (int, error) {
	if err := t.fenceAt(t.root).check(rel); err != nil {
		return -1, err
	}
	return open(unix.AT_FDCWD, t.root+"/"+rel, flags, unix.RESOLVE_NO_SYMLINKS)
}

// openExactly opens what eval found without following any further link, so
// that nothing can be put in the way meanwhile.
func openExactly(base, inside string, flags int) (int, error) {
	dir, err := open(unix.AT_FDCWD, base, unix.O_PATH|unix.O_DIRECTORY, unix.RESOLVE_NO_SYMLINKS)
	if err != nil {
		return -1, err
	}
	defer unix.Close(dir)
	return open(dir, inside, flags, unix.RESOLVE_BENEATH|unix.RESOLVE_NO_SYMLINKS)
}

// eval is where rel leads: the root or a trusted directory, and the path below
// it, both free of links. EXDEV if it is elsewhere. around is a local tree's fence.
func (t *Tree) eval(rel string, around *fence) (base, inside string, err error) {
	if around != nil {
		base, inside, err = around.follow(rel, t.trust)
		return base, inside, bareErrno(err)
	}
	target, err := filepath.EvalSymlinks(t.Abs(rel))
	if err != nil {
		if err = bareErrno(err); !errors.As(err, new(syscall.Errno)) {
			err = unix.ELOOP // its only error that is not the system's
		}
		return "", "", err
	}
	for _, b := range append([]string{t.Abs(".")}, t.trust...) {
		if b, err = filepath.EvalSymlinks(b); err != nil {
			continue
		}
		if inside, ok := below(b, target); ok {
			return b, inside, nil
		}
	}
	return "", "", unix.EXDEV
}

// open is openat2, on which the promise not to leave the root rests (Linux 5.6).
func open(dir int, name string, flags int, resolve uint64) (int, error) {
	fd := -1
	err := ignoringEINTR(func() (err error) {
		fd, err = unix.Openat2(dir, name, &unix.OpenHow{Flags: uint64(flags | unix.O_CLOEXEC), Resolve: resolve})
		if errors.Is(err, unix.EAGAIN) { // a rename elsewhere made the kernel's check inconclusive
			err = unix.EINTR
		}
		return err
	})
	return fd, err
}

// ignoringEINTR repeats a call that a signal cut short, as the os package
// does. The bound is far above what signals do; it is there for EAGAIN.
func ignoringEINTR(call func() error) error {
	var err error
	for range 1000 {
		if err = call(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
	return unix.EAGAIN
}
