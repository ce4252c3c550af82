package integration

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// onTime is how long a name may take that nobody has, or that nobody can be
// asked about. The promise is one second; the race detector makes the daemon
// and its clock several times slower, so there it gets another.
const onTime = time.Second + raceAllowance

// crowdOnTime is the same for a thousand callers at once. On two processors
// the caller's own clock runs while its thread waits for its turn among a
// thousand others, before and after the daemon has answered.
const crowdOnTime = onTime + time.Second

// probeJobs is the environment variable that makes the helper a prober.
const probeJobs = "MODELFS_IT_PROBE"

// probeJob is what a prober is told: one system call on each path, one after
// the other or at once. "read" opens too; the file of "held" is opened before
// the prober is ready.
type probeJob struct {
	Call   string   // "stat", "open", "list", "read" or "held"
	Calls  []string // in its place, for each path another
	AtOnce bool
	Paths  []string
}

// probe is what a system call said, by the clock of the process that made it.
type probe struct {
	Path  string
	Errno syscall.Errno
	Took  time.Duration
	Size  int64    // of stat
	Names []string // of list
}

// runProber is the life of a prober process: it says when it is ready and
// begins when its input ends.
func runProber(text string) int {
	var j probeJob
	if err := json.Unmarshal([]byte(text), &j); err != nil {
		fmt.Println(err)
		return 2
	}
	held := make([]*os.File, len(j.Paths))
	for i, path := range j.Paths {
		if j.callOf(i) != "held" {
			continue
		}
		var err error
		if held[i], err = os.Open(path); err != nil {
			fmt.Println(err)
			return 1
		}
	}
	fmt.Println("ready")
	_, _ = io.Copy(io.Discard, os.Stdin)
	out := make([]probe, len(j.Paths))
	var wg sync.WaitGroup
	for i := range j.Paths {
		if !j.AtOnce {
			out[i] = j.make(i, held[i])
			continue
		}
		wg.Go(func() { out[i] = j.make(i, held[i]) })
	}
	wg.Wait()
	if err := json.NewEncoder(os.Stdout).Encode(out); err != nil {
		return 1
	}
	return 0
}

func (j probeJob) callOf(i int) string {
	if j.Calls != nil {
		return j.Calls[i]
	}
	return j.Call
}

func (j probeJob) make(i int, held *os.File) probe {
	p := probe{Path: j.Paths[i]}
	began := time.Now()
	err := call(j.callOf(i), p.Path, held, &p)
	p.Took = time.Since(began)
	if err != nil && !errors.As(err, &p.Errno) {
		p.Errno = syscall.EINVAL // os refuses it without asking the kernel
	}
	return p
}

func call(name, path string, held *os.File, p *probe) error {
	switch name {
	case "stat":
		info, err := os.Stat(path)
		if err == nil {
			p.Size = info.Size()
		}
		return err
	case "open":
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		return f.Close()
	case "read":
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		return lastBytes(f)
	case "held":
		return lastBytes(held)
	default:
		entries, err := os.ReadDir(path)
		for _, e := range entries {
			p.Names = append(p.Names, e.Name())
		}
		return err
	}
}

// lastBytes reads the end of a file: its head may have been read by others.
func lastBytes(f *os.File) error {
	info, err := f.Stat()
	if err == nil {
		_, err = f.ReadAt(make([]byte, min(512, info.Size())), max(0, info.Size()-512))
	}
	return err
}

// A prober is a process that waits for the start.
type prober struct {
	cmd *exec.Cmd
	in  io.Closer
	out *bufio.Reader
}

// newProber starts a prober and waits until it is ready, so that what it
// measures is the system call and not its own birth.
func newProber(t testing.TB, j probeJob) *prober {
	t.Helper()
	text, _ := json.Marshal(j)
	cmd := exec.Command(helper)
	cmd.Env = append(os.Environ(), probeJobs+"="+string(text))
	if len(text) > 100_000 {
		t.Fatalf("a job of %d bytes is no environment variable", len(text))
	}
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
	p := &prober{cmd, in, bufio.NewReader(out)}
	if line, err := p.out.ReadString('\n'); line != "ready\n" {
		t.Fatalf("a prober said %q: %v", line, err)
	}
	return p
}

func (p *prober) start() { _ = p.in.Close() }

// leave ends a prober that is not to ask after all.
func (p *prober) leave() {
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
}

func (p *prober) results(t testing.TB) []probe {
	t.Helper()
	var out []probe
	err := json.NewDecoder(p.out).Decode(&out)
	if e := p.cmd.Wait(); err != nil || e != nil {
		t.Fatalf("a prober failed: %v, %v", err, e)
	}
	return out
}

// probes makes the calls in one process.
func probes(t testing.TB, j probeJob) []probe {
	t.Helper()
	p := newProber(t, j)
	p.start()
	return p.results(t)
}

// wantProbe fails unless stat and open of the path say want, in time.
func wantProbe(t testing.TB, path string, want syscall.Errno) {
	t.Helper()
	wantProbes(t, onTime, want, probes(t, probeJob{Call: "stat", Paths: []string{path}}))
}

// wantProbes judges results; limit 0 is none.
func wantProbes(t testing.TB, limit time.Duration, want syscall.Errno, got []probe) {
	t.Helper()
	slowest, wrong := time.Duration(0), 0
	for _, p := range got {
		if p.Errno != want {
			if wrong++; wrong < 4 {
				t.Errorf("%s: %q, want %q", p.Path, errnoText(p.Errno), errnoText(want))
			}
		}
		slowest = max(slowest, p.Took)
	}
	if wrong > 3 {
		t.Errorf("%d of %d answers are wrong", wrong, len(got))
	}
	if len(got) > 1 {
		t.Logf("the slowest of %d answers took %v", len(got), slowest)
	}
	if limit > 0 && slowest > limit {
		t.Errorf("the slowest of %d, like %s, took %v, promised %v", len(got), got[0].Path, slowest, limit)
	}
}

func errnoText(e syscall.Errno) string {
	if e == 0 {
		return "success"
	}
	return e.Error()
}

// logged fails unless the daemon's log has a line with all of the words.
func (d *daemon) logged(words ...string) {
	d.t.Helper()
	for line := range strings.Lines(d.stderr.String()) {
		if containsAll(line, words) {
			return
		}
	}
	d.t.Errorf("no line of the log has all of %q\n%s", words, tail(d.stderr.String()))
}

func containsAll(s string, words []string) bool {
	for _, w := range words {
		if !strings.Contains(s, w) {
			return false
		}
	}
	return true
}
