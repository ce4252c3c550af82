package doctor

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"modelfs/internal/leaktest"
	"modelfs/internal/model"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

// wantLine fails unless the line has the level and says all of that; what is
// not in order must say what to do.
func wantLine(t *testing.T, what string, l Line, level Level, says ...string) {
	t.Helper()
	if l.Level != level || l.Thing == "" || level == Problem && l.Next == "" {
		t.Errorf("%s: %+v, want %s", what, l, level)
	}
	for _, s := range says {
		if !strings.Contains(l.Found+" -> "+l.Next, s) {
			t.Errorf("%s: no %q in %+v", what, s, l)
		}
	}
}

func TestRights(t *testing.T) {
	const admin = 1 << capSysAdmin
	for _, tt := range []struct {
		what       string
		root       bool
		caps       uint64
		fusermount bool
		level      Level
		says       string
	}{
		{"root", true, admin, false, OK, "CAP_SYS_ADMIN"},
		{"root of a container", true, 0xa80425fb, true, Problem, "--cap-add SYS_ADMIN"},
		{"a user", false, 0, true, Warning, "not read by the kernel itself"},
		{"a user without the helper", false, 0, false, Problem, "install fuse3"},
	} {
		wantLine(t, tt.what, rights(tt.root, tt.caps, tt.fusermount), tt.level, tt.says)
	}
}

func TestEffective(t *testing.T) {
	for status, want := range map[string]uint64{
		"CapPrm:\t00ff\nCapEff:\t0000000000200000\nCapBnd:\t1\n": 1 << capSysAdmin, "": 0, "CapEff:\tx\n": 0,
	} {
		if got := effective(status); got != want {
			t.Errorf("%q: %#x", status, got)
		}
	}
}

func TestKernel(t *testing.T) {
	for release, level := range map[string]Level{
		"6.18.44-fc": OK, "6.9.0": OK, "7.0-rc1": OK, "6.8.12-generic": Warning, "5.15.0-1": Warning, "4.18.0-553.el8": Warning,
		"4.17.1": Problem, "3.10.0-1160": Problem, "strange": Warning,
	} {
		wantLine(t, release, kernel(release), level, release)
	}
}

func TestTrialLines(t *testing.T) {
	lines := Trial{Err: errors.New("no such device")}.Lines()
	if len(lines) != 1 {
		t.Fatalf("%+v", lines)
	}
	wantLine(t, "failed", lines[0], Problem, "no such device")
	lines = Trial{Native: true, ReadAhead: 8192, Where: "/c"}.Lines()
	for _, l := range lines {
		wantLine(t, "good", l, OK)
	}
	if len(lines) != 3 {
		t.Errorf("%+v", lines)
	}
	lines = Trial{Where: "/c", Causes: []string{"EPERM"}, ReadAhead: 128}.Lines()
	wantLine(t, "served", lines[1], Warning, "EPERM", "/c")
	// The entries of /sys/class/bdi are links to there, so binding those alone helps nobody.
	wantLine(t, "small read-ahead", lines[2], Warning, "128 KiB", "source=/sys/devices/virtual/bdi,target=/sys/devices/virtual/bdi")
	if lines = (Trial{Native: true}).Lines(); len(lines) != 2 {
		t.Errorf("a read-ahead that is not known has a line: %+v", lines)
	}
}

func TestPropagation(t *testing.T) {
	wantLine(t, "shared", Propagation("/run/modelfs", "/run", true), OK, "/run/modelfs")
	wantLine(t, "private", Propagation("/run/modelfs", "/run", false), Warning, "mount --make-rshared /run,")
}

func TestBackingDir(t *testing.T) {
	dir := t.TempDir()
	for _, d := range []string{dir, filepath.Join(dir, "deep", "below")} {
		lines := BackingDir(d)
		if len(lines) != 1 || lines[0].Level == Problem || !strings.Contains(lines[0].Found, d) {
			t.Errorf("%s: %+v", d, lines)
		}
	}
	wantLine(t, "a file of the kernel's", BackingDir("/proc/none")[0], Problem, "/proc")
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
	for kind, says := range map[int64]string{unix.NFS_SUPER_MAGIC: "nfs", unix.TMPFS_MAGIC: "memory", unix.OVERLAYFS_SUPER_MAGIC: "overlay", unix.FUSE_SUPER_MAGIC: "fuse"} {
		wantLine(t, says, filesystem("/c", kind, 1<<40), Warning, says)
	}
	wantLine(t, "a disk", filesystem("/c", unix.EXT4_SUPER_MAGIC, 1<<40), OK, "ext4", "1.0 TiB")
	wantLine(t, "a full disk", filesystem("/c", unix.XFS_SUPER_MAGIC, 1<<20), Warning, "make room")
	wantLine(t, "an unknown one", filesystem("/c", 0x1234, 1<<40), OK, "0x1234")
}

