package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// fsType is the type that the kernel shows for a modelfs mount.
const fsType = "fuse.modelfs"

// mountInfo is one line of /proc/self/mountinfo.
type mountInfo struct {
	Point  string // absolute
	Type   string // "fuse.modelfs", "ext4", …
	Device string // "major:minor"
	Shared bool   // mounts below it reach its peers
}

// mounts reads this process's mount table, in order of mounting: where two
// lie on one point, the later one is on top.
func mounts() ([]mountInfo, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return parseMounts(f)
}

// parseMounts parses proc_pid_mountinfo(5): the fifth field is the mount
// point, a "-" ends the optional fields, the type follows it.
func parseMounts(r io.Reader) ([]mountInfo, error) {
	var list []mountInfo
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		before, after, ok := strings.Cut(lines.Text(), " - ")
		fields := strings.Fields(before)
		if !ok || len(fields) < 6 {
			return nil, fmt.Errorf("mount table: a line of %d fields", len(fields))
		}
		kind, _, _ := strings.Cut(after, " ")
		shared := slices.ContainsFunc(fields[6:], func(f string) bool { return strings.HasPrefix(f, "shared:") })
		list = append(list, mountInfo{Point: unescapeMount(fields[4]), Type: kind, Device: fields[2], Shared: shared})
	}
	return list, lines.Err()
}

// unescapeMount undoes the kernel's octal escapes of space, tab, newline and
// backslash.
func unescapeMount(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// modelfsMounts are the points where a modelfs mount is on top.
func modelfsMounts(list []mountInfo) []string {
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
func mountOf(list []mountInfo, path string) (m mountInfo, ok bool) {
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
	list, err := mounts()
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
