package fs

import (
	"encoding/binary"
	"os"
	"strconv"
	"unsafe"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// How a server takes a connection over: go-fuse insists on a handshake, which
// the kernel makes only once. So a new server is given one end of a socket
// pair, is told there what the kernel said to the first one, and then finds
// /dev/fuse under the same descriptor.

func devPath(fd int) string { return "/dev/fd/" + strconv.Itoa(fd) }

func dup(f *os.File) (int, error) {
	conn, err := f.SyscallConn()
	if err != nil {
		return -1, err
	}
	fd, dupErr := -1, error(nil)
	err = conn.Control(func(from uintptr) { fd, dupErr = unix.FcntlInt(from, unix.F_DUPFD_CLOEXEC, 3) })
	return fd, firstError(err, dupErr)
}

// initRequest is the kernel's INIT as it came over the wire.
func initRequest(in *fuse.InitIn) []byte {
	size := int(unsafe.Sizeof(*in))
	b := make([]byte, size)
	copy(b, unsafe.Slice((*byte)(unsafe.Pointer(in)), size))
	binary.NativeEndian.PutUint32(b, uint32(size))
	return b
}

// replayInit returns a path for go-fuse on which it finds the handshake, and
// what puts the device in its place afterwards.
func replayInit(request []byte) (path string, replace func(device *os.File) error, err error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return "", nil, os.NewSyscallError("socketpair", err)
	}
	if _, err := unix.Write(pair[1], request); err != nil {
		return "", nil, firstError(os.NewSyscallError("write", err), unix.Close(pair[0]), unix.Close(pair[1]))
	}
	return devPath(pair[0]), func(device *os.File) error {
		conn, err := device.SyscallConn()
		if err != nil {
			return err
		}
		var dupErr error
		err = conn.Control(func(fd uintptr) { dupErr = unix.Dup3(int(fd), pair[0], unix.O_CLOEXEC) })
		return firstError(err, os.NewSyscallError("dup3", dupErr), unix.Close(pair[1]))
	}, nil
}

// notifyResend is FUSE_NOTIFY_RESEND (fuse.h): the kernel sends again what a
// server has read and not answered.
const notifyResend = 7

func resend(device *os.File) error {
	conn, err := device.SyscallConn()
	if err != nil {
		return err
	}
	msg := binary.NativeEndian.AppendUint32(nil, 16) // the header's length
	msg = binary.NativeEndian.AppendUint32(msg, notifyResend)
	msg = binary.NativeEndian.AppendUint64(msg, 0)
	var writeErr error
	err = conn.Control(func(fd uintptr) { _, writeErr = unix.Write(int(fd), msg) })
	return firstError(err, os.NewSyscallError("FUSE_NOTIFY_RESEND", writeErr))
}
