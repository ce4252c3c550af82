package integration

import (
	"errors"
	"fmt"
	iofs "io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// eventually waits until a condition holds, which another process brings
// about: nothing here could tell when.
func eventually(t testing.TB, what string, limit time.Duration, holds func() bool) {
	t.Helper()
	deadline := time.After(limit)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("not within %v: %s", limit, what)
		}
	}
}

// writeExecutable writes a program that is run right away. No process may be
// forked meanwhile: it would hold the file open for writing until its own exec,
// and nobody could run it (ETXTBSY).
func writeExecutable(t testing.TB, path string, data []byte) {
	t.Helper()
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	if err := os.WriteFile(path, data, 0o755); err != nil {
		t.Fatal(err)
	}
}

func copyExecutable(t testing.TB, to, from string) {
	t.Helper()
	data, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	writeExecutable(t, to, data)
}

// racing says whether everything runs several times as slowly, for the race
// detector.
const racing = raceAllowance > 0

// number is a number of status.json.
func (d *daemon) number(path ...string) int64 {
	d.t.Helper()
	n, ok := field(d.control("status.json"), path...).(float64)
	if !ok {
		d.t.Fatalf("status.json has no number %v", path)
	}
	return int64(n)
}

// A background process is one that a test waits for with a limit. What is
// left of it at the end of the test is killed.
type background struct {
	cmd  *exec.Cmd
	out  *lockedBuffer
	done chan struct{} // closed when it has been waited for; then err is set
	err  error
}

func inBackground(t testing.TB, cmd *exec.Cmd) *background {
	t.Helper()
	b := &background{cmd: cmd, out: &lockedBuffer{}, done: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = b.out, b.out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(b.done)
		b.err = cmd.Wait()
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		select {
		case <-b.done:
		case <-time.After(10 * time.Second):
			t.Errorf("process %d can't be killed: %s", cmd.Process.Pid, procState(cmd.Process.Pid))
		}
	})
	return b
}

// ends waits for the end and returns how it ended.
func (b *background) ends(t testing.TB, what string, limit time.Duration) error {
	t.Helper()
	select {
	case <-b.done:
		return b.err
	case <-time.After(limit):
		t.Errorf("%s: still running after %v: %s", what, limit, procState(b.cmd.Process.Pid))
		return errors.New("still running")
	}
}

func (b *background) running() bool {
	select {
	case <-b.done:
		return false
	default:
		return true
	}
}

// procState says what the threads of a process wait for.
func procState(pid int) string {
	var b strings.Builder
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", pid))
	for _, task := range tasks {
		stat, _ := os.ReadFile(task + "/stat")
		_, rest, _ := strings.Cut(string(stat), ") ")
		stack, _ := os.ReadFile(task + "/wchan")
		fmt.Fprintf(&b, "%.1s:%s ", rest, stack)
	}
	return b.String()
}

// files lists the regular files below a directory, relative to it. What its
// owner removes while this looks (a client its temporary directory) is not there.
func files(t testing.TB, dir string) []string {
	t.Helper()
	var list []string
	err := filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if path != dir && errors.Is(err, iofs.ErrNotExist) {
			return nil
		}
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		list = append(list, rel)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// stored lists what a backing dir holds of models, bookkeeping aside.
func stored(t testing.TB, cache string) []string {
	t.Helper()
	var list []string
	for _, dir := range []string{"blobs", "models", "fills"} {
		for _, f := range files(t, filepath.Join(cache, dir)) {
			list = append(list, dir+"/"+f)
		}
	}
	return list
}

// fuseHolders are the descriptors of /dev/fuse among some processes, as
// pid -> whether all of them are closed on exec.
func fuseHolders(pids []int) map[int]bool {
	found := make(map[int]bool)
	for _, pid := range pids {
		fds, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
		for _, fd := range fds {
			if to, _ := os.Readlink(fd); to != "/dev/fuse" {
				continue
			}
			safe, seen := found[pid]
			found[pid] = closedOnExec(pid, filepath.Base(fd)) && (safe || !seen)
		}
	}
	return found
}

func closedOnExec(pid int, fd string) bool {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/fdinfo/%s", pid, fd))
	for line := range strings.Lines(string(text)) {
		var flags int
		if _, err := fmt.Sscanf(line, "flags: %o", &flags); err == nil {
			return flags&unix.O_CLOEXEC != 0
		}
	}
	return false
}

// descendants are the processes that come from one, itself included.
func descendants(pid int) []int {
	list := []int{pid}
	children, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, c := range children {
		text, _ := os.ReadFile(c)
		for _, f := range strings.Fields(string(text)) {
			var child int
			if _, err := fmt.Sscan(f, &child); err == nil {
				list = append(list, descendants(child)...)
			}
		}
	}
	return list
}

// residentMemory is what a process has in memory, in bytes; 0 if it is gone.
func residentMemory(pid int) int {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		return 0
	}
	f := strings.Fields(string(text))
	pages, _ := strconv.Atoi(f[1])
	return pages * os.Getpagesize()
}

// completes waits until a file is complete in the backing dir, and returns
// where it lies there.
func (d *daemon) completes(repo, file string) string {
	d.t.Helper()
	var found string
	eventually(d.t, file+" is completed", 30*time.Second, func() bool {
		for _, f := range files(d.t, filepath.Join(d.cache, "models")) {
			if strings.Contains(f, repo+"/") && strings.HasSuffix(f, "/"+file) {
				found = filepath.Join(d.cache, "models", f)
			}
		}
		return found != ""
	})
	return found
}

// command is a program of the system's.
func command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	cmd.WaitDelay = 10 * time.Second
	return cmd
}
