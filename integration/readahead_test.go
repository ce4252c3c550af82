package integration

import (
	"os"
	"strings"
	"testing"
)

// TestReadAheadIsRaised: with the kernel's own 128 KiB a read of 1 MiB arrives
// in nine pieces, one after the other. INIT sets that again, so raising it too
// early is undone without an error.
func TestReadAheadIsRaised(t *testing.T) {
	d := start(t, "--hf-endpoint", "")
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	device := ""
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) > 4 && f[4] == d.mount {
			device = f[2]
		}
	}
	got, err := os.ReadFile("/sys/class/bdi/" + device + "/read_ahead_kb")
	if err != nil {
		t.Fatal(err)
	}
	if s := strings.TrimSpace(string(got)); s != "4096" {
		t.Errorf("read_ahead_kb of the mount is %s, want 4096", s)
	}
}
