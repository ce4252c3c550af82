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

	mu      sync.Mutex // guards the rest
	last    uint64     // the last request's ID
	waiting map[uint64]chan *reply
	ended   error // not nil: it answers nothing any more
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
	c := &child{cmd: cmd, conn: conn, window: w, started: time.Now(), gone: make(chan struct{}), waiting: make(map[uint64]chan *reply)}
	go c.listen()
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
	}
	waiting := c.waiting
	c.waiting = nil
	c.mu.Unlock()
	for id, w := range waiting {
		w <- &reply{ID: id, Fault: faultOf(err)}
	}
	if first {
		_ = c.conn.Close() // ends listen, and the child
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
		c.tell(request{Op: opFree, Slot: r.Slot})
	}
}

// tell sends what has no answer.
func (c *child) tell(q request) {
	if err := send(c.conn, q, nil, false); err != nil {
		c.kill(model.Errorf(model.Unavailable, "the process that reads the share takes nothing: %w", err))
	}
}

// ask sends a request and waits for its reply no longer than ctx. The caller
// lets go of what the reply holds.
func (c *child) ask(ctx context.Context, q request, with *os.File) (*reply, error) {
	w := make(chan *reply, 1)
	c.mu.Lock()
	if err := c.ended; err != nil {
		c.mu.Unlock()
		return nil, err
	}
	if len(c.waiting) >= maxWaiting {
		c.mu.Unlock()
		return nil, model.Errorf(model.Unavailable, "%d operations wait for it already", maxWaiting)
	}
	c.last++
	q.ID = c.last
	c.waiting[q.ID] = w
	c.mu.Unlock()
	if deadline, ok := ctx.Deadline(); ok {
		q.Wait = time.Until(deadline)
	}
	if err := send(c.conn, q, with, false); err != nil {
		c.kill(model.Errorf(model.Unavailable, "the process that reads the share takes nothing: %w", err))
	}
	select {
	case r := <-w:
		return r, nil
	case <-ctx.Done():
	}
	c.abandon(q.ID, w)
	return nil, ctx.Err()
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
	c.tell(request{Op: opCancel, ID: id})
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
