package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"modelfs/cmd/modelfs/config"
	"modelfs/cmd/modelfs/control"
)

func pinCommand(sys config.System) *cobra.Command {
	return keepCommand(sys, &cobra.Command{
		Use:   "pin NAME...",
		Short: "Keep models in the backing directory",
		Long: `Keep models in the backing directory: their files are not evicted, whatever else
needs room, until they are unpinned. Files that are not here yet are kept once
they are; pull downloads them. The files are those that the name stands for now.`,
	}, "pinned", func(d *desk) keepFunc { return d.Pin })
}

func unpinCommand(sys config.System) *cobra.Command {
	return keepCommand(sys, &cobra.Command{
		Use:   "unpin NAME...",
		Short: "Let models be evicted again",
		Long:  `Let models be evicted again when others need the room. It removes nothing.`,
	}, "unpinned", func(d *desk) keepFunc { return d.Unpin })
}

func rmCommand(sys config.System) *cobra.Command {
	return keepCommand(sys, &cobra.Command{
		Use:   "rm NAME...",
		Short: "Drop models from the backing directory",
		Long: `Drop models from the backing directory, unfinished downloads included; of
NAME:QUANT that quantisation's weights only. Files that are open, being
downloaded or pinned stay, and are named. Where nothing of a model is left, its
name follows its branch again. Trees are never touched.`,
	}, "removed", func(d *desk) keepFunc { return d.Remove })
}

// keepFunc is one of control.Keeper's methods.
type keepFunc = func(ctx context.Context, name string) (control.Kept, error)

// keepCommand completes a command that does one thing to each name.
func keepCommand(sys config.System, cmd *cobra.Command, done string, method func(*desk) keepFunc) *cobra.Command {
	var flags config.Flags
	cmd.Args = cobra.MinimumNArgs(1)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return withDesk(cmd.Context(), sys, &flags, cmd.ErrOrStderr(), func(d *desk) error {
			return eachName(args, cmd.ErrOrStderr(), func(name string) error {
				kept, err := method(d)(cmd.Context(), name)
				if err == nil || kept.Files > 0 {
					fmt.Fprintf(cmd.OutOrStdout(), "%s: %s %s, %s of them here\n", name, done, plural(kept.Files, "file"), bytesOf(kept.Bytes))
				}
				return err
			})
		})
	}
	flags.Add(cmd.Flags(), sys)
	return cmd
}
