package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A child is a "modelfs mount" that was started by this process: whoever
// serves a mount must not use it, because a thread that waits for its own
// process can't be freed.
type child struct {
	cmd     *exec.Cmd
	out     io.Closer
	stopped bool
}

// startChild runs this program with args and waits until it says that point is
// mounted. When ctx ends, it is told to stop.
func startChild(ctx context.Context, stderr io.Writer, args []string, point string) (*child, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self, args...)
	cmd.Args[0] = "modelfs"
	// None of the person's own settings and tokens.
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "MODELFS_CONFIG=/dev/null"}
	cmd.Stderr = stderr
	// A group of its own: ctrl-C reaches this process, which stops the child.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: unix.SIGTERM}
	cmd.Cancel = func() error { return cmd.Process.Signal(unix.SIGTERM) }
	cmd.WaitDelay = 5 * time.Second
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting modelfs mount: %w", err)
	}
	c := &child{cmd: cmd, out: out}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err == nil && strings.TrimSpace(line) == "mounted "+point {
		return c, nil
	}
	return nil, withCode(exitMount, errors.Join(fmt.Errorf("modelfs mount did not mount %s", point), c.stop()))
}

// stop unmounts and waits for the end; calling it again does nothing.
func (c *child) stop() error {
	if c.stopped {
		return nil
	}
	c.stopped = true
	_ = c.cmd.Process.Signal(unix.SIGTERM) // it may have ended
	if err := c.cmd.Wait(); err != nil {
		return fmt.Errorf("modelfs mount ended: %w", err)
	}
	return nil
}