func TestOwner(t *testing.T) {
	wantLine(t, "a daemon", Owner("/c", nil, true), OK, "answers")
	wantLine(t, "nobody", Owner("/c", nil, false), OK, "no process")
	wantLine(t, "a mute one", Owner("/c", model.Errorf(model.InUse, "in use by process 7"), false), Warning, "process 7")
	wantLine(t, "no access", Owner("/c", errors.New("permission denied"), false), Problem, "permission denied")
}

// source is a scripted one.
type source struct {
	kind  model.SourceKind
	names []model.Found
	err   error
	takes time.Duration
	asked []model.Name

	trouble string
}

func (s *source) Trouble() string { return s.trouble }

func (s *source) ID() string             { return s.kind.String() + ":test" }
func (s *source) Kind() model.SourceKind { return s.kind }
func (s *source) wait(ctx context.Context) error {
	select {
	case <-time.After(s.takes):
		return s.err
	case <-ctx.Done():
		return ctx.Err()
	}
}
func (s *source) Names(ctx context.Context) ([]model.Found, error) { return s.names, s.wait(ctx) }
func (s *source) Find(ctx context.Context, n model.Name) (model.Found, error) {
	s.asked = append(s.asked, n)
	return model.Found{}, s.wait(ctx)
}

func TestAsk(t *testing.T) {
	absent := model.Errorf(model.NotFound, "no such repository")
	one := []model.Found{{Name: "m"}}
	for _, tt := range []struct {
		what  string
		s     source
		level Level
		says  string
	}{
		{"a tree", source{kind: model.Local, names: one}, OK, "1 model"},
		{"an empty tree", source{kind: model.Shared}, Warning, "no models"},
		{"a broken tree", source{kind: model.Local, err: errors.New("EIO")}, Problem, "EIO"},
		{"a hung share", source{kind: model.Shared, takes: time.Hour}, Warning, "no use after 5s"},
		{"a router without models", source{kind: model.Router}, OK, "0 models"},
		{"a router that refuses", source{kind: model.Router, err: model.Errorf(model.Denied, "401")}, Warning, "token"},
		{"the Hub", source{kind: model.Hub, err: absent, takes: 80 * time.Millisecond}, OK, "answers in 80ms"},
		{"a Hub that refuses the token", source{kind: model.Hub, err: absent, trouble: "hub refuses the token"}, Warning, "but hub refuses the token"},
		{"a slow Hub", source{kind: model.Hub, err: absent, takes: 2 * time.Second}, Warning, "--lookup-timeout"},
		{"a Hub that is down", source{kind: model.Hub, err: model.Errorf(model.Unavailable, "refused")}, Warning, "EHOSTUNREACH"},
		{"a Hub that has everything", source{kind: model.Hub}, Warning, "nobody can have"},
	} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			wantLine(t, tt.what, Ask(ctx, &tt.s, 900*time.Millisecond), tt.level, tt.says)
			for _, n := range tt.s.asked {
				if !model.ValidRepoPart(n.Org) || !model.ValidRepoPart(n.Repo) {
					t.Errorf("%s was asked for %v, which no repository can be", tt.what, n)
				}
			}
		})
	}
}

func TestTree(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if line, isDir := Tree(t.Context(), dir); !isDir {
		t.Errorf("%+v", line)
	}
	for path, says := range map[string]string{file: "not a directory", filepath.Join(dir, "none"): "no such file"} {
		line, isDir := Tree(t.Context(), path)
		if isDir {
			t.Errorf("%s is a directory", path)
		}
		wantLine(t, path, line, Problem, says, path)
	}
}

func TestToken(t *testing.T) {
	wantLine(t, "present", Token("token", "$HF_TOKEN", "x", true, nil), OK, "present ($HF_TOKEN)")
	wantLine(t, "none", Token("token", "none", "gated models are refused", false, nil), OK, "gated models")
	wantLine(t, "unreadable", Token("token", "/t", "x", false, errors.New("reading /t")), Problem, "/t")
}

func TestReport(t *testing.T) {
	for _, tt := range []struct {
		lines    []Line
		problems int
		sum      string
	}{
		{[]Line{ok("a", "x")}, 0, "\nmodelfs works here\n"},
		{[]Line{ok("a", "x"), warning("long thing", "do it", "y %d", 1)}, 0, "less than it could: warnings: 1"},
		{[]Line{problem("a", "do it", "z"), warning("b", "", "y")}, 1, "can't work here: problems: 1, warnings: 1"},
	} {
		var r Report
		r.Add(tt.lines...)
		var out bytes.Buffer
		if err := r.Print(&out); err != nil {
			t.Fatal(err)
		}
		if r.Problems() != tt.problems || !strings.Contains(out.String(), tt.sum) {
			t.Errorf("%d problems:\n%s", r.Problems(), out.String())
		}
		for _, l := range tt.lines {
			if !strings.Contains(out.String(), l.Found) || l.Next != "" && !strings.Contains(out.String(), "-> "+l.Next+"\n") {
				t.Errorf("%+v is not in:\n%s", l, out.String())
			}
		}
	}
}
