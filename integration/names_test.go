package integration

import (
	"encoding/json"
	"errors"
	"fmt"
	iofs "io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"modelfs/internal/hubtest"
)

// wrong are names that no model of the network can have.
var wrong = []string{".hidden", "..x/../HEAD", "HEAD", "objects", "refs", "a\x01b", "a\nb", "a\x7fb", "\x1b[31m", "org%2Fm", "%2F", "%2e%2e",
	"naïve", "日本語", "\xff\xfe", "-x", "x-", "a--b", "a..b", "x.git", "x.", "with space", "a\\b", "a*b", "x:", "x@", ":Q4_K_M", "m:../x", "m@../x",
	strings.Repeat("n", 97), strings.Repeat("n", 255), strings.Repeat("n", 256), strings.Repeat("n", 1024), "model.gguf", "adapter_config.json"}

func TestNamesThatNoModelCanHave(t *testing.T) {
	hub, router := hubtest.New(t), oldRouter(t)
	hub.AddRepo(hubRepo("org/m", pattern{1, 1000}))
	d := start(t, append(hubFlags(hub), "--router", router.URL())...)
	if _, err := os.Stat(d.path("org/m/config.json")); err != nil { // which lists the model
		t.Fatal(err)
	}
	heard(t, router)
	hub.Reset()
	router.Reset()
	for _, name := range wrong {
		for _, path := range []string{d.mount + "/" + name, d.mount + "/org/" + name, d.mount + "/org/m/" + name} {
			want := unix.ENOENT
			if err := statRaw(path); !errors.Is(err, want) && (!errors.Is(err, unix.ENAMETOOLONG) || len(name) <= 255) && !(err == nil && strings.HasSuffix(path, "org/m/model.gguf")) {
				t.Errorf("%q: %v, want %v", path, err, want)
			}
		}
	}
	if asked := append(hub.Requests(hubtest.Filter{}), router.Requests(hubtest.Filter{})...); len(asked) > 0 {
		t.Errorf("%d requests for names that can't be, such as %s", len(asked), asked[0].Path)
	}
	for path, want := range map[string]error{"": nil, "/": nil, "/.": nil, "//org//m/": nil, "/org/m/../m": nil, "/org/m/../../..": nil, "/org/m/config.json/": unix.ENOTDIR} {
		if err := statRaw(d.mount + path); !errors.Is(err, want) {
			t.Errorf("%q: %v, want %v", path, err, want)
		}
	}
	if err := statRaw(""); !errors.Is(err, unix.ENOENT) {
		t.Errorf("the empty path: %v", err)
	}
}

// heard waits until a router has been asked for its models: it is asked
// together with the Hub, whose answer may come first and counts.
func heard(t *testing.T, router *hubtest.Router) {
	t.Helper()
	eventually(t, "the router is asked for its models", 10*time.Second, func() bool { return len(router.Requests(hubtest.Filter{})) > 0 })
}

// statRaw is stat(2) of exactly these bytes.
func statRaw(path string) error {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return err
	}
	return nil
}

