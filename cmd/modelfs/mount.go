package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"modelfs/cmd/modelfs/config"
)

// stopTimeout leaves room below the two seconds within which a stop ends.
// What is not finished by then loses nothing: the backing dir bears a kill at
// any instant.
const stopTimeout = 1800 * time.Millisecond

func mountCommand(sys config.System) *cobra.Command {
	var flags config.Flags
	cmd := &cobra.Command{
		Use:   "mount MOUNTPOINT",
		Short: "Mount the models and serve them, in the foreground",
		Long: `Mount the models and serve them, in the foreground. Prints "mounted MOUNTPOINT"
once the mount can be used, and tells systemd (Type=notify). SIGTERM or SIGINT
unmounts; a second signal ends the process at once.

Every flag is also a key of the config file (--cache-size is cache_size) and an
environment variable (MODELFS_CACHE_SIZE; lists are separated by commas). A flag
beats the environment, which beats the file. The Hub's token comes from
$HF_TOKEN or the file where the Hub's own tools keep it.`,
		Example: `  modelfs mount --local /srv/models /models
  modelfs mount --shared /mnt/nfs/models --router http://router:32768 /models`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, err := config.Load(sys, &flags)
			if err != nil {
				return withCode(exitUsage, err)
			}
			return mount(cmd, sys, cfg, args[0])
		},
	}
	flags.Add(cmd.Flags(), sys)
	return cmd
}

// mount serves until a signal comes or somebody unmounts.
func mount(cmd *cobra.Command, sys config.System, cfg *config.Config, point string) error {
	ctx := cmd.Context()
	log := newLogger(cmd.ErrOrStderr(), cfg.LogLevel, cfg.LogFormat)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, unix.SIGTERM, unix.SIGINT)
	defer signal.Stop(signals)

	log.Debug("configuration", "config", cfg)
	d, err := startDaemon(cfg, point, log)
	if err != nil {
		return err
	}
	fmt.Fprintf(cmd.OutOrStdout(), "mounted %s\n", point)
	socket, _ := sys.Env("NOTIFY_SOCKET")
	if err := sdNotify(ctx, socket, "READY=1\nSTATUS=serving "+point); err != nil {
		log.Warn("the service manager could not be told that the mount is ready", "cause", err)
	}

	keep := false
	select {
	case sig := <-signals:
		keep = cfg.OnStop == config.StopLeave
		log.Info("stopping", "signal", sig.String(), "on_stop", cfg.OnStop)
	case <-d.mounted.Load().Done():
		log.Info("stopping, because somebody unmounted", "mount_point", point)
	case <-ctx.Done():
	}
	if err := sdNotify(ctx, socket, "STOPPING=1"); err != nil {
		log.Debug("the service manager could not be told of the end", "cause", err)
	}
	return stopDaemon(d, keep, signals)
}

// stopDaemon ends the daemon, but waits no longer than stopTimeout or the
// next signal.
func stopDaemon(d *daemon, keep bool, signals <-chan os.Signal) error {
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	stopped := make(chan error, 1)
	go func() { stopped <- d.stop(keep) }()
	select {
	case err := <-stopped:
		return err
	case <-ctx.Done():
		d.log.Warn("stopped without waiting for everything to end; nothing is lost")
		return nil
	case <-signals:
		return errors.New("a second signal came while stopping; look with findmnt whether the mount is still there")
	}
}
