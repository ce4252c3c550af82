package supervise

import (
	"bufio"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	watchEvery = 250 * time.Millisecond
	// probeEvery is how often the probe asks the mount for its statfs.
	probeEvery = time.Second
	// silentFor is how long a server may leave that question unanswered. It has
	// margin for a machine that swaps or is starved.
	silentFor = 15 * time.Second
)

// watchdog finds out whether the mount is answered. A process of its own, the
// probe, asks, because who asks can get stuck. Only a probe that runs and says
// nothing speaks against the server: one that was killed, or that finds
// something else at the mount's path, says nothing of it and is started again.
type watchdog struct {
	command []string
	log     *slog.Logger
	cmd     *exec.Cmd // nil before start, or if that failed; belongs to the supervisor's loop
	warned  bool      // that it could not be started; belongs to the same

	mu    sync.Mutex // guards what follows
	last  time.Time  // the last answer, or when the probe was started
	ended time.Time  // when the probe ended; zero while it runs
}

func newWatchdog(command []string, log *slog.Logger) *watchdog {
	return &watchdog{command: command, log: log}
}

func (w *watchdog) start() {
	if len(w.command) == 0 {
		return
	}
	cmd := command(w.command)
	cmd.Env = []string{}    // it needs nothing of it, least of all the tokens
	cmd.Stderr = io.Discard // that the mount is gone is no news, and see command
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		if !w.warned {
			w.log.Warn("a server that hangs is not noticed while the probe can't be started; it is tried again", "cause", err)
		}
		w.cmd, w.warned = nil, true
		w.note(time.Now())
		return
	}
	w.cmd, w.warned = cmd, false
	w.note(time.Time{})
	go w.read(cmd, out)
}

// restart starts another probe after one has ended.
func (w *watchdog) restart() {
	w.mu.Lock()
	due := !w.ended.IsZero() && time.Since(w.ended) > probeEvery
	w.mu.Unlock()
	if due {
		w.start()
	}
}

func (w *watchdog) read(cmd *exec.Cmd, out io.Reader) {
	for lines := bufio.NewScanner(out); lines.Scan(); {
		w.note(time.Time{})
	}
	_ = cmd.Wait() // how a probe ends says nothing
	w.note(time.Now())
}

// note takes down an answer, or that the probe has ended.
func (w *watchdog) note(ended time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.last, w.ended = time.Now(), ended
}

// stuck says why a server counts as stuck, or "".
func (w *watchdog) stuck(c *child) string {
	if c.killedFor != "" {
		return ""
	}
	if c.readySince.IsZero() {
		if time.Since(c.started) > readyWithin {
			return fmt.Sprintf("it was not ready within %v", readyWithin)
		}
		return ""
	}
	if stopped(c.pid()) {
		return "it is stopped"
	}
	w.mu.Lock()
	silent, asking := time.Since(w.last), w.cmd != nil && w.ended.IsZero()
	w.mu.Unlock()
	if asking && silent > silentFor && time.Since(c.readySince) > silentFor {
		return fmt.Sprintf("it has not answered its mount for %v", silent.Round(time.Second))
	}
	return ""
}

// stopped reports whether a process was stopped by a signal.
func stopped(pid int) bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, after, ok := strings.Cut(string(text), ") ")
	return ok && strings.HasPrefix(after, "T")
}

func (w *watchdog) stop() {
	if w.cmd != nil {
		_ = w.cmd.Process.Kill() // gone already is fine
	}
}

// Probe asks a mount for its statfs again and again, and writes a line for
// each answer, until nobody reads the lines or the mount is gone. It must run
// in a process that owns no descriptor of /dev/fuse.
func Probe(mountPoint string, out io.Writer) error {
	for {
		var st unix.Statfs_t
		if err := unix.Statfs(mountPoint, &st); err != nil {
			return err
		}
		if _, err := io.WriteString(out, ".\n"); err != nil {
			return err
		}
		time.Sleep(probeEvery)
	}
}
