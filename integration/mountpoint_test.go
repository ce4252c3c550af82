package integration

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A mount point that is a link is the directory that it leads to, for every
// command.
func TestAMountPointThatIsALink(t *testing.T) {
	dir := tempDir(t, "mnt")
	link := filepath.Join(t.TempDir(), "models")
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	d := startOn(t, link, tempDir(t, "cache"), "--hf-endpoint", "")
	if strings.Contains(d.stderr.String(), "read-ahead could not be raised") {
		t.Error("the read-ahead was not raised")
	}
	_, err := launch(t, link, tempDir(t, "cache"), "--hf-endpoint", "")
	if err == nil || !strings.Contains(err.Error(), "modelfs is mounted there already") {
		t.Errorf("a second one: %v", err)
	}
	if out, stderr, code := modelfs(t, "unmount", link); code != 0 {
		t.Errorf("unmount: %d, %s%s", code, out, stderr)
	}
	if isMounted(dir) {
		t.Error("it is still mounted")
	}
	<-d.exited
}

// What a start hides, or does not find, it says.
func TestWhatAStartWarnsOf(t *testing.T) {
	dir := tempDir(t, "mnt")
	writeFile(t, filepath.Join(dir, "mine.gguf"), []byte("x"))
	d := startOn(t, dir, tempDir(t, "cache"), "--hf-endpoint", "", "--local", "/nowhere", "--shared", "/nowhere-else")
	for _, want := range []string{
		`the mount point is not empty`, `such_as=mine.gguf`,
		`directory=/nowhere cause="stat /nowhere: no such file or directory"`,
		`directory=/nowhere-else cause="stat /nowhere-else: no such file or directory"`,
	} {
		if !strings.Contains(d.stderr.String(), want) {
			t.Errorf("the log does not say %q:\n%s", want, d.stderr)
		}
	}
}

func TestAMountThatWouldReadItselfIsRefused(t *testing.T) {
	dir := tempDir(t, "mnt")
	for _, flags := range [][]string{{"--local", dir}, {"--shared", dir + "/models"}, {"--cache", dir + "/cache"}, {"--local", filepath.Dir(dir)}} {
		out, stderr, code := modelfs(t, append([]string{"mount", "--hf-endpoint", "", "--cache", t.TempDir()}, append(flags, dir)...)...)
		if code != 2 || !strings.Contains(stderr, flags[0]+": "+flags[1]+" can't be used with the mount point "+dir) {
			t.Errorf("%v: %d, %s%s", flags, code, out, stderr)
		}
	}
	if isMounted(dir) {
		t.Error("it was mounted")
	}
}
