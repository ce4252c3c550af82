package integration

import (
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	"modelfs/internal/hubtest"
)

// big is beyond 4 GiB by an odd number of bytes; all zeros but for islands,
// so that neither a tree nor an origin needs the space.
const big = 4<<30 + 2<<20 + 4097

func (d *daemon) wantReads(want int64) {
	d.t.Helper()
	if got := d.number("mount", "reads"); got != want {
		d.t.Errorf("the daemon received %d reads, want %d", got, want)
	}
}

func TestSharedTreeIsReadInPlace(t *testing.T) {
	t.Parallel()
	tree := make(map[string][]byte)
	tree["org/m/model.safetensors"] = []byte("weights")
	for _, size := range sizes {
		tree[fmt.Sprintf("org/m/%d.dat", size)] = pattern{1, size}.bytes()
	}
	d := start(t, "--hf-endpoint", "", "--shared", writeTree(t, tree))
	for _, size := range sizes {
		checkReads(t, d.path("org/m", fmt.Sprintf("%d.dat", size)), pattern{1, size})
	}
	d.wantReads(0)
	if got := stored(t, d.cache); len(got) > 0 {
		t.Errorf("reading a shared model left %v in the backing dir", got)
	}
}

func TestBigLocalAndSharedFiles(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"--local", "--shared"} {
		tree := tempDir(t, "tree")
		writeSparse(t, filepath.Join(tree, "big/model.gguf"), pattern{islands, big})
		d := start(t, "--hf-endpoint", "", kind, tree)
		checkReads(t, d.path("big/model.gguf"), pattern{islands, big}, "direct", "mmap-private", "mmap-shared", "pread")
		d.wantReads(0)
	}
}

// writeSparse writes only what is not zero.
func writeSparse(t testing.TB, path string, p pattern) {
	t.Helper()
	writeFile(t, path, nil)
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(p.size); err != nil {
		t.Fatal(err)
	}
	for _, off := range islandOffsets(p.size) {
		if _, err := f.WriteAt(hubtest.PatternAt(p.content(), off, islandSize), off); err != nil {
			t.Fatal(err)
		}
	}
}

func TestBigHubFile(t *testing.T) {
	hub := hubtest.New(t)
	content := pattern{islands, big}.content()
	h := sha256.New()
	if _, err := io.Copy(h, io.NewSectionReader(content, 0, big)); err != nil {
		t.Fatal(err)
	}
	hub.AddRepo(hubtest.Repo{ID: "org/m", Files: []hubtest.File{
		{Path: "big.gguf", Content: content, LFS: true, SHA256: fmt.Sprintf("%x", h.Sum(nil))}}})
	d := start(t, append(hubFlags(hub), "--fill", "touched")...)
	checkReads(t, d.path("org/m/model.gguf"), pattern{islands, big}, "direct", "mmap-private", "mmap-shared", "pread")
	if t.Failed() || racing {
		return // the race detector makes the rest minutes
	}
	checkReads(t, d.path("org/m/model.gguf"), pattern{islands, big}, "read")
	d.completes("org/m", "big.gguf")
	before := d.number("mount", "opens_passthrough")
	checkReads(t, d.path("org/m/model.gguf"), pattern{islands, big}, "pread", "mmap-shared")
	if got := d.number("mount", "opens_passthrough") - before; got != 2 {
		t.Errorf("%d of 2 opens of the complete file were passthrough", got)
	}
	sentOnce(t, hub, "org/m/big.gguf", big)
}

// routerFlags mount a test router that asks for no key. It comes with a Hub
// that a manifest may point into.
func routerFlags(r *hubtest.Router, hub *hubtest.Hub) []string {
	return append(hubFlags(hub), "--router", r.URL(), "--allow", r.URL()+"/*")
}

// Manifests of new routers have URLs and no sizes: a URL in the Hub's
// repository takes its size from there.
func TestRouterWithHubURLs(t *testing.T) {
	t.Parallel()
	hub := hubtest.New(t)
	var files []hubtest.File
	var artifacts []hubtest.RouterFile
	for _, size := range sizes {
		lfs, git := fmt.Sprintf("%d.bin", size), fmt.Sprintf("%d.txt", min(size, 9<<20))
		files = append(files, hubtest.File{Path: lfs, Content: pattern{2, size}.content(), LFS: true},
			hubtest.File{Path: git, Content: pattern{3, min(size, 9<<20)}.content()})
		for _, f := range []string{lfs, git} {
			artifacts = append(artifacts, hubtest.RouterFile{Name: f, URL: hub.ResolveURL("org/m", "main", f)})
		}
	}
	hub.AddRepo(hubtest.Repo{ID: "org/m", Files: files})
	router := hubtest.NewRouter(t, hubtest.RouterConfig{Open: true})
	router.SetModel(hubtest.RouterModel{Name: "routed", Format: "safetensors", Files: artifacts})
	for name, flags := range map[string][]string{
		"sizes from the Hub": routerFlags(router, hub),
		"sizes from a HEAD":  append(routerFlags(router, hub), "--hf-endpoint", ""),
	} {
		t.Run(name, func(t *testing.T) {
			d := start(t, flags...)
			for _, size := range sizes {
				checkReads(t, d.path("routed", fmt.Sprintf("%d.bin", size)), pattern{2, size})
				checkReads(t, d.path("routed", fmt.Sprintf("%d.txt", min(size, 9<<20))), pattern{3, min(size, 9<<20)})
			}
		})
	}
}

// Old routers have copies of their own. The route for files states no length
// and the one for blobs does; neither knows ranges.
func TestRouterProxy(t *testing.T) {
	t.Parallel()
	hub := hubtest.New(t)
	router := hubtest.NewRouter(t, hubtest.RouterConfig{Gen: hubtest.OldGen, Open: true})
	set := hubtest.RouterModel{Name: "set"}
	for _, size := range sizes {
		set.Files = append(set.Files, hubtest.RouterFile{Name: fmt.Sprintf("%d.bin", size), Content: pattern{2, size}.content()})
		router.SetModel(hubtest.RouterModel{Name: fmt.Sprintf("blob-%d", size),
			Files: []hubtest.RouterFile{{Name: "model.gguf", Content: pattern{3, size}.content()}}})
	}
	router.SetModel(set)
	d := start(t, routerFlags(router, hub)...)
	for _, size := range sizes {
		checkReads(t, d.path("set", fmt.Sprintf("%d.bin", size)), pattern{2, size})
		blob := d.path(fmt.Sprintf("blob-%d", size), "model.gguf")
		if info, err := os.Stat(blob); err != nil || info.Size() != size {
			t.Errorf("%s: %v, %v; its length is stated by the route for blobs", blob, info, err)
		}
		checkReads(t, blob, pattern{3, size})
	}
	downloads := make(map[string]int)
	for _, r := range router.Requests(hubtest.Filter{Method: "GET"}) {
		if r.File != "" && r.Range == "" {
			downloads[r.File]++
		}
	}
	for f, n := range downloads {
		if n > 1 {
			t.Errorf("%s was downloaded %d times", f, n)
		}
	}
}

// sentOnce fails if the origin sent more than 1.02 bytes for each of a file: a
// reader may overtake a range that is on its way already.
func sentOnce(t testing.TB, hub *hubtest.Hub, file string, size int64) {
	t.Helper()
	sent := hub.BytesSent(file)
	t.Logf("the origin sent %.4f of %s", float64(sent)/float64(size), file)
	if sent > size+size/50 {
		t.Errorf("the origin sent %d bytes of %s, which has %d", sent, file, size)
	}
}
