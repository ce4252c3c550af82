package integration

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
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

// A reader of a mount whose server is killed, stopped or replaced notices a
// pause and nothing else.

// longestPause is the promise: no single operation of any reader takes longer.
const longestPause = 2 * time.Second

// survivors are readers that also say what their slowest operation took.
var survivors = map[string]func(path string, want wanted) (time.Duration, error){
	"read": surviveRead, "mmap": surviveMapping, "direct": surviveDirect, "walk": surviveWalk,
}

func timed(longest *time.Duration, f func() error) error {
	start := time.Now()
	err := f()
	*longest = max(*longest, time.Since(start))
	return err
}

func surviveRead(path string, want wanted) (longest time.Duration, err error) {
	var f *os.File
	if err := timed(&longest, func() (err error) { f, err = os.Open(path); return err }); err != nil {
		return longest, err
	}
	defer f.Close()
	return longest, surviveAt(&longest, f, want)
}

func surviveDirect(path string, want wanted) (longest time.Duration, err error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_DIRECT, 0)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	return longest, surviveAt(&longest, f, want)
}

func surviveAt(longest *time.Duration, f *os.File, want wanted) error {
	got, exp := alignedMiB(), make([]byte, 1<<20)
	for off := int64(0); off < want.Size(); off += int64(len(got)) {
		n := min(want.Size()-off, int64(len(got)))
		if err := timed(longest, func() error { _, err := f.ReadAt(got[:n], off); return err }); err != nil && n == int64(len(got)) {
			return fmt.Errorf("at %d: %w", off, err)
		}
		if err := compareAt(got[:n], exp[:n], want, off); err != nil {
			return err
		}
	}
	return nil
}

func surviveMapping(path string, want wanted) (longest time.Duration, err error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	m, err := unix.Mmap(int(f.Fd()), 0, int(want.Size()), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return 0, err
	}
	got, exp := make([]byte, 1<<20), make([]byte, 1<<20)
	for off := int64(0); off < want.Size(); off += 1 << 20 {
		n := min(want.Size()-off, 1<<20)
		_ = timed(&longest, func() error { copy(got, m[off:off+n]); return nil })
		if err := compareAt(got[:n], exp[:n], want, off); err != nil {
			return longest, err
		}
	}
	return longest, unix.Munmap(m)
}

// surviveWalk lists and stats everything until the file beside it is complete.
func surviveWalk(path string, want wanted) (longest time.Duration, err error) {
	root := filepath.Dir(filepath.Dir(path))
	for range 2000 {
		err := timed(&longest, func() error {
			return filepath.Walk(root, func(_ string, _ os.FileInfo, err error) error { return err })
		})
		if err != nil {
			return longest, err
		}
		info, err := os.Stat(path)
		if err != nil || info.Size() != want.Size() {
			return longest, fmt.Errorf("stat: %d bytes, %w", info.Size(), err)
		}
	}
	return longest, nil
}

func alignedMiB() []byte {
	b, err := unix.Mmap(-1, 0, 1<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		panic(err)
	}
	return b
}

// runSurvivor is the life of such a reader's process; its last line is what
// its slowest operation took.
func runSurvivor(text string) int {
	var j job
	if err := json.Unmarshal([]byte(text), &j); err != nil {
		fmt.Println(err)
		return 2
	}
	longest := time.Duration(0)
	err := guarded(func(path string, want wanted) (err error) {
		longest, err = survivors[j.Ways[0]](path, want)
		return err
	}, j.Path, pattern{j.Seed, j.Size}.content())
	if err != nil {
		fmt.Printf("%s: %v\n", j.Ways[0], err)
		return 1
	}
	fmt.Println(longest)
	return 0
}

const survivorJob = "MODELFS_IT_SURVIVE"

// startSurvivor starts a reader in a process of its own; prefix is the command
// that runs it, such as unshare.
func startSurvivor(t *testing.T, path string, want pattern, how string, prefix ...string) func() {
	t.Helper()
	text, _ := json.Marshal(job{Path: path, Seed: want.seed, Size: want.size, Ways: []string{how}})
	args := append(append([]string(nil), prefix...), helper)
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Env = append(os.Environ(), survivorJob+"="+string(text))
	var out lockedBuffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return func() {
		t.Helper()
		if err := cmd.Wait(); err != nil {
			t.Errorf("the %s reader: %v: %s", how, err, out.String())
			return
		}
		took, err := time.ParseDuration(strings.TrimSpace(out.String()))
		if err != nil || took > longestPause+raceAllowance {
			t.Errorf("the %s reader's slowest operation took %s, promised %v", how, strings.TrimSpace(out.String()), longestPause)
		}
		t.Logf("the %s reader's slowest operation took %v", how, took)
	}
}

