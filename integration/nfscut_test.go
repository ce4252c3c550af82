//go:build vm

package integration

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"modelfs/internal/hubtest"
)

const (
	// nfsCalls is how many reads wait in the NFS client.
	nfsCalls = 40
	// nfsBack is how long a share may take to be used again after its cable is
	// back: TCP tries again after pauses that double while nothing answers.
	nfsBack = 2 * time.Minute
)

var nfsModels = map[string][]byte{
	"org/big/model.safetensors": pattern{1, 16 << 20}.bytes(),
	"org/big/config.json":       []byte("{}"),
	"other/model.gguf":          []byte("weights"),
}

// took measures one call of a process.
func took(t testing.TB, call, path string, want syscall.Errno) time.Duration {
	t.Helper()
	got := probes(t, probeJob{Call: call, Paths: []string{path}})
	wantProbes(t, 0, want, got)
	return got[0].Took
}

// The server is cut off while files of it are read. All others go on; what
// waits can be killed; the service ends, and starts again, without the share;
// and picks it up when the cable is back.
func TestNFSIsCutOff(t *testing.T) {
	for _, io := range []string{"passthrough", "daemon"} {
		t.Run(io, func(t *testing.T) { checkCutOff(t, io) })
	}
}

func checkCutOff(t *testing.T, io string) {
	hub := hubtest.New(t)
	oneFile(hub, "org/complete", pattern{3, 1 << 20})
	nas := newNFS(t, nfsModels, nfsHard)
	local := writeTree(t, map[string][]byte{"on-disk/model.gguf": pattern{2, 1 << 20}.bytes()})
	flags := append(hubFlags(hub), "--local", local, "--shared", nas.dir, "--shared-io", io)
	d := start(t, flags...)
	checkReads(t, d.path("org/complete/m.gguf"), pattern{3, 1 << 20}, "read")
	d.completes("org/complete", "m.gguf")
	healthy := took(t, "stat", d.path("missing"), syscall.ENOENT)
	probes(t, probeJob{Call: "list", Paths: []string{d.mount}})
	big := d.path("org/big/model.safetensors")
	many := probeJob{Call: "held"}
	for range nfsCalls {
		many.Paths = append(many.Paths, big)
	}
	many.AtOnce = true
	dropCaches(t)
	reading, killed := newProber(t, many), newProber(t, probeJob{Call: "held", Paths: []string{big}})

	nas.pull()
	reading.start()
	killed.start()
	d.checkCutOff(healthy)
	began := time.Now()
	killed.leave()
	t.Logf("a reader that waited for the share was killed within %v", time.Since(began))

	left := descendants(d.cmd.Process.Pid)
	within(t, "the end of the service", soon, func() { d.stop() })
	byKernel := io == "passthrough" && hasPassthrough(t)
	if byKernel {
		reading.leave() // it waits in the share itself, and lets itself be killed
	} else {
		for _, p := range reading.results(t) {
			if p.Errno != syscall.ENOTCONN && p.Errno != syscall.ECONNABORTED {
				t.Errorf("a read that waited when the service ended: %v", p.Errno)
			}
		}
	}
	eventually(t, "what was left behind has ended, although the share is still cut off", 10*time.Second, func() bool {
		return !slices.ContainsFunc(left, func(pid int) bool { return strings.Contains(commandLine(pid), nas.dir) })
	})

	next := startOn(t, d.mount, d.cache, flags...)
	next.checkCutOff(healthy)
	nas.heal()
	next.picksUp()
}

// checkCutOff checks what a share that is cut off must not hold up. healthy is
// what the look-up of a name takes that nobody has.
func (d *daemon) checkCutOff(healthy time.Duration) {
	d.t.Helper()
	for i := range 3 {
		late := took(d.t, "stat", d.path(fmt.Sprintf("missing-%d", i)), syscall.EHOSTUNREACH)
		d.t.Logf("a name that nobody has: %v, before %v", late, healthy)
		if late > time.Second+healthy {
			d.t.Errorf("a name that nobody has took %v, before %v", late, healthy)
		}
	}
	checkReads(d.t, d.path("on-disk/model.gguf"), pattern{2, 1 << 20})
	checkReads(d.t, d.path("org/complete/m.gguf"), pattern{3, 1 << 20})
	got := probes(d.t, probeJob{Call: "list", Paths: []string{d.mount}})
	d.t.Logf("the root: %v, %v", got[0].Names, got[0].Took)
	wantProbes(d.t, onTime+healthy, 0, got)
	if !slices.Contains(got[0].Names, "on-disk") {
		d.t.Errorf("the root lists %v", got[0].Names)
	}
}

