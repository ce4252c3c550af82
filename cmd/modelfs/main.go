// Command modelfs is the operator's door: commands, flags, wiring and exit
// codes. What the filesystem does is in fs, resolver, fetcher and store; what
// was asked of it is in cmd/modelfs/config.
//
// Invariants:
//
//  1. main calls one function. Nothing else ends the process, but a second
//     signal while it is stopping.
//  2. Standard output is for answers ("mounted /models", a table, JSON);
//     everything else goes to standard error.
//  3. A message names the thing, the cause and the next step.
//  4. The exit code says what went wrong: see exit.go.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"modelfs/cmd/modelfs/config"
)

func main() {
	os.Exit(run(context.Background(), os.Args[1:], os.Stdout, os.Stderr))
}

// run is the whole program: it prints what went wrong and returns the code to
// exit with.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	started := false
	root := rootCommand(config.Host())
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	root.PersistentPreRun = func(*cobra.Command, []string) { started = true }
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return exitDone
	}
	fmt.Fprintf(stderr, "modelfs: %v\n", err)
	if !started {
		err = withCode(exitUsage, err)
		if cmd.HasParent() {
			fmt.Fprintf(stderr, "Usage: %s\n", cmd.UseLine())
		}
		fmt.Fprintf(stderr, "Run '%s --help' for what it takes.\n", cmd.CommandPath())
	}
	return exitCode(err)
}

func rootCommand(sys config.System) *cobra.Command {
	root := &cobra.Command{
		Use:           "modelfs",
		Short:         "A filesystem that contains every model",
		Long:          longRoot,
		SilenceErrors: true, // run prints them
		SilenceUsage:  true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return errors.Join(cmd.Help(), withCode(exitUsage, errors.New("no command given")))
		},
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: true},
	}
	root.AddCommand(mountCommand(sys), unmountCommand(), lsCommand(sys), pullCommand(sys), pinCommand(sys), unpinCommand(sys), rmCommand(sys),
		statusCommand(sys), explainCommand(sys), doctorCommand(sys), demoCommand(), versionCommand(),
		upgradeCommand(), serveCommand(sys), probeCommand(), shareCommand())
	return root
}

const longRoot = `modelfs mounts a directory that contains every model: opening
MOUNTPOINT/<name>/model.gguf reads it in place from this machine's disk or a
shared tree, or from the Hugging Face Hub or a model router while it is being
downloaded, once, into a backing directory.

Exit codes: 0 done, 1 failed, 2 wrong usage or configuration, 3 can't mount,
4 the backing directory is in use by another process.`
