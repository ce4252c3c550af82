package directory

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"modelfs/internal/model"
)

// A tree makes the system calls. Paths are slash-separated and relative to the
// root; "." is the root. The root is opened anew each time: a descriptor that
// is kept would hold a share that is being unmounted, or miss one that was
// mounted over it.
type tree struct {
	root  string
	local bool
}

// stamp is what tells whether a directory has changed.
type stamp struct {
	dev, ino     uint64
	mtime, ctime int64 // nanoseconds since 1970
}

func stampOf(st *unix.Stat_t) stamp {
	return stamp{dev: st.Dev, ino: st.Ino, mtime: st.Mtim.Nano(), ctime: st.Ctim.Nano()}
}

func (s stamp) modTime() time.Time { return time.Unix(0, s.mtime) }

func (t *tree) abs(rel string) string { return filepath.Join(t.root, filepath.FromSlash(rel)) }

// dirStamp is the stamp of the directory at rel. It follows links without
// asking where they lead: what is read under the stamp is opened by openBeneath.
func (t *tree) dirStamp(rel string) (stamp, error) {
	var st unix.Stat_t
	if err := ignoringEINTR(func() error { return unix.Stat(t.abs(rel), &st) }); err != nil {
		return stamp{}, t.failed("reading", rel, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return stamp{}, t.failed("reading", rel, unix.ENOTDIR)
	}
	return stampOf(&st), nil
}

// statFile is the identity of the regular file at rel, links followed.
func (t *tree) statFile(rel string) (model.Stat, error) {
	var st unix.Stat_t
	err := ignoringEINTR(func() error { return unix.Lstat(t.abs(rel), &st) })
	if err == nil && st.Mode&unix.S_IFMT == unix.S_IFLNK {
		err = t.statLink(rel, &st)
	}
	if err != nil {
		return model.Stat{}, t.failed("reading", rel, err)
	}
	return regular(rel, &st)
}

// statLink stats what the link at rel leads to, if that is inside the root.
func (t *tree) statLink(rel string, st *unix.Stat_t) error {
	fd, err := t.openBeneath(rel, unix.O_PATH)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Fstat(fd, st)
}

func regular(rel string, st *unix.Stat_t) (model.Stat, error) {
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return model.Stat{}, model.Errorf(model.NotFound, "%s is not a regular file", rel)
	}
	return model.Stat{Dev: st.Dev, Ino: st.Ino, Size: st.Size, ModTime: time.Unix(0, st.Mtim.Nano())}, nil
}

// openFile opens the regular file at rel for reading. O_NONBLOCK keeps a named
// pipe from blocking the open; it is taken off again.
func (t *tree) openFile(rel string) (*os.File, model.Stat, error) {
	fd, err := t.openBeneath(rel, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY)
	if err != nil {
		return nil, model.Stat{}, t.failed("opening", rel, err)
	}
	var st unix.Stat_t
	if err = unix.Fstat(fd, &st); err == nil {
		err = unix.SetNonblock(fd, false)
	}
	if err != nil {
		unix.Close(fd)
		return nil, model.Stat{}, t.failed("opening", rel, err)
	}
	id, err := regular(rel, &st)
	if err != nil {
		unix.Close(fd)
		return nil, model.Stat{}, err
	}
	return os.NewFile(uintptr(fd), t.abs(rel)), id, nil
}