// picksUp waits until the share is used again, listing and all.
func (d *daemon) picksUp() {
	d.t.Helper()
	began := time.Now()
	eventually(d.t, "the share is used again", nfsBack, func() bool {
		got, err := os.ReadFile(d.path("other/model.gguf"))
		return err == nil && string(got) == "weights"
	})
	d.t.Logf("the share was used again after %v", time.Since(began))
	eventually(d.t, "the share is listed again", nfsBack, func() bool {
		got := probes(d.t, probeJob{Call: "list", Paths: []string{d.mount}})
		return slices.Contains(got[0].Names, "other") && slices.Contains(got[0].Names, "org")
	})
	d.t.Logf("and listed after %v", time.Since(began))
	checkReads(d.t, d.path("org/big/model.safetensors"), pattern{1, 16 << 20})
}

// The cable is back: who waited gets its bytes, and the share is used again,
// without a restart.
func TestNFSComesBack(t *testing.T) {
	for _, io := range []string{"passthrough", "daemon"} {
		t.Run(io, func(t *testing.T) {
			nas := newNFS(t, nfsModels, nfsHard)
			local := writeTree(t, map[string][]byte{"on-disk/model.gguf": pattern{2, 1 << 20}.bytes()})
			d := start(t, "--hf-endpoint", "", "--local", local, "--shared", nas.dir, "--shared-io", io)
			healthy := took(t, "stat", d.path("missing"), syscall.ENOENT)
			dropCaches(t)
			reading := newProber(t, probeJob{Call: "held", Paths: []string{d.path("org/big/model.safetensors")}})
			nas.pull()
			reading.start()
			wantProbe(t, d.path("missing-now"), syscall.EHOSTUNREACH)
			wantProbe(t, d.path("other/model.gguf"), syscall.EHOSTUNREACH)
			began := time.Now()
			eventually(t, "the share's process is replaced", time.Minute, func() bool {
				_, _ = os.Stat(d.path("missing-again"))
				return strings.Contains(d.stderr.String(), "is stuck and is replaced")
			})
			t.Logf("replaced after %v", time.Since(began))
			_ = healthy
			nas.heal()
			d.picksUp()
			wantProbes(t, 0, 0, reading.results(t))
		})
	}
}

// A mount that gives up says so with an errno, which makes the share one that
// is down, as one that hangs is.
func TestNFSSoft(t *testing.T) {
	nas := newNFS(t, nfsModels, nfsSoft)
	local := writeTree(t, map[string][]byte{"on-disk/model.gguf": pattern{2, 1 << 20}.bytes()})
	d := start(t, "--hf-endpoint", "", "--local", local, "--shared", nas.dir)
	path := d.path("org/big/model.safetensors")
	checkReads(t, path, pattern{1, 16 << 20}, "read")
	dropCaches(t)
	reading := newProber(t, probeJob{Call: "held", Paths: []string{path}})
	nas.pull()
	reading.start()
	wantProbe(t, d.path("missing-now"), syscall.EHOSTUNREACH)
	got := reading.results(t)
	t.Logf("a read of the share: %v after %v", got[0].Errno, got[0].Took)
	if got[0].Errno != syscall.EIO && got[0].Errno != syscall.ETIMEDOUT {
		t.Errorf("a read of the share: %v", got[0].Errno)
	}
	nas.heal()
	d.picksUp()
}

// The share is cut off in the middle of a file, and the rest comes from the Hub.
func TestNFSReadMoves(t *testing.T) {
	want, part := pattern{21, 8 << 20}, 3<<20
	hub := hubtest.New(t)
	hub.AddRepo(hubtest.Repo{ID: "org/m", Files: []hubtest.File{{Path: weightsFile, Content: want.content(), LFS: true}}})
	nas := newNFS(t, map[string][]byte{"org/m/" + weightsFile: want.bytes()}, nfsHard)
	d := start(t, append(hubFlags(hub), "--shared", nas.dir, "--shared-io", "daemon", "--fill", "touched")...)
	path := d.path("org/m", weightsFile)
	dropCaches(t)
	h := readHalf(t, path, want.bytes(), part)
	if n := hub.BytesSent("org/m/*"); n != 0 {
		t.Fatalf("%d bytes of a file of the share came from the Hub", n)
	}
	nas.pull()
	within(t, "the rest of the file", 2*moveLimit, func() { h.check(t, part, len(h.want)) })
	if sent := hub.BytesSent("org/m/*"); sent < int64(len(h.want)-part) {
		t.Errorf("only %d bytes came from the Hub", sent)
	}
	nas.heal()
	fresh := pattern{22, 1 << 20}
	nas.replace("org/m/"+weightsFile, fresh.bytes())
	eventually(t, "the share is used again", nfsBack, func() bool { return reader(path, fresh, "read").Run() == nil })
	h.check(t, 0, len(h.want))
}
