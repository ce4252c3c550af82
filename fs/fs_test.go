package fs

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"modelfs/internal/leaktest"
	"modelfs/internal/model"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

// fakeNames is a resolver whose models the test writes down.
type fakeNames struct {
	mu     sync.Mutex
	models map[string]*model.View
	errs   map[string]error
}

func (f *fakeNames) Lookup(_ context.Context, p string) (model.Entry, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.errs[p]; err != nil {
		return model.Entry{}, err
	}
	if v := f.models[p]; v != nil {
		return model.Entry{Name: filepath.Base(p), Kind: model.ModelDir, Settled: v.Settled}, nil
	}
	for name := range f.models {
		if strings.HasPrefix(name, p+"/") {
			return model.Entry{Name: p, Kind: model.Namespace, Settled: true}, nil
		}
	}
	return model.Entry{}, model.Errorf(model.NotFound, "no source has %s", p)
}

func (f *fakeNames) View(_ context.Context, p string) (*model.View, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if v := f.models[p]; v != nil {
		return v, nil
	}
	return nil, model.Errorf(model.NotFound, "no source has %s", p)
}

func (f *fakeNames) Entries(_ context.Context, dir string) ([]model.Entry, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	seen := map[string]model.Entry{}
	for name := range f.models {
		rest, ok := strings.CutPrefix(name, dir+"/")
		if dir == "" {
			rest, ok = name, true
		}
		if !ok {
			continue
		}
		first, _, deeper := strings.Cut(rest, "/")
		e := model.Entry{Name: first, Kind: model.ModelDir, Settled: true}
		if deeper {
			e.Kind = model.Namespace
		}
		seen[first] = e
	}
	var all []model.Entry
	for _, e := range seen {
		all = append(all, e)
	}
	sort.Slice(all, func(i, j int) bool { return all[i].Name < all[j].Name })
	return all, nil
}

// fakeContent serves files from memory; gate, if not nil, holds every read
// until it is closed or the caller leaves.
type fakeContent struct {
	mu       sync.Mutex
	data     map[model.Key][]byte
	complete map[model.Key]*os.File
	attempt  uint32 // of every file
	gate     chan struct{}
	opens    int
}

func (c *fakeContent) State(_ *model.Model, f *model.File) model.FileState {
	c.mu.Lock()
	defer c.mu.Unlock()
	return model.FileState{Complete: c.complete[f.Key] != nil, Size: f.Size, Attempt: c.attempt}
}

func (c *fakeContent) Open(_ context.Context, _ *model.View, f *model.File) (model.Reader, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.opens++
	return &fakeReader{data: c.data[f.Key], file: c.complete[f.Key], gate: c.gate}, nil
}

type fakeReader struct {
	data []byte
	file *os.File
	gate chan struct{}
}

