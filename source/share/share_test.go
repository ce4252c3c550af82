package share

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"modelfs/internal/leaktest"
	"modelfs/internal/model"
	"modelfs/source/directory"
	"modelfs/source/hfcache"
)

// childOf is the environment variable that makes this binary a share's child:
// the directory; one that begins with "hf:" is a Hugging Face cache. It begins
// with GO so that Command passes it on.
const childOf = "GO_SHARE_TEST"

func TestMain(m *testing.M) {
	if root := os.Getenv(childOf); root != "" && len(os.Args) > 1 && os.Args[1] == "child" {
		os.Exit(runChild(root, os.Args[2:]))
	}
	leaktest.Main(m)
}

func runChild(root string, args []string) int {
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	var t Tree
	var err error
	if hub, ok := strings.CutPrefix(root, "hf:"); ok {
		t, err = hfcache.New(hfcache.Config{Root: hub, Kind: model.Shared, Timeout: time.Second})
	} else {
		t, err = directory.New(directory.Config{Root: root, Kind: model.Shared, Timeout: time.Second})
	}
	if err == nil {
		err = Serve(t, len(args) > 0, log)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// plant writes files below a new directory.
func plant(t testing.TB, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		p := filepath.Join(root, name)
		must(t, os.MkdirAll(filepath.Dir(p), 0o755))
		must(t, os.WriteFile(p, []byte(text), 0o644))
	}
	return root
}

// output is what children say.
type output struct {
	mu sync.Mutex // guards b
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func source(t *testing.T, root string) *Source {
	t.Helper()
	t.Setenv(childOf, root)
	root = strings.TrimPrefix(root, "hf:")
	s := New(Config{ID: "shared:" + root, Root: root, Command: []string{"child"}, Timeout: 10 * time.Second, Output: &output{}, Log: slog.New(slog.DiscardHandler)})
	t.Cleanup(func() {
		s.mu.Lock()
		c := s.cur
		s.mu.Unlock()
		s.Close()
		if c != nil {
			<-c.gone
		}
	})
	return s
}

// What a child says is what the source itself would say here.
func TestAsIfItWereAsked(t *testing.T) {
	root := plant(t, map[string]string{"org/m/model.gguf": "weights", "org/m/sub/config.json": "{}", "loose.gguf": "loose", "broken/a.gguf.part": "x"})
	s, ctx := source(t, root), context.Background()
	here, err := directory.New(directory.Config{Root: root, Kind: model.Shared})
	must(t, err)
	defer here.Close()
	for _, name := range []string{"org/m", "org", "loose", "loose.gguf", "none", "org/none", "broken"} {
		n, err := model.ParseName(name)
		must(t, err)
		want, wantErr := here.Find(ctx, n)
		got, gotErr := s.Find(ctx, n)
		if d := cmp.Diff(want, got); d != "" || model.KindOf(wantErr) != model.KindOf(gotErr) || (wantErr == nil) != (gotErr == nil) {
			t.Errorf("%s: %v and %v\n%s", name, wantErr, gotErr, d)
		}
		if wantErr != nil || want.Kind == model.Namespace {
			continue
		}
		m, err := here.List(ctx, n, want)
		must(t, err)
		theirs, err := s.List(ctx, n, got)
		must(t, err)
		if d := cmp.Diff(m, theirs, cmp.Comparer(func(a, b model.Place) bool { return a.Path() == b.Path() })); d != "" {
			t.Errorf("%s:\n%s", name, d)
		}
	}
	want, err := here.Names(ctx)
	must(t, err)
	got, err := s.Names(ctx)
	must(t, err)
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if s.ID() != here.ID() || s.Kind() != here.Kind() {
		t.Error(s.ID(), s.Kind())
	}
}

// A listing that fits no packet comes all the same.
func TestALongListing(t *testing.T) {
	files := map[string]string{"m/model.gguf": "w"}
	for i := range 2000 {
		files[fmt.Sprintf("m/a-file-with-a-long-name-so-that-the-listing-is-large-%d.json", i)] = "{}"
	}
	s, ctx := source(t, plant(t, files)), context.Background()
	f, err := s.Find(ctx, model.Name{Repo: "m"})
	must(t, err)
	m, err := s.List(ctx, model.Name{Repo: "m"}, f)
	must(t, err)
	if len(m.Files) != len(files) {
		t.Errorf("%d files, want %d", len(m.Files), len(files))
	}
}

func TestPlaces(t *testing.T) {
	text := strings.Repeat("0123456789abcdef", 3<<20/16) + "end"
	root := plant(t, map[string]string{"m/model.gguf": text})
	s, ctx := source(t, root), context.Background()
	path := filepath.Join(root, "m/model.gguf")
	p := s.At(path)
	st, err := p.Stat(ctx)
	must(t, err)
	info, err := os.Stat(path)
	must(t, err)
	if st.Size != info.Size() || st.Ino != info.Sys().(*syscall.Stat_t).Ino || !st.ModTime.Equal(info.ModTime()) {
		t.Errorf("%+v", st)
	}
	f, opened, err := p.Open(ctx)
	must(t, err)
	if _, err := f.Read(make([]byte, 1)); !errors.Is(err, syscall.EBADF) || opened != st {
		t.Errorf("a descriptor for the kernel: %v, %+v", err, opened)
	}
	f.Close()
	r, _, err := p.Reader(ctx)
	must(t, err)
	defer r.Close()
	read := func() {
		t.Helper()
		for _, at := range [][2]int{{0, 10}, {1<<20 - 3, 6}, {0, len(text) + 100}, {len(text) - 2, 10}, {len(text) + 1, 5}} {
			want := text[min(at[0], len(text)):min(at[0]+at[1], len(text))]
			b := make([]byte, at[1])
			if n, err := r.ReadAt(ctx, b, int64(at[0])); err != nil || string(b[:n]) != want {
				t.Errorf("%v: %d bytes, %v", at, n, err)
			}
		}
	}
	read()
	// The next child reads on: a file that is open is lost with no process.
	s.mu.Lock()
	c := s.cur
	s.mu.Unlock()
	must(t, os.Remove(path))
	c.kill(io.ErrUnexpectedEOF)
	<-c.gone
	eventually(t, func() bool { _, err := s.Names(ctx); return err == nil })
	read()

	for _, other := range []string{root, root + "/../x", "/etc/passwd", root + "x/f"} {
		if p := s.At(other); p != nil {
			t.Errorf("%s is in the share", other)
		}
	}
	s.cfg.Trust = []string{"/trusted/"}
	if p := s.At("/trusted/f"); p == nil || p.Path() != "/trusted/f" {
		t.Error("a place that links may lead to is not found again")
	}
	if _, err := s.At(root + "/none").Stat(ctx); !model.IsKind(err, model.NotFound) {
		t.Errorf("a file that is not there: %v", err)
	}
	promised := &place{s: s, path: filepath.Join(root, "m"), promised: 1}
	if _, _, err := promised.Open(ctx); !model.IsKind(err, model.NotFound) {
		t.Errorf("a directory as a file: %v", err)
	}
}

// eventually waits for another process to do something.
func eventually(t *testing.T, holds func() bool) {
	t.Helper()
	deadline := time.After(10 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("not within 10 s")
		}
	}
}

func TestBlobs(t *testing.T) {
	sum := strings.Repeat("ab", 32)
	root := plant(t, map[string]string{"models--org--m/blobs/" + sum: "weights", "models--org--m/refs/main": strings.Repeat("1", 40)})
	s, ctx := source(t, "hf:"+root), context.Background()
	if _, _, ok := s.BySHA256(sum); ok {
		t.Error("known before anybody looked")
	}
	for range 2 { // the second time nothing has changed
		must(t, s.Refresh(ctx))
		p, size, ok := s.BySHA256(sum)
		if !ok || size != 7 {
			t.Fatalf("%d, %v", size, ok)
		}
		if st, err := p.Stat(ctx); err != nil || st.Size != 7 {
			t.Errorf("%+v, %v", st, err)
		}
	}
	must(t, os.WriteFile(filepath.Join(root, "models--org--m/blobs", sum), []byte("longer now"), 0o644))
	p, _, _ := s.BySHA256(sum)
	if _, _, err := p.Open(ctx); !model.IsKind(err, model.NotFound) {
		t.Errorf("a blob of another size: %v", err)
	}
}

// A child that is stopped answers nothing; who asks leaves in time, and the
// next child answers.
func TestAChildThatIsStopped(t *testing.T) {
	s := source(t, plant(t, map[string]string{"m/model.gguf": "w"}))
	_, err := s.Names(context.Background())
	must(t, err)
	s.mu.Lock()
	c := s.cur
	s.mu.Unlock()
	stop(t, c)
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if _, err := s.Names(ctx); !model.IsKind(err, model.Unavailable) {
		t.Errorf("%v", err)
	}
	c.kill(io.ErrUnexpectedEOF) // as abandon does, some seconds later
	eventually(t, func() bool { _, err := s.Names(context.Background()); return err == nil })
}

func stop(t *testing.T, c *child) {
	t.Helper()
	must(t, c.cmd.Process.Signal(syscall.SIGSTOP))
	eventually(t, func() bool { // a signal takes its time
		stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", c.cmd.Process.Pid))
		return bytes.Contains(stat, []byte(") T "))
	})
}

// On a machine that is busy a child takes its packets late, and far more may
// be asked of it by then than the socket holds: all of it is answered, and
// what was given up is no loss.
func TestAChildThatIsStarved(t *testing.T) {
	s := source(t, plant(t, map[string]string{"m/model.gguf": "w"}))
	named, _, err := s.At(filepath.Join(s.cfg.Root, "m/model.gguf")).Open(context.Background())
	must(t, err)
	defer named.Close()
	s.mu.Lock()
	c := s.cur
	s.mu.Unlock()
	stop(t, c)
	var wg sync.WaitGroup
	const calls = 400 // the socket holds some 270
	for i := range calls {
		wg.Go(func() {
			n := model.Name{Repo: fmt.Sprint("nobody", i)}
			if _, err := s.Find(context.Background(), n); !model.IsKind(err, model.NotFound) {
				t.Errorf("%s: %v", n, err)
			}
		})
	}
	left, cancel := context.WithCancel(context.Background())
	wg.Go(func() {
		_, err := c.ask(left, request{Op: opRead, File: 1, Len: 1, Wait: time.Minute}, named)
		if !errors.Is(err, context.Canceled) {
			t.Errorf("who left: %v", err)
		}
	})
	eventually(t, func() bool { // the socket is full, and the rest is queued
		c.mu.Lock()
		defer c.mu.Unlock()
		return len(c.waiting) == calls+1
	})
	cancel()
	must(t, c.cmd.Process.Signal(syscall.SIGCONT))
	wg.Wait()
	if !c.alive() {
		t.Error("the child was given up")
	}
}

func TestClose(t *testing.T) {
	s := source(t, plant(t, nil))
	_, err := s.Names(context.Background())
	must(t, err)
	s.Close()
	if _, err := s.Names(context.Background()); !model.IsKind(err, model.Unavailable) {
		t.Errorf("closed: %v", err)
	}
	s.Close()
}

// What a child gets is what it needs: no descriptor and no variable of its
// parent's besides.
func TestWhatAChildGets(t *testing.T) {
	t.Setenv("HF_TOKEN", "hf_secret")
	dev, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	must(t, err)
	defer dev.Close()
	s := source(t, plant(t, nil))
	_, err = s.Names(context.Background())
	must(t, err)
	s.mu.Lock()
	proc := fmt.Sprintf("/proc/%d/", s.cur.cmd.Process.Pid)
	s.mu.Unlock()
	env, err := os.ReadFile(proc + "environ")
	must(t, err)
	if strings.Contains(string(env), "secret") {
		t.Errorf("the environment: %q", env)
	}
	fds, err := os.ReadDir(proc + "fd")
	must(t, err)
	for _, fd := range fds {
		if to, _ := os.Readlink(proc + "fd/" + fd.Name()); to == "/dev/fuse" {
			t.Errorf("descriptor %s is /dev/fuse", fd.Name())
		}
	}
}

// A child whose share hangs is replaced, and no more than maxLeft are left
// behind.
func TestReplacement(t *testing.T) {
	s := New(Config{ID: "shared:/x", Log: slog.New(slog.DiscardHandler)})
	var children []*child
	next := func() *child {
		c := &child{gone: make(chan struct{}), waiting: make(map[uint64]chan *reply), ended: io.EOF, cmd: Command(nil)}
		c.cmd.Process = &os.Process{Pid: -1}
		children = append(children, c)
		s.mu.Lock()
		s.cur = c
		s.mu.Unlock()
		return c
	}
	replaced := func(c *child) bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.cur != c
	}
	c := next()
	if s.judge(c, replaceAfter-1); replaced(c) {
		t.Error("replaced too early")
	}
	if s.judge(c, replaceAfter); !replaced(c) {
		t.Error("not replaced")
	}
	c = next()
	if s.judge(c, replaceAfter); replaced(c) {
		t.Error("the second one is not given twice the time")
	}
	if s.judge(c, 2*replaceAfter); !replaced(c) {
		t.Error("the second one is not replaced")
	}
	c = next()
	if s.judge(c, time.Hour); replaced(c) {
		t.Errorf("%d children are left behind", maxLeft+1)
	}
	close(children[0].gone)
	eventually(t, func() bool { s.judge(c, time.Hour); return replaced(c) })
	for _, c := range children[1:] {
		close(c.gone)
	}
	eventually(t, func() bool { s.mu.Lock(); defer s.mu.Unlock(); return s.left == 0 })
}

