package share

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"modelfs/internal/model"
	"modelfs/source/internal/blobs"
	"modelfs/source/internal/tree"
)

// A Tree is a share in its child: a source whose operations can be left
// behind (package inplace).
type Tree interface {
	Find(ctx context.Context, n model.Name) (model.Found, error)
	List(ctx context.Context, n model.Name, f model.Found) (*model.Model, error)
	Names(ctx context.Context) ([]model.Found, error)
	At(abs string) model.Place
	Do(ctx context.Context, what string, op func() error) error
	HungFor() time.Duration
	Suspect()
}

// hashed is a tree that names files by their sha256.
type hashed interface {
	Refresh(ctx context.Context) error
	Index() *blobs.Index
}

// Serve is the life of a share's child: it answers what its parent asks, until
// that is gone. It must be called once, by the process that Command made.
// Whatever is stuck then is left to the end of the process.
func Serve(t Tree, suspect bool, log *slog.Logger) error {
	conn, err := connOf(os.Stdin)
	if err != nil {
		return fmt.Errorf("this command is started by modelfs itself, not by hand: %w", err)
	}
	unix.CloseOnExec(windowFD)
	f := os.NewFile(windowFD, "window")
	mem, err := mapWindow(f)
	f.Close()
	if err != nil {
		return fmt.Errorf("mapping the memory to read into: %w", err)
	}
	if suspect {
		t.Suspect()
	}
	w := &worker{tree: t, conn: conn, mem: mem, log: log, free: make(chan int, slots), files: make(map[uint64]*openFile), running: make(map[uint64]context.CancelFunc)}
	for n := range slots {
		w.free <- n + 1
	}
	return w.listen()
}

// A worker is a share's child, as itself.
type worker struct {
	tree Tree
	conn *net.UnixConn
	mem  []byte
	log  *slog.Logger
	free chan int // slots that nobody reads into and whose content nobody needs

	mu      sync.Mutex // guards the rest
	files   map[uint64]*openFile
	running map[uint64]context.CancelFunc // by request
	last    []model.Found                 // the names that were listed last; immutable
	listed  uint64                        // counts what last was
}

func (w *worker) listen() error {
	buf := make([]byte, maxPacket)
	for {
		var q request
		file, err := receive(w.conn, buf, &q)
		if errors.Is(err, io.EOF) || errors.Is(err, unix.ECONNRESET) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("hearing from modelfs: %w", err)
		}
		switch q.Op {
		case opCancel:
			w.mu.Lock()
			cancel := w.running[q.ID]
			w.mu.Unlock()
			if cancel != nil {
				cancel()
			}
		case opFree:
			w.free <- q.Slot
		case opClose:
			w.closeFile(q.File)
		default:
			w.begin(q, file)
		}
	}
}

// begin answers a request on a goroutine of its own; the parent bounds them.
// The file that came with it is noted at once: the packet that closes it may be
// the next.
func (w *worker) begin(q request, named *os.File) {
	var file *openFile
	switch {
	case q.Op == opRead:
		file = w.take(q.File, named)
	case named != nil:
		named.Close()
	}
	ctx, cancel := context.WithTimeout(context.Background(), q.Wait)
	w.mu.Lock()
	w.running[q.ID] = cancel
	w.mu.Unlock()
	go func() {
		defer cancel()
		r := &reply{}
		if err := w.answer(ctx, q, file, r); err != nil {
			r.Fault = faultOf(err)
		}
		w.mu.Lock()
		delete(w.running, q.ID)
		w.mu.Unlock()
		r.ID, r.Hung = q.ID, w.tree.HungFor()
		w.send(r)
	}()
}

func (w *worker) send(r *reply) {
	b, err := encode(r)
	if model.IsKind(err, model.Invalid) { // it fits no packet
		large := &reply{ID: r.ID, Hung: r.Hung, Large: true}
		if r.file != nil {
			r.file.Close()
		}
		if large.file, err = enlarge(r); err == nil {
			r = large
			b, err = encode(r)
		}
	}
	if err == nil {
		err = send(w.conn, b, r.file, true)
	}
	if r.file != nil {
		r.file.Close()
	}
	if err != nil && !errors.Is(err, unix.EPIPE) && !errors.Is(err, unix.ECONNRESET) {
		w.log.Error("an answer could not be sent", "cause", err)
	}
}

// answer makes the operation and fills the reply in.
func (w *worker) answer(ctx context.Context, q request, file *openFile, r *reply) (err error) {
	switch q.Op {
	case opFind:
		var f model.Found
		f, err = w.tree.Find(ctx, *q.Name)
		r.Found = &f
	case opList:
		var m *model.Model
		if m, err = w.tree.List(ctx, *q.Name, *q.Found); err == nil {
			r.Model = listingOf(m)
		}
	case opNames:
		err = w.names(ctx, q.Since, r)
	case opStat, opOpen:
		err = w.place(ctx, q, r)
	case opRead:
		err = w.read(ctx, q, file, r)
	case opBlobs:
		err = w.blobs(ctx, q.Since, r)
	default:
		err = model.Errorf(model.Invalid, "there is no operation %q", q.Op)
	}
	return err
}

func listingOf(m *model.Model) *listing {
	l := &listing{Model: *m, Files: make([]fileLine, len(m.Files))}
	l.Model.Files = nil
	for i, f := range m.Files {
		line := fileLine{File: f, At: []byte(f.Place.Path()), Promised: -1}
		if p, ok := f.Place.(*tree.Place); ok {
			line.Promised = p.Size()
		}
		line.Place = nil
		l.Files[i] = line
	}
	return l
}

