package share

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"modelfs/internal/model"
)

const (
	// maxWaiting bounds the requests that one child is working on.
	maxWaiting = 2048
	// maxQueued bounds the packets that a child has not taken: what is asked of
	// it, that as much of it is not wanted any more, and what is let go.
	maxQueued = 4 * maxWaiting
	// wedgedAfter is how long after its own deadline an answer may be due. A
	// child answers in time whatever its share does; one that doesn't is stopped
	// or starved.
	wedgedAfter = 5 * time.Second
)

// windowFD is the descriptor of the window in a child; its socket is standard
// input, so that it needs no /dev/null.
const windowFD = 3

// A child is a process that touches the share, as its parent sees it.
type child struct {
	cmd     *exec.Cmd
	conn    *net.UnixConn
	window  *window
	started time.Time
	gone    chan struct{} // closed when the process has been waited for
	hung    atomic.Int64  // the Hung of its last reply

	queue chan packet   // what found no room in the socket, in order
	over  chan struct{} // closed with ended

	mu      sync.Mutex // guards the rest, and the order of packets; held for a send only if that does not wait
	queued  int        // packets that are in queue, or being sent from there
	last    uint64     // the last request's ID
	waiting map[uint64]chan *reply
	ended   error // not nil: it answers nothing any more
}

// A packet is a request on its way to a child.
type packet struct {
	b    []byte
	with *os.File // closed once it is sent; or nil
}

// spawn starts a child. What it says to people goes to output.
func spawn(command []string, output io.Writer) (*child, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socketpair", err)
	}
	theirs := os.NewFile(uintptr(pair[1]), "share")
	defer theirs.Close()
	conn, err := connOf(os.NewFile(uintptr(pair[0]), "share"))
	if err != nil {
		return nil, err
	}
	w, mem, err := newWindow()
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	defer mem.Close()
	said, says, err := os.Pipe()
	if err != nil {
		w.close()
		return nil, errors.Join(err, conn.Close())
	}
	defer says.Close()
	cmd := Command(command)
	cmd.Stdin, cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = theirs, says, says, []*os.File{mem}
	if err := cmd.Start(); err != nil {
		w.close()
		return nil, errors.Join(fmt.Errorf("starting a process for the share: %w", err), conn.Close(), said.Close())
	}
	c := &child{cmd: cmd, conn: conn, window: w, started: time.Now(), gone: make(chan struct{}),
		queue: make(chan packet, maxQueued), over: make(chan struct{}), waiting: make(map[uint64]chan *reply)}
	go c.listen()
	go c.write()
	go relay(said, output)
	go c.reap(said)
	return c, nil
}

// Command makes a process of this program. It gets no secret: of the
// environment only what the Go runtime reads. It has a process group of its
// own: ctrl-C is its parent's.
func Command(args []string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", args...) //nolint:noctx // it outlives whoever asks; it is ended by its socket, or killed
	cmd.Args[0] = "modelfs"
	cmd.Env = []string{}
	for _, v := range os.Environ() {
		if strings.HasPrefix(v, "GO") {
			cmd.Env = append(cmd.Env, v)
		}
	}
	cmd.SysProcAttr = &unix.SysProcAttr{Setpgid: true}
	return cmd
}

func connOf(f *os.File) (*net.UnixConn, error) {
	defer f.Close()
	conn, err := net.FileConn(f)
	if err != nil {
		return nil, err
	}
	return conn.(*net.UnixConn), nil
}

// relay copies lines, so that a child that is left behind holds nothing but
// the other end of this pipe: whoever reads our output must see its end.
func relay(from io.Reader, to io.Writer) {
	for lines := bufio.NewReader(from); ; {
		line, err := lines.ReadBytes('\n')
		if len(line) > 0 {
			_, _ = to.Write(line) // there is nobody else to tell
		}
		if err != nil {
			return
		}
	}
}

// reap waits for the process for as long as that takes.
func (c *child) reap(said *os.File) {
	err := c.cmd.Wait()
	if err == nil {
		err = errors.New("it ended")
	}
	c.end(model.Errorf(model.Unavailable, "the process that reads the share is gone: %w", err))
	close(c.gone)
	said.Close()
}

// end fails everything that waits; what is asked later fails, too.
func (c *child) end(err error) {
	c.mu.Lock()
	first := c.ended == nil
	if first {
		c.ended = err
		close(c.over)
	}
	waiting := c.waiting
	c.waiting = nil
	c.mu.Unlock()
	for id, w := range waiting {
		w <- &reply{ID: id, Fault: faultOf(err)}
	}
	if first {
		_ = c.conn.Close() // ends listen and write, and the child
		c.window.close()
	}
}

// kill ends a child without waiting for it: it may be stuck in the kernel.
func (c *child) kill(why error) {
	c.end(why)
	_ = c.cmd.Process.Kill() // gone already is fine
}

func (c *child) alive() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ended == nil
}

