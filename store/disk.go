package store

import (
	"errors"
	"fmt"
	iofs "io/fs"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"modelfs/internal/model"
)

// diskError gives an error of the disk its kind: NoSpace when it is full or
// a quota is used up, Denied when the backing dir can't be written, else
// Internal (EIO and the like).
func diskError(err error, format string, args ...any) error {
	kind := model.Internal
	var hint string
	switch {
	case noSpace(err):
		kind = model.NoSpace
	case errors.Is(err, unix.EROFS):
		kind, hint = model.Denied, "; remount it writable or choose another --cache"
	case errors.Is(err, iofs.ErrPermission):
		kind, hint = model.Denied, "; give this user the backing dir or choose another --cache"
	}
	return model.Errorf(kind, "%s: %w%s", fmt.Sprintf(format, args...), err, hint)
}

func noSpace(err error) bool {
	return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) || errors.Is(err, unix.EFBIG)
}

func bootID() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

func datasync(f *os.File) error {
	for {
		if err := unix.Fdatasync(int(f.Fd())); err != unix.EINTR {
			return err
		}
	}
}

// pushOut starts writing the file's dirty pages back. It waits for none and
// takes no error away from the next sync.
func pushOut(f *os.File) {
	_ = unix.SyncFileRange(int(f.Fd()), 0, 0, unix.SYNC_FILE_RANGE_WRITE)
}

// diskSpace is what an unprivileged process may still write, and the size of
// the filesystem, in bytes.
func diskSpace(dir *os.File) (free, total int64, err error) {
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(dir.Fd()), &st); err != nil {
		return 0, 0, fmt.Errorf("ask the filesystem for its free space: %w", err)
	}
	return int64(st.Bavail) * st.Frsize, int64(st.Blocks) * st.Frsize, nil
}

func (s *Store) syncDir(name string) error {
	d, err := s.root.Open(name)
	if err != nil {
		return diskError(err, "open %s for syncing", s.path(name))
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return diskError(err, "sync %s", s.path(name))
	}
	return nil
}

// path is the absolute path of a name in the backing dir, for messages.
func (s *Store) path(name string) string { return path.Join(s.dir, name) }

// remove removes a file that may be gone already.
func (s *Store) remove(name string) error {
	if err := s.root.Remove(name); err != nil && !errors.Is(err, iofs.ErrNotExist) {
		return diskError(err, "remove %s", s.path(name))
	}
	return nil
}

func inode(fi iofs.FileInfo) uint64 {
	if st := statOf(fi); st != nil {
		return st.Ino
	}
	return 0
}
