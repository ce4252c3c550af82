package integration

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"modelfs/internal/hubtest"
)

// soon is how long the end of a process may take that nothing holds up.
const soon = 2*time.Second + 2*raceAllowance

func TestTheBackingDirHasOneOwner(t *testing.T) {
	t.Parallel()
	d := start(t, "--hf-endpoint", "")
	other, err := launch(t, tempDir(t, "mnt"), d.cache, "--hf-endpoint", "")
	if err == nil {
		t.Fatal("a second daemon shares the backing dir")
	}
	if code := other.cmd.ProcessState.ExitCode(); code != 4 {
		t.Errorf("the second daemon ended with %d, want 4", code)
	}
	owners := []string{fmt.Sprintf("process %d ", d.cmd.Process.Pid), fmt.Sprintf("process %d ", d.number("pid"))}
	if said := other.stderr.String(); !strings.Contains(said, owners[0]) && !strings.Contains(said, owners[1]) {
		t.Errorf("the second daemon does not say that %q has the backing dir: %s", owners, said)
	}
	if isMounted(other.mount) {
		t.Error("the second daemon left a mount")
	}
}

func TestADeadMountIsTakenOver(t *testing.T) {
	tree := writeTree(t, map[string][]byte{"m/model.gguf": pattern{1, 1 << 20}.bytes()})
	d := start(t, "--hf-endpoint", "", "--local", tree)
	d.kill()
	if !isMounted(d.mount) {
		t.Fatal("a killed daemon leaves no mount: this test sees nothing")
	}
	d = startOn(t, d.mount, d.cache, "--hf-endpoint", "", "--local", tree)
	checkReads(t, d.path("m/model.gguf"), pattern{1, 1 << 20})
	d.stop()
	if isMounted(d.mount) {
		t.Error("the dead mount is there again")
	}
}

// waitWays are the ways in which a reader can be waiting when it is stopped.
var waitWays = []string{"read", "direct", "mmap-shared", "mmap-private"}

// hanging is a daemon with one file whose bytes do not come until the fault is
// released.
func hanging(t *testing.T) (*daemon, pattern, *hubtest.Fault) {
	t.Helper()
	hub := hubtest.New(t)
	want := pattern{12, 24 << 20}
	oneFile(hub, "org/m", want)
	fault := hub.Fault(hubtest.Filter{Host: hubtest.AtCDN}, hubtest.Always(), hubtest.Hang())
	return start(t, hubFlags(hub)...), want, fault
}

func TestReadersThatAreStoppedLeaveNothing(t *testing.T) {
	t.Parallel()
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGKILL} {
		for _, way := range waitWays {
			t.Run(sig.String()+" in "+way, func(t *testing.T) {
				t.Parallel()
				d, want, fault := hanging(t)
				path := d.path("org/m/m.gguf")
				handles := d.number("mount", "handles")
				b := inBackground(t, reader(path, want, way))
				eventually(t, "the reader waits", 10*time.Second, func() bool { return d.number("fetch", "waiting_reads") > 0 })
				if err := b.cmd.Process.Signal(sig); err != nil {
					t.Fatal(err)
				}
				if err := b.ends(t, "the reader after "+sig.String(), soon); err == nil {
					t.Error("the reader read a file whose bytes are not there")
				}
				if way == "direct" { // the kernel does not say so of other reads
					eventually(t, "nothing waits any more", soon, func() bool { return d.number("fetch", "waiting_reads") == 0 })
				}
				fault.Remove()
				eventually(t, "nothing is left of the reader", 10*time.Second, func() bool {
					return d.number("fetch", "waiting_reads") == 0 && d.number("mount", "handles") == handles
				})
				checkReads(t, path, want, way)
			})
		}
	}
}

