package share

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"modelfs/internal/model"
)

// The two processes are always of one binary (/proc/self/exe), so that what
// follows needs no version.

// An op is what a request asks for.
type op string

const (
	opFind   op = "find"
	opList   op = "list"
	opNames  op = "names"
	opStat   op = "stat"
	opOpen   op = "open" // answered with a descriptor that names the file and can't be read (O_PATH); with a number it is also open for opRead
	opRead   op = "read" // comes with such a descriptor where the child has not seen it yet
	opBlobs  op = "blobs"
	opCancel op = "cancel" // nobody waits for ID any more
	opFree   op = "free"   // Slot has been copied
	opClose  op = "close"  // File is read no more
)

// A request is one packet to the child. The last three ops have no answer.
type request struct {
	ID    uint64        `json:"i,omitempty"`
	Op    op            `json:"o"`
	Wait  time.Duration `json:"w,omitempty"` // after it the child answers that it could not
	Name  *model.Name   `json:"n,omitempty"`
	Found *model.Found  `json:"f,omitempty"`
	Path  []byte        `json:"p,omitempty"` // absolute; the root of a share may be any bytes
	File  uint64        `json:"h,omitempty"` // the number of an open file
	Off   int64         `json:"b,omitempty"`
	Len   int           `json:"l,omitempty"`
	Slot  int           `json:"s,omitempty"`
	Since uint64        `json:"v,omitempty"` // the version of the index or the names that is known
}

// A reply is one packet from the child.
type reply struct {
	ID      uint64        `json:"i"`
	Hung    time.Duration `json:"u,omitempty"` // since when the share has not answered; 0: it answers
	Fault   *fault        `json:"e,omitempty"`
	Found   *model.Found  `json:"f,omitempty"`
	Model   *listing      `json:"m,omitempty"`
	Names   []model.Found `json:"n,omitempty"`
	Stat    model.Stat    `json:"t,omitzero"`
	Read    int           `json:"r,omitempty"`
	Slot    int           `json:"s,omitempty"` // 1 and up; 0: none
	Version uint64        `json:"v,omitempty"`
	Blobs   []blobLine    `json:"b,omitempty"`
	Large   bool          `json:"l,omitempty"` // the reply itself is in the memory file that came with this

	file *os.File // what came with the packet
}

// A fault is an error that crosses the socket.
type fault struct {
	Kind  model.Kind    `json:"k"`
	Errno syscall.Errno `json:"n,omitempty"`
	Text  string        `json:"t"`
}

func faultOf(err error) *fault {
	f := &fault{Kind: model.KindOf(err), Text: err.Error()}
	errors.As(err, &f.Errno)
	return f
}

// A remote error has the text that the child gave it, and its errno.
type remote struct {
	f    *fault
	hung bool
}

// Hung reports whether the share is known not to answer.
func (r remote) Hung() bool { return r.hung }

func (r remote) Error() string { return r.f.Text }

func (r remote) Unwrap() error {
	if r.f.Errno == 0 {
		return nil
	}
	return r.f.Errno
}

func (f *fault) err(hung bool) error { return &model.Error{Kind: f.Kind, Err: remote{f, hung}} }

// A listing is a model whose places are paths.
type listing struct {
	Model model.Model `json:"m"` // without files
	Files []fileLine  `json:"f"`
}

type fileLine struct {
	model.File        // without a place
	At         []byte `json:"at"`
	Promised   int64  `json:"promised"`
}

type blobLine struct {
	SHA256 string `json:"h"`
	At     []byte `json:"p"`
	Size   int64  `json:"s"`
}

const (
	// maxPacket is what fits a packet on every system; net.core.wmem_default
	// is 208 KiB.
	maxPacket = 64 << 10
	// maxLarge bounds a reply that comes in a memory file: the listing of a
	// model of 100,000 files has some 40 MB.
	maxLarge = 512 << 20
)

// encode is what a packet holds.
func encode(v any) ([]byte, error) {
	b, err := json.Marshal(v)
	if err == nil && len(b) > maxPacket {
		err = model.Errorf(model.Invalid, "a packet of %d bytes", len(b))
	}
	return b, err
}

// send sends one packet. With wait it waits for room, which the other side
// makes by taking those that were sent before, until conn is closed; without it
// the error is EAGAIN.
func send(conn *net.UnixConn, b []byte, with *os.File, wait bool) error {
	var rights []byte
	if with != nil {
		rights = unix.UnixRights(int(with.Fd())) // blocking mode is what such a file has anyway
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var sent error
	err = raw.Write(func(fd uintptr) bool {
		sent = unix.Sendmsg(int(fd), b, rights, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
		return !wait || !errors.Is(sent, unix.EAGAIN)
	})
	return errors.Join(err, sent)
}

// receive waits for a packet and decodes it into v; file is what came with it.
func receive(conn *net.UnixConn, buf []byte, v any) (file *os.File, err error) {
	oob := make([]byte, unix.CmsgSpace(4))
	n, oobn, flags, _, err := conn.ReadMsgUnix(buf, oob)
	if err != nil {
		return nil, err
	}
	if n == 0 {
		return nil, io.EOF
	}
	file = attached(oob[:oobn])
	if flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0 {
		err = model.Errorf(model.Invalid, "a packet was cut short")
	} else {
		err = json.Unmarshal(buf[:n], v)
	}
	if err != nil && file != nil {
		file.Close()
	}
	return file, err
}

// attached is the descriptor in a control message, or nil.
func attached(oob []byte) *os.File {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil || len(messages) == 0 {
		return nil
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) == 0 {
		return nil
	}
	for _, fd := range fds[1:] {
		unix.Close(fd)
	}
	return os.NewFile(uintptr(fds[0]), "a file of the share")
}

// enlarge puts a reply that fits no packet into a memory file.
func enlarge(r *reply) (*os.File, error) {
	b, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	fd, err := unix.MemfdCreate("modelfs-reply", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("memfd_create", err)
	}
	f := os.NewFile(uintptr(fd), "reply")
	if _, err := f.Write(b); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// unfold reads a reply out of its memory file.
func (r *reply) unfold() (*reply, error) {
	if r.file == nil {
		return nil, model.Errorf(model.Invalid, "a large reply came without its file")
	}
	defer r.file.Close()
	info, err := r.file.Stat()
	if err != nil || info.Size() > maxLarge {
		return nil, model.Errorf(model.Invalid, "a reply of %d bytes: %w", info.Size(), err)
	}
	b := make([]byte, info.Size())
	if _, err := r.file.ReadAt(b, 0); err != nil {
		return nil, fmt.Errorf("reading a large reply: %w", err)
	}
	var full reply
	return &full, json.Unmarshal(b, &full)
}