// A tree's directory may have any name that a directory entry can have.
func TestNamesOfATree(t *testing.T) {
	files := map[string][]byte{}
	for _, name := range []string{"Qwen3-8B", "Both", "both", "naïve", "日本語/モデル", "with space", "a%2Fb", "a--b", "x.git"} {
		files[name+"/model.gguf"] = []byte("GGUF of " + name)
	}
	tree := writeTree(t, files)
	outside := filepath.Join(tempDir(t, "other"), "secret")
	writeFile(t, outside, []byte("secret"))
	for _, link := range []string{"Qwen3-8B/leak.gguf", "leak.gguf"} {
		if err := os.Symlink(outside, filepath.Join(tree, link)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(filepath.Dir(outside), filepath.Join(tree, "leak")); err != nil {
		t.Fatal(err)
	}
	d := start(t, "--hf-endpoint", "", "--local", tree)
	for shown, want := range map[string]string{"Qwen3-8B": "Qwen3-8B", "qwen3-8b": "Qwen3-8B", "QWEN3-8B": "Qwen3-8B", "Both": "Both", "both": "both",
		"naïve": "naïve", "日本語/モデル": "日本語/モデル", "with space": "with space", "a%2Fb": "a%2Fb", "a--b": "a--b", "x.git": "x.git"} {
		if got, err := os.ReadFile(d.path(shown, "model.gguf")); err != nil || string(got) != "GGUF of "+want {
			t.Errorf("%s: %q, %v", shown, got, err)
		}
	}
	for _, name := range []string{"BOTH", "a/b", "leak", "leak/secret", "leak.gguf", "Qwen3-8B/leak.gguf"} {
		if got, err := os.ReadFile(d.path(name)); !errors.Is(err, iofs.ErrNotExist) {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}

// hostile are paths that no file inside a model can have.
var hostile = []string{"../evil.gguf", "../../../../../../../../tmp/modelfs-it-evil", "/abs.gguf", "a\\b.gguf", "..\\c.gguf", "nul\x00.gguf", "new\nline.gguf",
	"x/../y.gguf", "x//y.gguf", "./z.gguf", "..", ".", "trailing/", ".modelfs/status.json", strings.Repeat("d/", 40) + "deep.gguf", strings.Repeat("n", 300) + ".gguf"}

func TestHostilePathsInAHubListing(t *testing.T) {
	t.Parallel()
	hub := hubtest.New(t)
	var list []hubtest.File
	for i, path := range append(slices.Clone(hostile), "dir", "dir/ok.gguf", "good.gguf") {
		list = append(list, hubtest.File{Path: path, Content: pattern{uint64(i), 5000}.content(), LFS: true})
	}
	hub.AddRepo(hubtest.Repo{ID: "org/m", Files: list})
	checkHostile(t, "org/m", append(hubFlags(hub), "--fill", "auto"), map[string]pattern{
		"good.gguf": {uint64(len(hostile) + 2), 5000}, "dir/ok.gguf": {uint64(len(hostile) + 1), 5000}})
}

// A listing may state sizes that no file has. Opening such a file fails, and
// costs neither the server nor anybody else anything.
func TestHostileSizesInAHubListing(t *testing.T) {
	hub := hubtest.New(t)
	list := []hubtest.File{{Path: "good.gguf", Content: pattern{1, 5000}.content(), LFS: true}}
	for i, size := range []int64{1 << 60, 1<<63 - 1} {
		list = append(list, hubtest.File{Path: fmt.Sprintf("huge-%d.bin", i), Content: pattern{2, size}.content(), LFS: true, SHA256: strings.Repeat(fmt.Sprint(i), 64)})
	}
	hub.AddRepo(hubtest.Repo{ID: "org/m", Files: list})
	d := start(t, hubFlags(hub)...)
	before := d.server()
	for i := range 2 {
		if f, err := os.Open(d.path("org/m", fmt.Sprintf("huge-%d.bin", i))); !errors.Is(err, unix.ENOSPC) {
			t.Errorf("huge-%d.bin: %v, want ENOSPC", i, err)
			if err == nil {
				f.Close()
			}
		}
	}
	checkReads(t, d.path("org/m/good.gguf"), pattern{1, 5000})
	if after := d.server(); after != before {
		t.Errorf("the server is another process now: %d, and was %d", after, before)
	}
}

func TestHostilePathsInARouterManifest(t *testing.T) {
	t.Parallel()
	router := oldRouter(t)
	names := append(slices.Clone(hostile), "dir", "good.gguf")
	var list []hubtest.RouterFile
	for i, name := range names {
		list = append(list, hubtest.RouterFile{Name: name, Content: pattern{uint64(i), 5000}.content()})
	}
	// A file below "dir" comes from an address: the router's route takes one segment.
	hub := hubtest.New(t)
	hub.AddRepo(hubtest.Repo{ID: "org/other", Files: []hubtest.File{{Path: "ok.gguf", Content: pattern{99, 5000}.content(), LFS: true}}})
	list = append(list, hubtest.RouterFile{Name: "dir/ok.gguf", URL: hub.ResolveURL("org/other", "main", "ok.gguf")})
	for i, url := range []string{"file:///etc/passwd", hub.URL() + "/org/other/resolve/main/../../../../etc/passwd", "http://[::1/", "gopher://x/", "http://user:password@127.0.0.1/x", "http://169.254.169.254/latest/meta-data"} {
		list = append(list, hubtest.RouterFile{Name: fmt.Sprintf("url-%d.gguf", i), URL: url})
	}
	router.SetModel(hubtest.RouterModel{Name: "m", Format: "gguf", Files: list})
	checkHostile(t, "m", append(hubFlags(hub), "--router", router.URL()), map[string]pattern{
		"good.gguf": {uint64(len(hostile) + 1), 5000}, "dir/ok.gguf": {99, 5000}})
}

// checkHostile mounts with a backing dir in a sandbox, walks the model, reads
// everything in it and sees that only good files are there, the rest is
// logged, and nothing lies outside of the backing dir.
func checkHostile(t *testing.T, name string, flags []string, good map[string]pattern) {
	t.Helper()
	sandbox := tempDir(t, "sandbox")
	d := startOn(t, tempDir(t, "mnt"), filepath.Join(sandbox, "cache"), flags...)
	for file, want := range good {
		checkReads(t, d.path(name, file), want)
	}
	for _, path := range hostile {
		if strings.Contains(path, "\x00") {
			continue // no system call takes that
		}
		full := d.mount + "/" + name + "/" + path
		if strings.HasPrefix(filepath.Clean(full), d.path(name)+"/") {
			if info, err := os.Stat(full); err == nil && !strings.HasPrefix(path, ".modelfs") {
				t.Errorf("%q is shown: %v", path, info)
			}
		}
	}
	for _, shown := range walked(t, d.path(name)) {
		if _, ok := good[shown]; !ok && shown != "model.gguf" && !strings.HasPrefix(shown, "url-") {
			t.Errorf("%q is listed", shown)
		}
	}
	d.logged("level=WARN", "can't be used", "count=")
	if status, err := os.ReadFile(d.path(name, ".modelfs/status.json")); err != nil || !json.Valid(status) {
		t.Errorf("the control directory: %q, %v", status, err)
	}
	if left := inside(t, sandbox); !slices.Equal(left, []string{"cache"}) {
		t.Errorf("beside the backing dir there is %v", left)
	}
	if _, err := os.Lstat("/tmp/modelfs-it-evil"); err == nil {
		t.Error("a file was written outside of the backing dir")
	}
}

// walked is every file and link below a directory, relative to it.
func walked(t testing.TB, dir string) []string {
	t.Helper()
	var list []string
	err := filepath.WalkDir(dir, func(path string, e iofs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			list = append(list, strings.TrimPrefix(path, dir+"/"))
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	return list
}

func inside(t testing.TB, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}
