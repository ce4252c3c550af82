package main

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"modelfs/cmd/modelfs/config"
	"modelfs/cmd/modelfs/control"
)

// listing is how ls shows models.
type listing struct {
	all, long, json bool
}

func lsCommand(sys config.System) *cobra.Command {
	var flags config.Flags
	var l listing
	cmd := &cobra.Command{
		Use:   "ls [PATTERN]",
		Short: "List the models that are known",
		Long: `List the models that are known: those of trees and routers, and those of the Hub
that were looked at. PATTERN is compared with the whole name or its last part
("*-GGUF", "unsloth/*"). No source is asked about a model that would have to be
downloaded; what nobody has listed yet has a "?".

HERE is how much of a model is in the backing directory; "in place" is read
where it lies. BACKENDS are those that can run it.`,
		Example: `  modelfs ls
  modelfs ls -l 'unsloth/*'`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return ls(cmd, sys, &flags, l, strings.Join(args, ""))
		},
	}
	cmd.Flags().BoolVarP(&l.all, "all", "a", false, "also what this machine can't run, and why")
	cmd.Flags().BoolVarP(&l.long, "long", "l", false, "also parameters, files, revision and pins")
	cmd.Flags().BoolVar(&l.json, "json", false, "print all of it as JSON")
	flags.Add(cmd.Flags(), sys)
	return cmd
}

func ls(cmd *cobra.Command, sys config.System, flags *config.Flags, l listing, pattern string) (err error) {
	cfg, err := config.Load(sys, flags)
	if err != nil {
		return withCode(exitUsage, err)
	}
	remove, err := withoutCache(cfg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, remove()) }()
	d, err := openDesk(cmd.Context(), cfg, commandLog(cmd.ErrOrStderr(), cfg))
	if err != nil {
		return err
	}
	models, err := d.List(cmd.Context(), pattern)
	if err = errors.Join(err, d.close()); err != nil {
		return err
	}
	return l.print(cmd.OutOrStdout(), models)
}

func (l listing) print(w io.Writer, models []control.Model) error {
	shown := []control.Model{} // in JSON [] and not null
	for _, m := range models {
		if l.all || !m.Hidden {
			shown = append(shown, m)
		}
	}
	if l.json {
		return writeJSON(w, shown)
	}
	table := &strings.Builder{}
	columns := tabwriter.NewWriter(table, 0, 0, 2, ' ', 0)
	header := []string{"NAME", "SOURCE", "FORMAT", "QUANT", "SIZE", "HERE", "BACKENDS"}
	fmt.Fprintln(columns, strings.Join(l.extend(header, "PARAMS", "FILES", "REVISION", "PINNED", "REMARK"), "\t"))
	for _, m := range shown {
		fmt.Fprintln(columns, strings.Join(l.row(m), "\t"))
	}
	if err := columns.Flush(); err != nil {
		return err
	}
	_, err := w.Write(trimLines([]byte(table.String())))
	return err
}

// extend adds the columns of -l, and that of -a.
func (l listing) extend(row []string, params, files, revision, pinned, remark string) []string {
	if l.long {
		row = append(row, params, files, revision, pinned)
	}
	if l.all {
		row = append(row, remark)
	}
	return row
}

func (l listing) row(m control.Model) []string {
	revision := m.Revision
	if len(revision) == 40 {
		revision = revision[:12]
	}
	files, pinned := "?", ""
	if m.Files >= 0 {
		files = fmt.Sprint(m.Files)
	}
	if m.Pinned {
		pinned = "yes"
	}
	row := []string{m.Name, m.Source, dash(m.Format), dash(shorten(m.Quant, 30)), bytesOf(m.Size), here(m), dash(strings.Join(m.Backends, ","))}
	return l.extend(row, dash(m.Parameters), files, dash(revision), dash(pinned), m.Why)
}

// here says how much of a model is on this machine.
func here(m control.Model) string {
	switch {
	case m.InPlace:
		return "in place"
	case m.Here == 0:
		return "-"
	case m.Size > 0 && m.Here >= m.Size:
		return "all"
	case m.Size > 0:
		return fmt.Sprintf("%d %%", m.Here*100/m.Size)
	}
	return bytesOf(m.Here)
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// shorten cuts ASCII text to n columns, and shows that it did.
func shorten(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return s[:n-1] + "…"
}
