package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"modelfs/cmd/modelfs/config"
	"modelfs/cmd/modelfs/describe"
	"modelfs/internal/model"
	"modelfs/internal/mountinfo"
	"modelfs/resolver"
)

func explainCommand(sys config.System) *cobra.Command {
	var flags config.Flags
	var point string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "explain NAME[/FILE]",
		Short: "Say why a name resolves as it does, or does not",
		Long: `Say why a name resolves as it does, or does not: what each source said of it,
how long that took, and which file was chosen. The daemon of a mount is asked,
so that the answer is what readers get; where nothing is mounted, the sources
that the flags name are asked from here.`,
		Example: `  modelfs explain unsloth/Qwen3-8B-GGUF:Q4_K_M
  modelfs explain --json my-model/config.json`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ask, closeAsker, err := findAsker(sys, &flags, point, cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			e, file, err := explain(cmd.Context(), ask, args[0])
			if err = errors.Join(err, closeAsker()); err != nil {
				return err
			}
			if asJSON {
				return writeJSON(cmd.OutOrStdout(), e)
			}
			_, err = cmd.OutOrStdout().Write(explanationText(e, file))
			return err
		},
	}
	cmd.Flags().StringVar(&point, "mount", "", "ask the daemon of this mount `POINT` (default: the only one)")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print all of it as JSON")
	flags.Add(cmd.Flags(), sys)
	return cmd
}

// asker explains one name.
type asker func(ctx context.Context, name string) (resolver.Explanation, error)

// findAsker chooses who explains: the daemon of a mount, else a resolver of
// this process.
func findAsker(sys config.System, flags *config.Flags, point string, stderr io.Writer) (asker, func() error, error) {
	nothing := func() error { return nil }
	list, err := mountinfo.Read()
	if err != nil {
		return nil, nil, err
	}
	found := modelfsMounts(list)
	switch {
	case point != "":
		return askMount(point), nothing, nil
	case len(found) == 1:
		return askMount(found[0]), nothing, nil
	case len(found) > 1:
		return nil, nil, withCode(exitUsage, fmt.Errorf("modelfs is mounted on %q: choose one with --mount", found))
	}
	cfg, err := config.Load(sys, flags)
	if err != nil {
		return nil, nil, withCode(exitUsage, err)
	}
	var opened closers
	log := newLogger(stderr, cfg.LogLevel, cfg.LogFormat)
	_, sources, err := openSources(cfg, "", nil, log, &opened)
	if err != nil {
		return nil, nil, withCode(exitUsage, errors.Join(err, opened.close()))
	}
	here, err := describe.LookAt(cfg.Backend, cfg.BackendRules)
	if err != nil {
		return nil, nil, withCode(exitUsage, errors.Join(err, opened.close()))
	}
	nobody := func(model.Key) bool { return false } // without a backing dir nothing is pinned
	r := resolver.New(filtered(resolverConfig(cfg, sources, nil, log), here, describe.New(here, nobody)))
	opened.addQuiet(r.Close)
	return askResolver(r), opened.close, nil
}

// askResolver asks the sources themselves. Nobody else looks into the model
// here, so that is done first; how it fails is in the explanation.
func askResolver(r *resolver.Resolver) asker {
	return func(ctx context.Context, name string) (resolver.Explanation, error) {
		_, _ = r.View(ctx, name)
		return r.Explain(ctx, name), nil
	}
}

// askMount asks through the control directory, as a container could.
func askMount(point string) asker {
	return func(_ context.Context, name string) (resolver.Explanation, error) {
		e := resolver.Explanation{Name: name}
		if _, err := model.ParseName(name); err != nil {
			e.Error, e.Kind = err.Error(), model.KindOf(err).String()
			return e, nil
		}
		data, err := os.ReadFile(filepath.Join(point, model.ControlDir, "explain", name+".json"))
		if err != nil {
			return e, fmt.Errorf("asking the daemon of %s: %w", point, err)
		}
		return e, json.Unmarshal(data, &e)
	}
}

// explain splits text into a name and a file. "a/b" is first taken as a model
// of an organisation, then as a file b of a model a.
func explain(ctx context.Context, ask asker, text string) (resolver.Explanation, string, error) {
	parts := strings.SplitN(strings.Trim(text, "/"), "/", 3)
	name, file := strings.Join(parts[:min(2, len(parts))], "/"), strings.Join(parts[min(2, len(parts)):], "/")
	e, err := ask(ctx, name)
	if err != nil || e.Answer != nil || len(parts) == 1 {
		return e, file, err
	}
	short, err := ask(ctx, parts[0])
	if err == nil && short.Answer != nil && short.Answer.Kind != "namespace" {
		return short, strings.Join(parts[1:], "/"), nil
	}
	return e, file, err
}

func writeJSON(w io.Writer, v any) error {
	out := json.NewEncoder(w)
	out.SetEscapeHTML(false)
	out.SetIndent("", "  ")
	return out.Encode(v)
}

