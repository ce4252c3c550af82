package store

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"modelfs/internal/model"
)

const lockHelperEnv = "MODELFS_TEST_HOLD_LOCK"

// holdLock is the second process of TestLock: it holds the backing dir until
// its standard input ends.
func holdLock(dir string) int {
	s, err := Open(dir, Options{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println("held")
	_, _ = io.Copy(io.Discard, os.Stdin)
	if err := s.Close(); err != nil {
		return 1
	}
	return 0
}

// holder starts a process that has the backing dir, and returns a function
// that kills it.
func startHolder(t *testing.T, dir string) (pid int, kill func()) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "mount", "/models")
	cmd.Env = append(os.Environ(), lockHelperEnv+"="+dir)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	kill = func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		_ = in.Close()
	}
	t.Cleanup(kill)
	b := make([]byte, 200)
	n, err := out.Read(b)
	if err != nil || string(b[:n]) != "held\n" {
		t.Fatalf("the second process says %q, %v", b[:n], err)
	}
	return cmd.Process.Pid, kill
}

func TestLockNamesItsHolder(t *testing.T) {
	dir := t.TempDir()
	pid, kill := startHolder(t, dir)

	_, err := Open(dir, Options{Log: slog.New(slog.DiscardHandler)})
	wantKind(t, err, model.InUse)
	for _, want := range []string{dir, fmt.Sprintf("process %d (", pid), "mount /models)", "choose another --cache"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("message %q lacks %q", err, want)
		}
	}

	kill()
	s, err := Open(dir, Options{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatalf("after the holder was killed: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestLockInOneProcess(t *testing.T) {
	s := newStore(t)
	_, err := open(s.dir, Options{Log: slog.New(slog.DiscardHandler)}, roomy())
	wantKind(t, err, model.InUse)
	if fi, err := os.Stat(s.path(lockFile)); err != nil || fi.Mode().Perm() != 0o600 {
		t.Fatalf("lock: %v, %v", fi.Mode(), err)
	}
}

// A process that holds the lock for others gives it up last.
func TestALockThatIsPassedOn(t *testing.T) {
	dir := t.TempDir()
	log := slog.New(slog.DiscardHandler)
	lock, err := Lock(dir)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // one server after the other
		s, err := open(dir, Options{Log: log, Lock: inherit(t, lock)}, roomy())
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		_, err = Lock(dir)
		wantKind(t, err, model.InUse)
	}
	_, err = open(t.TempDir(), Options{Log: log, Lock: inherit(t, lock)}, roomy())
	wantKind(t, err, model.Internal) // it is another directory's
	stranger, err := os.Open(lock.Name())
	if err != nil {
		t.Fatal(err)
	}
	_, err = open(dir, Options{Log: log, Lock: stranger}, roomy())
	wantKind(t, err, model.InUse) // it is the file, and not the lock
	if err := lock.Close(); err != nil {
		t.Fatal(err)
	}
	openStore(t, dir, Options{}, roomy())
}

// inherit makes what a child process finds: another descriptor of the same
// open file.
func inherit(t *testing.T, f *os.File) *os.File {
	t.Helper()
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	return os.NewFile(uintptr(fd), f.Name())
}

func TestHolderOfADamagedLockFile(t *testing.T) {
	for _, text := range []string{"", "x\ny\nz\n", "12\n", strings.Repeat("9", 5000)} {
		f, err := os.CreateTemp(t.TempDir(), "lock")
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err := f.WriteString(text); err != nil {
			t.Fatal(err)
		}
		if _, err := f.Seek(0, 0); err != nil {
			t.Fatal(err)
		}
		if got := holder(f); got != "another process" {
			t.Errorf("holder of %.20q: %q", text, got)
		}
	}
}
