package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"modelfs/cmd/modelfs/config"
	"modelfs/cmd/modelfs/supervise"
	"modelfs/fs"
	"modelfs/store"
)

func mountCommand(sys config.System) *cobra.Command {
	var flags config.Flags
	cmd := &cobra.Command{
		Use:   "mount MOUNTPOINT",
		Short: "Mount the models and serve them, in the foreground",
		Long: `Mount the models and serve them, in the foreground. Prints "mounted MOUNTPOINT"
once the mount can be used, and tells systemd (Type=notify). SIGTERM or SIGINT
unmounts (or leaves the mount, with --on-stop leave) and ends it within two seconds.

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
			point, err := mountPoint(args[0])
			if err == nil {
				err = checkApart(cfg, point)
			}
			if err != nil {
				return err
			}
			return mount(cmd, sys, cfg, point)
		},
	}
	flags.Add(cmd.Flags(), sys)
	return cmd
}

// mount serves until a signal comes or somebody unmounts. Where it can, a
// supervisor holds the mount, so that a server that dies is replaced.
func mount(cmd *cobra.Command, sys config.System, cfg *config.Config, point string) error {
	log := newLogger(cmd.ErrOrStderr(), cfg.LogLevel, cfg.LogFormat)
	signal.Ignore(unix.SIGPIPE) // whoever reads the log may go away
	log.Debug("configuration", "config", cfg)
	warnOfHidden(point, log)
	if why := unsupervised(); why != "" {
		log.Warn("a crash of modelfs will be seen by its readers", "why", why)
		return mountAlone(cmd, sys, cfg, point, log)
	}
	lock, err := store.Lock(cfg.Cache)
	if err != nil {
		return err
	}
	defer lock.Close()
	self, err := os.Executable()
	if err != nil {
		return err
	}
	held, err := fs.OpenMountPoint(point, cfg.AllowOther)
	if err != nil {
		return withCode(exitMount, err)
	}
	err = supervise.Run(supervise.Config{
		Mount: held, Lock: lock, Log: log, Leave: cfg.OnStop == config.StopLeave,
		Command:  serverCommand(self, os.Args, point),
		Probe:    []string{self, "probe", point},
		Ready:    func() { announce(cmd, sys, point, log) },
		Stopping: func() { notify(cmd.Context(), sys, "STOPPING=1", log) },
	})
	var started *supervise.StartError
	if errors.As(err, &started) && started.Code > 0 {
		return withCode(started.Code, errors.New("the server could not start; what it said is above"))
	}
	return err
}

// serverCommand is this process's command with "mount" replaced.
func serverCommand(self string, args []string, point string) []string {
	command := []string{self, "serve"}
	for i, arg := range args {
		if arg == "mount" {
			return append(command, args[i+1:]...)
		}
	}
	return append(command, point)
}

// unsupervised says why no supervisor can hold the mount, or "".
func unsupervised() string {
	if os.Geteuid() != 0 {
		return "only root can hold a mount beside its server"
	}
	if !supervise.Supported() {
		return "this kernel can't hand a mount over (Linux 6.9 or newer can)"
	}
	return ""
}

// announce says that the mount can be used, under the name that it was given.
func announce(cmd *cobra.Command, sys config.System, point string, log *slog.Logger) {
	if named, err := filepath.Abs(cmd.Flags().Arg(0)); err == nil {
		point = named
	}
	fmt.Fprintf(cmd.OutOrStdout(), "mounted %s\n", point)
	notify(cmd.Context(), sys, "READY=1\nSTATUS=serving "+point, log)
}

func notify(ctx context.Context, sys config.System, state string, log *slog.Logger) {
	socket, _ := sys.Env("NOTIFY_SOCKET")
	if err := sdNotify(ctx, socket, state); err != nil {
		log.Warn("the service manager could not be told", "state", state, "cause", err)
	}
}

// mountAlone mounts and serves in this process.
func mountAlone(cmd *cobra.Command, sys config.System, cfg *config.Config, point string, log *slog.Logger) error {
	for _, name := range config.Secrets() { // fusermount3, which this process starts, needs none
		_ = os.Unsetenv(name)
	}
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, unix.SIGTERM, unix.SIGINT)
	defer signal.Stop(signals)
	d, err := startDaemon(cfg, point, log, nil, fs.Mount)
	if err != nil {
		return err
	}
	announce(cmd, sys, point, log)
	keep := false
	select {
	case sig := <-signals:
		keep = cfg.OnStop == config.StopLeave
		log.Info("stopping", "signal", sig.String(), "on_stop", cfg.OnStop)
	case <-d.mounted.Load().Done():
		log.Info("stopping, because somebody unmounted", "mount_point", point)
	case <-cmd.Context().Done():
	}
	notify(cmd.Context(), sys, "STOPPING=1", log)
	return stopDaemon(d, keep, signals)
}

// stopTimeout leaves room below the two seconds within which a stop ends.
// What is not finished by then loses nothing: the backing dir bears a kill at
// any instant.
const stopTimeout = 1800 * time.Millisecond

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
