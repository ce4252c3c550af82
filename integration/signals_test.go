package integration

import (
	"errors"
	"os"
	"os/signal"
	"runtime"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"modelfs/internal/hubtest"
)

// interrupting makes a system call on a thread that gets a signal every few
// milliseconds, and repeats nothing.
func interrupting(sig unix.Signal, call func() error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	tid, done, ended := unix.Gettid(), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for tick := time.NewTicker(3 * time.Millisecond); ; {
			select {
			case <-tick.C:
				_ = unix.Tgkill(unix.Getpid(), tid, sig)
			case <-done:
				tick.Stop()
				return
			}
		}
	}()
	err := call()
	close(done)
	<-ended
	return err
}

func statOf(path string) func() error { return func() error { return statRaw(path) } }

// A timer, a child that ended, the Go runtime's own signals: a name takes its
// time and is answered.
func TestASignalIsNoError(t *testing.T) {
	hub := hubtest.New(t)
	hub.AddRepo(hubRepo("org/m", pattern{1, 70_000}))
	hub.SetLatency(150 * time.Millisecond)
	d := start(t, hubFlags(hub)...)
	wantErrno(t, "a name that nobody has", interrupting(unix.SIGURG, statOf(d.path("org/missing"))), unix.ENOENT)
	if err := interrupting(unix.SIGURG, statOf(d.path("org/m/model.gguf"))); err != nil {
		t.Errorf("a model: %v", err)
	}
	if err := interrupting(unix.SIGURG, func() error { return opening(d.path("org/m/model.gguf"), unix.O_RDONLY) }); err != nil {
		t.Errorf("opening it: %v", err)
	}
	fd, err := unix.Open(d.path("org/m/model.gguf"), unix.O_RDONLY|unix.O_DIRECT|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	buf := make([]byte, 70_000)
	n := 0
	if err := interrupting(unix.SIGURG, func() (err error) { n, err = unix.Pread(fd, buf, 0); return err }); err != nil || n != len(buf) {
		t.Errorf("reading it: %d bytes, %v", n, err)
	}
}

// Who is asked to end, and wants to do that by itself, does not have to wait
// for a listing.
func TestACallerThatIsAskedToEndIsLetGo(t *testing.T) {
	asked := make(chan os.Signal, 1)
	signal.Notify(asked, os.Interrupt)
	defer signal.Stop(asked)
	hub := hubtest.New(t)
	hub.AddRepo(hubRepo("org/m", pattern{1, 70_000}))
	hub.Fault(hubtest.Filter{Path: "/api/*/tree/*"}, hubtest.Always(), hubtest.Hang())
	d := start(t, append(hubFlags(hub), "--list-timeout", "1m")...)
	if err := statRaw(d.path("org/m")); err != nil {
		t.Fatal(err)
	}
	within(t, "a listing that is interrupted", 10*time.Second, func() {
		if err := interrupting(unix.SIGINT, statOf(d.path("org/m/model.gguf"))); !errors.Is(err, syscall.EINTR) {
			t.Errorf("%v, want %v", err, syscall.EINTR)
		}
	})
}
