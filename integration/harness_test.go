// Package integration is black box: the real binary, the real kernel, real
// files, scripted origins on loopback.
package integration

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"modelfs/internal/leaktest"
)

// binary is the modelfs that is tested, built once by TestMain, or the one that
// binaryGiven names. plain is the same without the race detector, whose memory
// and time are its own.
var binary, plain string

// helper is these tests' binary for the processes that tests need besides the
// daemon, readers above all: this one, or one without the race detector, with
// which every byte that they compare costs ten times as much.
var helper = os.Args[0]

// binaryGiven is set where there is no compiler (scripts/vm.sh).
const binaryGiven = "MODELFS_IT_BINARY"

func TestMain(m *testing.M) {
	for name, run := range map[string]func(string) int{readerJob: runReader, probeJobs: runProber, gateJob: runGate, survivorJob: runSurvivor} {
		if text := os.Getenv(name); text != "" {
			os.Exit(run(text))
		}
	}
	os.Exit(leaktest.Run(func() int { return run(m) }))
}

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "bin-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }() // or it counts as left
	binary = os.Getenv(binaryGiven)
	if plain = binary; binary == "" {
		if err := build(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	f, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	if err != nil {
		fmt.Fprintf(os.Stderr, "these tests need /dev/fuse and root: %v\n", err)
		return 1
	}
	f.Close()
	waitTogether()
	return m.Run()
}

// build makes the binaries in dir.
func build(dir string) error {
	binary = filepath.Join(dir, "modelfs")
	plain = binary
	builds := [][]string{append(append([]string{"build"}, buildFlags...), "-o", binary, "modelfs/cmd/modelfs")}
	if racing {
		plain, helper = filepath.Join(dir, "modelfs-plain"), filepath.Join(dir, "helper")
		builds = append(builds, []string{"build", "-o", plain, "modelfs/cmd/modelfs"}, []string{"test", "-c", "-o", helper, "modelfs/integration"})
	}
	for _, args := range builds {
		if out, err := exec.Command("go", args...).CombinedOutput(); err != nil {
			return fmt.Errorf("go %s: %w\n%s", strings.Join(args, " "), err, out)
		}
	}
	return nil
}

// waitTogether lets more of the tests that are marked as parallel run at once
// than there are processors, unless the person who runs them has said how many:
// most of them wait, for outages to end, and the rest only compare bytes. What
// counts milliseconds or bytes in flight, or measures memory, is not marked.
func waitTogether() {
	flag.Parse()
	said := false
	flag.Visit(func(f *flag.Flag) { said = said || f.Name == "test.parallel" })
	if !said {
		_ = flag.Set("test.parallel", "4") // a number is one
	}
}

// A daemon is a running "modelfs mount".
type daemon struct {
	t      testing.TB
	cmd    *exec.Cmd
	mount  string
	cache  string
	stderr *logFile
	exited chan struct{} // closed when the process has been waited for
}

// A logFile is a daemon's standard error. As a file it holds all that was
// written before whatever a test sees the daemon do; through a pipe it might
// still be on its way.
type logFile struct{ f *os.File }

func newLogFile(t testing.TB) *logFile {
	t.Helper()
	f, err := os.CreateTemp("", "log-")
	if err == nil {
		t.Cleanup(func() { f.Close() })
		err = os.Remove(f.Name())
	}
	if err != nil {
		t.Fatal(err)
	}
	return &logFile{f}
}

func (l *logFile) String() string {
	text, err := io.ReadAll(io.NewSectionReader(l.f, 0, 1<<30))
	if err != nil {
		return err.Error()
	}
	return string(text)
}

type lockedBuffer struct {
	mu sync.Mutex // guards b
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// tempDir is a directory whose name shows what it is from, outside of
// t.TempDir because a lost mount must not fail its removal. When the test ends,
// nothing may be mounted there, and no process that was told of it may run.
func tempDir(t testing.TB, kind string) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "*-"+kind)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		leaktest.Unused(t, dir)
		_ = os.RemoveAll(dir)
	})
	return dir
}

// start mounts with the given flags in directories of its own and waits
// until the mount can be used. Cleanup ends it and checks how it ends.
func start(t testing.TB, flags ...string) *daemon {
	t.Helper()
	return startOn(t, tempDir(t, "mnt"), tempDir(t, "cache"), flags...)
}

func startOn(t testing.TB, mount, cache string, flags ...string) *daemon {
	t.Helper()
	d, err := launch(t, mount, cache, flags...)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// launch is start for daemons that may refuse. As in a shell, settings of the
// environment may come before the flags.
func launch(t testing.TB, mount, cache string, flags ...string) (*daemon, error) {
	t.Helper()
	return launchBinary(t, binary, mount, cache, flags...)
}

func launchBinary(t testing.TB, binary, mount, cache string, flags ...string) (*daemon, error) {
	t.Helper()
	env := cleanEnv(t)
	for len(flags) > 0 && !strings.HasPrefix(flags[0], "-") {
		env, flags = append(env, flags[0]), flags[1:]
	}
	args := append([]string{"mount", "--cache", cache, "--log-level", "debug", "--log-format", "text"}, flags...)
	d := &daemon{t: t, mount: mount, cache: cache, stderr: newLogFile(t), exited: make(chan struct{})}
	d.cmd = exec.Command(binary, append(args, mount)...)
	d.cmd.Env = env
	d.cmd.Stderr = d.stderr.f
	out, err := d.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := d.cmd.Start(); err != nil {
		return nil, err
	}
	line := make([]byte, len("mounted "+mount+"\n"))
	_, readErr := io.ReadFull(out, line)
	go func() {
		defer close(d.exited)
		_, _ = io.Copy(io.Discard, out)
		_ = d.cmd.Wait()
	}()
	if readErr != nil || string(line) != "mounted "+mount+"\n" {
		_ = d.cmd.Process.Kill()
		<-d.exited
		return d, fmt.Errorf("modelfs mount said %q and ended with %v\n%s", line, d.cmd.ProcessState, d.stderr)
	}
	t.Cleanup(func() { d.stop() })
	return d, nil
}

// cleanEnv is an environment without anything of the person who runs the
// tests: no token, no proxy, a home of its own.
func cleanEnv(t testing.TB) []string {
	return []string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "HF_ENDPOINT=", "MODELFS_NO_DISCOVER=1", "GOTRACEBACK=all", noRaceSleep}
}

