package integration

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A file of a share is replaced, or written over, while it is open; with
// passthrough below and, on a stacked filesystem, without.
func TestAShareThatChangesIsSeenByTheNextOpen(t *testing.T) {
	t.Parallel()
	for name, behind := range map[string]bool{"on a disk": false, "on another FUSE": true} {
		t.Run(name, func(t *testing.T) {
			tree := writeTree(t, map[string][]byte{"org/m/config.json": []byte("{}"), "org/m/model.safetensors": pattern{1, 300_000}.bytes()})
			root := tree
			if behind {
				root = newShare(t, tree).dir
			}
			d := start(t, "--hf-endpoint", "", "--shared", root)
			file, shown := filepath.Join(tree, "org/m/model.safetensors"), d.path("org/m/model.safetensors")
			checkReads(t, shown, pattern{1, 300_000})
			old := openFile(t, shown)

			writeFile(t, file+".new", pattern{2, 400_001}.bytes())
			if err := os.Rename(file+".new", file); err != nil {
				t.Fatal(err)
			}
			checkReads(t, shown, pattern{2, 400_001}) // the very next open
			if err := checkSequential(old, pattern{1, 300_000}.content()); err != nil {
				t.Errorf("the old descriptor: %v", err)
			}

			writeFile(t, file, pattern{3, 100_002}.bytes()) // in place, shorter
			checkReads(t, shown, pattern{3, 100_002})
			writeFile(t, file, pattern{4, 100_002}.bytes()) // in place, the same length
			checkReads(t, shown, pattern{4, 100_002})
			writeFile(t, file, pattern{5, 500_003}.bytes()) // in place, longer
			checkReads(t, shown, pattern{5, 500_003})
		})
	}
}

// openFile opens a file of the mount for reading with read(2) only.
func openFile(t testing.TB, path string) *os.File {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// Many replacements in a row: no open may ever see a mixture, or the one
// before the last.
func TestEveryReplacementIsSeen(t *testing.T) {
	t.Parallel()
	tree := writeTree(t, map[string][]byte{"m/config.json": []byte("{}"), "m/model.safetensors": []byte("version 000")})
	d := start(t, "--hf-endpoint", "", "--shared", tree)
	file := filepath.Join(tree, "m/model.safetensors")
	for i := range 200 {
		want := "version " + string([]byte{'0' + byte(i/100), '0' + byte(i/10%10), '0' + byte(i%10)})
		writeFile(t, file+".tmp", []byte(want))
		if err := os.Rename(file+".tmp", file); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(d.path("m/model.safetensors")); err != nil || string(got) != want {
			t.Fatalf("after replacement %d the next open read %q, %v", i, got, err)
		}
	}
}

func TestAModelThatIsCopiedInOrRemovedIsSeen(t *testing.T) {
	t.Parallel()
	tree := tempDir(t, "tree")
	d := start(t, "--hf-endpoint", "", "--shared", tree)
	wantProbe(t, d.path("m"), unix.ENOENT)
	writeFile(t, filepath.Join(tree, "m/config.json"), []byte("{}"))
	writeFile(t, filepath.Join(tree, "m/model.safetensors"), pattern{1, 5000}.bytes())
	checkReads(t, d.path("m/model.safetensors"), pattern{1, 5000})
	if err := os.RemoveAll(filepath.Join(tree, "m")); err != nil {
		t.Fatal(err)
	}
	wantProbe(t, d.path("m/model.safetensors"), unix.ENOENT)
	eventually(t, "the directory, which the kernel may keep for a second, is gone", 5*time.Second, func() bool {
		_, err := os.Stat(d.path("m"))
		return errors.Is(err, unix.ENOENT)
	})
}
