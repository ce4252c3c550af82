// Package leaktest answers what a package's tests leave behind: goroutines,
// open files, temporary files, mounts and processes.
package leaktest

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

// settleFor is how long what is on its way out may still be there: goleak, too,
// tries again for a while.
const settleFor = 3 * time.Second

// Main is the whole of a package's TestMain: it runs the tests, and fails the
// package if they leave anything. It does not return.
func Main(m *testing.M) { os.Exit(Run(m.Run)) }

// Run is for a TestMain that has more to do: it gives the tests a temporary
// directory of their own, runs them, and returns the exit code. What they leave
// is printed, unmounted and removed.
func Run(tests func() int) (code int) {
	dir, err := os.MkdirTemp("", "modelfs-test-")
	if err == nil {
		err = os.Chmod(dir, 0o755) //nolint:gosec // tests read as other users, as containers would
	}
	if err == nil {
		err = os.Setenv("TMPDIR", dir)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "a temporary directory for the tests: %v\n", err)
		return 1
	}
	before := descriptors()
	code = tests()
	for _, left := range leavings(dir, before) {
		fmt.Fprintln(os.Stderr, "the tests left", left)
		code = max(code, 1)
	}
	for _, point := range mountsBelow(dir) {
		_ = unix.Unmount(point, unix.MNT_DETACH) // or everything below it would be removed
	}
	_ = os.RemoveAll(dir) // what is in it has been printed
	return code
}

// leavings says what is left.
func leavings(dir string, before []string) []string {
	var list []string
	if err := goleak.Find(); err != nil {
		list = append(list, err.Error())
	}
	return append(list, settled(func() []string { return slices.Concat(opened(before), using(dir), entries(dir)) })...)
}

// settled is what look still sees after a while.
func settled(look func() []string) []string {
	for deadline := time.Now().Add(settleFor); ; {
		left := look()
		if len(left) == 0 || time.Now().After(deadline) {
			return left
		}
		time.Sleep(20 * time.Millisecond) // nobody says when a process has ended that is no child
	}
}

// Unused fails a test at whose end a directory that was made for it is still in
// use: something is mounted on it or below, or a process runs that was told of
// it. It waits a moment for what is on its way out.
func Unused(t testing.TB, dir string) {
	t.Helper()
	for _, left := range settled(func() []string { return using(dir) }) {
		t.Errorf("the test left %s", left)
	}
}

func entries(dir string) []string {
	var list []string
	found, err := os.ReadDir(dir)
	if err != nil {
		return []string{err.Error()}
	}
	for _, e := range found {
		list = append(list, "the file "+filepath.Join(dir, e.Name()))
	}
	return list
}

// using is what of the system uses a directory, in words: mounts on it and
// below, and processes that were told of it in an argument or a variable.
func using(dir string) []string {
	var list []string
	for _, point := range mountsBelow(dir) {
		list = append(list, "the mount "+point)
	}
	procs, _ := filepath.Glob("/proc/[0-9]*")
	for _, p := range procs {
		if pid, err := strconv.Atoi(filepath.Base(p)); err != nil || pid == os.Getpid() {
			continue
		}
		// What can't be read has ended meanwhile, or is somebody else's.
		args, _ := os.ReadFile(p + "/cmdline")
		env, _ := os.ReadFile(p + "/environ")
		if strings.Contains(string(args), dir) || strings.Contains(string(env), dir) {
			list = append(list, fmt.Sprintf("the process %s, %q", filepath.Base(p), args))
		}
	}
	return list
}

// mountsBelow are the mount points in dir and dir itself, the deepest first.
func mountsBelow(dir string) []string {
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return []string{err.Error()}
	}
	var list []string
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) > 4 && (f[4] == dir || strings.HasPrefix(f[4], dir+"/")) {
			list = append(list, f[4])
		}
	}
	slices.Reverse(list)
	return list
}

// descriptors are this process's, as "number target".
func descriptors() []string {
	var list []string
	fds, _ := filepath.Glob("/proc/self/fd/*")
	for _, fd := range fds {
		if target, err := os.Readlink(fd); err == nil { // but the one that lists them
			list = append(list, filepath.Base(fd)+" "+target)
		}
	}
	return list
}

// opened are the descriptors that are not among those before, in words. The Go
// runtime keeps some of its own, and a process that watches the mount table does
// so until it ends.
func opened(before []string) []string {
	var list []string
	for _, d := range descriptors() {
		_, target, _ := strings.Cut(d, " ")
		own := target == "anon_inode:[eventpoll]" || target == "anon_inode:[eventfd]" || target == "/dev/urandom" || strings.HasSuffix(target, "/mountinfo")
		if !own && !slices.Contains(before, d) {
			list = append(list, "the descriptor "+d)
		}
	}
	return list
}
