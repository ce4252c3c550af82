package supervise

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// The descriptors that a server inherits, in this order.
const (
	fdControl = 3 + iota
	fdDevice
	fdLedger
	fdLock
)

// protocolVersion is of the messages between supervisor and server. A server
// that is newer than its supervisor must speak the older one's.
const protocolVersion = 1

// message is one packet between a supervisor and a server.
type message struct {
	Version int    `json:"version,omitempty"` // supervisor to server, first
	Standby bool   `json:"standby,omitempty"` // get ready, but wait for Go
	Init    []byte `json:"init,omitempty"`    // the kernel's handshake, in both directions
	OOM     string `json:"oom,omitempty"`     // the oom_score_adj to go back to
	Go      bool   `json:"go,omitempty"`      // to a standby: the connection is yours
	Ready   bool   `json:"ready,omitempty"`   // server to supervisor
}

const maxMessage = 4096

// child is a server process.
type child struct {
	cmd     *exec.Cmd
	control *net.UnixConn
	exited  chan struct{} // closed when the process was reaped
	started time.Time
	// readySince and killedFor belong to the supervisor's loop.
	readySince time.Time
	killedFor  string

	mu  sync.Mutex // guards err
	err error
}

// killGrace is how long a replaced server may take to be gone; one that is
// stuck in the kernel is left behind.
const killGrace = time.Second

// start starts a server, which is told what it needs over its control socket.
func (s *supervisor) start(ctx context.Context, standby bool) (*child, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socketpair", err)
	}
	theirs := os.NewFile(uintptr(pair[1]), "control")
	defer theirs.Close()
	control, err := controlConn(pair[0])
	if err != nil {
		return nil, err
	}
	cmd := command(s.cfg.Command)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.ExtraFiles = []*os.File{theirs, s.device, s.ledger, s.cfg.Lock}
	if err := cmd.Start(); err != nil {
		return nil, errors.Join(fmt.Errorf("starting the server: %w", err), control.Close())
	}
	c := &child{cmd: cmd, control: control, exited: make(chan struct{}), started: time.Now()}
	go c.reap(ctx, s.events)
	go c.listen(ctx, s.events)
	hello := message{Version: protocolVersion, Standby: standby, Init: s.init, OOM: "0"}
	if err := c.send(hello); err != nil {
		c.kill() // if it is not gone already; how it ended is an event like any other
	}
	return c, nil
}

// command makes a process of this program, under the name that people know.
// It inherits standard input, which nobody reads, because the default needs a
// /dev/null, and an image may have none.
func command(args []string) *exec.Cmd {
	cmd := exec.Command(args[0], args[1:]...) //nolint:noctx // it outlives what starts it; it is ended by signals
	cmd.Args[0] = "modelfs"
	cmd.Stdin = os.Stdin
	cmd.SysProcAttr = &unix.SysProcAttr{Setpgid: true} // ctrl-C is the supervisor's
	return cmd
}

func controlConn(fd int) (*net.UnixConn, error) {
	f := os.NewFile(uintptr(fd), "control")
	defer f.Close()
	conn, err := net.FileConn(f)
	if err != nil {
		return nil, err
	}
	return conn.(*net.UnixConn), nil
}

// reap waits for the process for as long as that takes; the supervisor's loop
// does not.
func (c *child) reap(ctx context.Context, events chan<- event) {
	err := c.cmd.Wait()
	c.mu.Lock()
	c.err = err
	c.mu.Unlock()
	close(c.exited)
	_ = c.control.Close() // ends listen
	select {
	case events <- event{from: c, err: err}:
	case <-ctx.Done():
	}
}

func (c *child) listen(ctx context.Context, events chan<- event) {
	for {
		m, err := receive(c.control)
		if err != nil {
			return
		}
		select {
		case events <- event{from: c, message: m}:
		case <-ctx.Done():
			return
		}
	}
}

func (c *child) send(m message) error { return send(c.control, m) }

func send(conn *net.UnixConn, m message) error {
	b, err := json.Marshal(m)
	if err != nil {
		return err
	}
	_, err = conn.Write(b)
	return err
}

func receive(conn *net.UnixConn) (*message, error) {
	b := make([]byte, maxMessage)
	n, err := conn.Read(b)
	if err != nil {
		return nil, err
	}
	var m message
	if err := json.Unmarshal(b[:n], &m); err != nil {
		return nil, err
	}
	return &m, nil
}

func (c *child) pid() int { return c.cmd.Process.Pid }

// steady reports whether the server has served long enough for its end not to
// be one more of the same.
func (c *child) steady() bool {
	return !c.readySince.IsZero() && time.Since(c.readySince) > steadyAfter
}

func (c *child) kill() { _ = c.cmd.Process.Kill() } // gone already is fine

// abandon ends a server that does not answer: SIGQUIT makes it log its stacks,
// if it can still do that.
func (c *child) abandon(why string) {
	c.killedFor = why
	_ = c.cmd.Process.Signal(unix.SIGQUIT)
	c.waitGone(stackGrace)
	c.kill()
}

// stackGrace is how long a server may take to write its stacks.
const stackGrace = 300 * time.Millisecond

func (c *child) waitGone(most time.Duration) {
	select {
	case <-c.exited:
	case <-time.After(most):
	}
}
