package main

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"modelfs/cmd/modelfs/config"
	"modelfs/internal/model"
	"modelfs/resolver"
	"modelfs/source/directory"
	"modelfs/source/discover"
	"modelfs/source/hfcache"
	"modelfs/source/ollama"
	"modelfs/source/stores"
)

// How long a start waits to see what layout a directory has. One that can't be
// read in that time is a plain tree until the next start.
const (
	localLook  = 2 * time.Second // of a disk that has to spin up
	sharedLook = 200 * time.Millisecond
)

// A tree is a source whose files are read in place.
type tree interface {
	resolver.Source
	At(abs string) model.Place
	Close()
}

// placed is a directory and what its source is made of.
type placed struct {
	discover.Store // Kind "" for a plain tree
	as             model.SourceKind
}

// openTrees makes the sources of the configured directories, and after them
// those of the stores of other tools that are found on this machine.
func openTrees(cfg *config.Config, point string, log *slog.Logger, opened *closers) ([]tree, error) {
	var list []tree
	for _, p := range treesOf(cfg, point, log) {
		t, err := p.open(cfg, log)
		if err != nil {
			return nil, err
		}
		opened.addQuiet(t.Close)
		list = append(list, t)
	}
	return list, nil
}

func treesOf(cfg *config.Config, point string, log *slog.Logger) []placed {
	var list []placed
	for _, root := range cfg.Local {
		list = append(list, layoutsOf(root, model.Local, localLook, log)...)
	}
	for _, root := range cfg.Shared {
		list = append(list, layoutsOf(root, model.Shared, sharedLook, log)...)
	}
	if cfg.NoDiscover {
		return list
	}
	home, err := os.UserHomeDir()
	if err != nil {
		home = ""
	}
	var found []placed
	for _, s := range discover.Stores(os.Getenv, home) {
		if own(s, point) || slices.ContainsFunc(list, func(p placed) bool { return sameDir(p.Store, s) }) {
			continue
		}
		as := model.Local
		if s.Remote != "" {
			as = model.Shared
		}
		found = append(found, placed{s, as})
		log.Info("found the store of another tool; its models are read in place", "layout", s.Kind, "directory", s.Dir, "because", s.From)
	}
	for i := range list {
		list[i].skip(found)
	}
	return append(list, found...)
}

// skip has a plain tree leave out the directories in which stores were found.
func (p *placed) skip(found []placed) {
	if p.Kind != "" {
		return
	}
	for _, f := range found {
		if rel, inside := strings.CutPrefix(f.Dir, strings.TrimSuffix(p.Dir, "/")+"/"); inside {
			top, _, _ := strings.Cut(rel, "/")
			p.Skip = append(p.Skip, top)
		}
	}
}

// layoutsOf recognises the layouts in a directory, which may hang. Who looks
// then is left behind: a thread that is stuck in the kernel can't be got back.
func layoutsOf(root string, as model.SourceKind, limit time.Duration, log *slog.Logger) []placed {
	seen := make(chan []discover.Store, 1)
	go func() { seen <- discover.Layouts(root) }()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	var list []placed
	select {
	case stores := <-seen:
		for _, s := range stores {
			if s.Kind != "" {
				log.Info("the directory is the store of another tool", "layout", s.Kind, "directory", s.Dir)
			}
			list = append(list, placed{s, as})
		}
	case <-timer.C:
		log.Warn("the directory did not answer; it is taken for a plain tree until modelfs is started again", "directory", root, "waited", limit)
	}
	if list == nil {
		list = []placed{{discover.Store{Dir: root}, as}}
	}
	return list
}

// own reports whether a store would be a modelfs mount: this one, which must
// not read itself, or another.
func own(s discover.Store, point string) bool {
	return s.Remote == "fuse.modelfs" || point != "" && (s.Dir == point || strings.HasPrefix(s.Dir, point+"/"))
}

// sameDir compares by name, and where both are of this machine also by what
// the names lead to.
func sameDir(a, b discover.Store) bool {
	if a.Dir == b.Dir {
		return true
	}
	if b.Remote != "" {
		return false
	}
	real, err := filepath.EvalSymlinks(b.Dir)
	return err == nil && real == a.Dir
}

func (p placed) open(cfg *config.Config, log *slog.Logger) (tree, error) {
	timeout := cfg.ListTimeout.Duration
	store := stores.Config{Root: p.Dir, Kind: p.as, Trust: cfg.LinkTargets, Timeout: timeout, Log: log}
	switch p.Kind {
	case "":
		return directory.New(directory.Config{Root: p.Dir, Kind: p.as, Trust: cfg.LinkTargets, Skip: p.Skip, Timeout: timeout, Log: log})
	case discover.HFCache:
		return hfcache.New(store)
	case discover.Ollama:
		return ollama.New(store)
	}
	return stores.New(stores.Layout(p.Kind), store)
}

// refreshEvery is how often a finder looks whether a store has changed.
const refreshEvery = time.Second

// A hashed store names files by their sha256.
type hashed interface {
	ID() string
	Refresh(ctx context.Context) error
	BySHA256(hex string) (model.Place, int64, bool)
}

// A finder knows where content lies in the stores. It answers from memory and
// looks at the stores behind, each in a goroutine of its own: one that hangs
// holds up no other.
type finder struct {
	stores []hashed
	asked  []chan struct{} // one for each store, holding one token while somebody has asked
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

// newFinder makes a finder for those of the trees that name files by hash. The
// caller closes it, before the trees.
func newFinder(trees []tree, log *slog.Logger) *finder {
	ctx, cancel := context.WithCancel(context.Background())
	f := &finder{cancel: cancel}
	for _, t := range trees {
		h, ok := t.(hashed)
		if !ok {
			continue
		}
		asked := make(chan struct{}, 1)
		asked <- struct{}{}
		f.stores, f.asked = append(f.stores, h), append(f.asked, asked)
		f.wg.Go(func() { refresh(ctx, h, asked, log) })
	}
	return f
}

// close ends the looking and waits for it.
func (f *finder) close() {
	f.cancel()
	f.wg.Wait()
}

// refresh brings a store's index up to date when somebody has asked.
func refresh(ctx context.Context, h hashed, asked <-chan struct{}, log *slog.Logger) {
	ticker := time.NewTicker(refreshEvery)
	defer ticker.Stop()
	for {
		select {
		case <-asked:
		case <-ctx.Done():
			return
		}
		if err := h.Refresh(ctx); err != nil && ctx.Err() == nil {
			log.Debug("what lies in a store is not known", "source", h.ID(), "cause", err)
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

// find is where a file with this sha256 and size (-1: any) lies, as of the
// last look at the stores, or nil. It does no I/O.
func (f *finder) find(sha256 string, size int64) model.Place {
	var found model.Place
	for i, h := range f.stores {
		select {
		case f.asked[i] <- struct{}{}:
		default:
		}
		if p, n, ok := h.BySHA256(sha256); found == nil && ok && (size < 0 || n == size) {
			found = p
		}
	}
	return found
}
