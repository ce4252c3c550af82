package supervise

import (
	"log/slog"
	"os"
	"os/exec"
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
