package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"modelfs/internal/hubtest"
)

// withoutNetwork is the binary in a network namespace of its own, in which
// there is not even a loopback interface that is up.
func withoutNetwork(t testing.TB) string {
	t.Helper()
	script := filepath.Join(tempDir(t, "nonet"), "modelfs")
	text := fmt.Sprintf("#!/bin/sh\nexec unshare --net %s \"$@\"\n", binary)
	writeExecutable(t, script, []byte(text))
	return script
}

// startLimit is far below the time that waiting for a network takes (a
// resolver's 5 s), with what the race detector and a busy machine add.
const startLimit = 3*time.Second + raceAllowance

// What was right before an outage stays usable through it and through a
// restart in it: models and their listings that are known, and what is here of
// their files; the trees in any case.
func TestWhatIsKnownOutlivesARestartWithoutNetwork(t *testing.T) {
	t.Parallel()
	hub, router := hubtest.New(t), hubtest.NewRouter(t, hubtest.RouterConfig{Open: true})
	complete, known, half := pattern{1, 70_000}, pattern{2, 70_001}, pattern{3, 64 << 20}
	hub.AddRepo(hubRepo("org/complete", complete))
	hub.AddRepo(hubRepo("org/known", known))
	hub.AddRepo(hubtest.Repo{ID: "org/half", Files: []hubtest.File{{Path: "m-Q4_K_M.gguf", Content: half.content(), LFS: true}}})
	hub.AddRepo(hubRepo("org/behind", pattern{4, 70_000}))
	router.SetModel(hubtest.RouterModel{Name: "routed", Format: "gguf", Files: []hubtest.RouterFile{
		{Name: "m.gguf", URL: hub.ResolveURL("org/behind", "main", "m-Q4_K_M.gguf")}}})
	tree := writeTree(t, map[string][]byte{"on-disk/model.gguf": pattern{5, 70_000}.bytes()})
	flags := append(hubFlags(hub), "--local", tree, "--router", router.URL(), "--allow", router.URL()+"/*", "--fill", "touched", "--read-timeout", "1s")
	before := start(t, flags...)
	checkReads(t, before.path("org/complete/model.gguf"), complete, "read")
	checkReads(t, before.path("routed/model.gguf"), pattern{4, 70_000}, "read")
	before.completes("org/complete", "m-Q4_K_M.gguf")
	before.completes("routed", "m.gguf")
	listing := inside(t, before.path("org/known"))
	readPart(t, before.path("org/half/m-Q4_K_M.gguf"), half, 0)
	before.stop()

	d, err := launchBinary(t, withoutNetwork(t), before.mount, before.cache, flags...)
	if err != nil {
		t.Fatal(err)
	}
	check := func(when string) {
		t.Helper()
		if got := inside(t, d.path("org/known")); len(got) < 3 || !slices.Equal(got, listing) {
			t.Errorf("%s, org/known lists %q, and before the outage %q", when, got, listing)
		}
		if info, err := os.Stat(d.path("org/known/m-Q4_K_M.gguf")); err != nil || info.Size() != known.size {
			t.Errorf("%s, the size of what is known: %v, %v", when, info, err)
		}
		within(t, "reading what is complete", startLimit, func() {
			checkReads(t, d.path("org/complete/model.gguf"), complete)
			checkReads(t, d.path("routed/model.gguf"), pattern{4, 70_000})
			checkReads(t, d.path("on-disk/model.gguf"), pattern{5, 70_000})
		})
		readPart(t, d.path("org/half/m-Q4_K_M.gguf"), half, 0)
		wantProbe(t, d.path("org/nobody-knows-"+when), syscall.EHOSTUNREACH)
		wantProbes(t, onTime, syscall.EHOSTUNREACH, probes(t, probeJob{Call: "open", Paths: []string{d.path("org/known/m-Q4_K_M.gguf")}}))
		for dir, want := range map[string][]string{"": {"on-disk", "org", "routed"}, "org": {"complete", "half", "known"}} {
			got := inside(t, d.path(dir))
			for _, name := range want {
				if !slices.Contains(got, name) {
					t.Errorf("%s, %q lists %q, without %s", when, dir, got, name)
				}
			}
		}
	}
	check("after-the-start")
	d.kill()
	_ = syscall.Unmount(d.mount, syscall.MNT_DETACH)
	eventually(t, "the backing dir is free", 10*time.Second, func() bool {
		again, err := launchBinary(t, withoutNetwork(t), before.mount, before.cache, flags...)
		d = again
		return err == nil
	})
	check("after-a-crash")
}

// readPart reads a part of a file that is or gets here.
func readPart(t testing.TB, path string, want pattern, off int64) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Error(err)
		return
	}
	defer f.Close()
	got := make([]byte, 64<<10)
	if _, err := f.ReadAt(got, off); err != nil {
		t.Errorf("%s at %d: %v", path, off, err)
		return
	}
	if at := hubtest.Mismatch(want.content(), got, off); at >= 0 {
		t.Errorf("%s: byte %d is wrong", path, at)
	}
}

// The first start of all has no network either, and the default Hub can't so
// much as be named.
func TestTheFirstStartWithoutNetwork(t *testing.T) {
	t.Parallel()
	tree := writeTree(t, map[string][]byte{"on-disk/model.gguf": pattern{5, 70_000}.bytes()})
	began := time.Now()
	d, err := launchBinary(t, withoutNetwork(t), tempDir(t, "mnt"), tempDir(t, "cache"),
		"--hf-endpoint", "https://huggingface.co", "--router", "http://router.test:32768", "--local", tree)
	if err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took > startLimit {
		t.Errorf("the start took %v", took)
	}
	checkReads(t, d.path("on-disk/model.gguf"), pattern{5, 70_000})
	wantProbe(t, d.path("missing"), syscall.EHOSTUNREACH)
	wantProbe(t, d.path("org/missing"), syscall.EHOSTUNREACH)
	if got := strings.Join(inside(t, d.mount), " "); got != "on-disk" {
		t.Errorf("the root lists %q", got)
	}
}