// noRaceSleep keeps the race detector from waiting a second at the end of each
// process.
const noRaceSleep = "GORACE=atexit_sleep_ms=0"

// stop sends SIGTERM and checks that the daemon ends as promised: within two
// seconds (with margin for a loaded machine), code 0, mount gone.
func (d *daemon) stop() {
	d.t.Helper()
	select {
	case <-d.exited:
		_ = unix.Unmount(d.mount, unix.MNT_DETACH) // what a test killed
		if d.t.Failed() {
			d.t.Logf("the daemon ended before, %v; its log ends with:\n%s", d.cmd.ProcessState, tail(d.stderr.String()))
		}
		return
	default:
	}
	if err := d.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		d.t.Errorf("SIGTERM: %v", err)
	}
	select {
	case <-d.exited:
		if code := d.cmd.ProcessState.ExitCode(); code != 0 {
			d.t.Errorf("the daemon ended with %d\n%s", code, tail(d.stderr.String()))
		}
	case <-time.After(10 * time.Second):
		d.t.Errorf("the daemon did not end within 10 s of SIGTERM\n%s", tail(d.stderr.String()))
		_ = d.cmd.Process.Signal(syscall.SIGQUIT)
		select {
		case <-d.exited:
		case <-time.After(5 * time.Second):
			_ = d.cmd.Process.Kill()
		}
	}
	if isMounted(d.mount) {
		d.t.Errorf("%s is still mounted", d.mount)
		_ = unix.Unmount(d.mount, unix.MNT_FORCE|unix.MNT_DETACH)
	}
	if d.t.Failed() {
		d.t.Logf("the daemon's log ends with:\n%s", tail(d.stderr.String()))
	}
	if strings.Contains(d.stderr.String(), "DATA RACE") || strings.Contains(d.stderr.String(), "panic") {
		d.t.Errorf("the daemon raced or panicked:\n%s", d.stderr.String())
	}
}

// kill ends the daemon as a crash would.
func (d *daemon) kill() {
	d.t.Helper()
	if err := d.cmd.Process.Kill(); err != nil {
		d.t.Fatal(err)
	}
	<-d.exited
}

func tail(s string) string {
	const most = 8000
	if len(s) > most {
		s = "…" + s[len(s)-most:]
	}
	return s
}

func isMounted(dir string) bool {
	text, _ := os.ReadFile("/proc/self/mountinfo")
	return strings.Contains(string(text), " "+dir+" ")
}

func (d *daemon) path(elem ...string) string {
	return filepath.Join(append([]string{d.mount}, elem...)...)
}

// control reads one of the control directory's files, in one READ.
func (d *daemon) control(name string) map[string]any {
	d.t.Helper()
	f, err := os.Open(d.path(".modelfs", name))
	if err != nil {
		d.t.Fatal(err)
	}
	defer f.Close()
	text := make([]byte, 1<<20)
	n, err := f.Read(text)
	if err != nil {
		d.t.Fatal(err)
	}
	var v map[string]any
	if err := json.Unmarshal(text[:n], &v); err != nil {
		d.t.Fatalf("%s: %v\n%s", name, err, text[:n])
	}
	return v
}

// fields digs a value out of decoded JSON; nil where a step is missing.
func field(v any, path ...string) any {
	for _, p := range path {
		m, ok := v.(map[string]any)
		if !ok {
			return nil
		}
		v = m[p]
	}
	return v
}

// modelfs runs a command of the binary and returns its output and exit code.
func modelfs(t testing.TB, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	cmd := exec.Command(binary, args...)
	cmd.Env = cleanEnv(t)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// writeTree writes files below a new directory and returns it.
func writeTree(t testing.TB, files map[string][]byte) string {
	t.Helper()
	dir := tempDir(t, "tree")
	for name, data := range files {
		writeFile(t, filepath.Join(dir, name), data)
	}
	return dir
}

func writeFile(t testing.TB, path string, data []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
}

// wantErrno fails unless err is the errno.
func wantErrno(t testing.TB, what string, err error, want syscall.Errno) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: %v, want %v", what, err, want)
	}
}

// within fails if f takes longer than the promise.
func within(t testing.TB, what string, promise time.Duration, f func()) {
	t.Helper()
	start := time.Now()
	f()
	if took := time.Since(start); took > promise {
		t.Errorf("%s took %v, promised %v", what, took, promise)
	}
}