// waiting starts a reader of each kind and waits until all of them wait.
func waiting(t *testing.T, d *daemon, want pattern) []*background {
	t.Helper()
	var all []*background
	for _, way := range waitWays {
		all = append(all, inBackground(t, reader(d.path("org/m/m.gguf"), want, way)))
	}
	eventually(t, "the readers wait", 10*time.Second, func() bool {
		for _, b := range all {
			if !strings.Contains(procState(b.cmd.Process.Pid), "D:") && !waitsForFuse(b.cmd.Process.Pid) {
				return false
			}
		}
		return true
	})
	return all
}

// waitsForFuse reports whether a thread of a process waits for a FUSE reply or
// for a page.
func waitsForFuse(pid int) bool {
	state := procState(pid)
	return strings.Contains(state, "request_wait_answer") || strings.Contains(state, "folio_wait")
}

func wantReleased(t *testing.T, readers []*background) {
	t.Helper()
	for i, b := range readers {
		if err := b.ends(t, "a reader by "+waitWays[i]+" after the end of the mount", soon); err == nil {
			t.Errorf("a reader by %s read a file whose bytes are not there", waitWays[i])
		}
	}
}

func TestStopWhileReadersWait(t *testing.T) {
	d, want, _ := hanging(t)
	readers := waiting(t, d, want)
	within(t, "SIGTERM with readers that wait", soon, func() { d.stop() })
	wantReleased(t, readers)
}

func TestUnmountWhileReadersWait(t *testing.T) {
	d, want, _ := hanging(t)
	readers := waiting(t, d, want)
	within(t, "modelfs unmount with readers that wait", soon, func() {
		out, stderr, code := modelfs(t, "unmount", d.mount)
		if code != 0 || out != "unmounted "+d.mount+"\n" {
			t.Errorf("modelfs unmount: %d, %q, %q", code, out, stderr)
		}
	})
	wantReleased(t, readers)
	select {
	case <-d.exited:
		if code := d.cmd.ProcessState.ExitCode(); code != 0 {
			t.Errorf("the daemon ended with %d when somebody unmounted", code)
		}
	case <-time.After(soon):
		t.Error("the daemon is still there after modelfs unmount")
	}
	if isMounted(d.mount) {
		t.Error("it is still mounted")
	}
	out, stderr, code := modelfs(t, "unmount", d.mount)
	if code != 1 || !strings.Contains(stderr, "no modelfs is mounted on "+d.mount) {
		t.Errorf("modelfs unmount of nothing: %d, %q, %q", code, out, stderr)
	}
}

// A lazy umount hides the mount and ends nothing: who has a file open gets its
// bytes, and the service ends with the last of them.
func TestALazyUmountLetsReadersFinish(t *testing.T) {
	t.Parallel()
	d, want, fault := hanging(t)
	b := inBackground(t, reader(d.path("org/m/m.gguf"), want, "read"))
	eventually(t, "the reader waits", 10*time.Second, func() bool { return d.number("fetch", "waiting_reads") > 0 })
	if out, err := exec.Command("umount", d.mount).CombinedOutput(); err == nil || !strings.Contains(string(out), "busy") {
		t.Errorf("umount with a file open: %v, %s", err, out)
	}
	if out, err := exec.Command("umount", "-l", d.mount).CombinedOutput(); err != nil {
		t.Fatalf("umount -l: %v, %s", err, out)
	}
	fault.Remove()
	if err := b.ends(t, "a reader after umount -l", 30*time.Second); err != nil {
		t.Errorf("a reader after umount -l: %v, %s", err, b.out)
	}
	select {
	case <-d.exited:
		if code := d.cmd.ProcessState.ExitCode(); code != 0 {
			t.Errorf("the daemon ended with %d", code)
		}
	case <-time.After(10 * time.Second):
		t.Error("the daemon is still there although nobody has a file open")
	}
}

