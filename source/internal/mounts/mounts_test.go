package mounts

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"modelfs/internal/leaktest"
	"modelfs/internal/mountinfo"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestRemote(t *testing.T) {
	list, err := mountinfo.Parse(strings.NewReader("22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw\n" +
		"30 22 0:30 / /mnt/my\\040share rw - nfs4 srv:/x rw\n31 22 0:31 / /m rw master:1 - fuse.modelfs modelfs rw\n" +
		"33 22 0:33 / /auto rw - autofs systemd-1 rw\n34 33 8:1 / /auto rw - ext4 /dev/sda1 rw\n"))
	must(t, err)
	m := of(list)
	for p, want := range map[string]string{"/home": "", "/mnt/my share/x": "nfs4", "/mnt/my sharex": "", "/m": "fuse.modelfs", "/m/a/b": "fuse.modelfs", "/": "", "/auto/x": ""} {
		if _, got := m.Remote(p); got != want {
			t.Errorf("Remote(%q) = %q, want %q", p, got, want)
		}
	}
	for _, p := range []string{"(unreachable)/m", "m", "."} { // where the kernel knows no path from the root
		if point, kind := m.Remote(p); kind != "" || len(m.RemoteBelow(p)) > 0 {
			t.Errorf("Remote(%q) = %q, %q", p, point, kind)
		}
	}
	if point, _ := m.Remote("/m/a/b"); point != "/m" {
		t.Errorf("mounted at %q", point)
	}
	for p, want := range map[string][]string{"/": {"/m", "/mnt/my share"}, "/mnt": {"/mnt/my share"}, "/m": nil, "/mnt/my share": nil, "/home": nil, "/auto": nil} {
		if got := m.RemoteBelow(p); !slices.Equal(got, want) {
			t.Errorf("RemoteBelow(%q) = %v", p, got)
		}
	}
	far := New(map[string]string{"/": "virtiofs", "/mnt/nas": "nfs4", "/mnt/disk": "xfs"})
	for p, want := range map[string][]string{"/": {"/mnt/nas"}, "/mnt/disk": nil, "/a": nil} {
		if got := far.RemoteBelow(p); !slices.Equal(got, want) {
			t.Errorf("a root that is far itself: RemoteBelow(%q) = %v", p, got)
		}
	}
}

// A path is followed up to where a network filesystem begins, and no further.
func TestFollow(t *testing.T) {
	root, err := filepath.EvalSymlinks(t.TempDir())
	must(t, err)
	must(t, os.MkdirAll(filepath.Join(root, "dir/sub"), 0o755))
	for link, target := range map[string]string{"abs": root + "/dir", "rel": "dir/sub", "back": "rel/../../abs", "loop": "loop", "away": root + "/net/x", "deep": "away/y", "up": "dir/../net", "gone": "none"} {
		must(t, os.Symlink(target, filepath.Join(root, link)))
	}
	m := New(map[string]string{"/": "ext4", root + "/net": "nfs4"}) // there is nothing at net: whoever looks gets ENOENT
	for rel, want := range map[string]string{
		"dir": "dir", "abs/sub": "dir/sub", "rel": "dir/sub", "back": "dir", "dir/../abs/./sub": "dir/sub", "": "", ".": "",
		"away": "nfs4 net/x", "deep/z": "nfs4 net/x/y/z", "up": "nfs4 net", "net": "nfs4 net", "net/../dir": "nfs4 dir",
		"loop": syscall.ELOOP.Error(), "gone": syscall.ENOENT.Error(), "none": syscall.ENOENT.Error(),
	} {
		got, err := m.Follow(root, rel, "")
		var far *RemoteError
		var errno syscall.Errno
		switch {
		case errors.As(err, &far):
			got = far.Type + " " + strings.TrimPrefix(far.Path, root+"/")
			if !errors.Is(err, unix.EXDEV) || far.Point != root+"/net" {
				t.Errorf("%s: %v, mounted at %s", rel, err, far.Point)
			}
		case errors.As(err, &errno):
			got = errno.Error()
		default:
			got = strings.TrimPrefix(strings.TrimPrefix(got, root), "/")
		}
		if got != want {
			t.Errorf("Follow(%q) = %q, %v, want %q", rel, got, err, want)
		}
	}
	if _, err := m.Follow(root, "away", root+"/net"); !errors.Is(err, unix.ENOENT) {
		t.Errorf("the network filesystem that the tree is on was not looked at: %v", err)
	}
	// A tree that is put below automounts, or on the disk of a machine with a far root.
	nested := New(map[string]string{"/": "virtiofs", filepath.Dir(root): "autofs", root: "ext4", root + "/net": "nfs4", root + "/dir": "nfs4"})
	for rel, want := range map[string]bool{"rel/sub": false, "gone": true, "": true, "abs": false} {
		if _, err := nested.Follow(root, rel, root); errors.As(err, new(*RemoteError)) == want {
			t.Errorf("Follow(%q) with home: %v", rel, err)
		}
	}
	if got, err := nested.Follow(root, "abs/sub", root+"/dir"); got != root+"/dir/sub" || err != nil {
		t.Errorf("an absolute link back into the tree leads to %q, %v", got, err)
	}
}

// Whoever asks after a mount was made or taken away is told of it, also if others
// ask at the same time; nothing is read again where nothing has changed.
func TestCurrent(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	must(t, err)
	if Current().types["/"] == "" {
		t.Fatal("this machine has no root filesystem")
	}
	for range 20 {
		must(t, unix.Mount("none", dir, "tmpfs", 0, ""))
		everybodySees(t, dir, "tmpfs")
		must(t, unix.Unmount(dir, 0))
		everybodySees(t, dir, "")
	}
}

func everybodySees(t *testing.T, dir, want string) {
	t.Helper()
	var asking sync.WaitGroup
	for range 8 {
		asking.Go(func() {
			if got := Current().types[dir]; got != want {
				t.Errorf("the table has %q at the mount point, want %q", got, want)
			}
		})
	}
	asking.Wait()
}

// The table is read once for each change, and not for each question.
func TestCurrentIsRemembered(t *testing.T) {
	w := &watch{}
	defer func() { must(t, unix.Close(w.fd)) }()
	read := make(map[*Table]bool)
	for range 1000 {
		read[w.table()] = true
	}
	if uint64(len(read)) > w.changes+1 {
		t.Errorf("the table was read %d times, with %d changes", len(read), w.changes)
	}
}

func FuzzRemote(f *testing.F) {
	f.Add("22 1 254:0 / / rw - ext4 /dev/vda rw\n", "/x/y")
	f.Add("1 2 0:3 / /a\\040b ro - fuse.x", "/a b")
	f.Fuzz(func(_ *testing.T, table, path string) {
		if list, err := mountinfo.Parse(strings.NewReader(table)); err == nil && filepath.IsAbs(path) {
			m := of(list)
			m.Remote(filepath.Clean(path))
			m.RemoteBelow(filepath.Clean(path))
		}
	})
}
