package integration

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"modelfs/internal/hubtest"
)

// outages are the ways in which a server can be down, and in which it comes
// back.
var outages = map[string]struct {
	begin func(*hubtest.Site)
	end   func(*hubtest.Site) error
}{
	"refuses": {func(s *hubtest.Site) { s.Refuse() }, func(s *hubtest.Site) error { return s.Accept() }},
	"hangs":   faulty(hubtest.Hang()),
	"500":     faulty(hubtest.Status(500, nil, "")),
	"429":     faulty(hubtest.RateLimited(hubtest.LimitHeader, time.Second)),
	"HTML":    faulty(hubtest.HTML(404)),
	"drops":   faulty(hubtest.Drop(hubtest.Reset)),
}

func faulty(e hubtest.Effect) struct {
	begin func(*hubtest.Site)
	end   func(*hubtest.Site) error
} {
	return struct {
		begin func(*hubtest.Site)
		end   func(*hubtest.Site) error
	}{
		func(s *hubtest.Site) { s.Fault(hubtest.Filter{}, hubtest.Always(), e) },
		func(s *hubtest.Site) error { s.ClearFaults(); return nil },
	}
}

// hubRepo is a repository with one GGUF and two small files.
func hubRepo(id string, weights pattern) hubtest.Repo {
	return hubtest.Repo{ID: id, Files: []hubtest.File{
		{Path: "config.json", Content: hubtest.Text("{}")}, {Path: "README.md", Content: hubtest.Text("# a model")},
		{Path: "m-Q4_K_M.gguf", Content: weights.content(), LFS: true},
	}}
}

// routerModel is a model whose file the router sends from its own disk.
func routerModel(name string, weights pattern) hubtest.RouterModel {
	return hubtest.RouterModel{Name: name, Format: "gguf", Files: []hubtest.RouterFile{{Name: "model.gguf", Content: weights.content()}}}
}

func oldRouter(t testing.TB) *hubtest.Router {
	return hubtest.NewRouter(t, hubtest.RouterConfig{Gen: hubtest.OldGen, Open: true})
}

// The Hub is down from the start, or goes down later: what others have stays
// open, what is here stays open, and a name that nobody has is unknown and
// not absent, all within a second.
func TestTheHubIsDown(t *testing.T) {
	t.Parallel()
	for name, outage := range outages {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			hub, router := hubtest.New(t), oldRouter(t)
			hub.AddRepo(hubRepo("org/here", pattern{1, 70_000}))
			hub.AddRepo(hubRepo("org/there", pattern{2, 70_000}))
			router.SetModel(routerModel("on-router", pattern{3, 70_000}))
			tree := writeTree(t, map[string][]byte{"on-disk/model.gguf": pattern{4, 70_000}.bytes(), "acme/on-disk/model.gguf": pattern{5, 70_000}.bytes()})
			flags := append(hubFlags(hub), "--local", tree, "--router", router.URL())
			check := func(d *daemon, when string) {
				t.Helper()
				wantProbe(t, d.path("on-disk/model.gguf"), 0)
				wantProbe(t, d.path("acme/on-disk/model.gguf"), 0)
				wantProbe(t, d.path("missing-"+when), syscall.EHOSTUNREACH)
				wantProbe(t, d.path("missing-org-"+when, "m"), syscall.EHOSTUNREACH)
				wantProbe(t, d.path("acme/missing-"+when), syscall.EHOSTUNREACH)
				checkReads(t, d.path("on-router/model.gguf"), pattern{3, 70_000})
			}

			outage.begin(hub.Site)
			cold := start(t, flags...)
			check(cold, "cold")
			wantProbe(t, cold.path("org/there/model.gguf"), syscall.EHOSTUNREACH)
			if err := outage.end(hub.Site); err != nil {
				t.Fatal(err)
			}
			eventually(t, "the Hub is asked again", 20*time.Second, func() bool {
				_, err := os.Stat(cold.path("org/there/model.gguf"))
				return err == nil
			})
			wantProbe(t, cold.path("missing-between"), syscall.ENOENT)
			checkReads(t, cold.path("org/here/model.gguf"), pattern{1, 70_000})

			outage.begin(hub.Site)
			check(cold, "warm")
			checkReads(t, cold.path("org/here/model.gguf"), pattern{1, 70_000})
			if err := outage.end(hub.Site); err != nil { // for whoever waits at the end
				t.Fatal(err)
			}
		})
	}
}

