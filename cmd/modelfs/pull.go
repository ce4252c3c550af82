package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/signal"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"modelfs/cmd/modelfs/config"
	"modelfs/cmd/modelfs/control"
	"modelfs/internal/model"
)

func pullCommand(sys config.System) *cobra.Command {
	var flags config.Flags
	var update bool
	cmd := &cobra.Command{
		Use:   "pull NAME...",
		Short: "Download models now",
		Long: `Download models now: all files that the model's directory lists, or, of
NAME:QUANT, that quantisation's weights and the small files beside them. The
daemon that owns the backing directory (--cache) does it, by the same download
that readers start and join; where none runs, this command does it itself.

Ctrl-C stops it. What was received is kept: the next pull, or reader, goes on
from there. Models that are read in place have nothing to download.

With --update the name's branch is asked what it means now, and what changed is
downloaded; who has files of the old revision open keeps them.`,
		Example: `  modelfs pull unsloth/Qwen3-8B-GGUF:Q4_K_M
  modelfs pull --update gpt2 openai/whisper-tiny`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), unix.SIGINT, unix.SIGTERM)
			defer stop()
			return withDesk(ctx, sys, &flags, cmd.ErrOrStderr(), func(d *desk) error {
				p := &puller{desk: d, update: update, out: cmd.OutOrStdout(), errs: cmd.ErrOrStderr()}
				return eachName(args, p.errs, func(name string) error { return p.pull(ctx, name) })
			})
		},
	}
	cmd.Flags().BoolVar(&update, "update", false, "ask what the names mean now, and download what changed")
	flags.Add(cmd.Flags(), sys)
	return cmd
}

// withDesk loads the configuration and opens the desk for one command.
func withDesk(ctx context.Context, sys config.System, flags *config.Flags, stderr io.Writer, do func(*desk) error) error {
	cfg, err := config.Load(sys, flags)
	if err != nil {
		return withCode(exitUsage, err)
	}
	d, err := openDesk(ctx, cfg, commandLog(stderr, cfg))
	if err != nil {
		return err
	}
	return errors.Join(do(d), d.close())
}

// eachName does something for each name in turn, whatever happens to the
// others. Where there are several it prints each failure; the error then
// counts them. It stops when one was interrupted. All failures have code 1.
func eachName(names []string, stderr io.Writer, do func(name string) error) error {
	failed := 0
	for _, name := range names {
		err := do(name)
		switch {
		case err == nil:
			continue
		case len(names) == 1 || model.IsKind(err, model.Interrupted):
			return withCode(exitFailed, err)
		}
		failed++
		fmt.Fprintf(stderr, "modelfs: %v\n", err)
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d names failed", failed, len(names))
	}
	return nil
}

// puller pulls names and shows how far it is.
type puller struct {
	desk      *desk
	update    bool
	out, errs io.Writer
}

// A board shows the files of one pull.
type board interface {
	show(e control.Event)
	close() // what is shown stays
}

func (p *puller) pull(ctx context.Context, name string) error {
	var b board = newLines(p.errs, name)
	if hasScreen(p.errs) {
		b = newBars(p.errs)
	}
	t := tally{name: name}
	err := p.desk.Pull(ctx, control.PullRequest{Name: name, Update: p.update}, func(e control.Event) {
		t.add(e)
		b.show(e)
	})
	b.close()
	for _, e := range t.failed {
		fmt.Fprintf(p.errs, "modelfs: %s: %s: %s\n", name, e.Path, e.Error)
	}
	switch {
	case model.IsKind(err, model.Interrupted):
		return model.Errorf(model.Interrupted, "%s: stopped; what was received is kept, and the next pull or reader goes on from there", name)
	case err != nil:
		return fmt.Errorf("pulling %s: %w (modelfs explain %s says more)", name, err, name)
	}
	fmt.Fprintln(p.out, t.String())
	return nil
}

// tally adds up what became of one pull.
type tally struct {
	name   string
	start  control.Event // the Listed one
	files  int           // that are here
	bytes  int64
	failed []control.Event
}

func (t *tally) add(e control.Event) {
	switch e.State {
	case control.Listed:
		t.start = e
	case control.Done:
		t.files++
		t.bytes += max(e.Done, 0)
	case control.Failed:
		t.failed = append(t.failed, e)
	case control.Filling:
	}
}

// String is for people, once the pull has succeeded.
func (t *tally) String() string {
	if t.start.Files == 0 && t.files == 0 {
		return fmt.Sprintf("%s: read in place from %s, nothing to download", t.name, t.start.Source)
	}
	return fmt.Sprintf("%s: %s, %s, all here (%s%s)", t.name, plural(t.files, "file"), humanize.IBytes(uint64(t.bytes)), //nolint:gosec // not negative
		t.start.Source, prefixed(" at ", t.start.Commit))
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