// A file may be closed while a read of it is on its way, by a reader that
// gave up: the child must not keep it open for ever.
func TestAChildKeepsNothingOpen(t *testing.T) {
	root := plant(t, map[string]string{"org/m/model.gguf": "weights"})
	s, ctx := source(t, root), context.Background()
	path := filepath.Join(root, "org/m/model.gguf")
	named, _, err := s.At(path).Open(ctx)
	must(t, err)
	defer named.Close()
	c, err := s.child(ctx)
	must(t, err)
	for number := range uint64(500) {
		q := request{Op: opRead, Wait: time.Minute, File: number, Len: 7}
		answer, err := c.expect(&q)
		must(t, err)
		theirs, err := duplicate(named)
		must(t, err)
		c.post(q, theirs)
		c.post(request{Op: opClose, File: number}, nil)
		c.discard(<-answer)
	}
	open := func() int {
		fds, n := fmt.Sprintf("/proc/%d/fd", c.cmd.Process.Pid), 0
		entries, err := os.ReadDir(fds)
		must(t, err)
		for _, e := range entries {
			if to, err := os.Readlink(filepath.Join(fds, e.Name())); err == nil && to == path {
				n++
			}
		}
		return n
	}
	eventually(t, func() bool { return open() == 0 })
}

// Where descriptors are used up no child can be started; each try must give
// back what it took.
func TestAChildThatCannotBeStartedLeavesNothing(t *testing.T) {
	t.Setenv(childOf, t.TempDir())
	var limit unix.Rlimit
	must(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &limit))
	defer func() { must(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &limit)) }()
	started := false
	for n := uint64(3); n < 100 && !started; n++ {
		must(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: n, Max: limit.Max}))
		c, err := spawn([]string{"child"}, &output{})
		must(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &limit))
		if started = err == nil; started {
			c.kill(io.EOF)
			<-c.gone
		}
	}
	if !started {
		t.Fatal("no child could be started at all")
	}
	maps, err := os.ReadFile("/proc/self/maps")
	must(t, err)
	if n := strings.Count(string(maps), "modelfs-share"); n > 0 {
		t.Errorf("%d windows are still mapped", n)
	}
}
