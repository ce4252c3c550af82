package integration

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"modelfs/internal/hubtest"
)

// tool runs a program and returns what it printed.
func tool(t testing.TB, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// manyRepo is a repository with the sizes at which tools go wrong, in two
// directories, some in LFS and some not.
func manyRepo(id string) (hubtest.Repo, map[string]pattern) {
	files, repo := map[string]pattern{}, hubtest.Repo{ID: id}
	for i, size := range sizes {
		lfs := i%2 == 0 || size > 10<<20
		name := fmt.Sprintf("sub/%d.bin", size)
		if i%3 == 0 {
			name = fmt.Sprintf("%d.bin", size)
		}
		files[name] = pattern{uint64(i), size}
		repo.Files = append(repo.Files, hubtest.File{Path: name, Content: files[name].content(), LFS: lfs})
	}
	return repo, files
}

// nothingFetched fails if a byte of a file was sent, or asked for.
func nothingFetched(t testing.TB, sites ...*hubtest.Site) {
	t.Helper()
	for _, s := range sites {
		for _, q := range s.Requests(hubtest.Filter{}) {
			if q.File != "" && q.Method != "HEAD" || q.Host == hubtest.AtCDN {
				t.Errorf("%s %s %s was asked for", q.Host, q.Method, q.Path)
				return
			}
		}
	}
}

func TestStatAndListingsOfAColdModel(t *testing.T) {
	hub := hubtest.New(t)
	repo, files := manyRepo("org/m")
	hub.AddRepo(repo)
	d := start(t, hubFlags(hub)...)
	for name, want := range files {
		info, err := os.Stat(d.path("org/m", name))
		if err != nil || info.Size() != want.size || info.Mode() != 0o444 {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
	long := tool(t, "ls", "-lR", d.path("org/m"))
	var sum int64
	for name, want := range files {
		sum += want.size
		if !strings.Contains(long, fmt.Sprintf(" %d ", want.size)) || !strings.Contains(long, filepath.Base(name)) {
			t.Errorf("ls -lR does not show %s of %d bytes:\n%s", name, want.size, long)
		}
	}
	if found := strings.Fields(tool(t, "find", d.path("org/m"), "-type", "f", "-printf", "%P:%s\n")); len(found) != len(files) {
		t.Errorf("find found %q", found)
	}
	if got := tool(t, "du", "-sb", d.path("org/m")); !strings.HasPrefix(got, fmt.Sprint(sum)+"\t") {
		t.Errorf("du adds up to\n%s, want %d", got, sum)
	}
	if got := tool(t, "du", "-s", "--block-size=1", d.path("org/m")); strings.HasPrefix(got, "0\t") {
		t.Errorf("du counts no blocks: %s", got)
	}
	nothingFetched(t, hub.Site)
}

// Tools that copy a cold model get all of it, and know that it is no hole.
func TestToolsThatCopyAColdModel(t *testing.T) {
	t.Parallel()
	for name, copying := range map[string]func(t *testing.T, model, to string){
		"cp -r": func(t *testing.T, model, to string) { tool(t, "cp", "-r", model, to) },
		"rsync": func(t *testing.T, model, to string) { tool(t, "rsync", "-a", model+"/", to) },
		"tar -S": func(t *testing.T, model, to string) {
			archive := filepath.Join(filepath.Dir(to), "m.tar")
			tool(t, "tar", "-S", "-cf", archive, "-C", model, ".")
			if err := os.Mkdir(to, 0o755); err != nil {
				t.Fatal(err)
			}
			tool(t, "tar", "-S", "-xf", archive, "-C", to)
		},
	} {
		t.Run(name, func(t *testing.T) {
			hub := hubtest.New(t)
			repo, files := manyRepo("org/m")
			hub.AddRepo(repo)
			d := start(t, hubFlags(hub)...)
			to := filepath.Join(tempDir(t, "copy"), "m")
			copying(t, d.path("org/m"), to)
			for file, want := range files {
				checkReads(t, filepath.Join(to, file), want, "read")
			}
			if got := walked(t, to); len(got) != len(files) {
				t.Errorf("copied %q", got)
			}
		})
	}
}

func TestSha256sumOfAColdModel(t *testing.T) {
	t.Parallel()
	hub := hubtest.New(t)
	repo, files := manyRepo("org/m")
	hub.AddRepo(repo)
	d := start(t, hubFlags(hub)...)
	var paths, want []string
	for file, p := range files {
		paths = append(paths, d.path("org/m", file))
		want = append(want, hubtest.Pattern(p.seed, p.size).SHA256()+"  "+d.path("org/m", file))
	}
	got := strings.Split(strings.TrimSpace(tool(t, "sha256sum", paths...)), "\n")
	if !slices.Equal(got, want) {
		t.Errorf("sha256sum says\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// Walking the whole mount with 200 models of a router, half of which it only
// points at: nothing is downloaded, and the router's list is asked for once.
func TestWalkingTheWholeMount(t *testing.T) {
	t.Parallel()
	for gen, name := range map[hubtest.Generation]string{hubtest.OldGen: "old", hubtest.NewGen: "new"} {
		t.Run(name, func(t *testing.T) {
			hub := hubtest.New(t)
			router := hubtest.NewRouter(t, hubtest.RouterConfig{Gen: gen, Open: true})
			hub.AddRepo(hubRepo("org/m", pattern{1, 70_000}))
			for i := range 200 {
				m := routerModel(fmt.Sprintf("m%d", i), pattern{uint64(i), 1000})
				if i%2 == 0 || gen == hubtest.NewGen {
					m.Files[0].URL = hub.ResolveURL("org/m", "main", "m-Q4_K_M.gguf")
				}
				router.SetModel(m)
			}
			d := start(t, append(hubFlags(hub), "--router", router.URL())...)
			if got := strings.Count(tool(t, "find", d.mount, "-name", "model.gguf"), "/model.gguf\n"); got != 200 {
				t.Errorf("find found %d models, want 200", got)
			}
			tool(t, "du", "-s", d.mount)
			tool(t, "ls", "-lR", d.mount)
			nothingFetched(t, hub.Site, router.Site)
			lists := 0
			for _, q := range router.Requests(hubtest.Filter{Method: "GET"}) {
				if strings.HasSuffix(q.Path, "/models") && q.Status == 200 { // 404: it is of another generation
					lists++
				}
			}
			if lists > 1 {
				t.Errorf("the router's list was asked for %d times within a minute", lists)
			}
			for _, q := range hub.Requests(hubtest.Filter{}) {
				if q.Status == 429 {
					t.Error("the walk spent the Hub's quota")
					break
				}
			}
			t.Logf("%d requests to the router, %d to the Hub", len(router.Requests(hubtest.Filter{})), len(hub.Requests(hubtest.Filter{})))
		})
	}
}

// A file whose length nobody states is empty until it is opened; open waits
// until the length is known.
func TestAFileOfUnknownLength(t *testing.T) {
	router := oldRouter(t)
	want := pattern{5, 3<<20 + 77}
	router.SetModel(hubtest.RouterModel{Name: "m", Files: []hubtest.RouterFile{
		{Name: "weights.safetensors", Content: want.content()}, {Name: "config.json", Content: hubtest.Text("{}")}}})
	release := router.Fault(hubtest.Filter{Path: "m/weights.safetensors", Method: "GET"}, hubtest.Always(), hubtest.StallAt(1<<20))
	d := start(t, "--hf-endpoint", "", "--router", router.URL())
	file := d.path("m/weights.safetensors")
	if info, err := os.Stat(file); err != nil || info.Size() != 0 {
		t.Fatalf("before it is opened: %v, %v", info, err)
	}
	readers := []*background{
		inBackground(t, reader(file, want, "read")), inBackground(t, reader(file, want, "mmap-private")), inBackground(t, reader(file, want, "pread"))}
	eventually(t, "the download begins", 10*time.Second, func() bool { return router.BytesSent("m/weights.safetensors") >= 1<<20 })
	if info, err := os.Stat(file); err != nil || info.Size() != 0 {
		t.Errorf("while it is opened: %v, %v", info, err)
	}
	for _, r := range readers {
		if !r.running() {
			t.Errorf("a reader did not wait: %s", r.out)
		}
	}
	release.Release()
	for _, r := range readers {
		if err := r.ends(t, "a reader", 20*time.Second); err != nil {
			t.Errorf("%v: %s", err, r.out)
		}
	}
	checkReads(t, file, want)
	// Once in answer to the question for its first byte, which a router without
	// ranges answers with the file until it is hung up on, and once whole.
	router.SentAtMost(t, "m/weights.safetensors", 2)
}
