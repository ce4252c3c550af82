//go:build clients

package integration

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"modelfs/internal/hubtest"
)

// Stores that the tools' own code writes, and engines that load models through
// the mount. The programs are installed by scripts/clients.sh into the
// directory that MODELFS_CLIENTS names.

// client is a program of the clients' directory, or "node", with a script of
// testdata/clients as its first argument where it is an interpreter.
func client(t testing.TB, program string, args ...string) *exec.Cmd {
	t.Helper()
	dir := os.Getenv("MODELFS_CLIENTS")
	if dir == "" {
		t.Fatal("MODELFS_CLIENTS is not set: run scripts/clients.sh DIR and set it to DIR")
	}
	if program != "node" {
		program = filepath.Join(dir, program)
	}
	if len(args) > 0 && (strings.HasSuffix(args[0], ".py") || strings.HasSuffix(args[0], ".mjs")) {
		args[0] = "testdata/clients/" + args[0]
	}
	cmd := command(program, args...)
	local := "127.0.0.1,127.0.0.2"
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "MODELFS_CLIENTS=" + dir, "NO_PROXY=" + local, "no_proxy=" + local}
	return cmd
}

// said runs a client and returns what it printed.
func said(t testing.TB, cmd *exec.Cmd) string {
	t.Helper()
	var errs strings.Builder
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s%s", cmd, err, out, tail(errs.String()))
	}
	return strings.TrimSpace(string(out))
}

const (
	python = "py/bin/python"
	writer = "bin/stores"
)

// killedWhen runs a client and kills it as soon as what holds.
func killedWhen(t testing.TB, what string, cmd *exec.Cmd, holds func() bool) {
	t.Helper()
	b := inBackground(t, cmd)
	eventually(t, what, 60*time.Second, func() bool {
		if !b.running() {
			t.Fatalf("%s: it ended before, %v\n%s", what, b.err, b.out)
		}
		return holds()
	})
	if err := b.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = b.ends(t, "killed", 10*time.Second)
}

// tiny is a directory with models that the engines' own libraries wrote.
func tiny(t testing.TB) string {
	t.Helper()
	dir := tempDir(t, "tiny")
	said(t, client(t, python, "tiny.py", dir))
	return dir
}

// repoOf is a Hub repository of the files in a directory.
func repoOf(t testing.TB, id, dir string) hubtest.Repo {
	t.Helper()
	repo := hubtest.Repo{ID: id}
	for _, f := range files(t, dir) {
		data := readAll(t, filepath.Join(dir, f))
		repo.Files = append(repo.Files, hubtest.File{Path: f, Content: hubtest.Bytes(data), LFS: filepath.Ext(f) != ".json"})
	}
	return repo
}

func readAll(t testing.TB, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// computed is what an engine makes of a model.
func computed(t testing.TB, kind, path string) any {
	t.Helper()
	out := said(t, client(t, python, "engine.py", kind, path))
	var v struct{ Result any }
	if err := json.Unmarshal([]byte(out[strings.LastIndexByte(out, '\n')+1:]), &v); err != nil || v.Result == nil {
		t.Fatalf("the engine said %q, %v", tail(out), err)
	}
	return v.Result
}

// Engines load models through the mount, cold from a Hub and warm from the
// backing dir, and compute what they compute from a plain directory. Warm, the
// daemon sees no read.
func TestRealEngines(t *testing.T) {
	plain := tiny(t)
	loose := filepath.Join(plain, "gguf")
	writeFile(t, filepath.Join(loose, "tiny-F32.gguf"), readAll(t, filepath.Join(plain, "tiny-F32.gguf")))
	for _, e := range []struct{ kind, dir, file string }{
		{"llama", "gguf", "tiny-F32.gguf"}, {"llama", "gguf", "model.gguf"}, {"safetensors", "sharded", ""}, {"onnx", "onnx", ""},
	} {
		t.Run(e.kind+" "+e.file, func(t *testing.T) {
			hub, repo := hubtest.New(t), repoOf(t, "acme/tiny", filepath.Join(plain, e.dir))
			hub.AddRepo(repo)
			d := start(t, append(hubFlags(hub), "--backend", "all")...)
			in := e.file
			if in == "model.gguf" {
				in = "tiny-F32.gguf"
			}
			want := computed(t, e.kind, filepath.Join(plain, e.dir, in))
			if diff := cmp.Diff(want, computed(t, e.kind, d.path("acme/tiny", e.file))); diff != "" {
				t.Errorf("cold (-plain +mount):\n%s", diff)
			}
			if d.number("mount", "reads") == 0 {
				t.Error("the daemon received no read of a cold model")
			}
			for _, f := range repo.Files {
				if f.LFS {
					d.completes("acme/tiny", f.Path)
				}
			}
			inPlace(t, d, func() {
				if diff := cmp.Diff(want, computed(t, e.kind, d.path("acme/tiny", e.file))); diff != "" {
					t.Errorf("warm (-plain +mount):\n%s", diff)
				}
			})
			hub.SentAtMost(t, "acme/tiny/"+repo.Files[len(repo.Files)-1].Path, 1)
		})
	}
}

// inPlace fails if the daemon receives a read while f runs, but for the one of
// status.json that says how many there were before.
func inPlace(t testing.TB, d *daemon, f func()) {
	t.Helper()
	before := d.number("mount", "reads")
	f()
	if n := d.number("mount", "reads") - before - 1; n != 0 {
		t.Errorf("the daemon received %d reads for files in place", n)
	}
}

// checkSame reads a file of the mount and compares it.
func checkSame(t testing.TB, path string, want []byte) {
	t.Helper()
	if got := readAll(t, path); sha256Of(got) != sha256Of(want) {
		t.Errorf("%s has other bytes: %d of %d", path, len(got), len(want))
	}
}

// checkShown fails unless a directory shows exactly these names.
func checkShown(t testing.TB, dir string, want ...string) {
	t.Helper()
	slices.Sort(want)
	if diff := cmp.Diff(want, shownIn(t, dir)); diff != "" {
		t.Errorf("%s shows (-want +got):\n%s", dir, diff)
	}
}
