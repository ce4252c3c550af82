package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/signal"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"modelfs/cmd/modelfs/config"
	"modelfs/cmd/modelfs/control"
	"modelfs/internal/model"
	"modelfs/internal/mountinfo"
)

// watchEvery is how often --watch asks.
const watchEvery = time.Second

func statusCommand(sys config.System) *cobra.Command {
	var flags config.Flags
	var point string
	var asJSON, watch bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show downloads, the backing directory and the sources",
		Long: `Show downloads with their speed and the time left, what the backing directory
holds, and how the sources are doing. The daemon that owns the backing directory
(--cache) is asked, or the one of the only mount; --mount names another.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := config.Load(sys, &flags)
			if err != nil {
				return withCode(exitUsage, err)
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), unix.SIGINT, unix.SIGTERM)
			defer stop()
			ask := func() (status, error) { return askStatus(ctx, cfg.Cache, point) }
			show := func(s status) ([]byte, error) { return statusText(s, time.Now()), nil }
			if asJSON {
				show = statusJSON
			}
			return showStatus(ctx, cmd.OutOrStdout(), watch, ask, show)
		},
	}
	cmd.Flags().StringVar(&point, "mount", "", "ask the daemon of this mount `POINT`, through it")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print all of it as JSON")
	cmd.Flags().BoolVar(&watch, "watch", false, "again every second, until Ctrl-C")
	flags.Add(cmd.Flags(), sys)
	return cmd
}

func statusJSON(s status) ([]byte, error) {
	var b bytes.Buffer
	err := writeJSON(&b, s)
	return b.Bytes(), err
}

// showStatus prints once, or again and again until ctx ends, on a terminal
// always in the same place.
func showStatus(ctx context.Context, out io.Writer, watch bool, ask func() (status, error), show func(status) ([]byte, error)) error {
	ticker := time.NewTicker(watchEvery)
	defer ticker.Stop()
	for {
		s, err := ask()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		text, err := show(s)
		if err != nil {
			return err
		}
		if watch && isTerminal(out) {
			text = append([]byte("\x1b[H\x1b[2J"), text...)
		}
		if _, err := out.Write(text); err != nil || !watch {
			return err
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// askStatus asks through the mount at point; without one through the backing
// dir's socket, or else through the only mount that this process sees.
func askStatus(ctx context.Context, cache, point string) (status, error) {
	var s status
	if point != "" {
		return statusOf(point)
	}
	c, err := control.Dial(ctx, cache)
	if err == nil {
		return s, errors.Join(c.Status(ctx, &s), c.Close())
	}
	if !model.IsKind(err, model.NotFound) && !model.IsKind(err, model.Denied) {
		return s, err
	}
	list, mountErr := mountinfo.Read()
	found := modelfsMounts(list)
	switch {
	case mountErr != nil:
		return s, errors.Join(err, mountErr)
	case len(found) == 1:
		return statusOf(found[0])
	case len(found) > 1:
		return s, withCode(exitUsage, fmt.Errorf("%w; modelfs is mounted on %q: choose one with --mount, or name its --cache", err, found))
	}
	return s, fmt.Errorf("%w, and modelfs is mounted nowhere; start it with modelfs mount, or name its --cache", err)
}

func statusOf(point string) (status, error) {
	s, err := readStatus(point)
	if err != nil {
		return s, fmt.Errorf("asking the daemon of %s: %w", point, err)
	}
	return s, nil
}

// statusText renders a status for people.
func statusText(s status, now time.Time) []byte {
	var b bytes.Buffer
	by := ""
	if s.Supervisor != 0 {
		by = fmt.Sprintf(" under supervisor %d", s.Supervisor)
	}
	fmt.Fprintf(&b, "modelfs %s on %s: process %d%s, up %v\n", s.Version, s.Mount.Point, s.PID, by, now.Sub(s.Started).Round(time.Second))
	fmt.Fprintf(&b, "backends %s\n", orNone(strings.Join(s.Backends, ",")))
	c := s.Cache
	fmt.Fprintf(&b, "cache    %s: %s of %s used, %s whole, %d in part, %d pinned; its disk has %s free\n",
		c.Dir, bytesOf(c.Used), bytesOf(c.Budget), plural(c.Blobs, "file"), c.Parts, c.Pinned, bytesOf(c.Free))
	m := s.Mount
	fmt.Fprintf(&b, "fetched  %s in %s; reads waiting: %d\n", bytesOf(s.Fetch.Bytes), plural(int(s.Fetch.Requests), "request"), s.Fetch.Waiting)
	fmt.Fprintf(&b, "opened   %d read by the kernel itself, %d served; open now: %d\n", m.Passthrough, m.Served, m.Handles)
	writeSources(&b, s, now)
	writeFills(&b, s)
	return trimLines(b.Bytes())
}

func writeSources(b *bytes.Buffer, s status, now time.Time) {
	w := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "\nSOURCE\tSTATE\tLATENCY\tLAST ERROR")
	for _, src := range s.Sources {
		state, took, last := "up", "-", ""
		if src.Breaker != "closed" {
			state = "left alone (breaker " + src.Breaker + ")"
		}
		if !src.LastAnswer.IsZero() {
			took = millis(src.LatencyMS)
		}
		if src.LastError != "" {
			last = fmt.Sprintf("%v ago: %s", now.Sub(src.LastErrorAt).Round(time.Second), src.LastError)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", src.ID, state, took, last)
	}
	_ = w.Flush() // into memory
}

func writeFills(b *bytes.Buffer, s status) {
	if len(s.Fills) == 0 {
		return
	}
	w := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "\nDOWNLOAD\tSTATE\tHERE\tOF\tSPEED\tLEFT\tREADS WAITING\tREMARK")
	for _, f := range s.Fills {
		speed, left := "-", "-"
		if f.Speed > 0 {
			speed = bytesOf(f.Speed) + "/s"
		}
		if f.ETA > 0 {
			left = (time.Duration(f.ETA) * time.Second).String()
		}
		fmt.Fprintf(w, "%s/%s\t%s\t%s\t%s\t%s\t%s\t%d\t%s\n", f.Name, f.Path, f.State, bytesOf(f.Present), bytesOf(f.Size), speed, left, f.Waiters, f.Error)
	}
	_ = w.Flush() // into memory
}
