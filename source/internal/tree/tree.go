// Package tree answers: what lies at a path below a directory, and never
// outside of it?
//
// Invariants:
//
//  1. Nothing is written.
//
//  2. No file outside the root is listed or opened, whatever the symbolic
//     links say; links that end inside the root, or in a place that New was
//     told to trust, are followed.
//
//  3. Only ENOENT and its kin are NotFound. A root that is missing is NotFound
//     for a local tree and Unavailable for a share, which may not be mounted
//     yet; any other failure is Unavailable.
//
//  4. What is remembered of a directory is used only while its identity,
//     mtime and ctime are those that it was read under, and only if they were
//     old by then: two changes within one tick of a coarse clock look alike.
//     Sizes and times of files are never remembered.
//
//  5. A local tree leaves network filesystems alone, but for the one that its
//     root was put on: no call on it waits for another machine or process.
//
// It does not know what a model is, and a call takes as long as the kernel does.
package tree

import (
	"path"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"modelfs/internal/model"
)

// A Tree makes the system calls. Paths are slash-separated and relative to the
// root; "." is the root. The root is opened anew each time (but see Hold): a
// descriptor that is kept would hold a share that is being unmounted, or miss
// one that was mounted over it. It is safe for concurrent use.
type Tree struct {
	root   string
	home   string // the configured root: another one if links of that tree led here
	within string // "", or a directory below root that paths are relative to
	local  bool
	trust  []string // clean
	held   int      // descriptor of the directory that paths are relative to, or -1
	around *fence   // while it is held: the local tree's
}

// New makes the tree at root, an absolute path that need not exist. local says
// that a missing root is an empty one. Symbolic links may also lead below the
// directories of trust, absolute paths.
func New(root string, local bool, trust ...string) *Tree {
	t := &Tree{root: root, home: root, local: local, held: -1}
	for _, dir := range trust {
		t.trust = append(t.trust, filepath.Clean(dir))
	}
	return t
}

// Hold is t with its root opened once, for one operation with many calls. The
// caller calls release when it is over.
func (t *Tree) Hold() (held *Tree, release func(), err error) {
	fd, release, err := t.base()
	if err != nil {
		return nil, nil, t.failed("opening", ".", err)
	}
	h := *t
	h.held = fd
	if h.around, err = t.fenceHeld(fd); err != nil {
		release()
		return nil, nil, t.failed("opening", ".", err)
	}
	return &h, release, nil
}

// Within is the tree below the directory at rel: its paths are relative to
// rel, and what its links may lead to is below rel or trusted.
func (t *Tree) Within(rel string) *Tree {
	return &Tree{root: t.root, home: t.home, within: path.Join(t.within, rel), local: t.local, trust: t.trust, held: -1}
}

// At is the tree at another root, where links lead: one that is trusted, or that
// Resolve returned as a base.
func (t *Tree) At(base string) *Tree {
	return &Tree{root: filepath.Clean(base), home: t.home, local: t.local, held: -1}
}

// fenceHeld is the fence of paths relative to base's descriptor.
func (t *Tree) fenceHeld(fd int) (*fence, error) {
	if t.around != nil {
		return t.around, nil
	}
	return t.fenceOf(fd)
}

