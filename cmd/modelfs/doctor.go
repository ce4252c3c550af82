package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"modelfs/cmd/modelfs/config"
	"modelfs/cmd/modelfs/control"
	"modelfs/cmd/modelfs/describe"
	"modelfs/cmd/modelfs/doctor"
	"modelfs/internal/mountinfo"
	"modelfs/store"
)

// doctorPatience is how long one source is waited for: longer than readers
// wait, to tell slow from dead.
const doctorPatience = 5 * time.Second

func doctorCommand(sys config.System) *cobra.Command {
	var flags config.Flags
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "doctor [MOUNTPOINT]",
		Short: "Say whether this machine is ready, and what to do if not",
		Long: `Say whether this machine is ready, and what to do if not: /dev/fuse, rights,
kernel, passthrough and read-ahead (by a mount made for trial), propagation of
mounts to containers, the backing directory, GPU backends, tokens (present or
not), and each source with the time that its answer takes. Give it the flags that
"modelfs mount" gets. MOUNTPOINT is where models are or will be mounted.

A warning is what makes modelfs slower, or less than it could be; a problem is what
keeps it from working. The exit code is 1 if there is a problem.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, err := config.Load(sys, &flags)
			if err != nil {
				return withCode(exitUsage, err)
			}
			report, err := examine(cmd.Context(), cfg, strings.Join(args, ""))
			if err != nil {
				return err
			}
			if asJSON {
				err = writeJSON(cmd.OutOrStdout(), report)
			} else {
				err = report.Print(cmd.OutOrStdout())
			}
			if n := report.Problems(); err == nil && n > 0 {
				err = fmt.Errorf("this machine is not ready: %s", plural(n, "problem"))
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print it as JSON")
	flags.Add(cmd.Flags(), sys)
	return cmd
}

// examine looks at everything.
func examine(ctx context.Context, cfg *config.Config, point string) (doctor.Report, error) {
	var r doctor.Report
	r.Add(doctor.Device(), doctor.Rights(), doctor.Kernel())
	if r.Problems() == 0 {
		r.Add(tryMount(ctx, cfg.Cache).Lines()...)
	}
	list, err := mountinfo.Read()
	if err != nil {
		return r, err
	}
	line, err := propagation(list, point)
	if err != nil {
		return r, err
	}
	r.Add(line)
	r.Add(doctor.BackingDir(cfg.Cache)...)
	r.Add(owner(ctx, cfg.Cache))
	backends, err := backendLines(cfg)
	if err != nil {
		return r, withCode(exitUsage, err)
	}
	r.Add(backends...)
	sources, err := sourceLines(ctx, cfg)
	r.Add(sources...)
	return r, err
}

// propagation looks at where models are mounted, or will be. Without a point
// that is where the only modelfs is mounted now, else /models.
func propagation(list []mountinfo.Mount, point string) (doctor.Line, error) {
	if point == "" {
		point = "/models"
		if found := modelfsMounts(list); len(found) == 1 {
			point = found[0]
		}
	}
	abs, err := filepath.Abs(point)
	if err != nil {
		return doctor.Line{}, err
	}
	parent := filepath.Dir(abs)
	m, _ := mountOf(list, parent)
	return doctor.Propagation(parent, m.Point, m.Shared), nil
}

// owner asks who has the backing dir, without making it.
func owner(ctx context.Context, dir string) doctor.Line {
	if c, err := control.Dial(ctx, dir); err == nil {
		_ = c.Close() // it answered
		return doctor.Owner(dir, nil, true)
	}
	if _, err := os.Stat(dir); err != nil {
		return doctor.Owner(dir, nil, false)
	}
	lock, err := store.Lock(dir)
	if err == nil {
		_ = lock.Close() // it was only asked for
	}
	return doctor.Owner(dir, err, false)
}

func backendLines(cfg *config.Config) ([]doctor.Line, error) {
	m, err := describe.LookAt(cfg.Backend, cfg.BackendRules)
	if err != nil {
		return nil, err
	}
	selected := m.Backends
	var lines []doctor.Line
	if len(selected.Signs) == 0 {
		lines = append(lines, doctor.Line{Level: doctor.OK, Thing: "backend", Found: selected.String() + " (--backend)"})
	}
	for _, s := range selected.Signs {
		lines = append(lines, doctor.Line{Level: doctor.OK, Thing: "backend", Found: s.String()})
	}
	for _, s := range selected.Unusable {
		lines = append(lines, doctor.Line{Level: doctor.Warning, Thing: "backend", Found: s.String(),
			Next: "install its driver, or give the container its devices; engines there can't use it either"})
	}
	return lines, nil
}

// sourceLines asks every source, all at once, and looks for credentials.
func sourceLines(ctx context.Context, cfg *config.Config) ([]doctor.Line, error) {
	var lines []doctor.Line
	if cfg.HFEndpoint != "" {
		lines = append(lines, token("Hub's token", cfg.HubToken, "gated and private models are refused, and the Hub's limits are lower"))
	}
	if cfg.Router != "" {
		lines = append(lines, token("router's key", cfg.RouterToken, "routers that want one refuse"))
	}
	for _, dir := range slices.Concat(cfg.Local, cfg.Shared) {
		ctx, cancel := context.WithTimeout(ctx, doctorPatience)
		if line, isDir := doctor.Tree(ctx, dir); !isDir {
			lines = append(lines, line)
		}
		cancel()
	}
	var opened closers
	_, sources, err := openSources(cfg, "", nil, slog.New(slog.DiscardHandler), &opened)
	if err != nil {
		return lines, withCode(exitUsage, errors.Join(err, opened.close()))
	}
	answers := make([]doctor.Line, len(sources))
	var asked sync.WaitGroup
	for i, s := range sources {
		asked.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, doctorPatience)
			defer cancel()
			answers[i] = doctor.Ask(ctx, s, cfg.LookupTimeout.Duration)
		})
	}
	asked.Wait()
	if len(sources) == 0 {
		lines = append(lines, doctor.Line{Level: doctor.Problem, Thing: "sources", Found: "none: the mount would be empty",
			Next: "name a --local, --shared, --hf-endpoint or --router"})
	}
	return append(lines, answers...), opened.close()
}

func token(thing string, t *config.Token, without string) doctor.Line {
	value, err := t.Value()
	return doctor.Token(thing, t.String(), without, value != "", err)
}
