package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"time"

	"modelfs/cmd/modelfs/config"
	"modelfs/cmd/modelfs/control"
	"modelfs/cmd/modelfs/describe"
	"modelfs/cmd/modelfs/operate"
	"modelfs/internal/model"
)

// operator does what commands ask for.
func (d *daemon) operator() *operate.Operator {
	kinds := make(map[string]model.SourceKind)
	for _, s := range d.sources {
		kinds[s.ID()] = s.Kind()
	}
	return operate.New(operate.Config{
		Names: d.resolver, All: d.resolver.Unfiltered(), Records: d.resolver, Filler: d.fetcher, Keeper: d.store, Shelf: d.store,
		InPlace: func(source string) bool {
			kind, known := kinds[source]
			return known && kind.InPlace()
		},
		Describe: d.about.Describe, Variants: describe.Variants, Elsewhere: d.finder.find,
	})
}

// serveCommands listens on the control socket. A filesystem that can't hold
// one costs the commands, not the mount.
func (d *daemon) serveCommands() {
	o := d.operator()
	work := control.Work{Puller: o, Keeper: o, Lister: o, Status: func() any { return d.status() }}
	s, err := control.Listen(d.cfg.Cache, work, d.log)
	if err != nil {
		d.log.Warn("modelfs pull, pin, unpin, rm and ls can't reach this daemon", "cause", err)
		return
	}
	d.opened.add(s.Close)
}

// A desk is whom a command asks: the daemon that owns the backing dir, or an
// operator of this process. The command closes it.
type desk struct {
	control.Puller
	control.Keeper
	control.Lister
	close func() error
}

// openDesk asks the daemon, and does without where none runs.
func openDesk(ctx context.Context, cfg *config.Config, log *slog.Logger) (*desk, error) {
	c, err := control.Dial(ctx, cfg.Cache)
	if model.IsKind(err, model.NotFound) {
		var alone *desk
		alone, err = deskAlone(cfg, log)
		if err == nil || !model.IsKind(err, model.InUse) {
			return alone, err
		}
		var again error
		if c, again = control.Dial(ctx, cfg.Cache); again != nil { // a daemon may just have started
			return nil, err
		}
		err = nil
	}
	if err != nil {
		return nil, err
	}
	return &desk{c, c, c, c.Close}, nil
}

// deskAlone opens the backing dir for this command.
func deskAlone(cfg *config.Config, log *slog.Logger) (*desk, error) {
	d := &daemon{cfg: cfg, log: log, started: time.Now()}
	if err := d.open(nil); err != nil {
		return nil, errors.Join(err, d.opened.close())
	}
	o := d.operator()
	return &desk{o, o, o, d.opened.close}, nil
}

// withoutCache makes cfg use a backing dir that is gone afterwards if its own
// does not exist, for commands that only look.
func withoutCache(cfg *config.Config) (remove func() error, err error) {
	if _, err := os.Stat(cfg.Cache); !errors.Is(err, os.ErrNotExist) {
		return func() error { return nil }, nil
	}
	dir, err := os.MkdirTemp("", "modelfs-ls.")
	cfg.Cache = dir
	return func() error { return os.RemoveAll(dir) }, err
}

// commandLog is quiet where the operator has not asked for more: a command
// says itself what it does.
func commandLog(w io.Writer, cfg *config.Config) *slog.Logger {
	level := cfg.LogLevel
	if level == "info" {
		level = "warn"
	}
	return newLogger(w, level, cfg.LogFormat)
}