// The demo runs in a network namespace where nothing but loopback is.
func TestDemoNeedsNoNetwork(t *testing.T) {
	tmp := tempDir(t, "demo")
	cmd := command("unshare", "-n", "sh", "-c", `ip link set lo up && exec "$0" demo`, binary)
	cmd.Env = append(cleanEnv(t), "TMPDIR="+tmp)
	var text []byte
	within(t, "modelfs demo", 30*time.Second, func() {
		var err error
		if text, err = cmd.CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, text)
		}
	})
	for _, want := range []string{
		"ls -l", "model.gguf", "no byte of them downloaded",
		"cold read   10 %", "cold read  100 %", "identical to the original",
		"warm read", "read requests that reached modelfs: 0",
		"demo/no-such-model: no such file or directory after", "every source", "absent",
		"unmount",
	} {
		if !strings.Contains(string(text), want) {
			t.Errorf("the demo does not show %q:\n%s", want, text)
		}
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil || strings.Contains(string(mounts), tmp) {
		t.Errorf("the demo left a mount, %v", err)
	}
	if left, err := os.ReadDir(tmp); err != nil || len(left) > 0 {
		t.Errorf("the demo left %v, %v", left, err)
	}
}

func TestExplainThroughTheMountAndWithout(t *testing.T) {
	hub := hubtest.New(t)
	oneFile(hub, "org/m", pattern{1, 1000})
	d := start(t, hubFlags(hub)...)
	if _, err := os.ReadDir(d.path("org/m")); err != nil { // asking a mount lists nothing by itself
		t.Fatal(err)
	}
	// Without a daemon: in a mount namespace where no modelfs is to be seen.
	alone := command("unshare", append([]string{"-m", "sh", "-c", `umount -a -t fuse.modelfs; exec "$0" "$@"`, binary, "explain",
		"--cache", filepath.Join(tempDir(t, "cache"), "none")}, hubFlags(hub)...)...)
	alone.Env = cleanEnv(t)
	for name, words := range map[string][]string{
		"org/m":        {"org/m: model org/m from hub:" + hub.URL(), "present", "model.gguf: m.gguf", "1000 B"},
		"org/m/m.gguf": {"org/m: model org/m from hub:" + hub.URL(), "m.gguf", "1000 B"},
		"org/none":     {"org/none: every source says", "hub:" + hub.URL(), "absent"},
	} {
		out, stderr, code := modelfs(t, "explain", "--mount", d.mount, name)
		if code != 0 || !containsAll(out, words) {
			t.Errorf("through the mount: %d, %s without one of %q, %s", code, out, words, stderr)
		}
		cmd := *alone
		cmd.Args = append(alone.Args[:len(alone.Args):len(alone.Args)], name)
		text, err := cmd.CombinedOutput()
		if err != nil || !containsAll(string(text), words) {
			t.Errorf("without a daemon: %v, %s without one of %q", err, text, words)
		}
	}
}

// Whoever reads the log may go away; the mount stays, and stops as it should.
func TestTheLogsReaderGoesAway(t *testing.T) {
	hub := hubtest.New(t)
	want := pattern{14, 4 << 20}
	oneFile(hub, "org/m", want)
	point := tempDir(t, "mnt")
	t.Cleanup(func() { _ = unix.Unmount(point, unix.MNT_FORCE|unix.MNT_DETACH) }) // what a failure leaves
	log, stderr, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := command(binary, append([]string{"mount", "--cache", tempDir(t, "cache"), "--log-level", "debug", point}, hubFlags(hub)...)...)
	cmd.Env = cleanEnv(t)
	cmd.Stderr = stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(stderr.Close(), log.Close()); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	eventually(t, "it is mounted", 10*time.Second, func() bool { return isMounted(point) })
	checkReads(t, filepath.Join(point, "org/m/m.gguf"), want, "read")
	_ = cmd.Process.Signal(syscall.SIGTERM)
	select {
	case err := <-ended:
		if err != nil || isMounted(point) {
			t.Errorf("the daemon ended with %v, mounted: %v", err, isMounted(point))
		}
	case <-time.After(10 * time.Second):
		t.Error("the daemon does not end")
		_ = cmd.Process.Kill()
		if err := <-ended; err != nil {
			t.Log(err)
		}
	}
}
