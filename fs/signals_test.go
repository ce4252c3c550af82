package fs

import (
	"os/exec"
	"testing"

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
