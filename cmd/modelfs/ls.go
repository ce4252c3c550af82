package main

import (
	"errors"
	"fmt"
	"io"
	"strings"

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
where it lies, "broken" can't be loaded: -a says why. BACKENDS are those that
can run it, some of them with limits. On a terminal the table is cut to its
width; in a pipe nothing is cut but long lists of quantisations, and those not
with -l.`,
		Example: `  modelfs ls
  modelfs ls -l 'unsloth/*'`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return ls(cmd, sys, &flags, l, strings.Join(args, ""))
		},
	}
	cmd.Flags().BoolVarP(&l.all, "all", "a", false, "also what this machine can't run, and why; and why a model is broken")
	cmd.Flags().BoolVarP(&l.long, "long", "l", false, "also parameters, architecture, files, revision and pins")
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
	_, width := screen(w)
	_, err := io.WriteString(w, l.table(shown).text(width))
	return err
}

// table is that of the models, with the columns of -l and that of -a.
func (l listing) table(models []control.Model) table {
	t := table{columns: []column{{title: "NAME", rank: 4, least: 20, cut: inMiddle}, {title: "SOURCE", rank: 1, least: 6, cut: atStart}, {title: "FORMAT"},
		{title: "QUANT", rank: 3, least: 7}, {title: "SIZE", right: true}, {title: "HERE"}, {title: "BACKENDS", rank: 2, least: 8}}}
	if l.long {
		t.columns = append(t.columns, column{title: "PARAMS"}, column{title: "ARCH"}, column{title: "FILES", right: true}, column{title: "REVISION"}, column{title: "PINNED"})
	}
	if l.all {
		t.columns = append(t.columns, column{title: "REMARK", open: true})
	}
	for _, m := range models {
		t.rows = append(t.rows, l.row(m))
	}
	return t
}

// maxQuant bounds the column of quantisations, of which some models have
// thirty.
const maxQuant = 30

func (l listing) row(m control.Model) []string {
	quant := m.Quant
	if !l.long {
		quant = cutTo(quant, maxQuant, atEnd)
	}
	row := []string{m.Name, m.Source, dash(m.Format), dash(quant), bytesOf(m.Size), here(m), dash(strings.Join(m.Backends, ","))}
	if l.long {
		revision, files, pinned := m.Revision, "?", "-"
		if len(revision) == 40 {
			revision = revision[:12]
		}
		if m.Files >= 0 {
			files = fmt.Sprint(m.Files)
		}
		if m.Pinned {
			pinned = "yes"
		}
		row = append(row, dash(m.Parameters), dash(m.Architecture), files, dash(revision), pinned)
	}
	if l.all {
		row = append(row, m.Why)
	}
	return row
}

// here says how much of a model is on this machine.
func here(m control.Model) string {
	switch {
	case m.Broken != "":
		return "broken"
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