// openDir opens the directory at rel and returns the stamp that it had before
// anything was read from it.
func (t *tree) openDir(rel string) (*os.File, stamp, error) {
	fd, err := t.openBeneath(rel, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return nil, stamp{}, t.failed("reading", rel, err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		unix.Close(fd)
		return nil, stamp{}, t.failed("reading", rel, err)
	}
	return os.NewFile(uintptr(fd), t.abs(rel)), stampOf(&st), nil
}

// openBeneath opens rel without ever leaving the root. The error is a bare
// errno; EXDEV says that a link leads out.
func (t *tree) openBeneath(rel string, flags int) (int, error) {
	root, err := open(unix.AT_FDCWD, t.root, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return -1, err
	}
	defer unix.Close(root)
	fd, err := open(root, rel, flags, unix.RESOLVE_BENEATH|unix.RESOLVE_NO_MAGICLINKS)
	if err != unix.EXDEV {
		return fd, err
	}
	// An absolute link leaves the root by definition, even where it leads
	// back into it. Its target is opened without following any further link,
	// so that nothing can be put in the way meanwhile.
	inside, err := t.evalInside(rel)
	if err != nil {
		return -1, err
	}
	return open(root, inside, flags, unix.RESOLVE_BENEATH|unix.RESOLVE_NO_SYMLINKS)
}

// evalInside is the path below the root, free of links, that rel leads to;
// EXDEV if that is outside.
func (t *tree) evalInside(rel string) (string, error) {
	root, err := filepath.EvalSymlinks(t.root)
	if err != nil {
		return "", bareErrno(err)
	}
	target, err := filepath.EvalSymlinks(t.abs(rel))
	if err != nil {
		return "", bareErrno(err)
	}
	inside, err := filepath.Rel(root, target)
	if err != nil || !filepath.IsLocal(inside) {
		return "", unix.EXDEV
	}
	return inside, nil
}

// open is openat2, on which the promise not to leave the root rests (Linux 5.6).
func open(dir int, name string, flags int, resolve uint64) (int, error) {
	fd := -1
	err := ignoringEINTR(func() (err error) {
		fd, err = unix.Openat2(dir, name, &unix.OpenHow{Flags: uint64(flags | unix.O_CLOEXEC), Resolve: resolve})
		if err == unix.EAGAIN { // a rename elsewhere made the kernel's check inconclusive
			err = unix.EINTR
		}
		return err
	})
	return fd, err
}

// ignoringEINTR repeats a call that a signal cut short, as the os package
// does. The bound is far above what signals do; it is there for EAGAIN.
func ignoringEINTR(call func() error) error {
	var err error
	for range 1000 {
		if err = call(); err != unix.EINTR {
			return err
		}
	}
	return unix.EAGAIN
}

// probe asks the share itself: statfs is not answered from a cache.
func (t *tree) probe() error {
	var st unix.Statfs_t
	if err := unix.Statfs(t.root, &st); err != nil {
		return fmt.Errorf("probing %s: %w", t.root, err)
	}
	return nil
}

// failed gives a system call's error its kind. "Not there" counts only if the
// root is there: a share that is not mounted has said nothing.
func (t *tree) failed(doing, rel string, err error) error {
	what := fmt.Errorf("%s %s: %w", doing, path.Join(t.root, rel), err)
	switch bareErrno(err) {
	case unix.ENOENT, unix.ENOTDIR, unix.ELOOP, unix.ENAMETOOLONG, unix.EXDEV:
		if rootErr := t.rootMissing(); rootErr != nil {
			return rootErr
		}
		return model.Errorf(model.NotFound, "%w", what)
	case unix.EACCES, unix.EPERM:
		if rel == "." {
			return model.Errorf(model.Unavailable, "%w; give modelfs the right to read it", what)
		}
		return model.Errorf(model.Denied, "%w", what)
	}
	return model.Errorf(model.Unavailable, "%w", what)
}

// rootMissing is nil if the root is a directory, or if it is a local tree's
// that does not exist: nothing can be there then.
func (t *tree) rootMissing() error {
	var st unix.Stat_t
	err := ignoringEINTR(func() error { return unix.Stat(t.root, &st) })
	if err == nil && st.Mode&unix.S_IFMT != unix.S_IFDIR {
		err = unix.ENOTDIR
	}
	switch {
	case err == nil, t.local && (err == unix.ENOENT || err == unix.ENOTDIR):
		return nil
	case t.local:
		return model.Errorf(model.Unavailable, "the tree %s: %w", t.root, err)
	}
	return model.Errorf(model.Unavailable, "the share %s: %w; is it mounted?", t.root, err)
}

// bareErrno is the errno in err's chain, or err.
func bareErrno(err error) error {
	var e syscall.Errno
	if errors.As(err, &e) {
		return e
	}
	return err
}

// hiddenSuffixes end the names of files that other tools leave while they
// work: locks and unfinished downloads.
var hiddenSuffixes = []string{".lock", ".partial", ".tmp", ".incomplete", ".part", ".aria2", ".downloadinprogress"}

// hidden reports whether a name is no part of any model.
func hidden(name string) bool {
	if strings.HasPrefix(name, ".") {
		return true
	}
	lower := strings.ToLower(name)
	for _, s := range hiddenSuffixes {
		if strings.HasSuffix(lower, s) {
			return true
		}
	}
	return false
}

// kindAt is the type of what rel is, links followed: fs.ModeDir, 0 for a
// regular file, fs.ModeIrregular for anything else, for a link that leads
// nowhere or out of the root, and for a link to the root itself.
func (t *tree) kindAt(rel string) (fs.FileMode, error) {
	var st unix.Stat_t
	if err := t.statLink(rel, &st); err != nil {
		if model.KindOf(t.failed("reading", rel, err)) == model.Unavailable {
			return 0, t.failed("reading", rel, err)
		}
		return fs.ModeIrregular, nil
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		return 0, nil
	case unix.S_IFDIR:
		var root unix.Stat_t
		if err := unix.Stat(t.root, &root); err == nil && root.Dev == st.Dev && root.Ino == st.Ino {
			return fs.ModeIrregular, nil
		}
		return fs.ModeDir, nil
	}
	return fs.ModeIrregular, nil
}