// server is the process id of the daemon's server.
func (d *daemon) server() int {
	d.t.Helper()
	return int(d.number("pid"))
}

// survive loads a cold file by several readers while disturb is called ten
// times, each at a random place of the download and each costing at most lost
// bytes that were on their way.
func survive(t *testing.T, lost int64, disturb func(d *daemon), prefix ...string) {
	size := int64(2 << 30)
	if racing {
		size = 256 << 20 // the same moments, at the race detector's speed
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	content := hubtest.Pattern(11, size)
	hub := hubtest.New(t)
	hub.SetConnRate(16 << 20) // what a reader on two processors can take in: else its connections' buffers fill, and count as lost
	hub.AddRepo(hubtest.Repo{ID: "org/m", Files: []hubtest.File{{Path: "w.bin", Content: content, LFS: true, SHA256: content.SHA256()}}})
	d := start(t, hubFlags(hub)...)
	path := d.path("org/m/w.bin")
	var waits []func()
	for _, how := range []string{"read", "mmap", "direct", "walk"} {
		waits = append(waits, startSurvivor(t, path, pattern{11, size}, how, prefix...))
	}
	for i := range int64(10) {
		at := size*i/10 + rnd.Int64N(size/10)
		eventually(t, "the download to come to the next disturbance", patient, func() bool { return hub.BytesSent("org/m/w.bin") >= at })
		disturb(d)
	}
	for _, wait := range waits {
		wait()
	}
	if racing {
		lost = max(lost, lostInBuffers) // a slow server lets its connections' buffers fill
	}
	if sent, most := hub.BytesSent("org/m/w.bin"), size+10*lost; sent > most {
		t.Errorf("the origin sent %d bytes of a file of %d: what was durable was fetched again", sent, size)
	}
}

// patient is for waits that say nothing about speed.
const patient = 2 * time.Minute

// What is lost with a server: what its connections had received and not yet
// written, and where it stood still before, what filled their buffers.
const (
	lostInFlight  = 8 << 20
	lostInBuffers = 64 << 20
)

func signalServer(sig syscall.Signal) func(*daemon) {
	return func(d *daemon) {
		d.t.Helper()
		if err := unix.Kill(d.server(), sig); err != nil {
			d.t.Error(err)
		}
	}
}

func TestReadersSurviveKills(t *testing.T) { survive(t, lostInFlight, signalServer(unix.SIGKILL)) }

func TestReadersSurviveAStoppedServer(t *testing.T) {
	survive(t, lostInBuffers, signalServer(unix.SIGSTOP))
}

func TestReadersSurviveUpgrades(t *testing.T) {
	survive(t, lostInFlight, func(d *daemon) {
		before := d.server()
		if out, stderr, code := modelfs(t, "upgrade", d.mount); code != 0 {
			t.Errorf("upgrade: %s%s", out, stderr)
		}
		if d.server() == before {
			t.Error("the same server after an upgrade")
		}
	})
}

func TestReadersInAnotherNamespaceSurviveKills(t *testing.T) {
	survive(t, lostInFlight, signalServer(unix.SIGKILL), "unshare", "-m", "--propagation", "slave")
}

func TestAThousandDescriptorsSurvive(t *testing.T) {
	hub := hubtest.New(t)
	hub.AddRepo(hubtest.Repo{ID: "org/m", Files: []hubtest.File{
		{Path: "complete.bin", Content: pattern{1, 3 << 20}.content(), LFS: true},
		{Path: "partial.bin", Content: pattern{2, 64 << 20}.content(), LFS: true},
	}})
	local := writeTree(t, map[string][]byte{"l/model.gguf": pattern{3, 1 << 20}.bytes()})
	shared := writeTree(t, map[string][]byte{"s/model.gguf": pattern{4, 1 << 20}.bytes()})
	d := start(t, append(hubFlags(hub), "--fill", "touched", "--local", local, "--shared", shared)...)
	checkReads(t, d.path("org/m/complete.bin"), pattern{1, 3 << 20}, "read")
	eventually(t, "the small file to be complete", patient, func() bool {
		f, err := os.Open(d.path("org/m/complete.bin"))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		return field(d.control("status.json"), "mount", "opens_passthrough").(float64) > 0
	})
	wants := map[string]pattern{
		"org/m/complete.bin": {1, 3 << 20}, "org/m/partial.bin": {2, 64 << 20}, "l/model.gguf": {3, 1 << 20}, "s/model.gguf": {4, 1 << 20},
	}
	type held struct {
		f    *os.File
		want pattern
	}
	var open []held
	for range 250 {
		for name, want := range wants {
			f, err := os.Open(d.path(name))
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			open = append(open, held{f, want})
		}
	}
	d.killServer()
	for i, h := range open {
		off := int64(i) * 1000 % (h.want.size - 4096)
		got := make([]byte, 4096)
		if _, err := h.f.ReadAt(got, off); err != nil {
			t.Fatalf("%s at %d: %v", h.f.Name(), off, err)
		}
		if at := hubtest.Mismatch(h.want.content(), got, off); at >= 0 {
			t.Fatalf("%s: wrong byte at %d", h.f.Name(), at)
		}
		if _, err := h.f.Stat(); err != nil {
			t.Fatalf("%s: %v", h.f.Name(), err)
		}
	}
	for _, h := range open {
		if err := h.f.Close(); err != nil {
			t.Errorf("closing %s: %v", h.f.Name(), err)
		}
	}
	eventually(t, "the handles to be released", patient, func() bool {
		m := field(d.control("status.json"), "mount")
		return field(m, "handles").(float64) <= 1 && field(m, "backing_files").(float64) == 0 // 1: the control file
	})
}

// A server that can't be kept running ends the service, and says so.
func TestAServerThatAlwaysCrashesEndsTheService(t *testing.T) {
	dir := tempDir(t, "bin")
	own := filepath.Join(dir, "modelfs")
	copyExecutable(t, own, binary)
	d, err := launchBinary(t, own, tempDir(t, "mnt"), tempDir(t, "cache"), "--hf-endpoint", "")
	if err != nil {
		t.Fatal(err)
	}
	pid := d.server()
	writeExecutable(t, filepath.Join(dir, "broken"), []byte("#!/bin/sh\nexit 7\n"))
	if err := os.Rename(filepath.Join(dir, "broken"), own); err != nil {
		t.Fatal(err)
	}
	if err := unix.Kill(pid, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	select {
	case <-d.exited:
	case <-time.After(20 * time.Second):
		t.Fatal("the supervisor goes on with a server that always crashes")
	}
	if code := d.cmd.ProcessState.ExitCode(); code != 1 {
		t.Errorf("exit code %d, want 1", code)
	}
	if isMounted(d.mount) {
		t.Error("still mounted")
	}
	if log := d.stderr.String(); !strings.Contains(log, "again and again") || strings.Count(log, "the server has ended") > 5 {
		t.Errorf("the log does not say so, or says it too often:\n%s", log)
	}
}

// When the supervisor dies, the server goes too, and what is passed through is
// readable all the same.
func TestTheServerEndsWithItsSupervisor(t *testing.T) {
	local := writeTree(t, map[string][]byte{"l/model.gguf": pattern{3, 1 << 20}.bytes()})
	d := start(t, "--hf-endpoint", "", "--local", local)
	f, err := os.Open(d.path("l/model.gguf"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	pid := d.server()
	d.kill()
	eventually(t, "the server to end", patient, func() bool { return unix.Kill(pid, 0) != nil })
	if err := checkSequential(f, pattern{3, 1 << 20}.content()); err != nil {
		t.Errorf("a passthrough reader: %v", err)
	}
	_, err = os.Stat(d.path("l/model.gguf"))
	wantErrno(t, "a dead mount", err, syscall.ENOTCONN)
	again := startOn(t, d.mount, d.cache, "--hf-endpoint", "", "--local", local)
	checkReads(t, again.path("l/model.gguf"), pattern{3, 1 << 20}, "read")
}

// What a directory without a time shows is the same after another server has
// inherited it.
func TestTimesSurviveAKill(t *testing.T) {
	local := writeTree(t, map[string][]byte{"org/m/model.gguf": pattern{3, 1 << 20}.bytes()})
	d := start(t, "--hf-endpoint", "", "--local", local)
	names := []string{"", "org", "org/m", "org/m/model.gguf"}
	before := make(map[string]time.Time)
	for _, name := range names {
		before[name] = modTime(t, d.path(name))
	}
	d.killServer()
	for _, name := range names {
		if now := modTime(t, d.path(name)); !now.Equal(before[name]) {
			t.Errorf("%q is of %v after a kill, and was of %v", name, now, before[name])
		}
	}
}

func modTime(t *testing.T, path string) time.Time {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.ModTime()
}

// The process that watches the mount is started again when it has ended; its
// end is not held against the server.
func TestTheProbeIsStartedAgain(t *testing.T) {
	d := start(t, "--hf-endpoint", "")
	pid := d.server()
	first := 0
	eventually(t, "the probe to run", patient, func() bool { first = d.probe(); return first != 0 })
	if err := unix.Kill(first, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "another probe", patient, func() bool { again := d.probe(); return again != 0 && again != first })
	if d.server() != pid {
		t.Error("the server was replaced because the probe had ended")
	}
}

// probe is the process id of the one that watches the mount, or 0.
func (d *daemon) probe() int {
	for _, pid := range descendants(d.cmd.Process.Pid) {
		if strings.HasPrefix(commandLine(pid), "modelfs probe ") {
			return pid
		}
	}
	return 0
}
