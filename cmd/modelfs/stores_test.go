package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"modelfs/cmd/modelfs/config"
	"modelfs/internal/model"
	"modelfs/source/discover"
)

func makeDirs(t *testing.T, dirs ...string) {
	t.Helper()
	for _, d := range dirs {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
}

// Configured trees come first, as what they are; a store that was found is
// not there a second time, and never the mount itself.
func TestTreesOf(t *testing.T) {
	home := t.TempDir()
	t.Setenv("HOME", home)
	for _, name := range []string{"HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME", "LLAMA_CACHE", "MODELSCOPE_CACHE", "MODELS_PATH",
		"XLLM_MODELS_DIR", "LLM_NODE_MODELS_DIR", "LLM_MODELS_DIR"} {
		t.Setenv(name, "")
	}
	ollama, hub, plain, studio := filepath.Join(home, "o"), filepath.Join(home, ".cache/huggingface/hub"), filepath.Join(home, "plain"), filepath.Join(home, ".lmstudio/models")
	makeDirs(t, ollama+"/models/manifests", ollama+"/models/blobs", hub+"/models--a--b", plain+"/m", studio)
	t.Setenv("OLLAMA_MODELS", ollama+"/models")
	link := filepath.Join(home, "link")
	if err := os.Symlink(hub, link); err != nil {
		t.Fatal(err)
	}
	t.Setenv("HF_HUB_CACHE", link)
	within := func(list []placed) (got []string) {
		for _, p := range list {
			if rel, err := filepath.Rel(home, p.Dir); err == nil && rel[0] != '.' || p.Dir == hub || p.Dir == studio || p.Dir == home {
				line := p.as.String() + " " + p.Kind + " " + rel
				if p.Skip != nil {
					line += fmt.Sprintf(" less %v", p.Skip)
				}
				got = append(got, line)
			}
		}
		return got
	}
	log := slog.New(slog.DiscardHandler)
	for _, tt := range []struct {
		name  string
		cfg   config.Config
		point string
		want  []string
	}{
		{"found", config.Config{Local: []string{plain}, Shared: []string{plain}}, "",
			[]string{"local  plain", "shared  plain", "local hfcache link", "local lmstudio .lmstudio/models", "local ollama o/models"}},
		{"not looked for", config.Config{Local: []string{plain}, NoDiscover: true}, "", []string{"local  plain"}},
		{"named", config.Config{Local: []string{ollama, hub}, Shared: []string{studio}}, "",
			[]string{"local  o less [models]", "local ollama o/models", "local hfcache .cache/huggingface/hub", "shared lmstudio .lmstudio/models"}},
		{"in a tree", config.Config{Local: []string{home + "/"}}, "",
			[]string{"local  . less [link .lmstudio o]", "local hfcache link", "local lmstudio .lmstudio/models", "local ollama o/models"}},
		{"the mount itself", config.Config{Local: []string{plain}}, ollama, []string{"local  plain", "local hfcache link", "local lmstudio .lmstudio/models"}},
	} {
		got := within(treesOf(&tt.cfg, tt.point, nil, log))
		if len(got) != len(tt.want) {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
			continue
		}
		for i := range got {
			if got[i] != tt.want[i] {
				t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
			}
		}
	}
}

func TestOwn(t *testing.T) {
	for _, tt := range []struct {
		store discover.Store
		point string
		want  bool
	}{
		{discover.Store{Dir: "/models"}, "/models", true},
		{discover.Store{Dir: "/models/hub"}, "/models", true},
		{discover.Store{Dir: "/models2"}, "/models", false},
		{discover.Store{Dir: "/models"}, "", false},
		{discover.Store{Dir: "/other", Remote: "fuse.modelfs"}, "/models", true},
		{discover.Store{Dir: "/other", Remote: "nfs4"}, "/models", false},
	} {
		if got := own(tt.store, tt.point); got != tt.want {
			t.Errorf("own(%+v, %q) = %v", tt.store, tt.point, got)
		}
	}
}

// A directory that does not answer holds nobody up, and counts as a plain tree.
func TestLayoutOfWhatHangs(t *testing.T) {
	dir := t.TempDir()
	defer unix.Close(hang(t, dir))
	began := time.Now()
	var log strings.Builder
	got := layoutsOf(dir, slog.New(slog.NewTextHandler(&log, nil)))
	if took := time.Since(began); took < localLook || took > localLook+2*time.Second {
		t.Errorf("looked for %v", took)
	}
	if want := []placed{{discover.Store{Dir: dir}, model.Local}}; !reflect.DeepEqual(got, want) || !strings.Contains(log.String(), "taken for a plain tree") {
		t.Errorf("%+v, want %+v; the log:\n%s", got, want, log.String())
	}
}

// hang mounts a filesystem that never answers until its descriptor is closed. It
// is unmounted at the end of the test, and who looks at it is released.
func hang(t *testing.T, dir string) (dev int) {
	t.Helper()
	dev, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	options := "fd=" + strconv.Itoa(dev) + ",rootmode=40000,user_id=0,group_id=0"
	if err := unix.Mount("silent", dir, "fuse.silent", unix.MS_NOSUID|unix.MS_NODEV, options); err != nil {
		t.Fatal(errors.Join(err, unix.Close(dev)))
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_FORCE|unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dev
}

// A configuration that would have local trees wait for a share is warned of; the
// share is not asked.
func TestNetworkInLocalTreesIsWarnedOf(t *testing.T) {
	dir := t.TempDir()
	share, disk, link := filepath.Join(dir, "share"), filepath.Join(dir, "disk"), filepath.Join(dir, "link")
	makeDirs(t, share, disk)
	if err := os.Symlink(share+"/models", link); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(hang(t, share))
	for _, tt := range []struct {
		cfg  config.Config
		want []string // each line has one
	}{
		{config.Config{Local: []string{disk, dir + "/none"}, Shared: []string{share}, LinkTargets: []string{disk, dir}}, nil},
		{config.Config{Local: []string{disk, dir}}, []string{"directory=" + dir + " mounted=" + share}},
		{config.Config{Local: []string{disk, link}}, []string{"directory=" + link + " filesystem=fuse.silent"}},
		{config.Config{Local: []string{disk}, LinkTargets: []string{share, disk, share + "/models"}},
			[]string{"link_target=" + share + " filesystem=fuse.silent", "link_target=" + share + "/models"}},
	} {
		var log strings.Builder
		warnOfNetwork(&tt.cfg, slog.New(slog.NewTextHandler(&log, nil)))
		if n := strings.Count(log.String(), "\n"); n != len(tt.want) {
			t.Errorf("%+v: %d warnings, want %d:\n%s", tt.cfg, n, len(tt.want), log.String())
		}
		for _, w := range tt.want {
			if !strings.Contains(log.String(), w) {
				t.Errorf("%+v: no warning has %q:\n%s", tt.cfg, w, log.String())
			}
		}
	}
}

// A shop is a store whose content the test writes down.
type shop struct {
	tree // nil: only what a finder uses is there
	id   string

	mu      sync.Mutex // guards what follows
	refresh int
	err     error
	blobs   map[string]int64
	seen    map[string]int64
}

func (s *shop) ID() string { return s.id }

func (s *shop) Refresh(context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refresh++
	if s.err == nil {
		s.seen = make(map[string]int64)
		for k, v := range s.blobs {
			s.seen[k] = v
		}
	}
	return s.err
}

func (s *shop) BySHA256(hex string) (model.Place, int64, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n, ok := s.seen[hex]
	return shelf(s.id + "/" + hex), n, ok
}

func (s *shop) At(abs string) model.Place {
	if filepath.Dir(abs) != s.id {
		return nil
	}
	return shelf(abs)
}

type shelf string

func (p shelf) Path() string                             { return string(p) }
func (p shelf) Stat(context.Context) (model.Stat, error) { return model.Stat{}, nil }
func (p shelf) Open(context.Context) (*os.File, model.Stat, error) {
	return nil, model.Stat{}, os.ErrNotExist
}
func (p shelf) Reader(context.Context) (model.Reader, model.Stat, error) {
	return nil, model.Stat{}, os.ErrNotExist
}

func (p shelf) Head(context.Context, int64) ([]byte, error) { return nil, os.ErrNotExist }

func pathOf(p model.Place) string {
	if p == nil {
		return ""
	}
	return p.Path()
}

func TestFinder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := &shop{id: "/a", blobs: map[string]int64{"x": 1, "both": 5}}, &shop{id: "/b", blobs: map[string]int64{"y": 2, "both": 5}}
		f := newFinder([]tree{a, b}, slog.New(slog.DiscardHandler))
		defer f.close()
		synctest.Wait()
		for _, tt := range []struct {
			sha  string
			size int64
			want string
		}{{"x", 1, "/a/x"}, {"y", -1, "/b/y"}, {"y", 3, ""}, {"z", 1, ""}, {"both", 5, "/a/both"}} {
			if got := pathOf(f.find(tt.sha, tt.size)); got != tt.want {
				t.Errorf("%s of %d bytes is at %q, want %q", tt.sha, tt.size, got, tt.want)
			}
		}
		b.mu.Lock()
		b.blobs["z"] = 9
		b.mu.Unlock()
		<-time.After(2 * time.Second)
		for range 100 {
			f.find("z", 9)
		}
		<-time.After(refreshEvery)
		if got := pathOf(f.find("z", 9)); got != "/b/z" {
			t.Errorf("what is new is at %q", got)
		}
		<-time.After(time.Hour)
		b.mu.Lock()
		if b.refresh > 5 {
			t.Errorf("the store was looked at %d times", b.refresh)
		}
		b.mu.Unlock()
		a.mu.Lock()
		a.err = errors.New("broken")
		a.mu.Unlock()
		f.find("x", 1)
		<-time.After(refreshEvery)
		if got := pathOf(f.find("x", 1)); got != "/a/x" {
			t.Errorf("after a failed look it is at %q", got)
		}
	})
}

// A file that spared a download is found again under its path, whatever
// source listed it.
func TestPlace(t *testing.T) {
	d := &daemon{trees: []tree{&shop{id: "/a"}, &shop{id: "/b"}}}
	for _, tt := range []struct{ source, path, want string }{
		{"/b", "/b/x", "/b/x"}, {"hub:x", "/b/x", "/b/x"}, {"/a", "/b/x", "/b/x"}, {"hub:x", "/c/x", ""},
	} {
		if got := pathOf(d.place(tt.source, tt.path)); got != tt.want {
			t.Errorf("place(%s, %s) = %q, want %q", tt.source, tt.path, got, tt.want)
		}
	}
}
