package tree

import (
	"errors"
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"

	"modelfs/internal/model"
	"modelfs/source/internal/mounts"
)

// Probe asks the share itself: statfs is not answered from a cache.
func (t *Tree) Probe() error {
	var st unix.Statfs_t
	if err := unix.Statfs(t.root, &st); err != nil {
		return fmt.Errorf("probing %s: %w", t.root, err)
	}
	return nil
}

// failed gives a system call's error its kind. "Not there" counts only if the
// root is there: a share that is not mounted has said nothing.
func (t *Tree) failed(doing, rel string, err error) error {
	what := fmt.Errorf("%s %s: %w", doing, t.Abs(rel), err)
	switch {
	case isAny(err, unix.ENOENT, unix.ENOTDIR, unix.ELOOP, unix.ENAMETOOLONG, unix.EXDEV):
		if rootErr := t.rootMissing(); rootErr != nil {
			return rootErr
		}
		return model.Errorf(model.NotFound, "%w", what)
	case isAny(err, unix.EACCES, unix.EPERM):
		if rel == "." && t.within == "" {
			return model.Errorf(model.Unavailable, "%w; give modelfs the right to read it", what)
		}
		return model.Errorf(model.Denied, "%w", what)
	}
	return model.Errorf(model.Unavailable, "%w", what)
}

// rootMissing is nil if the root is a directory, or if it is a local tree's
// that does not exist: nothing can be there then. Where a local tree's links lead
// is not asked.
func (t *Tree) rootMissing() error {
	if t.local && t.isGuest() {
		return nil
	}
	var st unix.Stat_t
	err := ignoringEINTR(func() error { return unix.Stat(t.root, &st) })
	if err == nil && st.Mode&unix.S_IFMT != unix.S_IFDIR {
		err = unix.ENOTDIR
	}
	switch {
	case err == nil, t.local && isAny(err, unix.ENOENT, unix.ENOTDIR):
		return nil
	case t.local:
		return model.Errorf(model.Unavailable, "the tree %s: %w", t.root, err)
	}
	return model.Errorf(model.Unavailable, "the share %s: %w; is it mounted?", t.root, err)
}

func isAny(err error, errnos ...syscall.Errno) bool {
	for _, e := range errnos {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// bareErrno is the errno in err's chain, or err. What says more than its errno
// stays as it is.
func bareErrno(err error) error {
	var e syscall.Errno
	if !errors.As(err, new(*mounts.RemoteError)) && errors.As(err, &e) {
		return e
	}
	return err
}
