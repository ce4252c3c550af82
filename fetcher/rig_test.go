package fetcher

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"runtime/pprof"
	"sync"
	"testing"
	"time"

	"modelfs/internal/hubtest"
	"modelfs/internal/leaktest"
	"modelfs/internal/model"
	"modelfs/internal/origin"
	"modelfs/store"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

const mib = 1 << 20

// tb is what *testing.T, *testing.B and *rapid.T have in common.
type tb interface {
	Helper()
	Cleanup(func())
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
	Fatal(args ...any)
	Failed() bool
	Logf(format string, args ...any)
}

// A rig is a fetcher on a store of its own and a scripted Hub.
type rig struct {
	t     tb
	hub   *hubtest.Hub
	net   *hubtest.Network // nil: loopback
	dir   string
	opt   store.Options
	cfg   Config
	store *store.Store
	door  *origin.Door
	f     *Fetcher
	log   *logBuffer

	mu      sync.Mutex // guards changes
	changes []model.Key
}

type rigOption func(*rig)

func withConfig(edit func(*Config)) rigOption { return func(r *rig) { edit(&r.cfg) } }
func withMaxSize(n int64) rigOption           { return func(r *rig) { r.opt.MaxSize = n } }

// inMemory has the rig's network in memory, for synctest bubbles.
func inMemory(r *rig) { r.net = hubtest.NewNetwork() }

func newRig(t tb, opts ...rigOption) *rig {
	t.Helper()
	dir, err := os.MkdirTemp("", "fetcher")
	must(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	r := &rig{t: t, dir: dir, log: &logBuffer{}}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the log:\n%s", r.log)
		}
	})
	for _, o := range opts {
		o(r)
	}
	if r.net != nil {
		r.hub = hubtest.New(t, hubtest.On(r.net))
	} else {
		r.hub = hubtest.New(t)
	}
	r.start()
	t.Cleanup(r.stop)
	return r
}

// start begins a daemon's life on the rig's backing dir.
func (r *rig) start() {
	r.t.Helper()
	log := slog.New(slog.NewTextHandler(r.log, &slog.HandlerOptions{Level: slog.LevelInfo}))
	var err error
	r.opt.Log = log
	r.store, err = store.Open(r.dir, r.opt)
	must(r.t, err)
	oc := origin.Config{Endpoints: []string{r.hub.URL(), r.hub.CDN()}, Log: log}
	if r.net != nil {
		oc.Dial = r.net.Dial
	}
	r.door, err = origin.New(oc)
	must(r.t, err)
	cfg := r.cfg
	cfg.Store, cfg.Door, cfg.Log = r.store, r.door, log
	cfg.OnChange = func(key model.Key, _ string) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.changes = append(r.changes, key)
	}
	r.f = New(cfg)
}

func (r *rig) stop() {
	if r.f == nil {
		return
	}
	if err := r.f.Close(); err != nil {
		r.t.Errorf("closing the fetcher: %v", err)
	}
	r.door.Close()
	if err := r.store.Close(); err != nil {
		r.t.Errorf("closing the store: %v", err)
	}
	r.f = nil
}

func (r *rig) changed() []model.Key {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]model.Key(nil), r.changes...)
}

// view adds a repository with these files and returns its view, as the Hub's
// source would state it.
func (r *rig) view(id string, files ...hubtest.File) *model.View {
	r.t.Helper()
	commit := r.hub.AddRepo(hubtest.Repo{ID: id, Files: files})
	m := &model.Model{Name: id, Source: "hub:" + r.hub.URL(), Kind: model.Hub, Revision: commit}
	for _, f := range files {
		mf := model.File{Path: f.Path, Size: f.Content.Size(), URLs: []string{r.hub.ResolveURL(id, commit, f.Path)}}
		if p, ok := f.Content.(*hubtest.PatternContent); ok && f.SHA256 == "" {
			mf.SHA256 = p.SHA256()
			mf.Key = model.SHA256Key(mf.SHA256)
		} else {
			mf.Key = model.AtKey(id, commit, f.Path)
		}
		m.Files = append(m.Files, mf)
	}
	m.Files, _ = model.Listing(m.Files)
	return &model.View{Model: m, Settled: true}
}

// one adds a repository with one file.
func (r *rig) one(c hubtest.Content) (*model.View, *model.File) {
	r.t.Helper()
	v := r.view("org/model", hubtest.File{Path: "model.gguf", Content: c, LFS: true})
	return v, &v.Files[0]
}

func (r *rig) open(v *model.View, file *model.File) model.Reader {
	r.t.Helper()
	rd, err := r.f.Open(context.Background(), v, file)
	must(r.t, err)
	return rd
}

// sent is the bytes of content that were handed to connections.
func (r *rig) sent() int64 { return r.hub.BytesSent("") }

// asked is the number of requests to a host.
func (r *rig) asked(h hubtest.HostKind) int {
	return len(r.hub.Requests(hubtest.Filter{Host: h}))
}

func must(t tb, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// same fails unless [off, off+len(got)) of c is got.
func same(t tb, c hubtest.Content, got []byte, off int64) {
	t.Helper()
	if at := hubtest.Mismatch(c, got, off); at >= 0 {
		t.Fatalf("wrong byte at %d (block %d) in a read of %d at %d", at, at/blockSize, len(got), off)
	}
}

// readAt reads exactly n bytes and checks them.
func readAt(t tb, rd model.Reader, c hubtest.Content, off int64, n int) {
	t.Helper()
	readInto(t, rd, c, off, make([]byte, n))
}

// readInto is readAt with the caller's memory: what is allocated for each of
// many large reads costs more than they do under the race detector.
func readInto(t tb, rd model.Reader, c hubtest.Content, off int64, p []byte) {
	t.Helper()
	n := len(p)
	got, err := rd.ReadAt(context.Background(), p, off)
	if err != nil {
		t.Fatalf("read of %d at %d: %v", n, off, err)
	}
	if want := min(int64(n), max(0, c.Size()-off)); int64(got) != want {
		t.Fatalf("read of %d at %d gave %d bytes, want %d", n, off, got, want)
	}
	same(t, c, p[:got], off)
}

// readAll reads a file from its start to its end in pieces and checks them.
func readAll(t tb, rd model.Reader, c hubtest.Content, piece int) {
	t.Helper()
	p := make([]byte, piece)
	for off := int64(0); off < c.Size(); off += int64(piece) {
		readInto(t, rd, c, off, p)
	}
}

// within waits for a condition that other goroutines bring about, and fails
// after a time that only a defect needs.
func within(t tb, d time.Duration, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(d); !ok(); <-tick.C {
		if time.Now().After(end) {
			var all bytes.Buffer
			_ = pprof.Lookup("goroutine").WriteTo(&all, 1)
			t.Fatalf("not within %v: %s; who waits:\n%s", d, what, all.String())
		}
	}
}

type logBuffer struct {
	mu  sync.Mutex // guards buf
	buf bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
