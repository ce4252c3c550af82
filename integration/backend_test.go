package integration

import (
	"fmt"
	iofs "io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"modelfs/internal/hubtest"
)

// mixedFiles are of a repository with something for everyone.
func mixedFiles() map[string]pattern {
	files := make(map[string]pattern)
	for i, name := range []string{"README.md", "config.json", "m-8B-Q4_K_M.gguf", "m-8B-Q8_0.gguf", "model.safetensors", "onnx/model.onnx",
		"model.metal.bin", "metal/model.bin", "metal/config.json", "model.directml.bin", "model.dml.bin", "model.cuda.bin"} {
		files[name] = pattern{uint64(50 + i), int64(20_000 + i)}
	}
	return files
}

const (
	forAll   = "README.md config.json metal/config.json"
	ggufs    = " m-8B-Q4_K_M.gguf m-8B-Q8_0.gguf"
	tensors  = " model.safetensors"
	onnx     = " onnx/model.onnx"
	metals   = " model.metal.bin metal/model.bin"
	directml = " model.directml.bin model.dml.bin"
)

// The directory shows what the backend can use; everything opens by name.
func TestDirectoryForABackend(t *testing.T) {
	t.Parallel()
	files := mixedFiles()
	for backend, want := range map[string]string{
		"cuda":     forAll + ggufs + tensors + onnx + " model.cuda.bin model.gguf",
		"metal":    forAll + ggufs + tensors + onnx + metals + " model.gguf",
		"directml": forAll + onnx + directml,
		"cpu":      forAll + ggufs + tensors + onnx + " model.gguf",
		"all":      forAll + ggufs + tensors + onnx + metals + directml + " model.cuda.bin model.gguf",
	} {
		t.Run(backend, func(t *testing.T) {
			hub := hubtest.New(t)
			repo := hubtest.Repo{ID: "org/mixed"}
			for name, p := range files {
				repo.Files = append(repo.Files, hubtest.File{Path: name, Content: p.content(), LFS: strings.HasSuffix(name, ".gguf")})
			}
			hub.AddRepo(repo)
			d := start(t, append(hubFlags(hub), "--backend", backend)...)
			wantShown(t, d.path("org/mixed"), want)
			for name, p := range files {
				checkReads(t, d.path("org/mixed", name), p, "read")
			}
			wantShown(t, d.path(".modelfs/all/org/mixed"), forAll+ggufs+tensors+onnx+metals+directml+" model.cuda.bin model.gguf")
			checkReads(t, d.path(".modelfs/all/org/mixed/model.metal.bin"), files["model.metal.bin"], "read")
			if got := fmt.Sprint(d.control("status.json")["backends"]); got != "["+backend+"]" {
				t.Errorf("status.json says %s", got)
			}
		})
	}
}

// A quantisation that is asked for is the only one that is listed.
func TestDirectoryOfAQuantisation(t *testing.T) {
	d := start(t, "--hf-endpoint", "", "--backend", "cpu", "--local", writeTree(t, map[string][]byte{
		"m/config.json": []byte("{}"), "m/m-Q4_K_M.gguf": []byte("four"), "m/m-Q8_0.gguf": []byte("eight"), "m/mmproj-F16.gguf": []byte("eyes")}))
	wantShown(t, d.path("m:Q8_0"), "config.json m-Q8_0.gguf mmproj-F16.gguf model.gguf")
	if to, err := os.Readlink(d.path("m:Q8_0/model.gguf")); err != nil || to != "m-Q8_0.gguf" {
		t.Errorf("model.gguf is %s, %v", to, err)
	}
	if _, err := os.Stat(d.path("m:Q8_0/m-Q4_K_M.gguf")); err != nil {
		t.Error(err)
	}
	wantShown(t, d.path(".modelfs/all/m:Q8_0"), "config.json m-Q4_K_M.gguf m-Q8_0.gguf mmproj-F16.gguf model.gguf")
}