// listen hands replies to those who wait for them.
func (c *child) listen() {
	buf := make([]byte, maxPacket)
	for {
		r := &reply{}
		file, err := receive(c.conn, buf, r)
		if err != nil {
			c.kill(model.Errorf(model.Unavailable, "the process that reads the share does not answer: %w", err))
			return
		}
		r.file = file
		c.hung.Store(int64(r.Hung))
		c.mu.Lock()
		w := c.waiting[r.ID]
		delete(c.waiting, r.ID)
		c.mu.Unlock()
		if w != nil {
			w <- r
			continue
		}
		c.discard(r)
	}
}

// discard lets go of what a reply holds.
func (c *child) discard(r *reply) {
	if r.file != nil {
		r.file.Close() // a memory file, or one that only names a file: nothing is flushed
	}
	if r.Slot != 0 {
		c.post(request{Op: opFree, Slot: r.Slot}, nil)
	}
}

// post sends a request after those that were posted before, and takes with
// over. It does not wait: a child that is starved of the processor takes its
// packets late, and some 270 fit the socket, so the rest is queued. One that
// takes none is found out by abandon; one that lets the queue run full is
// killed, for what is lost it would hold for ever.
func (c *child) post(q request, with *os.File) {
	b, err := encode(q)
	p := packet{b, with}
	queued := false
	if err == nil {
		queued, err = c.sendOrQueue(p)
	}
	if !queued {
		p.drop()
	}
	if err != nil {
		c.kill(errTakesNothing(err))
	}
}

func errTakesNothing(cause error) error {
	return model.Errorf(model.Unavailable, "the process that reads the share takes nothing: %w", cause)
}

// sendOrQueue does nothing with a child that has ended.
func (c *child) sendOrQueue(p packet) (queued bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended != nil {
		return false, nil
	}
	if c.queued == 0 {
		if err := send(c.conn, p.b, p.with, false); !errors.Is(err, unix.EAGAIN) {
			return false, err
		}
	}
	if c.queued >= maxQueued {
		return false, fmt.Errorf("%d packets wait for it", c.queued)
	}
	c.queued++
	c.queue <- p // which has room for all that are counted
	return true, nil
}

// write sends what is queued.
func (c *child) write() {
	for {
		select {
		case p := <-c.queue:
			err := send(c.conn, p.b, p.with, true)
			p.drop()
			c.mu.Lock()
			c.queued--
			c.mu.Unlock()
			if err != nil {
				c.kill(errTakesNothing(err))
			}
			continue
		case <-c.over:
		}
		for len(c.queue) > 0 {
			(<-c.queue).drop()
		}
		return
	}
}

func (p packet) drop() {
	if p.with != nil {
		p.with.Close()
	}
}

// duplicate is another descriptor of the same open file; nil of none.
func duplicate(f *os.File) (*os.File, error) {
	if f == nil {
		return nil, nil
	}
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0) // blocking mode is what such a file has anyway
	if err != nil {
		return nil, os.NewSyscallError("fcntl", err)
	}
	return os.NewFile(uintptr(fd), f.Name()), nil
}

// ask sends a request and waits for its reply no longer than ctx. The caller
// lets go of what the reply holds, and of with.
func (c *child) ask(ctx context.Context, q request, with *os.File) (*reply, error) {
	theirs, err := duplicate(with)
	if err != nil {
		return nil, err
	}
	w, err := c.expect(&q)
	if err != nil {
		packet{with: theirs}.drop()
		return nil, err
	}
	if deadline, ok := ctx.Deadline(); ok {
		q.Wait = time.Until(deadline)
	}
	c.post(q, theirs)
	select {
	case r := <-w:
		return r, nil
	case <-ctx.Done():
	}
	c.abandon(q.ID, w)
	return nil, ctx.Err()
}

// expect numbers a request, and is where its reply will come.
func (c *child) expect(q *request) (chan *reply, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended != nil {
		return nil, c.ended
	}
	if len(c.waiting) >= maxWaiting {
		return nil, model.Errorf(model.Unavailable, "%d operations wait for it already", maxWaiting)
	}
	c.last++
	q.ID = c.last
	w := make(chan *reply, 1)
	c.waiting[q.ID] = w
	return w, nil
}

// abandon leaves a request to itself; a child that never answers it is
// replaced.
func (c *child) abandon(id uint64, w chan *reply) {
	ignored := make(chan *reply, 1)
	c.mu.Lock()
	_, waiting := c.waiting[id]
	if waiting {
		c.waiting[id] = ignored
	}
	c.mu.Unlock()
	if !waiting {
		c.discard(<-w) // it has just come
		return
	}
	c.post(request{Op: opCancel, ID: id}, nil)
	go func() {
		limit := time.NewTimer(wedgedAfter)
		defer limit.Stop()
		select {
		case r := <-ignored:
			c.discard(r)
		case <-limit.C:
			c.kill(model.Errorf(model.Unavailable, "the process that reads the share is stuck as a whole"))
		}
	}()
}
