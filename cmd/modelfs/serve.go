package main

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime/debug"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"modelfs/cmd/modelfs/config"
	"modelfs/cmd/modelfs/supervise"
	"modelfs/fs"
)

// serveCommand is what a supervisor starts. It takes the flags of mount.
func serveCommand(sys config.System) *cobra.Command {
	var flags config.Flags
	cmd := &cobra.Command{
		Use:    "serve MOUNTPOINT",
		Short:  "Serve a mount that a supervisor holds (started by mount)",
		Hidden: true,
		Args:   cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			attachment, err := supervise.Attach()
			if err != nil {
				return withCode(exitUsage, err)
			}
			cfg, err := config.Load(sys, &flags)
			if err != nil {
				return withCode(exitUsage, err)
			}
			point, err := mountPoint(args[0])
			if err != nil {
				return err
			}
			return serve(cfg, point, newLogger(cmd.ErrOrStderr(), cfg.LogLevel, cfg.LogFormat), attachment)
		},
	}
	flags.Add(cmd.Flags(), sys)
	return cmd
}

// gcPercent is how much garbage a server's heap may hold beside what is in use.
// Nearly all of either is buffers of 1 MiB without pointers, so collecting them
// early costs little, and makes half the difference in resident memory.
const gcPercent = 40

// serve serves until the mount is gone, or the supervisor is.
func serve(cfg *config.Config, point string, log *slog.Logger, a *supervise.Attachment) error {
	debug.SetGCPercent(gcPercent)
	if err := a.Wait(); err != nil {
		return err
	}
	go a.Orphaned(func() {
		log.Error("stopping at once, because the supervisor is gone and nobody holds the mount")
		os.Exit(exitFailed)
	})
	d, err := startDaemon(cfg, point, log, a.Lock, func(c fs.Config) (*fs.Server, error) {
		return fs.Serve(c, a.Connection)
	})
	if err != nil {
		return err
	}
	d.supervisor.Store(int64(os.Getppid()))
	tree := d.mounted.Load()
	if err := a.Ready(tree.Handshake()); err != nil {
		return errors.Join(err, d.opened.close())
	}
	tree.Wait()
	return d.opened.close()
}

// probeCommand is what a supervisor's watchdog starts.
func probeCommand() *cobra.Command {
	return &cobra.Command{
		Use:    "probe MOUNTPOINT",
		Short:  "Ask a mount for its statfs once a second (started by mount)",
		Hidden: true,
		Args:   cobra.ExactArgs(1),
		RunE:   func(cmd *cobra.Command, args []string) error { return supervise.Probe(args[0], cmd.OutOrStdout()) },
	}
}

// upgradeWithin is how long an upgrade may take: the supervisor's own limit
// for a new server, and a little more.
const upgradeWithin = 25 * time.Second

func upgradeCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "upgrade MOUNTPOINT",
		Short: "Replace the server of a mount by the binary that is installed now",
		Long: `Replace the server of a mount by the binary that is installed now, under the
name that "modelfs mount" was started by. Readers notice a pause at most. The new
server gets ready beside the old one; one that does not get ready is dropped and
the old one stays. SIGUSR2 to the "modelfs mount" process does the same.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return upgrade(cmd, args[0]) },
	}
}

func upgrade(cmd *cobra.Command, point string) error {
	before, err := readStatus(point)
	if err != nil {
		return fmt.Errorf("asking the daemon of %s: %w", point, err)
	}
	if before.Supervisor == 0 {
		return fmt.Errorf("%s is served without a supervisor: restart the service instead", point)
	}
	if err := unix.Kill(before.Supervisor, unix.SIGUSR2); err != nil {
		return fmt.Errorf("asking the supervisor, process %d: %w", before.Supervisor, err)
	}
	for deadline := time.Now().Add(upgradeWithin); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		now, err := readStatus(point)
		if err != nil {
			return err
		}
		if now.PID != before.PID {
			fmt.Fprintf(cmd.OutOrStdout(), "%s is served by process %d now, version %s\n", point, now.PID, now.Version)
			return nil
		}
	}
	return fmt.Errorf("the server of %s was not replaced within %v; the supervisor's log says why", point, upgradeWithin)
}