// explain is the resolver's explanation, with what is here of each file, why
// the rest does not come, and what became of reads of shares that hang.
func (d *daemon) explain(ctx context.Context, name string) resolver.Explanation {
	e := d.resolver.Explain(ctx, name)
	for i := range e.Files {
		f := &e.Files[i]
		f.Here = max(d.store.Present(model.Key(f.Key)), d.store.Present(model.SHA256Key(f.SHA256)))
		if err := d.fetcher.Trouble(e.Answer.Source, model.Key(f.Key)); err != nil {
			f.Trouble = err.Error()
		}
	}
	if e.Parsed != nil {
		e.Reads = d.failover.Events(model.Name{Org: e.Parsed.Org, Repo: e.Parsed.Repo}.Path())
	}
	return e
}

// explainMounted is the text of an explanation by the daemon of a mount.
func explainMounted(ctx context.Context, point, name string) ([]byte, error) {
	e, err := askMount(point)(ctx, name)
	return explanationText(e, ""), err
}

// explanationText renders an explanation for people. With a file, only that
// one is shown of the listing.
func explanationText(e resolver.Explanation, file string) []byte {
	var b bytes.Buffer
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	if a := e.Answer; a != nil {
		fmt.Fprintf(w, "%s: %s %s from %s%s\n", e.Name, a.Kind, a.Name, a.Source, prefixed(" at ", a.Revision))
	} else {
		fmt.Fprintf(w, "%s: %s\n", e.Name, strings.TrimPrefix(e.Error, e.Name+": "))
	}
	if e.Rule != "" {
		fmt.Fprintf(w, "because: %s (%s)\n", e.Rule, millis(e.TookMS))
	}
	for _, s := range e.Sources {
		took := millis(s.TookMS)
		if s.Verdict == "waiting" {
			s.Verdict, took = "not waited for", "" // an earlier one had decided
		}
		fmt.Fprintf(w, "  %s\t%s\t%s\t%s\n", s.ID, s.Verdict, took, remarks(s))
	}
	writeRecorded(w, "recorded", e.Recorded)
	writeRecorded(w, "pinned", e.Pin)
	writeFiles(w, e, file)
	for _, r := range e.Reads {
		fmt.Fprintf(w, "reads: %s\n", strings.ReplaceAll(r, "\n", "; "))
	}
	_ = w.Flush() // into memory
	return trimLines(b.Bytes())
}

func writeRecorded(w io.Writer, label string, r *resolver.Recorded) {
	if r != nil {
		fmt.Fprintf(w, "%s: %s of %s%s, %d files\n", label, r.Name, r.Source, prefixed(", revision ", r.Revision), r.Files)
	}
}

// prefixed is text with something before it, or nothing if there is no text.
func prefixed(prefix, text string) string {
	if text == "" {
		return ""
	}
	return prefix + text
}

// trimLines takes the tabwriter's padding off the ends of lines.
func trimLines(text []byte) []byte {
	var b bytes.Buffer
	for line := range bytes.Lines(text) {
		b.Write(bytes.TrimRight(line, " \n"))
		b.WriteByte('\n')
	}
	return b.Bytes()
}

// remarks are what is worth saying of a verdict besides itself.
func remarks(s resolver.SourceSaid) string {
	var list []string
	if s.Cached {
		list = append(list, "said "+millis(s.AgeMS)+" ago")
	}
	if s.From != "" {
		list = append(list, "by its "+s.From)
	}
	if s.Broken != "" {
		list = append(list, "passed over: "+s.Broken)
	}
	if s.Breaker != "closed" {
		list = append(list, "breaker "+s.Breaker)
	}
	if s.Error != "" {
		list = append(list, s.Error)
	}
	return strings.Join(list, "; ")
}

func writeFiles(w io.Writer, e resolver.Explanation, file string) {
	if e.Listing != "" {
		fmt.Fprintf(w, "files: %s\n", e.Listing)
	}
	if e.Default != "" || e.Why != "" {
		fmt.Fprintf(w, "model.gguf: %s (%s)\n", orNone(e.Default), e.Why)
	}
	if e.LeftOut != "" {
		fmt.Fprintf(w, "listings: %s; it opens by name\n", e.LeftOut)
	}
	if file == "model.gguf" && e.Default != "" {
		file = e.Default
	}
	shown := 0
	for _, f := range e.Files {
		if file != "" && f.Path != file {
			continue
		}
		shown++
		where := f.Place
		if where == "" {
			where = strings.Join(f.Hosts, ", ")
		}
		if f.Here > 0 {
			where += prefixed(", here: ", size(f.Here))
		}
		if f.Hidden {
			where += " (not listed)"
		}
		if f.Trouble != "" {
			where += "; " + f.Trouble
		}
		fmt.Fprintf(w, "  %s\t%s\t%s\n", f.Path, size(f.Size), where)
	}
	if file != "" && shown == 0 && e.Answer != nil && e.Listing == "" {
		fmt.Fprintf(w, "%s: the listing has no such file\n", file)
	}
}

func size(n int64) string {
	if n < 0 {
		return "nobody states its size"
	}
	return humanize.IBytes(uint64(n))
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

func millis(ms float64) string {
	d := time.Duration(ms * float64(time.Millisecond))
	if d >= 10*time.Millisecond {
		return d.Round(time.Millisecond).String()
	}
	return d.Round(10 * time.Microsecond).String()
}