// wantShown compares the files below a directory, separated by spaces.
func wantShown(t testing.TB, dir, want string) {
	t.Helper()
	got := []string{}
	err := filepath.WalkDir(dir, func(path string, e iofs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			got = append(got, strings.TrimPrefix(path, dir+"/"))
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	list := strings.Fields(want)
	slices.Sort(list)
	slices.Sort(got)
	if diff := cmp.Diff(list, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", dir, diff)
	}
}

// The root shows the models that run here; the others open by name, and
// .modelfs/all shows them.
func TestRootForABackend(t *testing.T) {
	tree := writeTree(t, map[string][]byte{
		"runs/model.gguf": []byte("x"), "apple/model.metal.bin": []byte("x"), "apple/config.json": []byte("{}"), "apple/mlx-4bit.npz": []byte("x"),
		"mlx-community/tiny-mlx-4bit/model.safetensors": []byte("x"), "mlx-community/tiny-mlx-4bit/config.json": []byte("{}"),
		"mixed/a/model.gguf": []byte("x"), "mixed/b-mlx-4bit/model.safetensors": []byte("x")})
	d := start(t, "--hf-endpoint", "", "--backend", "cuda", "--local", tree)
	if diff := cmp.Diff([]string{"mixed", "runs"}, without(shownIn(t, d.path()), "CACHEDIR.TAG", "apple")); diff != "" {
		t.Errorf("the root (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"a"}, shownIn(t, d.path("mixed"))); diff != "" {
		t.Errorf("the namespace (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"mixed", "mlx-community", "runs"}, without(shownIn(t, d.path(".modelfs/all")), "apple")); diff != "" {
		t.Errorf(".modelfs/all (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"all", "explain", "status.json"}, shownIn(t, d.path(".modelfs"))); diff != "" {
		t.Errorf(".modelfs (-want +got):\n%s", diff)
	}
	for _, name := range []string{"mlx-community/tiny-mlx-4bit", ".modelfs/all/mlx-community/tiny-mlx-4bit"} {
		wantShown(t, d.path(name), "config.json model.safetensors")
	}
	_, err := os.Stat(d.path(".modelfs/all/nobody"))
	wantErrno(t, "a name that nobody has", err, syscall.ENOENT)
	if text := jsonText(d.control("explain/mlx-community/tiny-mlx-4bit.json")); !strings.Contains(text, `"unlisted":true`) || !strings.Contains(text, "needs metal") {
		t.Errorf("explain does not say why: %s", text)
	}
}

func without(list []string, drop ...string) []string {
	return slices.DeleteFunc(list, func(s string) bool { return slices.Contains(drop, s) })
}

// The promises on a listing of 10,000 models, and what a machine that does
// something else besides is allowed: other tests and builds run on it.
const (
	manyModels  = 10_000
	firstLs     = 300 * time.Millisecond
	nextLs      = 50 * time.Millisecond
	longLs      = time.Second
	loadedLs    = 4 // times as long on a loaded machine
	attemptsLs  = 3 // the best of which counts, where the state allows to try again
	namespaces  = 50
	inNamespace = manyModels / 2 / namespaces
)

func TestTenThousandModels(t *testing.T) {
	tree := tempDir(t, "many")
	for i := range manyModels / 2 {
		writeFile(t, fmt.Sprintf("%s/m%05d/m-Q4_K_M.gguf", tree, i), []byte("x"))
		writeFile(t, fmt.Sprintf("%s/org%02d/m%05d/model.safetensors", tree, i/inNamespace, i), []byte("x"))
	}
	writeFile(t, filepath.Join(tree, "apple", "m-mlx-4bit", "model.safetensors"), []byte("x"))
	age(t, tree)
	d := start(t, "--hf-endpoint", "", "--backend", "cuda", "--local", tree)
	took := timedLs(t, "-1U", d.mount)
	t.Logf("first ls: %v", took)
	if took > firstLs*loadedLs+raceAllowance {
		t.Errorf("the first ls took %v, promised %v", took, firstLs)
	}
	eventually(t, "all is listed and decided", 20*time.Second, func() bool { // a busy machine's first look may outlast the lookup deadline
		list := shownIn(t, d.mount)
		return len(list) >= manyModels/2 && !slices.Contains(list, "apple")
	})
	for what, limit := range map[string]time.Duration{"-1U": nextLs, "-lU": longLs} {
		best := timedLs(t, what, d.mount)
		for range attemptsLs - 1 {
			best = min(best, timedLs(t, what, d.mount))
		}
		t.Logf("ls %s: %v", what, best)
		if best > limit*loadedLs+raceAllowance {
			t.Errorf("ls %s took %v, promised %v", what, best, limit)
		}
	}
	if n := len(shownIn(t, d.mount)); n != manyModels/2+namespaces {
		t.Errorf("%d names are listed, want %d", n, manyModels/2+namespaces)
	}
	writeFile(t, filepath.Join(tree, "new", "model.gguf"), []byte("x"))
	writeFile(t, filepath.Join(tree, "new-mlx-4bit", "model.safetensors"), []byte("x"))
	if err := os.RemoveAll(filepath.Join(tree, "m00000")); err != nil {
		t.Fatal(err)
	}
	list := shownIn(t, d.mount)
	for name, want := range map[string]bool{"new": true, "m00000": false, "m00001": true} {
		if slices.Contains(list, name) != want {
			t.Errorf("after a change the next listing has %s: %v, want %v", name, !want, want)
		}
	}
	// What is not decided in a listing's time is shown, and left out once it is.
	eventually(t, "what can't run here is left out", 10*time.Second, func() bool { return !slices.Contains(shownIn(t, d.mount), "new-mlx-4bit") })
}

// age makes directories look as if they had changed long ago: what has just
// changed is read again each time, because another change might not show.
func age(t testing.TB, dir string) {
	t.Helper()
	old := time.Now().Add(-time.Hour)
	err := filepath.WalkDir(dir, func(path string, e iofs.DirEntry, err error) error {
		if err != nil || !e.IsDir() {
			return err
		}
		return os.Chtimes(path, old, old)
	})
	if err != nil {
		t.Fatal(err)
	}
}

func timedLs(t testing.TB, how, dir string) time.Duration {
	t.Helper()
	cmd := exec.Command("ls", how, dir)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	began := time.Now()
	if err := cmd.Run(); err != nil {
		t.Error(err)
	}
	return time.Since(began)
}

// inContainer starts what comes after it where sysfs shows a GPU and /dev has
// nodes of it that no driver answers.
const inContainer = `#!/bin/sh
exec unshare -m sh -e -c '
mount -t tmpfs none /sys/bus/pci/devices
mkdir /sys/bus/pci/devices/0000:01:00.0
echo 0x10de > /sys/bus/pci/devices/0000:01:00.0/vendor
echo 0x030200 > /sys/bus/pci/devices/0000:01:00.0/class
dev=$(mktemp -d)
mount -t tmpfs none "$dev"
cp -a /dev/fuse /dev/null /dev/urandom "$dev"
mknod "$dev/nvidia0" c 195 0
mknod "$dev/nvidiactl" c 195 255
mount --bind "$dev" /dev
exec "$0" "$@"' %s "$@"
`

// What sysfs shows is the host's hardware; without a device node that opens
// this is a machine without a GPU.
func TestContainerWithoutItsGPU(t *testing.T) {
	t.Parallel()
	wrapped := filepath.Join(tempDir(t, "bin"), "modelfs")
	writeExecutable(t, wrapped, fmt.Appendf(nil, inContainer, binary))
	d, err := launchBinary(t, wrapped, tempDir(t, "mnt"), tempDir(t, "cache"), "--hf-endpoint", "")
	if err != nil {
		t.Fatal(err)
	}
	log := d.stderr.String()
	doctor := command(wrapped, "doctor", "--hf-endpoint", "", "--cache", tempDir(t, "cache"))
	doctor.Env = cleanEnv(t)
	out, _ := doctor.Output() // it may find other things that are wrong
	for what, text := range map[string]string{"the log": log, "doctor": string(out)} {
		wantIn(t, what, text, "no device of a GPU or an accelerator opens", "PCI device 0000:01:00.0 is there", "/dev/nvidia0: no such device or address")
	}
	wantIn(t, "the log", log, "backend=cpu")
	if strings.Contains(log, `"listings are for this backend" backend=cuda`) {
		t.Error("a GPU that can't be used counts")
	}
}
