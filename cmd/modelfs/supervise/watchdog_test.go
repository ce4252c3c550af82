package supervise

import (
	"bytes"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestOnlyAProbeThatRunsSpeaksAgainstAServer: silence is a hang only where
// somebody asks.
func TestOnlyAProbeThatRunsSpeaksAgainstAServer(t *testing.T) {
	t.Parallel()
	self, err := os.FindProcess(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	long, now := time.Now().Add(-2*silentFor), time.Now()
	for _, tc := range []struct {
		name        string
		cmd         *exec.Cmd
		last, ended time.Time
		ready       time.Time
		stuck       bool
	}{
		{name: "answered", cmd: &exec.Cmd{}, last: now, ready: long},
		{name: "silent", cmd: &exec.Cmd{}, last: long, ready: long, stuck: true},
		{name: "silent, but the server is new", cmd: &exec.Cmd{}, last: long, ready: now},
		{name: "the probe has ended", cmd: &exec.Cmd{}, last: long, ended: long, ready: long},
		{name: "there was never a probe", last: long, ready: long},
	} {
		w := newWatchdog([]string{"probe"}, slog.New(slog.DiscardHandler))
		w.cmd, w.last, w.ended = tc.cmd, tc.last, tc.ended
		why := w.stuck(&child{cmd: &exec.Cmd{Process: self}, readySince: tc.ready})
		if (why != "") != tc.stuck {
			t.Errorf("%s: stuck says %q", tc.name, why)
		}
	}
}

// A probe that can't be started is tried again, and that is said once.
func TestAProbeThatCannotBeStartedIsTriedAgain(t *testing.T) {
	t.Parallel()
	var said bytes.Buffer
	w := newWatchdog([]string{filepath.Join(t.TempDir(), "nothing")}, slog.New(slog.NewTextHandler(&said, nil)))
	w.start()
	for range 3 {
		if w.cmd != nil || w.ended.IsZero() {
			t.Fatalf("it counts as running: %+v", w)
		}
		before := time.Now().Add(-2 * probeEvery)
		w.ended = before
		if w.restart(); w.ended.Equal(before) {
			t.Fatal("it was not tried again")
		}
	}
	if n := strings.Count(said.String(), "level=WARN"); n != 1 {
		t.Errorf("%d warnings:\n%s", n, said.String())
	}
	w.command = []string{"/bin/true"}
	w.ended = time.Now().Add(-2 * probeEvery)
	if w.restart(); w.cmd == nil {
		t.Error("it was not started once it could be")
	}
}
