package main

import (
	"bufio"
	"errors"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"

	"modelfs/internal/mountinfo"
)

// cmdCode is "code N command...": the command must exit with N. Its output is
// compared by the lines that follow, with the files code.out and code.err.
func cmdCode(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: code N command...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	cmd := command(ts, args[1:])
	var out, errs strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errs
	err = cmd.Run()
	ts.Check(os.WriteFile(ts.MkAbs("code.out"), []byte(out.String()), 0o600))
	ts.Check(os.WriteFile(ts.MkAbs("code.err"), []byte(errs.String()), 0o600))
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		ts.Fatalf("%v", err)
	}
	if got := cmd.ProcessState.ExitCode(); got != want {
		ts.Fatalf("%v exited with %d, want %d\nstdout: %s\nstderr: %s", args[1:], got, want, out.String(), errs.String())
	}
}

// noRaceSleep is GORACE's value that keeps the race detector from waiting a
// second at the end of each process.
const noRaceSleep = "atexit_sleep_ms=0"

// command is a command of the script's environment.
func command(ts *testscript.TestScript, args []string) *exec.Cmd {
	path, err := exec.LookPath(args[0])
	if args[0] == "modelfs" {
		path, err = os.Executable()
	}
	ts.Check(err)
	cmd := &exec.Cmd{Path: path, Args: args, Dir: ts.MkAbs("."), WaitDelay: 10 * time.Second}
	cmd.Env = []string{"GORACE=" + noRaceSleep}
	for _, name := range []string{"PATH", "HOME", "TMPDIR", "MODELFS_CONFIG", "MODELFS_HF_ENDPOINT", "MODELFS_CACHE", "NOTIFY_SOCKET"} {
		if v := ts.Getenv(name); v != "" || strings.HasPrefix(name, "MODELFS_") {
			cmd.Env = append(cmd.Env, name+"="+v)
		}
	}
	return cmd
}

// running is a "modelfs mount" of a script.
type running struct {
	cmd    *exec.Cmd
	errs   strings.Builder
	waited bool
}

func (r *running) wait() error {
	if r.waited {
		return nil
	}
	r.waited = true
	return r.cmd.Wait()
}

// daemons are the running mounts of a script, by mount point.
type daemons map[string]*running

// daemonsKey is where a script's environment holds them.
type daemonsKey struct{}

func daemonsOf(ts *testscript.TestScript) daemons { return ts.Value(daemonsKey{}).(daemons) }

// cmdDaemon is "daemon args... MOUNTPOINT": it starts modelfs mount and
// returns when that says that it is mounted.
func cmdDaemon(ts *testscript.TestScript, _ bool, args []string) {
	point := args[len(args)-1]
	r := &running{cmd: command(ts, append([]string{"modelfs", "mount"}, args...))}
	r.cmd.Stderr = &r.errs
	out, err := r.cmd.StdoutPipe()
	ts.Check(err)
	ts.Check(r.cmd.Start())
	ts.Defer(func() {
		_ = r.cmd.Process.Signal(syscall.SIGTERM)
		_ = r.wait()
		_ = unix.Unmount(ts.MkAbs(point), unix.MNT_DETACH) // what a failed script left
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || line != "mounted "+ts.MkAbs(point)+"\n" {
		_ = r.wait()
		ts.Fatalf("modelfs mount said %q (%v): %s", line, err, r.errs.String())
	}
	daemonsOf(ts)[point] = r
}

// cmdHalt is "halt SIGNAL MOUNTPOINT": the daemon must end with 0 within two
// seconds of SIGTERM or SIGINT; KILL only has to end it.
func cmdHalt(ts *testscript.TestScript, _ bool, args []string) {
	r := daemonsOf(ts)[args[1]]
	sig := map[string]syscall.Signal{"TERM": syscall.SIGTERM, "INT": syscall.SIGINT, "KILL": syscall.SIGKILL}[args[0]]
	began := time.Now()
	ts.Check(r.cmd.Process.Signal(sig))
	err := r.wait()
	if sig == syscall.SIGKILL {
		return
	}
	if took := time.Since(began); err != nil || took > 2*time.Second {
		ts.Fatalf("modelfs mount ended with %v after %v: %s", err, took, r.errs.String())
	}
}

// cmdWaitGone is "waitgone MOUNTPOINT": the daemon must end by itself with 0,
// because somebody unmounted.
func cmdWaitGone(ts *testscript.TestScript, _ bool, args []string) {
	r := daemonsOf(ts)[args[0]]
	if err := r.wait(); err != nil {
		ts.Fatalf("modelfs mount ended with %v: %s", err, r.errs.String())
	}
	list, err := mountinfo.Read()
	ts.Check(err)
	if slices.Contains(modelfsMounts(list), ts.MkAbs(args[0])) {
		ts.Fatalf("%s is still mounted", args[0])
	}
}
