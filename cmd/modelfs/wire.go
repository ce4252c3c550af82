package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"runtime"
	"slices"
	"sync/atomic"
	"time"

	"modelfs/cmd/modelfs/config"
	"modelfs/cmd/modelfs/describe"
	"modelfs/failover"
	"modelfs/fetcher"
	"modelfs/fs"
	"modelfs/internal/model"
	"modelfs/internal/origin"
	"modelfs/resolver"
	"modelfs/source/huggingface"
	"modelfs/source/router"
	"modelfs/store"
)

// closers are what has been opened so far, in order.
type closers []func() error

func (c *closers) add(f func() error) { *c = append(*c, f) }

// addQuiet adds what can't fail to close.
func (c *closers) addQuiet(f func()) { c.add(func() error { f(); return nil }) }

// close closes in reverse order, all of it, and returns every error.
func (c *closers) close() error {
	var errs []error
	for _, f := range slices.Backward(*c) {
		errs = append(errs, f())
	}
	*c = nil
	return errors.Join(errs...)
}

// daemon is everything that one mount needs. Whoever has it calls stop.
type daemon struct {
	cfg      *config.Config
	point    string
	log      *slog.Logger
	started  time.Time
	store    *store.Store
	fetcher  *fetcher.Fetcher
	resolver *resolver.Resolver
	sources  []resolver.Source
	trees    []tree // those of the sources that are read in place
	machine  describe.Machine
	about    *describe.Describer
	finder   *finder
	failover *failover.Failover        // of shares' files that are read here
	mounted  atomic.Pointer[fs.Server] // nil until it is mounted, then constant
	opened   closers

	supervisor atomic.Int64 // its process id; 0 without one
}

// mounter serves a tree: by mounting it, or on a connection that a supervisor
// holds.
type mounter func(fs.Config) (*fs.Server, error)

// startDaemon opens the backing dir, whose lock may have been taken already,
// makes the sources and mounts. It asks nothing of the network. Its errors
// have exit codes.
func startDaemon(cfg *config.Config, point string, log *slog.Logger, lock *os.File, mount mounter) (*daemon, error) {
	d := &daemon{cfg: cfg, point: point, log: log, started: time.Now()}
	if err := d.start(lock, mount); err != nil {
		return nil, errors.Join(err, d.opened.close())
	}
	return d, nil
}

func (d *daemon) start(lock *os.File, mount mounter) error {
	if err := d.open(lock); err != nil {
		return err
	}
	d.machine.Log(d.log)
	d.serveCommands()
	if err := d.listen(); err != nil {
		return err
	}
	tree, err := mount(d.mountConfig())
	if err != nil {
		return withCode(exitMount, err)
	}
	d.mounted.Store(tree)
	return nil
}

// open opens the backing dir and makes the sources, and what works on them.
func (d *daemon) open(lock *os.File) error {
	var err error
	d.store, err = store.Open(d.cfg.Cache, store.Options{MaxSize: int64(d.cfg.CacheSize), Private: !d.cfg.AllowOther, Lock: lock, Log: d.log})
	if err != nil {
		return err
	}
	d.opened.add(d.store.Close)
	if d.machine, err = describe.LookAt(d.cfg.Backend, d.cfg.BackendRules); err != nil {
		return withCode(exitUsage, err)
	}
	warnOfNetwork(d.cfg, d.log)
	door, sources, err := openSources(d.cfg, d.point, d.store.Facts("layouts"), d.log, &d.opened)
	if err != nil {
		return withCode(exitUsage, err)
	}
	d.sources = sources
	for _, s := range sources {
		if t, ok := s.(tree); ok {
			d.trees = append(d.trees, t)
		}
	}
	d.finder = newFinder(d.trees, d.log)
	d.opened.addQuiet(d.finder.close)
	d.about = describe.New(d.machine, d.store.Pinned)
	d.resolver = resolver.New(filtered(resolverConfig(d.cfg, sources, d.store.Facts("names"), d.log), d.machine, d.about))
	d.opened.addQuiet(d.resolver.Close)

	d.fetcher = fetcher.New(fetcher.Config{
		Store: d.store, Door: door, Touched: d.cfg.Fill == config.FillTouched, MaxFills: d.cfg.MaxFills,
		ReadTimeout: d.cfg.ReadTimeout.Duration, OpenTimeout: d.cfg.LookupTimeout.Duration, Log: d.log,
		Elsewhere: d.finder.find,
		OnChange: func(key model.Key, source string) {
			if tree := d.mounted.Load(); tree != nil { // before, the kernel has nothing to forget
				tree.Changed(key, source)
			}
		},
	})
	d.opened.add(d.fetcher.Close)
	d.failover = failover.New(failover.Config{
		Names: d.resolver, Content: d.fetcher, Elsewhere: d.finder.findAll, Stored: d.resolver.Stored,
		ReadTimeout: d.cfg.ReadTimeout.Duration, Log: d.log,
	})
	d.opened.addQuiet(d.failover.Close)
	return nil
}

// relay is what reads a file of a share that the kernel does not read, because
// it was told not to or because it can't; nil for any other file.
func (d *daemon) relay(v *model.View, f *model.File, st model.Stat, older bool, moved string) fs.Relay {
	if _, ofShare := f.Place.(interface{ Relayed() bool }); !ofShare {
		return nil
	}
	return d.failover.File(v, f, st, older, moved)
}

// filtered makes listings leave out what does not run here.
func filtered(names resolver.Config, here describe.Machine, about *describe.Describer) resolver.Config {
	if here.Backends.All {
		return names
	}
	names.Filter = about.Filter
	names.Sources = slices.Clone(names.Sources)
	for i, s := range names.Sources {
		if s.Kind().InPlace() {
			names.Sources[i] = about.Studied(s)
		}
	}
	return names
}