// base opens the directory that paths are relative to. The error is an errno.
func (t *Tree) base() (fd int, release func(), err error) {
	if t.held >= 0 {
		return t.held, func() {}, nil
	}
	if t.local && t.isGuest() {
		around := t.fenceAt("/")
		if _, err := around.table.Follow("/", t.root, around.home); err != nil {
			return -1, nil, bareErrno(err)
		}
	}
	fd, err = open(unix.AT_FDCWD, t.root, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err == nil && t.within != "" {
		top := Tree{root: t.root, home: t.home, local: t.local, trust: t.trust, held: fd}
		fd, err = top.openBeneath(t.within, unix.O_PATH|unix.O_DIRECTORY)
		unix.Close(top.held)
	}
	if err != nil {
		return -1, nil, err
	}
	return fd, func() { unix.Close(fd) }, nil
}

// A Stamp is what tells whether a directory or a small file has changed.
type Stamp struct {
	dev, ino     uint64
	mtime, ctime int64 // nanoseconds since 1970
	size         int64
}

func stampOf(st *unix.Stat_t) Stamp {
	return Stamp{dev: st.Dev, ino: st.Ino, mtime: st.Mtim.Nano(), ctime: st.Ctim.Nano(), size: st.Size}
}

// ModTime is the modification time that was seen.
func (s Stamp) ModTime() time.Time { return time.Unix(0, s.mtime) }

// Same reports whether both are of one file or directory, changed or not.
func (s Stamp) Same(o Stamp) bool { return s.dev == o.dev && s.ino == o.ino }

// Root is the absolute path of the root.
func (t *Tree) Root() string { return t.root }

// Abs is the absolute path of rel, for people to read.
func (t *Tree) Abs(rel string) string {
	return filepath.Join(t.root, t.within, filepath.FromSlash(rel))
}

// Rel is the path of abs relative to the root, if abs is a clean absolute path
// below it. It does no I/O and follows no links.
func (t *Tree) Rel(abs string) (rel string, ok bool) {
	rel, ok = strings.CutPrefix(abs, strings.TrimSuffix(t.root, "/")+"/")
	return rel, ok && rel != "." && filepath.IsLocal(rel) && filepath.Clean(rel) == rel
}

// stat follows a share's links without asking where they lead: what is read
// under the stamp is opened by openBeneath.
func (t *Tree) stat(rel string, st *unix.Stat_t) error {
	if t.local {
		return t.statHere(rel, st)
	}
	if t.within != "" && t.held < 0 {
		return t.statBeneath(rel, st)
	}
	return ignoringEINTR(func() error {
		if t.held >= 0 {
			return unix.Fstatat(t.held, rel, st, 0)
		}
		return unix.Stat(t.root+"/"+rel, st)
	})
}

// statHere is statBeneath of a local tree, which takes one call less each for
// most of what lies directly in a directory that is held.
func (t *Tree) statHere(rel string, st *unix.Stat_t) error {
	if t.held < 0 || rel == ".." || strings.Contains(rel, "/") || !t.around.holds() {
		return t.statBeneath(rel, st)
	}
	err := ignoringEINTR(func() error { return unix.Fstatat(t.held, rel, st, unix.AT_SYMLINK_NOFOLLOW) })
	if err == nil && st.Mode&unix.S_IFMT == unix.S_IFLNK {
		return t.statBeneath(rel, st)
	}
	return err
}

// DirStamp is the stamp of the directory at rel.
func (t *Tree) DirStamp(rel string) (Stamp, error) {
	var st unix.Stat_t
	if err := t.stat(rel, &st); err != nil {
		return Stamp{}, t.failed("reading", rel, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return Stamp{}, t.failed("reading", rel, unix.ENOTDIR)
	}
	return stampOf(&st), nil
}

// FileStamp is the stamp of whatever is at rel, links followed.
func (t *Tree) FileStamp(rel string) (Stamp, error) {
	var st unix.Stat_t
	if err := t.stat(rel, &st); err != nil {
		return Stamp{}, t.failed("reading", rel, err)
	}
	return stampOf(&st), nil
}

// Stat is the identity of the regular file at rel, links followed. NotFound:
// there is none inside the tree.
func (t *Tree) Stat(rel string) (model.Stat, error) {
	var st unix.Stat_t
	if err := t.statBeneath(rel, &st); err != nil {
		return model.Stat{}, t.failed("reading", rel, err)
	}
	return regular(rel, &st)
}

// statBeneath stats what is at rel, links followed as far as that is allowed.
func (t *Tree) statBeneath(rel string, st *unix.Stat_t) error {
	fd, err := t.openBeneath(rel, unix.O_PATH)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Fstat(fd, st)
}

// StatAll calls f with Stat's answer for each of names in the directory at dir.
// It takes one system call for each that is no link. Those that vanished, may
// not be read or are no files are left out.
func (t *Tree) StatAll(dir string, names []string, f func(name string, st model.Stat)) error {
	fd, err := t.openBeneath(dir, unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return t.failed("reading", dir, err)
	}
	defer unix.Close(fd)
	around, err := t.fenceOf(fd)
	if err != nil {
		return t.failed("reading", dir, err)
	}
	for _, name := range names {
		st, err := t.statAt(fd, dir, name, around)
		if err == nil {
			f(name, st)
		} else if err := Tolerable(err); err != nil {
			return err
		}
	}
	return nil
}

// statAt is Stat of name in dir, which is open as fd and has that fence.
func (t *Tree) statAt(fd int, dir, name string, around *fence) (model.Stat, error) {
	if name == ".." || strings.Contains(name, "/") || !around.holds() { // fd alone would not keep it inside
		return t.Stat(path.Join(dir, name))
	}
	var st unix.Stat_t
	err := ignoringEINTR(func() error { return unix.Fstatat(fd, name, &st, unix.AT_SYMLINK_NOFOLLOW) })
	switch {
	case err != nil:
		return model.Stat{}, t.failed("reading", path.Join(dir, name), err)
	case st.Mode&unix.S_IFMT == unix.S_IFLNK:
		return t.Stat(path.Join(dir, name))
	}
	return regular(name, &st)
}

func regular(rel string, st *unix.Stat_t) (model.Stat, error) {
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return model.Stat{}, model.Errorf(model.NotFound, "%s is not a regular file", rel)
	}
	return model.Stat{Dev: st.Dev, Ino: st.Ino, Size: st.Size, ModTime: time.Unix(0, st.Mtim.Nano())}, nil
}
