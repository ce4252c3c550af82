package fs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"modelfs/internal/model"
	"modelfs/internal/mountinfo"
)

const (
	fsType = "fuse.modelfs"
	// maxRead is the largest READ: beyond 1 MiB nothing was gained.
	maxRead = 1 << 20
	// maxBackground bounds the whole mount's asynchronous reads; with the usual
	// 64, 64 stalled reads stop every healthy one. A waiting read is cheap.
	maxBackground = 4096
	// readAheadKiB makes the kernel ask for 2x as much ahead of a stream; 128
	// KiB, the default, reads at half the speed. Twice as much as this is no
	// faster, and each reader's outstanding reads cost memory.
	readAheadKiB = 4096
)

// MountPoint is where the tree is mounted, and by which means. Its methods
// touch nothing of what the mount shows, so whoever holds it can't get stuck
// in it.
type MountPoint struct {
	dir    string // absolute
	others bool   // users may use it who did not make it
	fd     int    // /dev/fuse, owned by go-fuse once it serves; -1 with fusermount
	device string // "major:minor", known once it is mounted
}

// OpenMountPoint mounts on dir as root; for others fusermount3 does it when
// the server starts. others lets users in who did not make the mount. Errors
// name the directory and what to do.
func OpenMountPoint(dir string, others bool) (*MountPoint, error) {
	abs, err := filepath.Abs(dir)
	mp := &MountPoint{dir: abs, others: others, fd: -1}
	if err == nil {
		err = mp.check()
	}
	if err == nil && os.Geteuid() == 0 {
		err = mp.mount()
	}
	if err != nil {
		return nil, fmt.Errorf("mounting on %s: %w", dir, err)
	}
	return mp, nil
}

// mount is mount(2).
func (mp *MountPoint) mount() (err error) {
	// Close-on-exec from the start: a child that inherits the descriptor keeps
	// a dead mount alive, with its callers hanging.
	mp.fd, err = unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return model.Errorf(model.Unavailable, "opening /dev/fuse: %w (is the fuse module loaded? containers need --device /dev/fuse)", err)
	}
	data := fmt.Sprintf("fd=%d,rootmode=40000,user_id=%d,group_id=%d,default_permissions,max_read=%d",
		mp.fd, os.Geteuid(), os.Getegid(), maxRead)
	if mp.others {
		data += ",allow_other"
	}
	err = unix.Mount("modelfs", mp.dir, fsType, unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NODEV, data)
	if err != nil {
		_ = unix.Close(mp.fd)
		return fmt.Errorf("mount: %w (containers need --cap-add SYS_ADMIN)", err)
	}
	return nil
}

// failed says why nothing could be mounted. What fusermount3 has against it
// goes to standard error only.
func (mp *MountPoint) failed(err error) error {
	if mp.fd >= 0 {
		return fmt.Errorf("mounting on %s: %w", mp.dir, err)
	}
	hint := ""
	if mp.others {
		hint = " (--allow-other of a user who is not root needs the line user_allow_other in /etc/fuse.conf)"
	}
	return model.Errorf(model.Unavailable, "mounting on %s: %s; what fusermount3 said is above%s", mp.dir, strings.TrimSpace(err.Error()), hint)
}

// check refuses a mount point that is not a directory, or that a living
// modelfs serves. A dead mount is mounted over: containers that bind it see
// the new one.
func (mp *MountPoint) check() error {
	var st unix.Statfs_t
	switch err := unix.Statfs(mp.dir, &st); {
	case errors.Is(err, unix.ENOTCONN), errors.Is(err, unix.ECONNABORTED):
		return nil
	case errors.Is(err, unix.ENOENT):
		return model.Errorf(model.NotFound, "there is no such directory: create it first (mkdir -p %s)", mp.dir)
	case err != nil:
		return err
	}
	if top := topMount(mp.dir); top.Type == fsType {
		return model.Errorf(model.InUse, "modelfs is mounted there already: unmount it first (modelfs unmount %s)", mp.dir)
	}
	info, err := os.Stat(mp.dir)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return model.Errorf(model.Invalid, "it is not a directory")
	}
	return nil
}

// Device is /dev/fuse as this mount has it; nil where fusermount3 mounts. The
// caller must not close it.
func (mp *MountPoint) Device() *os.File {
	if mp.fd < 0 {
		return nil
	}
	return os.NewFile(uintptr(mp.fd), "/dev/fuse")
}

// fusePath is what go-fuse is given: the open descriptor, or the directory.
func (mp *MountPoint) fusePath() string {
	if mp.fd >= 0 {
		return devPath(mp.fd)
	}
	return mp.dir
}

