package main

import (
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
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
// those of the stores of other tools that are found on this machine. The
// layouts of shares are remembered in known, which may be nil.
func openTrees(cfg *config.Config, point string, known resolver.Facts, log *slog.Logger, opened *closers) ([]tree, error) {
	var list []tree
	for _, p := range treesOf(cfg, point, known, log) {
		t, err := p.open(cfg, log)
		if err != nil {
			return nil, err
		}
		opened.addQuiet(t.Close)
		list = append(list, t)
	}
	return list, nil
}

func treesOf(cfg *config.Config, point string, known resolver.Facts, log *slog.Logger) []placed {
	var list []placed
	for _, root := range cfg.Local {
		list = append(list, layoutsOf(root, log)...)
	}
	list = append(list, layoutsOfShares(cfg.Shared, known, log)...)
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

// warnOfNetwork says where a local tree lies on a network filesystem or has one
// mounted in it, and where links would lead to one. None is asked.
func warnOfNetwork(cfg *config.Config, log *slog.Logger) {
	for _, root := range cfg.Local {
		if kind := discover.OnNetwork(root); kind != "" {
			log.Warn("a local tree lies on a network filesystem: what asks for it waits as long as that hangs; name it with --shared instead",
				"directory", root, "filesystem", kind)
		}
		for _, point := range discover.NetworkBelow(root) {
			log.Warn("a local tree leaves the network filesystem alone that is mounted in it; name that with --shared", "directory", root, "mounted", point)
		}
	}
	for _, target := range cfg.LinkTargets {
		if kind := discover.OnNetwork(target); kind != "" {
			log.Warn("local trees and stores leave links alone that lead to a network filesystem; name a tree that has such links with --shared, too",
				"link_target", target, "filesystem", kind)
		}
	}
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

// own reports whether a store would be a modelfs mount: this one, which must
// not read itself, or another.
func own(s discover.Store, point string) bool {
	return s.Remote == fsType || point != "" && within(s.Dir, point)
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
	if p.as == model.Shared {
		return p.openShare(cfg, log), nil
	}
	return p.openHere(0, cfg.LinkTargets, log)
}

// openHere makes a source whose system calls this process makes. Links may
// lead to the directories of trust.
func (p placed) openHere(timeout time.Duration, trust []string, log *slog.Logger) (tree, error) {
	c := stores.Config{Root: p.Dir, Kind: p.as, Trust: trust, Timeout: timeout, Log: log}
	switch p.Kind {
	case "":
		return directory.New(directory.Config{Root: p.Dir, Kind: p.as, Trust: trust, Skip: p.Skip, Timeout: timeout, Log: log})
	case discover.HFCache:
		return hfcache.New(c)
	case discover.Ollama:
		return ollama.New(c)
	}
	return stores.New(stores.Layout(p.Kind), c)
}
