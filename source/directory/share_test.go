package directory

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"modelfs/internal/model"
)

// hungShare mounts a FUSE filesystem that answers nothing, until the test ends,
// on a directory. What got stuck in it is let go then, and waited for.
func hungShare(t *testing.T, dir string) *stuckable {
	t.Helper()
	must(t, os.MkdirAll(dir, 0o755))
	fd, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	must(t, err)
	s := &stuckable{t: t}
	t.Cleanup(func() {
		unix.Close(fd) // ends every call
		s.calls.Wait()
		must(t, unix.Unmount(dir, unix.MNT_DETACH))
	})
	must(t, unix.Mount("hung", dir, "fuse", 0, fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0", fd)))
	return s
}

// stuckable makes calls that may get stuck in a share.
type stuckable struct {
	t     *testing.T
	calls sync.WaitGroup
}

// answered is far above what a call takes that waits for nobody.
const answered = 10 * time.Second

// call makes a call; the test ends here if it gets stuck.
func (s *stuckable) call(what string, f func()) {
	s.t.Helper()
	done := make(chan struct{})
	s.calls.Go(func() { defer close(done); f() })
	select {
	case <-done:
	case <-time.After(answered):
		s.t.Fatalf("%s is stuck in the share", what)
	}
}

// outcomes is what a source says of names.
func (s *stuckable) outcomes(from *Source, names ...string) map[string]string {
	s.t.Helper()
	got := make(map[string]string)
	for _, n := range names {
		s.call("looking up "+n, func() { got[n] = outcome(from.Find(context.Background(), parse(s.t, n))) })
	}
	return got
}

func (s *stuckable) names(from *Source) []string {
	s.t.Helper()
	var got []string
	s.call("listing the tree", func() {
		found, err := from.Names(context.Background())
		if err != nil {
			s.t.Error(err)
		}
		for _, f := range found {
			got = append(got, f.Name)
		}
	})
	return got
}

// A local tree leaves network filesystems alone, wherever its links lead and
// whatever they are trusted to: what hangs there holds up nobody.
func TestALinkToAShareThatHangs(t *testing.T) {
	outside := t.TempDir()
	share := filepath.Join(outside, "share")
	root := plant(t, map[string]string{
		"here/model.gguf": "weights", "org/m/model.gguf": "weights", "back/model.gguf": "->$ROOT/here/model.gguf",
		"out":           "->" + outside + "/disk/m",
		"away":          "->" + share + "/m",
		"mountpoint":    "->" + share,
		"org/away":      "->" + share + "/m",
		"via":           "->" + outside + "/disk/link",
		"up":            "->" + up(outside) + "/share/m",
		"half/f.gguf":   "->" + share + "/f.gguf",
		"half/f-2.gguf": "weights",
		"loose.gguf":    "->" + share + "/f.gguf",
	})
	put(t, outside, "disk/m/model.gguf", "weights")
	put(t, outside, "disk/link", "->"+share+"/m")
	for name, trust := range map[string][]string{
		"untrusted": {outside + "/disk"}, "trusted": {share, outside + "/disk"}, "below what is trusted": {outside},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := New(Config{Root: root, Kind: model.Local, Trust: trust})
			must(t, err)
			t.Cleanup(s.Close)
			hung := hungShare(t, share)
			if d := cmp.Diff([]string{"back", "half", "here", "org/m", "out"}, hung.names(s)); d != "" {
				t.Error(d)
			}
			want := map[string]string{"here": "model here", "org/m": "model org/m", "back": "model back", "out": "model out", "half": "model half",
				"away": "not found", "mountpoint": "not found", "org/away": "not found", "via": "not found", "up": "not found",
				"loose": "not found", "loose.gguf": "not found", "mountpoint/m": "not found", "absent": "not found"}
			var asked []string
			for n := range want {
				asked = append(asked, n)
			}
			if d := cmp.Diff(want, hung.outcomes(s, asked...)); d != "" {
				t.Error(d)
			}
			var files []string
			hung.call("listing a model", func() { files = paths(list(t, s, "half")) })
			if d := cmp.Diff([]string{"f-2.gguf"}, files); d != "" {
				t.Error(d)
			}
			if p := s.At(share + "/f.gguf"); p != nil {
				hung.call("a file that was there", func() { _, err = p.Stat(context.Background()) })
				if !model.IsKind(err, model.NotFound) {
					t.Error(err)
				}
			}
		})
	}
}

// up is a relative way from a directory below any other to dir.
func up(dir string) string { return "../../../../../../../../../../../.." + dir }

// What is remembered of a directory is not asked of a share that has come in its
// place: by a link, or mounted over it.
func TestAShareThatHangsInThePlaceOfADirectory(t *testing.T) {
	share := filepath.Join(t.TempDir(), "share")
	root := plant(t, map[string]string{"here/model.gguf": "w", "top/model.gguf": "w", "org/m/model.gguf": "w", "team/m/model.gguf": "w", "mounted/m/model.gguf": "w", "mounted/file.txt": "t"})
	age(t, root)
	s := local(t, root)
	if _, err := s.Names(context.Background()); err != nil {
		t.Fatal(err)
	}
	m := list(t, s, "mounted/m")
	hung := hungShare(t, share)
	for _, n := range []string{"top", "org", "team/m"} {
		p := filepath.Join(root, n)
		must(t, os.RemoveAll(p))
		must(t, os.Symlink(share, p))
	}
	over := hungShare(t, filepath.Join(root, "mounted"))
	if d := cmp.Diff([]string{"here"}, hung.names(s)); d != "" {
		t.Error(d)
	}
	want := map[string]string{"here": "model here", "top": "not found", "org": "not found", "org/m": "not found", "team/m": "not found", "mounted/m": "not found"}
	if d := cmp.Diff(want, over.outcomes(s, "here", "top", "org", "org/m", "team/m", "mounted/m")); d != "" {
		t.Error(d)
	}
	over.call("a file that was listed", func() {
		if _, err := m.Files[0].Place.Stat(context.Background()); !model.IsKind(err, model.NotFound) {
			t.Error(err)
		}
	})
}
