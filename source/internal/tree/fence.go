package tree

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"modelfs/source/internal/mounts"
)

// A fence is around a local tree: network filesystems, whose calls may wait for
// ever, are outside of it. They are told by the mount table, and not looked at.
// A share has none (nil): its calls are made where they may get stuck.
type fence struct {
	table *mounts.Table
	base  string // the directory that paths are relative to, without links
	home  string // what the tree's own way passes is inside; without links, "" if that is not known
}

// fenceAt is the fence of paths relative to base, without links.
func (t *Tree) fenceAt(base string) *fence {
	if !t.local {
		return nil
	}
	f := &fence{table: mounts.Current(), base: base, home: base}
	if t.isGuest() {
		f.home = t.homePath()
	}
	return f
}

// fenceOf is the fence of paths relative to an open directory.
func (t *Tree) fenceOf(fd int) (*fence, error) {
	if !t.local {
		return nil, nil
	}
	base, err := pathOf(fd)
	if err != nil {
		return nil, err
	}
	return t.fenceAt(base), nil
}

// pathOf is the path of an open directory, without links. That there is no /proc
// is no word about what is in the tree: EIO, and not ENOENT.
func pathOf(fd int) (string, error) {
	path, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(fd))
	if err != nil {
		return "", fmt.Errorf("%w: where an open directory lies is not known (%s); is /proc mounted?", unix.EIO, err.Error())
	}
	return path, nil
}

// homePath is the path of the tree whose links led here, without links, or "".
func (t *Tree) homePath() string {
	fd, err := open(unix.AT_FDCWD, t.home, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return ""
	}
	defer unix.Close(fd)
	path, err := pathOf(fd)
	if err != nil {
		return ""
	}
	return path
}

// isGuest reports whether the root is not the configured one, but where its
// links lead.
func (t *Tree) isGuest() bool { return t.home != t.root }

// check is nil if rel, a local path without links, may be looked at.
func (f *fence) check(rel string) error {
	if f == nil {
		return nil
	}
	path := filepath.Join(f.base, rel)
	if point, kind := f.table.Foreign(path, f.home); kind != "" {
		return &mounts.RemoteError{Point: point, Type: kind, Path: path}
	}
	return nil
}

// holds reports whether a path that stays below base stays inside the fence.
func (f *fence) holds() bool { return f == nil || len(f.table.RemoteBelow(f.base)) == 0 }

// follow is where rel leads: base, or one of the trusted directories, and the
// path below it, both free of links. EXDEV if it is elsewhere.
func (f *fence) follow(rel string, trust []string) (base, inside string, err error) {
	if !filepath.IsLocal(rel) {
		return "", "", unix.EXDEV
	}
	target, err := f.table.Follow(f.base, rel, f.home)
	if err != nil {
		return "", "", err
	}
	if inside, ok := below(f.base, target); ok {
		return f.base, inside, nil
	}
	for _, b := range trust {
		if b, err = f.table.Follow("/", b, f.home); err != nil {
			continue
		}
		if inside, ok := below(b, target); ok {
			return b, inside, nil
		}
	}
	return "", "", unix.EXDEV
}

func below(base, target string) (inside string, ok bool) {
	inside, err := filepath.Rel(base, target)
	return inside, err == nil && filepath.IsLocal(inside)
}