func (d *daemon) mountConfig() fs.Config {
	return fs.Config{
		MountPoint: d.point, Names: d.resolver, All: d.resolver.Unfiltered(), Content: d.fetcher,
		Elsewhere:  d.finder.find,
		Status:     func() any { return d.status() },
		Explain:    func(ctx context.Context, name string) any { return d.explain(ctx, name) },
		Stored:     d.resolver.Stored,
		ColdDeny:   d.cfg.ColdDeny,
		AllowOther: d.cfg.AllowOther,
		UID:        ownerID(d.cfg.UID, os.Getuid()), GID: ownerID(d.cfg.GID, os.Getgid()),
		BackingDir: d.cfg.Cache,
		StackOn:    d.cfg.Local,
		Stacked:    d.cfg.SharedIO != config.SharedDaemon && anyStacked(d.cfg.Shared),
		Places:     d.place,
		Relay:      d.relay,
		Log:        d.log,
	}
}

// ownerID is a configured id, or the process's own.
func ownerID(configured, own int) uint32 {
	if configured == config.Own {
		configured = own
	}
	return uint32(configured) //nolint:gosec // the kernel's ids are 32 bits, and the configuration's are checked
}

// place finds a file in place that an earlier server had open. A network
// source's lies in whatever tree spared the download.
func (d *daemon) place(source, path string) model.Place {
	var found model.Place
	for _, t := range d.trees {
		p := t.At(path)
		if p != nil && t.ID() == source {
			return p
		}
		if p != nil && found == nil {
			found = p
		}
	}
	return found
}

// stop takes the mount away (or, with keep, leaves it dead for the next start
// to mount over) and closes everything. It may wait for requests that hang in
// the kernel.
func (d *daemon) stop(keep bool) error {
	tree := d.mounted.Load()
	if keep {
		if err := tree.Leave(); err != nil { // fusectl is not mounted everywhere
			d.log.Debug("the mount dies with this process and not before", "cause", err)
			return d.opened.close()
		}
	} else if err := unmountTree(tree); err != nil {
		return errors.Join(err, d.opened.close())
	}
	d.failover.Close() // ends the reads that wait for a share
	tree.Wait()
	return d.opened.close()
}

// unmountTree unmounts, unless somebody else has done so.
func unmountTree(tree *fs.Server) error {
	select {
	case <-tree.Done():
		return nil
	default:
		return tree.Unmount()
	}
}

// openSources opens the network's door and makes every source, in the order in
// which those of one kind are believed. A store that is or lies in the mount
// point ("": none) is left out: a mount must not read itself. known may be nil.
func openSources(cfg *config.Config, point string, known resolver.Facts, log *slog.Logger, opened *closers) (*origin.Door, []resolver.Source, error) {
	door, err := origin.New(doorConfig(cfg, log))
	if err != nil {
		return nil, nil, err
	}
	opened.addQuiet(door.Close)
	trees, err := openTrees(cfg, point, known, log, opened)
	if err != nil {
		return nil, nil, err
	}
	var list []resolver.Source
	for _, t := range trees {
		list = append(list, t)
	}
	network, err := networkSources(cfg, door, log, opened)
	if err != nil {
		return nil, nil, err
	}
	list = append(list, network...)
	return door, list, resolver.CheckConfine(cfg.Sources, list)
}

func doorConfig(cfg *config.Config, log *slog.Logger) origin.Config {
	c := origin.Config{Allow: cfg.Allow, CAFile: cfg.CAFile, UserAgent: "modelfs/" + version() + "; " + runtime.Version(), Log: log}
	if cfg.HFEndpoint != "" {
		c.Endpoints = append(c.Endpoints, cfg.HFEndpoint)
		c.Credentials = append(c.Credentials, origin.Credential{Base: cfg.HFEndpoint, Token: cfg.HubToken.Value})
	}
	if cfg.Router != "" {
		c.Endpoints = append(c.Endpoints, cfg.Router)
		c.Credentials = append(c.Credentials, origin.Credential{Base: cfg.Router, Token: cfg.RouterToken.Value})
	}
	return c
}

func networkSources(cfg *config.Config, door *origin.Door, log *slog.Logger, opened *closers) ([]resolver.Source, error) {
	var list []resolver.Source
	var sizes router.Hub // who states the sizes of what a router points at
	if cfg.HFEndpoint != "" {
		hub, err := huggingface.New(huggingface.Config{
			Endpoint: cfg.HFEndpoint, Door: door, Log: log,
			Authorized: func() bool { token, err := cfg.HubToken.Value(); return err == nil && token != "" },
		})
		if err != nil {
			return nil, err
		}
		opened.addQuiet(hub.Close)
		sizes = hub
		if len(cfg.Models) > 0 { // asked before the Hub itself, which may have a model of the same name
			list = append(list, aliasSource{hub, cfg.Models})
		}
		list = append(list, hub)
	}
	if cfg.Router != "" {
		s, err := router.New(router.Config{URL: cfg.Router, Door: door, Hub: sizes, HubEndpoint: cfg.HFEndpoint, Log: log})
		if err != nil {
			return nil, err
		}
		opened.addQuiet(s.Close)
		list = append(list, s)
	}
	return list, nil
}

// resolverConfig is the resolver's configuration; facts may be nil.
func resolverConfig(cfg *config.Config, sources []resolver.Source, facts resolver.Facts, log *slog.Logger) resolver.Config {
	return resolver.Config{
		Sources: sources, LookupTimeout: cfg.LookupTimeout.Duration, ListTimeout: cfg.ListTimeout.Duration,
		Fallback: resolver.Fallback(cfg.Fallback), Confine: cfg.Sources, Quants: cfg.Quant, Facts: facts, Log: log,
	}
}
