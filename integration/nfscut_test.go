//go:build vm

package integration

import (
	"errors"
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

func nfsModels() map[string][]byte {
	return map[string][]byte{
		"org/big/model.safetensors": pattern{1, 16 << 20}.bytes(),
		"org/big/config.json":       []byte("{}"),
		"other/model.gguf":          []byte("weights"),
	}
}

// The server is cut off while files of it are read. Everything else goes on, what
// waits can be killed, the service ends in time and so do its processes; another
// one starts without the share, and picks it up when the cable is back.
func TestNFSIsCutOff(t *testing.T) {
	for _, io := range []string{"passthrough", "daemon"} {
		t.Run(io, func(t *testing.T) { checkCutOff(t, io) })
	}
}

func checkCutOff(t *testing.T, io string) {
	hub := hubtest.New(t)
	oneFile(hub, "org/complete", pattern{3, 1 << 20})
	nas := newNFS(t, nfsModels(), nfsHard)
	local := writeTree(t, map[string][]byte{"on-disk/model.gguf": pattern{2, 1 << 20}.bytes()})
	flags := append(hubFlags(hub), "--local", local, "--shared", nas.dir, "--shared-io", io)
	d := start(t, flags...)
	checkReads(t, d.path("org/complete/m.gguf"), pattern{3, 1 << 20}, "read")
	d.completes("org/complete", "m.gguf")
	calm := d.calm()
	crowd := newProber(t, d.held(nfsCalls))
	alone := newProber(t, d.held(1))

	nas.pull()
	crowd.start()
	alone.start()
	d.checkCutOff(calm)
	within(t, "killing a reader that waits for the share", time.Second+calm, alone.leave)

	left := descendants(d.cmd.Process.Pid)
	began := time.Now()
	within(t, "the end of the service", soon+calm, d.stop)
	t.Logf("the service ended within %v", time.Since(began))
	byKernel := io == "passthrough" && hasPassthrough(t)
	if !byKernel {
		for _, p := range crowd.results(t) {
			if p.Errno != syscall.ENOTCONN && p.Errno != syscall.ECONNABORTED {
				t.Errorf("a read that waited when the service ended: %v", p.Errno)
			}
		}
	}
	eventually(t, "the share's process has ended, although the share is still cut off", 10*time.Second, func() bool {
		return !slices.ContainsFunc(left, func(pid int) bool { return strings.Contains(commandLine(pid), nas.dir) })
	})

	next := startOn(t, d.mount, d.cache, flags...)
	next.checkCutOff(calm)
	nas.heal()
	next.picksUp()
	if byKernel { // they needed nobody but the share
		wantProbes(t, 0, 0, crowd.results(t))
	}
}

// held makes n threads of a process wait to read the end of a file of the
// share, which they have open and nobody has read.
func (d *daemon) held(n int) probeJob {
	dropCaches(d.t)
	return probeJob{Call: "held", AtOnce: true, Paths: slices.Repeat([]string{d.path("org/big/model.safetensors")}, n)}
}

// calm is what the emulated machine may take longer than the promises, which are
// about real ones: twenty times what a look-up takes while all is well.
func (d *daemon) calm() time.Duration {
	d.t.Helper()
	got := probes(d.t, probeJob{Call: "stat", Paths: []string{d.path("missing")}})
	wantProbes(d.t, 0, syscall.ENOENT, got)
	return 20 * got[0].Took
}

// checkCutOff checks what a share that is cut off must not hold up.
func (d *daemon) checkCutOff(calm time.Duration) {
	d.t.Helper()
	unknown := probes(d.t, probeJob{Call: "stat", Paths: names(d, "missing", 3)})
	wantProbes(d.t, time.Second+calm, syscall.EHOSTUNREACH, unknown)
	d.t.Logf("names that nobody has: %v %v %v, allowed %v", unknown[0].Took, unknown[1].Took, unknown[2].Took, time.Second+calm)
	inShare := slices.Repeat([]string{d.path("other/model.gguf")}, nfsCalls)
	wantProbes(d.t, time.Second+calm, syscall.EHOSTUNREACH, probes(d.t, probeJob{Call: "open", AtOnce: true, Paths: inShare}))
	checkReads(d.t, d.path("on-disk/model.gguf"), pattern{2, 1 << 20})
	checkReads(d.t, d.path("org/complete/m.gguf"), pattern{3, 1 << 20})
	root := probes(d.t, probeJob{Call: "list", Paths: []string{d.mount}})
	wantProbes(d.t, time.Second+calm, 0, root)
	if !slices.Contains(root[0].Names, "on-disk") {
		d.t.Errorf("the root lists %v", root[0].Names)
	}
}

// picksUp waits until the share is used again, listing and all.
func (d *daemon) picksUp() {
	d.t.Helper()
	eventually(d.t, "the share is used again", nfsBack, func() bool {
		got, err := os.ReadFile(d.path("other/model.gguf"))
		return err == nil && string(got) == "weights"
	})
	eventually(d.t, "the share is listed again", nfsBack, func() bool {
		root := probes(d.t, probeJob{Call: "list", Paths: []string{d.mount}})
		return slices.Contains(root[0].Names, "other") && slices.Contains(root[0].Names, "org")
	})
	checkReads(d.t, d.path("org/big/model.safetensors"), pattern{1, 16 << 20})
}

// The cable is back after so long that the share's process was replaced, and the
// server has forgotten its client: who waited gets its bytes, and the share is
// used again, without a restart.
func TestNFSComesBack(t *testing.T) {
	for _, io := range []string{"passthrough", "daemon"} {
		t.Run(io, func(t *testing.T) {
			nas := newNFS(t, nfsModels(), nfsHard)
			d := start(t, "--hf-endpoint", "", "--shared", nas.dir, "--shared-io", io)
			crowd := newProber(t, d.held(nfsCalls))
			nas.pull()
			crowd.start()
			asked := 0
			eventually(t, "the share's process is replaced", time.Minute, func() bool {
				asked++
				_, err := os.Stat(d.path(fmt.Sprintf("missing-%d", asked)))
				if !errors.Is(err, syscall.EHOSTUNREACH) {
					t.Fatalf("a name that nobody has: %v", err)
				}
				return strings.Contains(d.stderr.String(), "is stuck and is replaced")
			})
			nas.heal()
			d.picksUp()
			wantProbes(t, 0, 0, crowd.results(t))
		})
	}
}

// A mount that gives up says so with an errno, which makes the share one that
// is down, as one that hangs is.
func TestNFSSoft(t *testing.T) {
	nas := newNFS(t, nfsModels(), nfsSoft)
	d := start(t, "--hf-endpoint", "", "--shared", nas.dir, "--read-timeout", "20s")
	alone := newProber(t, d.held(1))
	nas.pull()
	alone.start()
	wantProbe(t, d.path("missing-now"), syscall.EHOSTUNREACH)
	got := alone.results(t)[0]
	// Where modelfs reads, it may give up first, at its own timeout.
	if got.Errno != syscall.EIO && (hasPassthrough(t) || got.Errno != syscall.ETIMEDOUT) {
		t.Errorf("a read of the share: %v after %v", got.Errno, got.Took)
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
