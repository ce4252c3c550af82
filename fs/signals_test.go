package fs

import (
	"context"
	"log/slog"
	"os/exec"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

func TestPendingSignals(t *testing.T) {
	const (
		quiet  = "Name:\tengine\nSigQ:\t1/95000\nSigPnd:\t0000000000000000\nShdPnd:\t0000000000000000\nSigBlk:\t0000000000000000\nSigCgt:\t7fffffffffffffff\n"
		timer  = "SigPnd:\t0000000004000000\nShdPnd:\t0000000000012000\nSigBlk:\t0000000000000000\n" // PROF; CHLD, ALRM
		killed = "SigPnd:\t0000000000000100\nShdPnd:\t0000000000000000\nSigBlk:\tfffffffe7ffbfeff\n"
		asked  = "SigPnd:\t0000000000000000\nShdPnd:\t0000000000000002\nSigBlk:\t0000000000000000\n" // INT
		later  = "SigPnd:\t0000000000000000\nShdPnd:\t0000000000004000\nSigBlk:\t0000000000004000\n" // TERM, which another thread takes
	)
	for _, tt := range []struct {
		name, status string
		kill, leave  bool
	}{
		{"nothing", quiet, false, false}, {"a timer", timer, false, false}, {"killed", killed, true, true},
		{"asked to end", asked, false, true}, {"asked, and blocked", later, false, false}, {"gone", "", true, true},
	} {
		if got := pending(tt.status, unix.SIGKILL); got != tt.kill {
			t.Errorf("%s: SIGKILL is pending: %v", tt.name, got)
		}
		if got := pending(tt.status, unix.SIGKILL, unix.SIGINT, unix.SIGTERM); got != tt.leave {
			t.Errorf("%s: it leaves: %v", tt.name, got)
		}
	}
}

// A thread of another pid namespace can't be looked at.
func TestWhoIsLeaving(t *testing.T) {
	ended := exec.Command("true")
	must(t, ended.Run())
	gone := uint32(ended.Process.Pid)
	for tid, want := range map[uint32][2]bool{0: {true, false}, uint32(unix.Gettid()): {false, false}, gone: {true, true}} {
		if got := [2]bool{dying(tid), leaving(tid)}; got != want {
			t.Errorf("thread %d: dying, leaving are %v, want %v", tid, got, want)
		}
	}
}

// A countingReader counts the reads that were begun.
type countingReader struct {
	fakeReader
	begun atomic.Int32
}

func (r *countingReader) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	r.begun.Add(1)
	return r.fakeReader.ReadAt(ctx, p, off)
}

// Whoever has a signal that does not end him waits on in one read: one that
// began anew again and again would have its time limits begin anew, too.
func TestASignalDoesNotBeginAReadAgainAndAgain(t *testing.T) {
	r := newRawFS(Config{Content: &fakeContent{}, Log: slog.New(slog.DiscardHandler)}, newLedger(t))
	t.Cleanup(r.bg.close)
	synctest.Test(t, func(t *testing.T) {
		reader := &countingReader{fakeReader: fakeReader{data: pattern(4096, 1), gate: make(chan struct{})}}
		fh := r.handles.add(&handle{node: &node{kind: kindCold}, reader: reader})
		defer r.handles.remove(fh)
		in := &fuse.ReadIn{Fh: fh, InHeader: fuse.InHeader{Caller: fuse.Caller{Pid: uint32(unix.Getpid())}}}
		signal, answered := make(chan struct{}), make(chan fuse.Status, 1)
		go func() {
			_, code := r.Read(signal, in, make([]byte, 4096))
			answered <- code
		}()
		synctest.Wait()
		close(signal)
		<-time.After(time.Minute)
		synctest.Wait()
		if n := reader.begun.Load(); n > 2 {
			t.Errorf("a read that waits for a minute was begun %d times, want once more for the signal", n)
		}
		close(reader.gate)
		if code := <-answered; code != fuse.OK {
			t.Errorf("it ended with %v", code)
		}
	})
}

// Who is killed after another signal, of which alone the kernel has spoken, is
// let go.
func TestAReaderThatIsKilledAfterASignalIsLetGo(t *testing.T) {
	r := newRawFS(Config{Content: &fakeContent{}, Log: slog.New(slog.DiscardHandler)}, newLedger(t))
	t.Cleanup(r.bg.close)
	caller := exec.Command("sleep", "1000")
	must(t, caller.Start())
	end := sync.OnceFunc(func() {
		must(t, caller.Process.Kill())
		_ = caller.Wait() // it says that it was killed
	})
	t.Cleanup(end)
	synctest.Test(t, func(t *testing.T) {
		reader := &countingReader{fakeReader: fakeReader{gate: make(chan struct{})}}
		fh := r.handles.add(&handle{node: &node{kind: kindCold}, reader: reader})
		defer r.handles.remove(fh)
		in := &fuse.ReadIn{Fh: fh, InHeader: fuse.InHeader{Caller: fuse.Caller{Pid: uint32(caller.Process.Pid)}}}
		signal, answered := make(chan struct{}), make(chan fuse.Status, 1)
		go func() {
			_, code := r.Read(signal, in, make([]byte, 4096))
			answered <- code
		}()
		close(signal)
		<-time.After(time.Minute)
		synctest.Wait()
		if len(answered) > 0 {
			t.Errorf("it ended with %v before", <-answered)
		}
		end()
		<-time.After(signalCheck)
		synctest.Wait()
		if len(answered) == 0 {
			close(reader.gate)
			t.Error("it still waits")
		}
		if code := <-answered; code != fuse.EINTR {
			t.Errorf("it ended with %v", code)
		}
	})
}