// abandon takes back a mount that no server was made for.
func (mp *MountPoint) abandon() {
	if mp.fd >= 0 {
		_ = unix.Unmount(mp.dir, unix.MNT_DETACH)
	}
}

func mountOptions(cfg Config, raw *rawFS) *fuse.MountOptions {
	return &fuse.MountOptions{
		Name:                     "modelfs",
		FsName:                   "modelfs",
		MaxWrite:                 maxRead,
		MaxBackground:            maxBackground,
		CongestionThreshold:      maxBackground,
		DisableXAttrs:            true,
		ExplicitDataCacheControl: true,
		DisableSplice:            true,
		ExtraCapabilities:        fuse.CAP_READDIRPLUS_AUTO | fuse.CAP_DIRECT_IO_ALLOW_MMAP | fuse.CAP_HAS_RESEND,
		MaxStackDepth:            stackDepth(cfg),
		Logger:                   slog.NewLogLogger(cfg.Log.Handler(), slog.LevelDebug),
		PanicHandler:             raw.panicked,
		// Only fusermount3 reads these; mount(2) was given its own.
		AllowOther: cfg.AllowOther,
		Options:    []string{"ro", "nosuid", "nodev", "default_permissions"},
	}
}

// stackDepth is 2 where a file to be handed over lies on a filesystem that is
// itself stacked. 1 otherwise: it lets containers overlay the mount.
func stackDepth(cfg Config) int {
	if cfg.Stacked {
		return 2
	}
	for _, dir := range append(slices.Clone(cfg.StackOn), cfg.BackingDir) {
		var st unix.Statfs_t
		if dir == "" || unix.Statfs(dir, &st) != nil {
			continue
		}
		if st.Type == unix.OVERLAYFS_SUPER_MAGIC || st.Type == unix.FUSE_SUPER_MAGIC {
			return 2
		}
	}
	return 1
}

// Tune raises the mount's read-ahead. INIT sets it to 128 KiB at most, so it is
// due once a server has answered INIT.
func (mp *MountPoint) Tune(log *slog.Logger) {
	mp.device = topMount(mp.dir).Device
	path := "/sys/class/bdi/" + mp.device + "/read_ahead_kb"
	if err := os.WriteFile(path, []byte(strconv.Itoa(readAheadKiB)), 0); err != nil {
		log.Warn("reads of files that are being fetched will be slower: the mount's read-ahead could not be raised", "cause", err)
	}
}

// Unmount takes the mount away. The force ends the connection at once, which
// releases every reader that waits for a reply.
func (mp *MountPoint) Unmount() error {
	if mp.fd < 0 {
		return mp.fusermount()
	}
	err := unix.Unmount(mp.dir, unix.MNT_FORCE|unix.MNT_DETACH)
	for err == nil && isDead(mp.dir) && topMount(mp.dir).Type == fsType {
		err = unix.Unmount(mp.dir, unix.MNT_DETACH) // a dead one that ours was mounted over
	}
	if err != nil {
		return fmt.Errorf("unmounting %s: %w", mp.dir, err)
	}
	return nil
}

// fusermountWithin bounds what a stop waits for the helper.
const fusermountWithin = time.Second

func (mp *MountPoint) fusermount() error {
	abortErr := mp.Abort()
	ctx, cancel := context.WithTimeout(context.Background(), fusermountWithin)
	defer cancel()
	out, err := exec.CommandContext(ctx, "fusermount3", "-u", "-z", mp.dir).CombinedOutput()
	if err != nil {
		return fmt.Errorf("unmounting %s: %w: %s", mp.dir, errors.Join(err, abortErr), bytes.TrimSpace(out))
	}
	return nil
}

// Abort ends the connection and leaves the mount point as it is.
func (mp *MountPoint) Abort() error {
	_, minor, _ := strings.Cut(mp.device, ":")
	return os.WriteFile("/sys/fs/fuse/connections/"+minor+"/abort", []byte("1"), 0)
}

func isDead(dir string) bool {
	var st unix.Statfs_t
	err := unix.Statfs(dir, &st)
	return errors.Is(err, unix.ENOTCONN) || errors.Is(err, unix.ECONNABORTED)
}

// topMount is the mount on dir that covers the others; reading the table touches
// no mount.
func topMount(dir string) (top mountinfo.Mount) {
	list, err := mountinfo.Read()
	if err != nil {
		return top
	}
	for _, m := range list {
		if m.Point == dir {
			top = m
		}
	}
	return top
}

// probePassthrough says once whether complete files are read natively.
func (r *rawFS) probePassthrough() {
	if r.cfg.BackingDir == "" {
		return
	}
	if err := r.passthrough.probeStore(r.cfg.BackingDir); err != nil {
		r.log.Warn("complete files are served by modelfs and not by the kernel itself, which is slower", "cause", err)
	}
}
