package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"modelfs/cmd/modelfs/config"
	"modelfs/internal/model"
	"modelfs/source/discover"
	"modelfs/source/share"
)

// Flags of the process that touches a share, besides share.SuspectFlag.
const (
	layoutFlag    = "layout"
	skipFlag      = "skip"
	trustFlag     = "link-target"
	timeoutFlag   = "timeout"
	levelFlag     = "log-level"
	formatFlag    = "log-format"
	recogniseFlag = "recognise"
)

// shareCommand is what a daemon starts for each share. It takes everything
// from its flags, and reads no environment and no config file.
func shareCommand() *cobra.Command {
	var layout, level, format string
	var skip, trust []string
	var timeout time.Duration
	var suspect, recognise bool
	cmd := &cobra.Command{
		Use:    "share DIR",
		Short:  "Touch a shared tree, where getting stuck costs nobody anything (started by mount)",
		Hidden: true,
		Args:   cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if recognise {
				return tellLayouts(cmd, args[0])
			}
			log := newLogger(cmd.ErrOrStderr(), level, format)
			p := placed{discover.Store{Kind: layout, Dir: args[0], Skip: skip}, model.Shared}
			t, err := p.openHere(timeout, trust, log)
			if err != nil {
				return withCode(exitUsage, err)
			}
			touching, ok := t.(share.Tree)
			if !ok {
				return model.Errorf(model.Internal, "a store of layout %q can't be shared", layout)
			}
			return share.Serve(touching, suspect, log)
		},
	}
	cmd.Flags().StringVar(&layout, layoutFlag, "", "`LAYOUT` of the store; none for a plain tree")
	cmd.Flags().StringArrayVar(&skip, skipFlag, nil, "`NAME` of a directory that a plain tree leaves out (repeatable)")
	cmd.Flags().StringArrayVar(&trust, trustFlag, nil, "`DIR` that links may lead into (repeatable)")
	cmd.Flags().DurationVar(&timeout, timeoutFlag, 0, "longest wait for one operation")
	cmd.Flags().StringVar(&level, levelFlag, "info", "debug, info, warn or error")
	cmd.Flags().StringVar(&format, formatFlag, "json", "text or json")
	cmd.Flags().BoolVar(&suspect, share.SuspectFlag, false, "the share hung just now")
	cmd.Flags().BoolVar(&recognise, recogniseFlag, false, "only say which layout the directory has")
	return cmd
}

// openShare makes the source of a share, which is asked by a process of its own.
func (p placed) openShare(cfg *config.Config, log *slog.Logger) tree {
	label, format := p.Kind, cfg.LogFormat
	if label == "" {
		label = model.Shared.String()
	}
	if format == "auto" && isTerminal(os.Stderr) {
		format = "text"
	}
	command := []string{"share", "--" + layoutFlag, p.Kind, "--" + timeoutFlag, cfg.ListTimeout.Duration.String(), "--" + levelFlag, cfg.LogLevel, "--" + formatFlag, format}
	for _, name := range p.Skip {
		command = append(command, "--"+skipFlag, name)
	}
	for _, dir := range cfg.LinkTargets {
		command = append(command, "--"+trustFlag, dir)
	}
	return share.New(share.Config{
		Trust: cfg.LinkTargets,
		ID:    label + ":" + p.Dir, Root: p.Dir, Timeout: cfg.ListTimeout.Duration, Relay: cfg.SharedIO == config.SharedDaemon, Output: os.Stderr, Log: log,
		Command: append(command, "--", p.Dir),
	})
}

// tellLayouts says on standard output when it begins to look, and what it saw.
func tellLayouts(cmd *cobra.Command, dir string) error {
	out := json.NewEncoder(cmd.OutOrStdout())
	if err := out.Encode("looking"); err != nil {
		return err
	}
	s, err := layoutsBy(discover.Layouts, dir)
	if err != nil {
		return err
	}
	return out.Encode(s)
}

// sharedLayouts are the layouts in a directory on a share: another process looks,
// for no longer than the limit, and is left behind if it gets stuck.
func sharedLayouts(dir string, limit time.Duration) ([]discover.Store, error) {
	var s []discover.Store
	said, says, err := os.Pipe()
	if err != nil {
		return s, err
	}
	defer said.Close()
	cmd := share.Command([]string{"share", "--" + recogniseFlag, "--", dir})
	cmd.Stdin, cmd.Stdout, cmd.Stderr = says, says, says // the default needs a /dev/null
	err = cmd.Start()
	says.Close()
	if err != nil {
		return s, err
	}
	defer func() {
		_ = cmd.Process.Kill() // it has nothing more to do
		go cmd.Wait()          //nolint:errcheck // how it ended says nothing
	}()
	lines := bufio.NewReader(said)
	for i, wait := range []time.Duration{recogniserStarts, limit} {
		if err := said.SetReadDeadline(time.Now().Add(wait)); err != nil {
			return s, err
		}
		line, err := lines.ReadBytes('\n')
		if err != nil {
			return s, err
		}
		if i == 1 && json.Unmarshal(line, &s) != nil {
			return nil, errors.New(strings.TrimPrefix(strings.TrimSpace(string(line)), "modelfs: ")) // it could not look
		}
	}
	return s, nil
}