// names lists the tree. As long as nothing has changed it is the very same
// list, and is not sent again.
func (w *worker) names(ctx context.Context, since uint64, r *reply) error {
	found, err := w.tree.Names(ctx)
	if err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.listed == 0 || len(found) != len(w.last) || len(found) > 0 && &found[0] != &w.last[0] {
		w.last = found
		w.listed++
	}
	if r.Version = w.listed; r.Version != since {
		r.Names = found
	}
	return nil
}

// place stats or opens the file at a path.
func (w *worker) place(ctx context.Context, q request, r *reply) (err error) {
	p, ok := w.tree.At(string(q.Path)).(*tree.Place)
	switch {
	case !ok || p == nil:
		return model.Errorf(model.NotFound, "%s is not in the share", q.Path)
	case q.Op == opStat:
		r.Stat, err = p.Stat(ctx)
	case q.File != 0:
		var file *os.File
		if file, r.file, r.Stat, err = p.OpenBoth(ctx); err == nil {
			w.keep(ctx, q.File, file)
		}
	default:
		r.file, r.Stat, err = p.OpenPath(ctx)
	}
	return err
}

func (w *worker) blobs(ctx context.Context, since uint64, r *reply) error {
	h, ok := w.tree.(hashed)
	if !ok {
		return nil
	}
	if err := h.Refresh(ctx); err != nil {
		return err
	}
	r.Version = h.Index().All(since, func(sha256 string, p *tree.Place, size int64) {
		r.Blobs = append(r.Blobs, blobLine{sha256, []byte(p.Path()), size})
	})
	return nil
}

// An openFile is read by its number. It is opened when the parent opens it, so
// that the share's server keeps it for who has it open, or by the first read if
// it was another child then.
type openFile struct {
	named *os.File // O_PATH; nil: file was there from the start

	mu     sync.Mutex // guards the rest; not held across I/O
	file   *os.File
	closed bool
}

// keep notes a file that was opened, unless nobody waits for it any more:
// whoever gave up has said so before it lets go of the number.
func (w *worker) keep(ctx context.Context, number uint64, file *os.File) {
	w.mu.Lock()
	left := ctx.Err() != nil
	if !left {
		w.files[number] = &openFile{file: file}
	}
	w.mu.Unlock()
	if left {
		file.Close()
	}
}

// take notes the file that came with a request, unless it is known.
func (w *worker) take(number uint64, named *os.File) *openFile {
	w.mu.Lock()
	defer w.mu.Unlock()
	f := w.files[number]
	switch {
	case f == nil && named != nil:
		f = &openFile{named: named}
		w.files[number] = f
	case named != nil:
		named.Close()
	}
	return f
}

// closeFile lets go of a file. Closing what is open may wait for the share.
func (w *worker) closeFile(number uint64) {
	w.mu.Lock()
	f := w.files[number]
	delete(w.files, number)
	w.mu.Unlock()
	if f == nil {
		return
	}
	f.mu.Lock()
	f.closed = true
	file := f.file
	f.mu.Unlock()
	if f.named != nil {
		f.named.Close()
	}
	if file != nil {
		go file.Close()
	}
}

// open is the file, to be read. It makes system calls on the share.
func (f *openFile) open() (*os.File, error) {
	f.mu.Lock()
	have, closed := f.file, f.closed
	f.mu.Unlock()
	if have != nil || closed {
		return have, closedError(closed)
	}
	opened, err := os.OpenFile(fmt.Sprintf("/proc/self/fd/%d", f.named.Fd()), os.O_RDONLY|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	if f.file == nil && !f.closed {
		f.file = opened
		opened = nil
	}
	have, closed = f.file, f.closed
	f.mu.Unlock()
	if opened != nil {
		opened.Close()
	}
	return have, closedError(closed)
}

func closedError(closed bool) error {
	if closed {
		return model.Errorf(model.Stale, "the file was closed")
	}
	return nil
}

// read reads into a slot, which the parent frees when it has copied it.
func (w *worker) read(ctx context.Context, q request, f *openFile, r *reply) error {
	if f == nil || q.Len < 0 || q.Len > slotSize || q.Off < 0 {
		return model.Errorf(model.Invalid, "a read of %d bytes at %d of file %d", q.Len, q.Off, q.File)
	}
	u := &use{}
	select {
	case u.slot = <-w.free:
	case <-ctx.Done():
		return model.Errorf(model.KindOf(ctx.Err()), "%d reads of the share are under way already: %w", slots, ctx.Err())
	}
	n := 0
	err := w.tree.Do(ctx, "reading", func() error {
		if !u.begin() {
			return nil
		}
		file, err := f.open()
		if err == nil {
			n, err = file.ReadAt(slot(w.mem, u.slot)[:q.Len], q.Off)
		}
		if u.finish() {
			w.free <- u.slot
		}
		if errors.Is(err, io.EOF) {
			err = nil
		}
		return err
	})
	if err != nil {
		if u.leave() {
			w.free <- u.slot
		}
		return err
	}
	r.Read, r.Slot = n, u.slot
	return nil
}

// A use says who gives a slot back: the read into it may go on long after
// nobody waits for it any more.
type use struct {
	slot  int
	state atomic.Int32
}

const (
	useWaiting int32 = iota
	useReading
	useFinished
	useLeft
)

// begin reports whether the read may begin.
func (u *use) begin() bool { return u.state.CompareAndSwap(useWaiting, useReading) }

// finish ends the read; true: nobody waits for it, and the slot is free.
func (u *use) finish() bool { return !u.state.CompareAndSwap(useReading, useFinished) }

// leave gives the read up; true: it does not go on, and the slot is free.
func (u *use) leave() bool { return u.state.Swap(useLeft) != useReading }
