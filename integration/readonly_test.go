package integration

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"modelfs/internal/hubtest"
)

func TestWhateverWritesIsRefused(t *testing.T) {
	hub := hubtest.New(t)
	hub.AddRepo(hubRepo("org/m", pattern{1, 70_000}))
	tree := writeTree(t, map[string][]byte{"on-disk/config.json": []byte("{}"), "on-disk/model.safetensors": []byte("weights")})
	d := start(t, append(hubFlags(hub), "--local", tree)...)
	elsewhere := filepath.Join(tempDir(t, "other"), "x")
	writeFile(t, elsewhere, []byte("x"))
	for _, file := range []string{d.path("org/m/config.json"), d.path("on-disk/model.safetensors"), d.path("org/m/model.gguf"), d.path(".modelfs/status.json")} {
		if _, err := os.Stat(file); err != nil {
			t.Fatal(err)
		}
		dir := filepath.Dir(file)
		for what, err := range map[string]error{
			"open for writing":  opening(file, unix.O_WRONLY),
			"open for both":     opening(file, unix.O_RDWR),
			"open and truncate": opening(file, unix.O_WRONLY|unix.O_TRUNC),
			"create":            opening(dir+"/new", unix.O_WRONLY|unix.O_CREAT),
			"create for reader": opening(dir+"/new", unix.O_RDONLY|unix.O_CREAT),
			"truncate":          unix.Truncate(file, 0),
			"unlink":            unix.Unlink(file),
			"rename":            unix.Rename(file, dir+"/other"),
			"rename over":       unix.Rename(file, dir+"/config.json"),
			"mkdir":             unix.Mkdir(dir+"/new", 0o755),
			"rmdir":             unix.Rmdir(dir),
			"symlink":           unix.Symlink("x", dir+"/new"),
			"link":              unix.Link(file, dir+"/new"),
			"mknod":             unix.Mknod(dir+"/new", unix.S_IFIFO|0o644, 0),
			"chmod":             unix.Chmod(file, 0o666),
			"chown":             unix.Chown(file, 1, 1),
			"utimes":            unix.Utimes(file, make([]unix.Timeval, 2)),
			"setxattr":          unix.Setxattr(file, "user.x", []byte("y"), 0),
		} {
			wantErrno(t, what+" "+file, err, unix.EROFS)
		}
	}
	wantErrno(t, "create in the root", opening(d.path("new"), unix.O_WRONLY|unix.O_CREAT), unix.EROFS)
	wantErrno(t, "mkdir in the root", unix.Mkdir(d.path("new"), 0o755), unix.EROFS)
	wantErrno(t, "removing a model", unix.Rmdir(d.path("org/m")), unix.EROFS)
	wantErrno(t, "renaming a model", unix.Rename(d.path("org/m"), d.path("org/n")), unix.EROFS)
	if err := unix.Rename(elsewhere, d.path("x")); err != unix.EXDEV && err != unix.EROFS {
		t.Errorf("moving something in: %v", err)
	}
	if got, err := os.ReadFile(filepath.Join(tree, "on-disk/model.safetensors")); err != nil || string(got) != "weights" {
		t.Errorf("the tree's file is %q, %v", got, err)
	}
}

func opening(path string, flags int) error {
	fd, err := unix.Open(path, flags|unix.O_CLOEXEC, 0o644)
	if err == nil {
		_ = unix.Close(fd)
	}
	return err
}

func TestStatfs(t *testing.T) {
	d := start(t, "--hf-endpoint", "")
	var shown, below unix.Statfs_t
	if err := unix.Statfs(d.mount, &shown); err != nil {
		t.Fatal(err)
	}
	if err := unix.Statfs(d.cache, &below); err != nil {
		t.Fatal(err)
	}
	if shown.Type != unix.FUSE_SUPER_MAGIC || shown.Namelen != 255 || shown.Flags&unix.ST_RDONLY == 0 {
		t.Errorf("statfs says type %x, names of %d, flags %x", shown.Type, shown.Namelen, shown.Flags)
	}
	if shown.Bsize <= 0 || shown.Frsize <= 0 || shown.Blocks*uint64(shown.Frsize) != below.Blocks*uint64(below.Frsize) {
		t.Errorf("statfs says %d blocks of %d, the backing dir has %d of %d", shown.Blocks, shown.Frsize, below.Blocks, below.Frsize)
	}
	if shown.Flags&(unix.ST_NOSUID|unix.ST_NODEV) != unix.ST_NOSUID|unix.ST_NODEV {
		t.Errorf("mounted with flags %x", shown.Flags)
	}
}
