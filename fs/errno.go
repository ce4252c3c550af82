package fs

import (
	"errors"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"

	"modelfs/internal/model"
)

// errnoOf is the one place where a kind of error becomes an errno
// (docs/semantics.md, E2 to E15).
var errnoOf = map[model.Kind]syscall.Errno{
	model.NotFound:    syscall.ENOENT,
	model.Denied:      syscall.EACCES,
	model.Unavailable: syscall.EHOSTUNREACH,
	model.Timeout:     syscall.ETIMEDOUT,
	model.Stale:       syscall.ESTALE,
	model.NoSpace:     syscall.ENOSPC,
	model.Corrupt:     syscall.EIO,
	model.Interrupted: syscall.EINTR,
	model.Invalid:     syscall.EIO,
	model.InUse:       syscall.EIO,
	model.Internal:    syscall.EIO,
}

// status is the answer to the kernel for err; nil is OK. An error without a
// kind that carries a system call's errno (a file in place that fails to
// read) passes that on, for the reader would have seen it natively.
func status(err error) fuse.Status {
	if err == nil {
		return fuse.OK
	}
	kind := model.KindOf(err)
	if kind == model.Internal {
		var no syscall.Errno
		if errors.As(err, &no) && no != 0 {
			return fuse.Status(no)
		}
	}
	return fuse.Status(errnoOf[kind])
}
