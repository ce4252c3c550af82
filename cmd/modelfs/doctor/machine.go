package doctor

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// capSysAdmin is CAP_SYS_ADMIN's bit in /proc/<pid>/status.
const capSysAdmin = 21

// Device looks at /dev/fuse.
func Device() Line {
	const thing = "/dev/fuse"
	f, err := os.OpenFile(thing, os.O_RDWR, 0)
	switch {
	case err == nil:
		_ = f.Close() // nothing was done with it
		return ok(thing, "opens")
	case errors.Is(err, os.ErrNotExist):
		return problem(thing, "modprobe fuse; in a container --device /dev/fuse", "it is not there, so nothing can be mounted")
	case errors.Is(err, os.ErrPermission):
		return problem(thing, "run as root, or chmod 666 /dev/fuse; in a container --device /dev/fuse", "this user may not open it")
	}
	return problem(thing, "modprobe fuse", "%v", err)
}

// Rights looks at what this process may do.
func Rights() Line {
	const thing = "rights"
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return warning(thing, "", "can't be read: %v", err)
	}
	_, fuserErr := exec.LookPath("fusermount3")
	return rights(os.Geteuid() == 0, effective(string(status)), fuserErr == nil)
}

// effective are the capabilities in force, by the text of /proc/self/status.
func effective(status string) uint64 {
	for line := range strings.Lines(status) {
		if text, ok := strings.CutPrefix(line, "CapEff:"); ok {
			caps, err := strconv.ParseUint(strings.TrimSpace(text), 16, 64)
			if err == nil {
				return caps
			}
		}
	}
	return 0
}

func rights(root bool, caps uint64, fusermount bool) Line {
	const thing = "rights"
	admin := caps&(1<<capSysAdmin) != 0
	switch {
	case root && admin:
		return ok(thing, "root with CAP_SYS_ADMIN")
	case root:
		return problem(thing, "in a container --cap-add SYS_ADMIN (and --security-opt apparmor=unconfined where there is AppArmor)",
			"root without CAP_SYS_ADMIN: mount(2) is refused")
	case !fusermount:
		return problem(thing, "run as root, or install fuse3", "not root, and there is no fusermount3 that could mount for this user")
	}
	return warning(thing, "run as root for all of that",
		"not root: fusermount3 mounts, but complete files are served by modelfs and not read by the kernel itself, a crash is seen by readers, and only this user sees the mount (others too with --allow-other, where /etc/fuse.conf has user_allow_other)")
}

// Kernel looks at the kernel's version.
func Kernel() Line {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return warning("kernel", "", "its version is not known: %v", err)
	}
	return kernel(unix.ByteSliceToString(u.Release[:]))
}

// kernel judges a release: passthrough and the hand-over to a new server came
// with 6.9, a usable FUSE with 4.18.
func kernel(release string) Line {
	const thing = "kernel"
	var major, minor int
	if n, _ := fmt.Sscanf(release, "%d.%d", &major, &minor); n < 2 {
		return warning(thing, "", "%s: its version can't be read", release)
	}
	switch {
	case major < 4 || major == 4 && minor < 18:
		return problem(thing, "Linux 6.9 or newer is what modelfs is made for", "%s is too old", release)
	case major < 6 || major == 6 && minor < 9:
		return warning(thing, "Linux 6.9 or newer", "%s: complete files are served by modelfs and not read by the kernel itself, and a crash of the server is seen by readers", release)
	}
	return ok(thing, "%s", release)
}

// A Trial is what a mount showed that was made to be looked at.
type Trial struct {
	Err       error    // it could not be made
	Native    bool     // the kernel read a file of it itself
	Causes    []string // what the log said of why not
	ReadAhead int      // KiB; 0: not known
	Where     string   // the directory whose files were tried
}

// wantReadAhead is the least that reads of files that are being fetched want,
// in KiB.
const wantReadAhead = 4096

// Lines is what the trial says.
func (t Trial) Lines() []Line {
	if t.Err != nil {
		return []Line{problem("mounting", "see above, and modelfs mount --log-level debug", "a mount made for trial did not work: %v", t.Err)}
	}
	lines := []Line{ok("mounting", "a mount made for trial works")}
	if t.Native {
		lines = append(lines, ok("passthrough", "the kernel reads complete files itself (tried with files in %s)", t.Where))
	} else {
		lines = append(lines, warning("passthrough", "Linux 6.9, CAP_SYS_ADMIN, and a backing dir on ext4, xfs or btrfs",
			"the kernel does not read files in %s itself, which is slower: %s", t.Where, strings.Join(append(t.Causes, "the trial file was served by modelfs"), "; ")))
	}
	switch {
	case t.ReadAhead >= wantReadAhead:
		lines = append(lines, ok("read-ahead", "%d KiB", t.ReadAhead))
	case t.ReadAhead > 0:
		lines = append(lines, warning("read-ahead", "let root mount, with a writable /sys (containers: --mount type=bind,source=/sys/devices/virtual/bdi,target=/sys/devices/virtual/bdi, or --privileged)",
			"%d KiB could not be raised: reads of files that are being fetched are slower", t.ReadAhead))
	}
	return lines
}

// Propagation judges whether mounts below dir reach containers: shared says
// whether the mount that dir lies on, at point, passes them on.
func Propagation(dir, point string, shared bool) Line {
	const thing = "propagation"
	if shared {
		return ok(thing, "a mount below %s reaches containers that bind it with rslave", dir)
	}
	return warning(thing, "mount --make-rshared "+point+", before containers start",
		"%s is private: containers that bind %s don't see a mount that comes later, or comes again", point, dir)
}