func TestTheRouterHangs(t *testing.T) {
	t.Parallel()
	hub, router := hubtest.New(t), oldRouter(t)
	hub.AddRepo(hubRepo("org/m", pattern{1, 70_000}))
	router.SetModel(routerModel("on-router", pattern{2, 70_000}))
	router.Fault(hubtest.Filter{}, hubtest.Always(), hubtest.Hang())
	d := start(t, append(hubFlags(hub), "--router", router.URL())...)
	for _, name := range []string{"missing", "on-router", "missing-org/m"} {
		wantProbe(t, d.path(name), syscall.EHOSTUNREACH)
	}
	wantProbe(t, d.path("org/missing"), syscall.EHOSTUNREACH)
	checkReads(t, d.path("org/m/model.gguf"), pattern{1, 70_000})
	router.ClearFaults()
	eventually(t, "the router's model is seen", 20*time.Second, func() bool {
		_, err := os.Stat(d.path("on-router/model.gguf"))
		return err == nil
	})
	wantProbe(t, d.path("missing-too"), syscall.ENOENT)
}

// A share answers nothing, or only errors. A name that nobody else has is
// unknown; one that the Hub has is the Hub's for the time being.
func TestTheShareIsDown(t *testing.T) {
	for _, state := range []string{"hang", "fail"} {
		t.Run(state, func(t *testing.T) {
			hub := hubtest.New(t)
			hub.SetQuota("api", 100_000, 5*time.Minute) // the budget has a test of its own
			hub.AddRepo(hubRepo("org/on-hub", pattern{1, 70_000}))
			tree := writeTree(t, map[string][]byte{"on-share/model.gguf": pattern{2, 70_000}.bytes()})
			local := writeTree(t, map[string][]byte{"on-disk/model.gguf": pattern{3, 70_000}.bytes()})
			nas := newShare(t, tree)
			d := start(t, append(hubFlags(hub), "--local", local, "--shared", nas.dir)...)
			checkReads(t, d.path("on-share/model.gguf"), pattern{2, 70_000})
			nas.set(state)
			for i := range 4 {
				wantProbe(t, d.path(fmt.Sprintf("missing-%d", i)), syscall.EHOSTUNREACH)
				wantProbe(t, d.path("on-disk/model.gguf"), 0)
				wantProbe(t, d.path("on-share/model.gguf"), syscall.EHOSTUNREACH)
			}
			checkReads(t, d.path("org/on-hub/model.gguf"), pattern{1, 70_000})
			checkReads(t, d.path("on-disk/model.gguf"), pattern{3, 70_000})
			crowd := names(d, "crowd", 300)
			wantProbes(t, crowdOnTime, syscall.EHOSTUNREACH, probes(t, probeJob{Call: "stat", AtOnce: true, Paths: crowd}))
			if n := d.threads(); n > 100 {
				t.Errorf("the daemon has %d threads", n)
			}
			nas.set("open")
			eventually(t, "the share is used again", 20*time.Second, func() bool {
				_, err := os.Stat(d.path("on-share/model.gguf"))
				return err == nil
			})
			checkReads(t, d.path("on-share/model.gguf"), pattern{2, 70_000})
			asked := 0
			eventually(t, "what nobody has is absent again", 20*time.Second, func() bool {
				asked++
				_, err := os.Stat(d.path(fmt.Sprintf("missing-now-%d", asked)))
				return errors.Is(err, syscall.ENOENT)
			})
		})
	}
}

// threads counts the threads of the daemon's processes.
func (d *daemon) threads() int {
	sum := 0
	for _, pid := range descendants(d.cmd.Process.Pid) {
		tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", pid))
		sum += len(tasks)
	}
	return sum
}

func TestAShareThatHangsAtTheStart(t *testing.T) {
	t.Parallel()
	hub := hubtest.New(t)
	hub.AddRepo(hubRepo("org/on-hub", pattern{1, 70_000}))
	nas := newShare(t, writeTree(t, map[string][]byte{"org/on-share/model.gguf": pattern{2, 70_000}.bytes()}))
	nas.set("hang")
	d := start(t, append(hubFlags(hub), "--shared", nas.dir)...)
	wantProbe(t, d.path("missing"), syscall.EHOSTUNREACH)
	checkReads(t, d.path("org/on-hub/model.gguf"), pattern{1, 70_000})
	wantProbe(t, d.path("org/on-share"), syscall.EHOSTUNREACH)
}

