package main

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"modelfs/internal/mountinfo"
)

// fsType is the type that the kernel shows for a modelfs mount.
const fsType = "fuse.modelfs"

// modelfsMounts are the points where a modelfs mount is on top.
func modelfsMounts(list []mountinfo.Mount) []string {
	top := make(map[string]string)
	var order []string
	for _, m := range list {
		if _, seen := top[m.Point]; !seen {
			order = append(order, m.Point)
		}
		top[m.Point] = m.Type
	}
	var points []string
	for _, p := range order {
		if top[p] == fsType {
			points = append(points, p)
		}
	}
	return points
}

// mountOf is the mount that an absolute path lies on; ok is false where the
// table has none.
func mountOf(list []mountinfo.Mount, path string) (m mountinfo.Mount, ok bool) {
	for _, c := range list {
		if within(path, c.Point) && len(c.Point) >= len(m.Point) {
			m, ok = c, true
		}
	}
	return m, ok
}

// anyStacked reports whether one of the directories lies on overlayfs or FUSE,
// by the mount table: a share is not asked.
func anyStacked(dirs []string) bool {
	list, err := mountinfo.Read()
	return err == nil && slices.ContainsFunc(dirs, func(dir string) bool {
		m, ok := mountOf(list, dir)
		return ok && (m.Type == "overlay" || m.Type == "fuse" || m.Type == "fuseblk" || strings.HasPrefix(m.Type, "fuse."))
	})
}

// mountPath is the path as the mount table shows it: absolute, without
// symlinks. The last segment is read as a link and not looked at otherwise,
// which would ask a filesystem that may be dead or hung.
func mountPath(path string) (string, error) {
	if path == "" {
		return "", withCode(exitUsage, errors.New("the mount point's name is empty"))
	}
	abs, err := filepath.Abs(path)
	for range maxLinks {
		if err != nil || abs == "/" {
			return abs, err
		}
		var parent string
		if parent, err = filepath.EvalSymlinks(filepath.Dir(abs)); err != nil {
			return "", err
		}
		abs = filepath.Join(parent, filepath.Base(abs))
		target, err := os.Readlink(abs)
		if err != nil {
			return abs, nil // no link
		}
		if filepath.IsAbs(target) {
			abs = filepath.Clean(target)
		} else {
			abs = filepath.Join(parent, target)
		}
	}
	return "", &os.PathError{Op: "readlink", Path: path, Err: unix.ELOOP}
}

// maxLinks is as many as the kernel follows.
const maxLinks = 40
