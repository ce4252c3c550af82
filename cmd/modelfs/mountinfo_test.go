package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"modelfs/internal/mountinfo"
)

const mountTable = `21 1 254:0 / / rw,relatime shared:1 - ext4 /dev/root rw
30 21 0:25 / /models ro,nosuid,nodev shared:7 master:2 - fuse.modelfs modelfs ro,user_id=0
31 21 0:26 / /with\040space\134and\011tab ro - fuse.modelfs modelfs ro
32 21 0:27 / /covered ro - fuse.modelfs modelfs ro
33 32 0:28 / /covered rw - tmpfs tmpfs rw
34 21 0:29 / /dead ro - fuse.modelfs modelfs ro
35 34 0:30 / /dead ro - fuse.modelfs modelfs ro
36 21 0:31 / /other ro - fuse.sshfs host: ro
`

func TestModelfsMounts(t *testing.T) {
	list, err := mountinfo.Parse(strings.NewReader(mountTable))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"/models", "/with space\\and\ttab", "/dead"}
	if diff := cmp.Diff(want, modelfsMounts(list)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// The last segment may be a dead mount: it must not be looked at.
func TestMountPath(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{os.Mkdir(dir+"/real", 0o700), os.Symlink("real", dir+"/link"),
		os.Symlink(dir+"/link", dir+"/real/far"), os.Symlink("round", dir+"/round")} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for in, want := range map[string]string{
		dir + "/real/x":     dir + "/real/x",
		dir + "/link/x":     dir + "/real/x",
		dir + "/link/./x/":  dir + "/real/x",
		dir + "/link/../x":  dir + "/x",
		dir + "/missing":    dir + "/missing",
		dir + "/link":       dir + "/real",
		dir + "/real/far":   dir + "/real",
		dir + "/round":      "",
		"":                  "",
		"/":                 "/",
		dir + "/missing/x/": "",
	} {
		got, err := mountPath(in)
		if got != want || (err != nil) != (want == "") {
			t.Errorf("mountPath(%q) = %q, %v, want %q", in, got, err, want)
		}
	}
}
