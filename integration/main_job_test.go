package integration

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"syscall"
	"testing"
	"time"

	"modelfs/internal/hubtest"
)

// hubFlags mount a test Hub. Its CDN is another host, which the allow-list
// has to name.
func hubFlags(h *hubtest.Hub) []string {
	return []string{"--hf-endpoint", h.URL(), "--allow", h.URL() + "/*", "--allow", h.CDN() + "/*"}
}

// sizes are the lengths at which reads go wrong.
var sizes = []int64{0, 1, 4095, 4096, 4097, 1<<20 - 1, 1 << 20, 1<<20 + 1, 20<<20 + 12345}

func TestLocalTreeIsReadInPlace(t *testing.T) {
	t.Parallel()
	files := map[string][]byte{"org/m/config.json": []byte("{}"), "org/m/model.safetensors": []byte("weights")}
	for _, size := range sizes {
		files[fmt.Sprintf("org/m/%d.dat", size)] = pattern{1, size}.bytes()
	}
	d := start(t, "--hf-endpoint", "", "--local", writeTree(t, files))
	for _, size := range sizes {
		checkReads(t, d.path("org/m", fmt.Sprintf("%d.dat", size)), pattern{1, size})
	}
	if reads := field(d.control("status.json"), "mount", "reads"); reads != 0.0 {
		t.Errorf("the daemon received %v reads for files in place", reads)
	}
}

func TestHubModelIsFetchedWhileRead(t *testing.T) {
	t.Parallel()
	hub := hubtest.New(t)
	files := []hubtest.File{{Path: "m-Q4_K_M.gguf", Content: pattern{7, 30 << 20}.content(), LFS: true}}
	for _, size := range sizes {
		files = append(files,
			hubtest.File{Path: fmt.Sprintf("lfs/%d", size), Content: pattern{2, size}.content(), LFS: true},
			hubtest.File{Path: fmt.Sprintf("git/%d", min(size, 9<<20)), Content: pattern{3, min(size, 9<<20)}.content()})
	}
	hub.AddRepo(hubtest.Repo{ID: "org/m", Files: files})
	d := start(t, hubFlags(hub)...)
	for _, size := range sizes {
		checkReads(t, d.path("org/m/lfs", fmt.Sprint(size)), pattern{2, size})
		checkReads(t, d.path("org/m/git", fmt.Sprint(min(size, 9<<20))), pattern{3, min(size, 9<<20)})
	}
	checkReads(t, d.path("org/m/model.gguf"), pattern{7, 30 << 20})
}

func TestMissingNames(t *testing.T) {
	hub := hubtest.New(t)
	d := start(t, hubFlags(hub)...)
	for _, name := range []string{"none", "org/none", "gpt2", "x.gguf", ".hidden", "HEAD", "a/../../b"} {
		within(t, "looking up "+name, time.Second, func() {
			_, err := os.Stat(d.mount + "/" + name)
			wantErrno(t, name, err, syscall.ENOENT)
		})
	}
	got, err := os.ReadFile(d.path(".modelfs/explain/org/none.json"))
	if err != nil || !bytes.Contains(got, []byte("absent")) {
		t.Errorf("explain: %s, %v", got, err)
	}
	if err := os.WriteFile(d.path("x"), nil, 0o644); !errors.Is(err, syscall.EROFS) {
		t.Errorf("writing: %v", err)
	}
}
