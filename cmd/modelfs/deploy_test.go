package main

import (
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// What the unit and the manifest run before modelfs must not keep it from
// starting where a killed one has left its mount: modelfs mounts over that.
func TestWhatIsDeployedStartsOverADeadMount(t *testing.T) {
	dir := t.TempDir()
	dead := hang(t, dir)
	if err := unix.Close(dead); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mkdir", "-p", dir).CombinedOutput(); err == nil {
		t.Fatalf("mkdir -p of a dead mount succeeds, and this test sees nothing: %s", out)
	}
	for _, c := range []struct {
		file, point string
		command     *regexp.Regexp
	}{
		{"modelfs.service", "/models", regexp.MustCompile(`(?m)^ExecStartPre=(.+)$`)},
		{"kubernetes.yaml", "/run/modelfs/models", regexp.MustCompile(`(?m)^ +command: \[(.+)\]$`)},
	} {
		text, err := os.ReadFile("../../deploy/" + c.file)
		if err != nil {
			t.Fatal(err)
		}
		found := c.command.FindAllStringSubmatch(string(text), -1)
		if len(found) == 0 {
			t.Errorf("%s runs nothing before modelfs", c.file)
		}
		for _, m := range found {
			line, mayFail := strings.CutPrefix(strings.ReplaceAll(m[1], c.point, dir), "-") // to systemd a "-" says so
			args := strings.Fields(line)
			if c.file == "kubernetes.yaml" {
				args = strings.Split(strings.ReplaceAll(line, `"`, ""), ", ")
			}
			if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil && !mayFail {
				t.Errorf("%s: %q keeps modelfs from starting: %v, %s", c.file, m[1], err, out)
			}
		}
	}
}
