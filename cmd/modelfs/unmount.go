package main

import (
	"bytes"
	"errors"
	"fmt"
	"os/exec"
	"slices"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"modelfs/internal/mountinfo"
)

func unmountCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "unmount MOUNTPOINT",
		Short: "Take a modelfs mount away, dead or alive",
		Long: `Take a modelfs mount away, dead or alive. Readers that wait for bytes are
released with an error; files that are open and that the kernel reads itself
(complete ones and those that are read in place) stay readable. The daemon, if
there is one, ends.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return unmount(cmd, args[0]) },
	}
}

func unmount(cmd *cobra.Command, point string) error {
	path, err := mountPath(point)
	if err != nil {
		return fmt.Errorf("unmounting %s: %w", point, err)
	}
	list, err := mountinfo.Read()
	if err != nil {
		return fmt.Errorf("unmounting %s: %w", point, err)
	}
	found := modelfsMounts(list)
	if !slices.Contains(found, path) {
		return fmt.Errorf("no modelfs is mounted on %s; %s", path, whereMounted(found))
	}
	if err := detach(cmd, path); err != nil {
		return fmt.Errorf("unmounting %s: %w", path, err)
	}
	fmt.Fprintf(cmd.OutOrStdout(), "unmounted %s\n", path)
	return nil
}

// detach takes the topmost mount at path away. Force aborts the connection
// and thereby releases readers that wait; detach makes it work while files
// are open. Without the capability, fusermount3 does what a user may.
func detach(cmd *cobra.Command, path string) error {
	err := unix.Unmount(path, unix.MNT_FORCE|unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
	if !errors.Is(err, unix.EPERM) {
		return err
	}
	out, ferr := exec.CommandContext(cmd.Context(), "fusermount3", "-u", "-z", "--", path).CombinedOutput()
	if ferr != nil {
		return fmt.Errorf("%w (root may; fusermount3: %w %s)", err, ferr, bytes.TrimSpace(out))
	}
	return nil
}

func whereMounted(points []string) string {
	switch len(points) {
	case 0:
		return "there is none on this machine (another mount namespace, such as a container's, is not seen from here)"
	case 1:
		return "there is one on " + points[0]
	}
	return fmt.Sprintf("there are some on %q", points)
}
