//go:build vm

package integration

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// The main job: models on NFS, read in every way, by the kernel itself where
// it can, and nothing of them is stored.
func TestNFSIsReadInPlace(t *testing.T) {
	files := map[string][]byte{"org/m/config.json": []byte("{}"), "org/m/model.safetensors": []byte("weights")}
	for _, size := range sizes {
		files[fmt.Sprintf("org/m/%d.dat", size)] = pattern{1, size}.bytes()
	}
	nas := newNFS(t, files, nfsHard)
	for _, io := range []string{"passthrough", "daemon"} {
		t.Run(io, func(t *testing.T) {
			d := start(t, "--hf-endpoint", "", "--shared", nas.dir, "--shared-io", io)
			for _, size := range sizes {
				checkReads(t, d.path("org/m", fmt.Sprintf("%d.dat", size)), pattern{1, size})
			}
			byKernel := io == "passthrough" && hasPassthrough(t)
			if reads := d.number("mount", "reads"); (reads == 0) != byKernel {
				t.Errorf("modelfs received %d reads, with passthrough %v", reads, byKernel)
			}
			if supervised := d.number("supervisor") != 0; supervised != hasPassthrough(t) {
				t.Errorf("supervised: %v", supervised)
			}
			if kept := stored(t, d.cache); len(kept) > 0 {
				t.Errorf("stored: %v", kept)
			}
		})
	}
}

// Another machine replaces files of a share, or writes over them. This one's NFS
// client has looked at them just before, and believes what it saw then for
// seconds; an open sees what is there now. Who has a file open keeps it, whether
// he has read of it or not.
func TestNFSReplacedFile(t *testing.T) {
	const file = "/model.safetensors"
	models := []string{"held", "held-unread", "read", "looked-at", "rewritten"}
	before, after := pattern{1, 1 << 20}, pattern{2, 1 << 20}
	for _, io := range []string{"passthrough", "daemon"} {
		t.Run(io, func(t *testing.T) {
			files := map[string][]byte{}
			for _, m := range models {
				files[m+"/config.json"] = []byte("{}")
				files[m+file] = before.bytes()
			}
			nas := newNFS(t, files, nfsHard)
			d := start(t, "--hf-endpoint", "", "--shared", nas.dir, "--shared-io", io)
			for _, m := range []string{"held", "read", "rewritten"} {
				checkReads(t, d.path(m+file), before, "read")
			}
			held := []*os.File{openFile(t, d.path("held"+file)), openFile(t, d.path("held-unread"+file))}
			if _, err := held[0].ReadAt(make([]byte, 4096), 0); err != nil {
				t.Fatal(err)
			}
			for _, m := range models {
				nas.look(m + file)
				if m == "rewritten" {
					nas.write(m+file, after.bytes())
				} else {
					nas.replace(m+file, after.bytes())
				}
				checkReads(t, d.path(m+file), after, "read") // the very next open
			}
			dropCaches(t)
			for _, f := range held {
				if err := checkSequential(f, before.content()); err != nil {
					t.Errorf("a descriptor from before: %v", err)
				}
			}
			checkReads(t, d.path("held"+file), after)
		})
	}
}

// What a kernel lacks is said: at the start, and by doctor.
func TestVMWhatTheKernelLacks(t *testing.T) {
	tree := writeTree(t, map[string][]byte{"m/model.gguf": []byte("weights")})
	d := start(t, "--hf-endpoint", "", "--local", tree)
	out, _, code := modelfs(t, "doctor", "--hf-endpoint", "", "--local", tree, "--cache", tempDir(t, "cache"))
	if code != 0 {
		t.Errorf("doctor ended with %d\n%s", code, out)
	}
	for _, says := range []string{"and a crash of the server is seen by readers", "the kernel does not know passthrough"} {
		if strings.Contains(out, says) == hasPassthrough(t) {
			t.Errorf("doctor says:\n%s", out)
		}
	}
	lacks := "this kernel can't hand a mount over"
	if strings.Contains(d.stderr.String(), lacks) == hasPassthrough(t) || (d.number("supervisor") != 0) != hasPassthrough(t) {
		t.Errorf("the log says:\n%s", d.stderr)
	}
}
