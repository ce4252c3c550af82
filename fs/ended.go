package fs

import (
	"reflect"
	"syscall"
	"unsafe"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"modelfs/internal/model"
)

// A connection knows whether the kernel's end of it is gone: unmounted by
// force, or aborted. go-fuse cancels the requests that it knows of when it
// learns that, once. It does not cancel those that it had read and only begins
// to handle afterwards, nor, a second time, those whose callers had a signal
// before. Both would wait for bytes that nobody wants any more, and the server
// for them.
type connection struct{ device syscall.RawConn }

// connectionOf is the connection that a server serves. go-fuse keeps its
// descriptor to itself, and that of fusermount3 is nowhere else.
func connectionOf(server *fuse.Server) (*connection, error) {
	field := reflect.ValueOf(server).Elem().FieldByName("fuseFD")
	if field.IsValid() && field.Kind() == reflect.Pointer {
		field = field.Elem().FieldByName("conn")
	}
	if !field.IsValid() || field.Type() != reflect.TypeFor[syscall.RawConn]() {
		return nil, model.Errorf(model.Internal, "this version of go-fuse has no connection to look at")
	}
	return &connection{*(*syscall.RawConn)(unsafe.Pointer(field.UnsafeAddr()))}, nil
}

// ended reports whether nobody hears an answer any more. It does not wait.
func (c *connection) ended() bool {
	if c == nil {
		return false
	}
	ended := true
	_ = c.device.Control(func(fd uintptr) { // fails when the descriptor is closed
		fds := []unix.PollFd{{Fd: int32(fd)}} //nolint:gosec // a descriptor
		n, err := unix.Poll(fds, 0)
		ended = err == nil && n > 0 && fds[0].Revents&unix.POLLERR != 0
	})
	return ended
}
