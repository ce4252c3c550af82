package mounts

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// maxLinks bounds the links that Follow follows, as the kernel does.
const maxLinks = 40

// A RemoteError says that a path leads to a network filesystem.
type RemoteError struct {
	Point, Type string // of the mount
	Path        string // where it leads, as far as that is known; clean, absolute
}

func (e *RemoteError) Error() string {
	return fmt.Sprintf("%s is on a network filesystem (%s at %s)", e.Path, e.Type, e.Point)
}

// Unwrap makes it one of the errors that say: it leads elsewhere.
func (e *RemoteError) Unwrap() error { return syscall.EXDEV }

// Follow is where rel leads from the directory base, a clean absolute path
// without links; so is the answer. Links are followed step by step. A network
// filesystem is a *RemoteError, and not touched, unless home lies on it or below
// it: see Foreign.
func (t *Table) Follow(base, rel, home string) (string, error) {
	real, rest, links := base, strings.Split(rel, "/"), 0
	for len(rest) > 0 {
		step := rest[0]
		rest = rest[1:]
		if step == "" || step == "." {
			continue
		}
		next := filepath.Join(real, step)
		if point, kind := t.Foreign(next, home); kind != "" {
			return "", &RemoteError{Point: point, Type: kind, Path: filepath.Join(append([]string{next}, rest...)...)}
		}
		st, err := os.Lstat(next)
		if err != nil {
			return "", err
		}
		if st.Mode()&os.ModeSymlink == 0 {
			real = next
			continue
		}
		target, err := os.Readlink(next)
		if err != nil {
			return "", err
		}
		if links++; links > maxLinks {
			return "", &os.PathError{Op: "follow", Path: next, Err: syscall.ELOOP}
		}
		if filepath.IsAbs(target) {
			real = "/"
		}
		rest = append(strings.Split(target, "/"), rest...)
	}
	return real, nil
}
