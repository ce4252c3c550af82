package fs

import (
	"slices"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"modelfs/internal/model"
)

// Read answers one READ. It never returns fewer bytes than asked before the
// end of the file: the kernel would take that for a shrunken file.
func (r *rawFS) Read(cancel <-chan struct{}, in *fuse.ReadIn, buf []byte) (fuse.ReadResult, fuse.Status) {
	h := r.handles.get(in.Fh)
	if h == nil {
		return nil, fuse.EBADF
	}
	r.count.reads.Add(1)
	n, err := r.readHandle(cancel, &in.InHeader, h, buf, int64(in.Offset))
	if err != nil {
		return nil, status(err)
	}
	r.count.readBytes.Add(uint64(n))
	return fuse.ReadResultData(buf[:n]), fuse.OK
}

func (r *rawFS) readHandle(cancel <-chan struct{}, header *fuse.InHeader, h *handle, buf []byte, off int64) (int, error) {
	reader := h.reader
	switch {
	case h.node.kind == kindInPlace || h.dir != nil:
		// The kernel reads a tree's passthrough file by itself; what comes here
		// is read-ahead advice, into a cache that nobody looks at.
		return 0, model.Errorf(model.Internal, "this file is read by the kernel: %w", unix.ENODATA)
	case h.inherited != nil:
		ctx, end := r.requestContext(cancel, header, dying)
		var err error
		reader, err = r.reopen(ctx, h)
		end()
		if err != nil {
			return 0, err
		}
	}
	n, err := r.readFrom(cancel, header, reader, buf, off)
	if h.node.kind == kindServed {
		r.nodes.tellMoved(h.node)
	}
	if n > 0 && h.node.kind == kindCold {
		r.noteStored(h)
	}
	return n, err
}

// readFrom reads a range that may be on its way. The kernel sends an interrupt
// for any signal, the first of a request only, and only for reads with O_DIRECT
// and unbuffered faults; a profiler's timer must not make read() fail. So the
// wait begins once more with the first signal, and then goes on until the
// caller is dying or the connection ends: one that began anew again and again
// would have its time limits begin anew, too. A wait without a signal costs no
// goroutine that looks at the caller: there may be thousands.
func (r *rawFS) readFrom(cancel <-chan struct{}, header *fuse.InHeader, reader model.Reader, buf []byte, off int64) (int, error) {
	w, ok := reader.(interface{ Ready(off, n int64) bool })
	ready := ok && w.Ready(off, int64(len(buf)))
	if ok && !ready {
		discard(buf)
	}
	if !ready && r.conn.ended() {
		return 0, model.Errorf(model.Interrupted, "reading: the mount is gone")
	}
	n, err := reader.ReadAt(&fuse.Context{Cancel: cancel}, buf, off)
	if !model.IsKind(err, model.Interrupted) || dying(header.Pid) || r.conn.ended() {
		return n, err
	}
	ctx, end := r.requestContext(cancel, header, dying)
	defer end()
	return reader.ReadAt(ctx, buf, off)
}

// signalCheck is how often an interrupted request looks whether its caller has
// been killed meanwhile; the kernel says so only once.
const signalCheck = 500 * time.Millisecond

// dying reports whether a thread is gone or has a SIGKILL pending, which is
// what the kernel turns every fatal signal into. Of one that is not visible from
// here (pid 0: another pid namespace) it has to be believed.
func dying(tid uint32) bool { return tid == 0 || pending(threadStatus(tid), unix.SIGKILL) }

// leaving is dying, or that the thread is to handle one of the signals by which
// people ask a program to end. One that is not visible waits for its answer,
// which is a matter of seconds where this counts.
func leaving(tid uint32) bool {
	return tid != 0 && pending(threadStatus(tid), unix.SIGKILL, unix.SIGINT, unix.SIGTERM, unix.SIGQUIT)
}

func threadStatus(tid uint32) string { return readSmall(threadDir(tid) + "status") }

// pending reports whether a thread with this /proc status is gone ("") or has
// one of the signals pending that it does not block.
func pending(status string, signals ...unix.Signal) bool {
	var waiting, blocked uint64
	for line := range strings.Lines(status) {
		name, value, _ := strings.Cut(line, ":")
		set, _ := strconv.ParseUint(strings.TrimSpace(value), 16, 64) // other lines are no sets
		switch name {
		case "SigPnd", "ShdPnd":
			waiting |= set
		case "SigBlk":
			blocked = set
		}
	}
	return status == "" || slices.ContainsFunc(signals, func(s unix.Signal) bool { return waiting&^blocked&(1<<(uint(s)-1)) != 0 })
}

// discard gives the memory of a reply buffer back while its bytes are
// missing: go-fuse allocates it before it calls Read, and hundreds of stalled
// reads must not cost hundreds of MiB. The content of buf is lost, which is
// nothing yet.
func discard(buf []byte) {
	const page = 4096
	if len(buf) < 16*page {
		return
	}
	skip := int(-uintptr(unsafe.Pointer(unsafe.SliceData(buf))) % page)
	whole := (len(buf) - skip) / page * page
	_ = unix.Madvise(buf[skip:skip+whole], unix.MADV_DONTNEED) // only a saving
}
