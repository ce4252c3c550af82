package leaktest

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { Main(m) }

// Each kind of thing is seen while it is there, and not once it is gone.
func TestWhatIsLeftIsSeen(t *testing.T) {
	dir := t.TempDir()
	before := descriptors()
	sees := func(what string) {
		t.Helper()
		if list := strings.Join(append(opened(before), append(using(dir), entries(dir)...)...), "\n"); (what == "") != (list == "") || !strings.Contains(list, what) {
			t.Errorf("seen is %q, want %q", list, what)
		}
	}
	sees("")

	file := filepath.Join(dir, "file")
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	sees("the file " + file)
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	sees("the descriptor")
	f.Close()
	sees("")

	for _, told := range []struct{ arg, env string }{{dir + "/x", "HOME=/"}, {"x", "HOME=" + dir}} {
		ctx, kill := context.WithCancel(t.Context())
		cmd := exec.CommandContext(ctx, "sh", "-c", "echo; read line", told.arg)
		cmd.Env = []string{told.env}
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
		if _, err := out.Read(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		sees("the process")
		kill()
		_ = cmd.Wait() // it was killed
		in.Close()
	}
	sees("")

	point := filepath.Join(t.TempDir(), "mnt")
	if err := os.Mkdir(point, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", point, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	if got := using(point); len(got) != 1 || got[0] != "the mount "+point {
		t.Errorf("a mount is seen as %q", got)
	}
	if err := unix.Unmount(point, 0); err != nil {
		t.Fatal(err)
	}
	if got := using(point); len(got) != 0 {
		t.Errorf("no mount is seen as %q", got)
	}
}

// A package that leaves a file fails, and the file is removed all the same.
func TestWhatIsLeftFails(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir()) // Run sets it for its tests
	parent := os.TempDir()
	clean := Run(func() int { return 0 })
	t.Setenv("TMPDIR", parent)
	dirty := Run(func() int {
		if err := os.WriteFile(filepath.Join(os.TempDir(), "left"), nil, 0o600); err != nil {
			t.Error(err)
		}
		return 0
	})
	t.Setenv("TMPDIR", parent)
	if clean != 0 || dirty != 1 {
		t.Errorf("the exit codes are %d and %d, want 0 and 1", clean, dirty)
	}
	if left := entries(parent); len(left) != 0 {
		t.Errorf("left are %q", left)
	}
}