// What a store on a share looks like takes as long to see as the share to be
// mounted; a later start knows it, whatever the share does then.
func TestTheLayoutOfASlowShare(t *testing.T) {
	t.Parallel()
	file := pattern{2, 70_000}
	store := tempDir(t, "hub")
	plant(t, store, snapshotOf("org/m", commit, map[string]any{"model.safetensors": file}))
	nas := newShare(t, store)
	nas.set("wake")
	d := start(t, "--hf-endpoint", "", "--shared", nas.dir)
	checkReads(t, d.path("org/m/model.safetensors"), file)
	d.stop()

	nas.set("hang")
	d = startOn(t, d.mount, d.cache, "--hf-endpoint", "", "--shared", nas.dir)
	wantProbe(t, d.path("models--org--m"), syscall.EHOSTUNREACH)
	nas.set("open")
	eventually(t, "the share is used again", 20*time.Second, func() bool {
		_, err := os.Stat(d.path("org/m/model.safetensors"))
		return err == nil
	})
	checkReads(t, d.path("org/m/model.safetensors"), file)
}

// All at once: nobody can be asked, and the disk's own models don't notice.
func TestEverythingHangs(t *testing.T) {
	hub, router := hubtest.New(t), oldRouter(t)
	hub.Fault(hubtest.Filter{}, hubtest.Always(), hubtest.Hang())
	router.Fault(hubtest.Filter{}, hubtest.Always(), hubtest.Hang())
	nas := newShare(t, tempDir(t, "tree"))
	local := writeTree(t, map[string][]byte{"on-disk/model.gguf": pattern{3, 70_000}.bytes()})
	d := start(t, append(hubFlags(hub), "--local", local, "--shared", nas.dir, "--router", router.URL())...)
	nas.set("hang")
	wantProbe(t, d.path("missing"), syscall.EHOSTUNREACH)
	wantProbe(t, d.path("org/m"), syscall.EHOSTUNREACH)
	within(t, "reading a local model", onTime, func() { checkReads(t, d.path("on-disk/model.gguf"), pattern{3, 70_000}, "read") })
	wantProbes(t, crowdOnTime, syscall.EHOSTUNREACH, probes(t, probeJob{Call: "stat", AtOnce: true, Paths: names(d, "crowd", 1000)}))
	wantProbe(t, d.path("on-disk/model.gguf"), 0)
	got := probes(t, probeJob{Call: "list", Paths: []string{d.mount}})
	wantProbes(t, onTime, 0, got)
}

// names are n different names of the root that nobody has.
func names(d *daemon, prefix string, n int) []string {
	var paths []string
	for i := range n {
		paths = append(paths, d.path(fmt.Sprintf("%s-%d", prefix, i)))
	}
	return paths
}

// sixtyFour processes look one name up at once: the kernel lets one of them
// in at a time.
func sixtyFour(t *testing.T, path string) []probe {
	t.Helper()
	var all []*prober
	for range 64 {
		all = append(all, newProber(t, probeJob{Call: "stat", Paths: []string{path}}))
	}
	for _, p := range all {
		p.start()
	}
	var got []probe
	for _, p := range all {
		got = append(got, p.results(t)...)
	}
	return got
}

func TestMissingNamesAreAnsweredWithinASecond(t *testing.T) {
	hub, router := hubtest.New(t), oldRouter(t)
	hub.AddRepo(hubRepo("org/m", pattern{1, 1000}))
	hub.SetQuota("api", 100_000, 5*time.Minute) // the budget has a test of its own
	hub.SetLatency(100 * time.Millisecond)
	router.SetLatency(50 * time.Millisecond)
	nas := newShare(t, tempDir(t, "tree"))
	flags := append(hubFlags(hub), "--router", router.URL(), "--local", tempDir(t, "tree"), "--shared", nas.dir)
	d, err := launchBinary(t, plain, tempDir(t, "mnt"), tempDir(t, "cache"), append(flags, patience...)...)
	if err != nil {
		t.Fatal(err)
	}
	wantProbe(t, d.path("cold"), syscall.ENOENT) // the first request of a cold daemon
	for _, name := range []string{"warm", "cold", "org-x/m", "org/missing", "org/missing", "Org/M/x"} {
		wantProbe(t, d.path(name), syscall.ENOENT)
	}
	wantProbes(t, onTime, syscall.ENOENT, probes(t, probeJob{Call: "stat", Paths: names(d, "row", 20)}))
	wantProbes(t, crowdOnTime, syscall.ENOENT, probes(t, probeJob{Call: "stat", AtOnce: true, Paths: names(d, "crowd", 1000)}))
	wantProbes(t, crowdOnTime, syscall.ENOENT, sixtyFour(t, d.path("by-64")))
}

func TestSixtyFourProcessesAtANameThatHangs(t *testing.T) {
	hub := hubtest.New(t)
	hub.Fault(hubtest.Filter{}, hubtest.Always(), hubtest.Hang())
	d := start(t, hubFlags(hub)...)
	wantProbes(t, crowdOnTime, syscall.EHOSTUNREACH, sixtyFour(t, d.path("by-64")))
}