func (r *fakeReader) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	if r.gate != nil {
		select {
		case <-r.gate:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
	if off >= int64(len(r.data)) {
		return 0, nil
	}
	return copy(p, r.data[off:]), nil
}
func (r *fakeReader) Size() int64    { return int64(len(r.data)) }
func (r *fakeReader) File() *os.File { return r.file }
func (r *fakeReader) Close() error   { return nil }

// treePlace is a file of a tree.
type treePlace string

func (p treePlace) Path() string                                { return string(p) }
func (p treePlace) Head(context.Context, int64) ([]byte, error) { return os.ReadFile(string(p)) }
func (p treePlace) Stat(context.Context) (model.Stat, error) {
	info, err := os.Stat(string(p))
	if errors.Is(err, os.ErrNotExist) {
		return model.Stat{}, model.Errorf(model.NotFound, "%w", err)
	}
	if err != nil {
		return model.Stat{}, err
	}
	return statOf(info), nil
}

func (p treePlace) Open(context.Context) (*os.File, model.Stat, error) {
	f, err := os.Open(string(p))
	if err != nil {
		return nil, model.Stat{}, err
	}
	info, err := f.Stat()
	return f, statOf(info), err
}

func (p treePlace) Reader(ctx context.Context) (model.Reader, model.Stat, error) {
	f, st, err := p.Open(ctx)
	if err != nil {
		return nil, st, err
	}
	data, err := io.ReadAll(f)
	return &fakeReader{data: data, file: f}, st, err
}

func statOf(info os.FileInfo) model.Stat {
	st := info.Sys().(*syscall.Stat_t)
	return model.Stat{Dev: st.Dev, Ino: st.Ino, Size: info.Size(), ModTime: info.ModTime()}
}

func view(kind model.SourceKind, source string, files ...model.File) *model.View {
	kept, _ := model.Listing(files)
	return &model.View{Model: &model.Model{Source: source, Kind: kind, Files: kept, ModTime: time.Unix(1e9, 0)}, Settled: true}
}

// mountTest mounts names and content in a temporary directory and unmounts
// them, checking that nothing is left open.
func mountTest(t *testing.T, names *fakeNames, content *fakeContent, edits ...func(*Config)) (string, *Server) {
	t.Helper()
	dir := t.TempDir()
	cfg := Config{
		MountPoint: dir, Names: names, Content: content, BackingDir: t.TempDir(), ColdDeny: []string{"updatedb"},
		Status:  func() any { return map[string]string{"state": "fine"} },
		Explain: func(_ context.Context, name string) any { return map[string]string{"name": name} },
	}
	for _, edit := range edits {
		edit(&cfg)
	}
	s, err := Mount(cfg)
	if err != nil {
		t.Fatal(err)
	}
	silencePoll(t, dir)
	t.Cleanup(func() {
		select {
		case <-s.Done(): // the test has unmounted it
		default:
			if err := s.Unmount(); err != nil {
				t.Error(err)
				_ = unix.Unmount(dir, unix.MNT_DETACH)
			}
			s.Wait()
		}
		if st := s.Stats(); st.Handles != 0 || st.Backing != 0 {
			t.Errorf("left over: %+v", st)
		}
	})
	return dir, s
}

// silencePoll makes the kernel learn that this mount knows no POLL. Go's
// runtime polls every file that it opens, in a call that keeps its processor;
// in the process that serves the mount nobody would be left to answer.
func silencePoll(t *testing.T, dir string) {
	t.Helper()
	fd, err := unix.Open(filepath.Join(dir, cacheTagName), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if _, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0); err != nil {
		t.Fatal(err)
	}
}

func pattern(n int, seed uint64) []byte {
	b := make([]byte, n)
	rnd := rand.NewChaCha8([32]byte{byte(seed)})
	_, _ = rnd.Read(b)
	return b
}

func coldModel(data []byte) (*fakeNames, *fakeContent) {
	names := &fakeNames{models: map[string]*model.View{
		"org/cold": view(model.Hub, "hub", model.File{Path: "sub/w.bin", Size: int64(len(data)), Key: "sha256-aa"},
			model.File{Path: "m-Q8_0.gguf", Size: int64(len(data)), Key: "sha256-aa"}),
	}}
	names.models["org/cold"].Default = "m-Q8_0.gguf"
	return names, &fakeContent{data: map[model.Key][]byte{"sha256-aa": data}, complete: map[model.Key]*os.File{}}
}

func TestColdFileIsReadExactly(t *testing.T) {
	data := pattern(3<<20+17, 1)
	names, content := coldModel(data)
	dir, s := mountTest(t, names, content)
	for _, p := range []string{"org/cold/sub/w.bin", "org/cold/m-Q8_0.gguf", "org/cold/model.gguf"} {
		got, err := os.ReadFile(filepath.Join(dir, p))
		if err != nil || !bytes.Equal(got, data) {
			t.Errorf("%s: %d bytes, %v", p, len(got), err)
		}
	}
	if st := s.Stats(); st.Passthrough != 0 || st.Reads == 0 {
		t.Errorf("a cold file went past the server: %+v", st)
	}
	info, err := os.Stat(filepath.Join(dir, "org/cold/sub/w.bin"))
	if err != nil {
		t.Fatal(err)
	}
	st := info.Sys().(*syscall.Stat_t)
	if info.Mode() != 0o444 || info.Size() != int64(len(data)) || st.Blocks != (info.Size()+511)/512 || st.Blksize != 4096 {
		t.Errorf("attributes: mode %v, %d bytes in %d blocks of %d", info.Mode(), info.Size(), st.Blocks, st.Blksize)
	}
}

func TestTreeFileIsPassthrough(t *testing.T) {
	data := pattern(2<<20, 2)
	file := filepath.Join(t.TempDir(), "model.gguf")
	if err := os.WriteFile(file, data, 0o644); err != nil {
		t.Fatal(err)
	}
	names := &fakeNames{models: map[string]*model.View{
		"m": view(model.Local, "local", model.File{Path: "model.gguf", Size: 1, Place: treePlace(file)}),
	}}
	dir, s := mountTest(t, names, &fakeContent{})
	mounted := filepath.Join(dir, "m/model.gguf")
	got, err := os.ReadFile(mounted)
	if err != nil || !bytes.Equal(got, data) {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
	if st := s.Stats(); st.Reads != 0 || st.Passthrough != 1 {
		t.Errorf("not passthrough: %+v", st)
	}
	old, err := os.Open(mounted)
	if err != nil {
		t.Fatal(err)
	}
	defer old.Close()
	fresh := pattern(1<<20, 3)
	if err := os.WriteFile(file+".new", fresh, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(file+".new", file); err != nil {
		t.Fatal(err)
	}
	got, err = os.ReadFile(mounted)
	if err != nil || !bytes.Equal(got, fresh) {
		t.Errorf("after a rename the next open does not see the new file: %d bytes, %v", len(got), err)
	}
	kept, err := io.ReadAll(old)
	if err != nil || !bytes.Equal(kept, data) {
		t.Errorf("after a rename the old descriptor lost the old file: %d bytes, %v", len(kept), err)
	}
	if err := os.WriteFile(file, []byte("rewritten in place"), 0o644); err != nil {
		t.Fatal(err)
	}
	got, err = os.ReadFile(mounted)
	if err != nil || string(got) != "rewritten in place" {
		t.Errorf("after a rewrite in place: %q, %v", got, err)
	}
}

func TestCompletionSwitchesTheNextOpen(t *testing.T) {
	data := pattern(1<<20, 4)
	names, content := coldModel(data)
	dir, s := mountTest(t, names, content)
	p := filepath.Join(dir, "org/cold/sub/w.bin")
	held, err := os.Open(p)
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	before, err := held.Stat()
	if err != nil {
		t.Fatal(err)
	}
	blob, err := os.CreateTemp(t.TempDir(), "blob")
	if err != nil {
		t.Fatal(err)
	}
	defer blob.Close()
	if _, err := blob.Write(data); err != nil {
		t.Fatal(err)
	}
	content.mu.Lock()
	content.complete["sha256-aa"] = blob
	content.mu.Unlock()
	s.Changed("sha256-aa", "hub")
	for deadline := time.Now().Add(5 * time.Second); s.Stats().Passthrough == 0; {
		got, err := os.ReadFile(p)
		if err != nil || !bytes.Equal(got, data) {
			t.Fatalf("%d bytes, %v", len(got), err)
		}
		if time.Now().After(deadline) {
			t.Fatal("the complete file never became passthrough")
		}
	}
	after, err := os.Stat(p)
	if err != nil {
		t.Fatal(err)
	}
	if !os.SameFile(before, after) {
		t.Error("the inode number changed with the state")
	}
	got, err := io.ReadAll(held)
	if err != nil || !bytes.Equal(got, data) {
		t.Errorf("the descriptor from before: %d bytes, %v", len(got), err)
	}
}

func TestErrorsBecomeErrnos(t *testing.T) {
	names := &fakeNames{models: map[string]*model.View{}, errs: map[string]error{
		"down":   model.Errorf(model.Unavailable, "x"),
		"denied": model.Errorf(model.Denied, "x"),
		"slow":   model.Errorf(model.Timeout, "x"),
	}}
	dir, _ := mountTest(t, names, &fakeContent{})
	for name, want := range map[string]error{
		"down": syscall.EHOSTUNREACH, "denied": syscall.EACCES, "slow": syscall.ETIMEDOUT, "none": syscall.ENOENT,
	} {
		if _, err := os.Stat(filepath.Join(dir, name)); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", name, err, want)
		}
	}
	for what, err := range map[string]error{
		"create": os.WriteFile(filepath.Join(dir, "x"), nil, 0o644),
		"mkdir":  os.Mkdir(filepath.Join(dir, "x"), 0o755),
		"remove": unix.Rmdir(filepath.Join(dir, ".modelfs")),
	} {
		if !errors.Is(err, syscall.EROFS) {
			t.Errorf("%s: %v, want EROFS", what, err)
		}
	}
}

func TestAStalledReadStopsNothingElse(t *testing.T) {
	data := pattern(64<<20, 5)
	names, content := coldModel(data)
	content.gate = make(chan struct{})
	names.models["quick"] = view(model.Hub, "hub", model.File{Path: "w.bin", Size: 6, Key: "sha256-bb"})
	dir, s := mountTest(t, names, content)
	var readers sync.WaitGroup
	stalled, err := os.Open(filepath.Join(dir, "org/cold/sub/w.bin"))
	if err != nil {
		t.Fatal(err)
	}
	defer stalled.Close()
	for i := range 200 {
		readers.Go(func() {
			got := make([]byte, 4096)
			off := int64(i) * (256 << 10)
			if _, err := stalled.ReadAt(got, off); err != nil || !bytes.Equal(got, data[off:off+4096]) {
				t.Errorf("at %d: %v", off, err)
			}
		})
	}
	for s.Stats().Reads < 200 {
		if _, err := os.Stat(filepath.Join(dir, "org/cold/sub")); err != nil {
			t.Fatal(err)
		}
	}
	content.mu.Lock()
	content.data["sha256-bb"] = []byte("quick!")
	gate := content.gate
	content.gate = nil
	content.mu.Unlock()
	if got, err := os.ReadFile(filepath.Join(dir, "quick/w.bin")); err != nil || string(got) != "quick!" {
		t.Errorf("a healthy file beside 200 stalled reads: %q, %v", got, err)
	}
	if _, err := os.Stat(filepath.Join(dir, "org/cold/sub/w.bin")); err != nil {
		t.Errorf("stat of the file that is being read: %v", err)
	}
	close(gate)
	readers.Wait()
}

func TestControlDirectory(t *testing.T) {
	names, content := coldModel(pattern(10, 6))
	dir, _ := mountTest(t, names, content)
	for p, want := range map[string]string{
		".modelfs/status.json":           `"state": "fine"`,
		".modelfs/explain/org/x.json":    `"name": "org/x"`,
		".modelfs/explain/gpt2.json":     `"name": "gpt2"`,
		"org/cold/.modelfs/status.json":  `"state": "fine"`,
		"org/cold/.modelfs/explain.json": `"name": "org/cold"`,
		"CACHEDIR.TAG":                   "Signature: 8a477f597d28d172789f06886806bc55",
	} {
		got, err := os.ReadFile(filepath.Join(dir, p))
		if err != nil || !strings.Contains(string(got), want) {
			t.Errorf("%s: %q, %v", p, got, err)
		}
	}
	for _, p := range []string{".modelfs/x", ".modelfs/explain/a/b/c.json", "org/.modelfs", "org/cold/sub/.modelfs"} {
		if _, err := os.Stat(filepath.Join(dir, p)); !errors.Is(err, syscall.ENOENT) {
			t.Errorf("%s: %v, want ENOENT", p, err)
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 || entries[0].Name() != "org" {
		t.Errorf("the root lists %v, %v", entries, err)
	}
}

func TestDirectoriesListEverythingOnce(t *testing.T) {
	var files []model.File
	want := map[string]bool{"model.gguf": true, "sub": true}
	for i := range 5000 {
		name := "f" + strings.Repeat("x", i%50) + "-" + string(rune('a'+i%26)) + itoa(i)
		files = append(files, model.File{Path: name, Size: int64(i), Key: model.Key("git-" + itoa(i))})
		want[name] = true
	}
	files = append(files, model.File{Path: "sub/a", Key: "git-a"}, model.File{Path: "sub/b", Key: "git-b"}, model.File{Path: "hidden", Key: "git-h"})
	names := &fakeNames{models: map[string]*model.View{"big": view(model.Hub, "hub", files...)}}
	names.models["big"].Default = "f-a0"
	names.models["big"].Hidden = map[string]bool{"hidden": true}
	dir, s := mountTest(t, names, &fakeContent{})
	entries, err := os.ReadDir(filepath.Join(dir, "big"))
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]bool{}
	for _, e := range entries {
		if got[e.Name()] {
			t.Errorf("%s is listed twice", e.Name())
		}
		got[e.Name()] = true
		if _, err := e.Info(); err != nil {
			t.Errorf("%s: %v", e.Name(), err)
		}
	}
	for name := range want {
		if !got[name] {
			t.Errorf("%s is not listed", name)
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d entries, want %d", len(got), len(want))
	}
	if _, err := os.Stat(filepath.Join(dir, "big/hidden")); err != nil {
		t.Errorf("a hidden file does not open by name: %v", err)
	}
	if s.Stats().Reads != 0 {
		t.Error("listing read something")
	}
}

func itoa(i int) string {
	return string([]byte{byte('0' + i/1000%10), byte('0' + i/100%10), byte('0' + i/10%10), byte('0' + i%10)})
}
