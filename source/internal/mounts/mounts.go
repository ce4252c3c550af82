// Package mounts answers: does a path lie on a filesystem of this machine, or
// on one that may have to wait for somebody else?
//
// Invariants:
//
//  1. No network filesystem, FUSE or automount point is touched: each step of a
//     path is looked at only after the mount table has said that it lies on a
//     filesystem of this machine.
//  2. A mount is known to who asks after it was made.
//
// It opens nothing of what it is asked about.
package mounts

import (
	"path/filepath"
	"slices"
	"strings"

	"modelfs/internal/mountinfo"
)

// A Table is the mount table at one time. It is immutable.
type Table struct {
	types  map[string]string // type of filesystem by mount point
	remote []string          // mount points of network filesystems, sorted
}

// of makes the table of a list in order of mounting: later mounts on one point
// hide earlier ones.
func of(list []mountinfo.Mount) *Table {
	types := make(map[string]string, len(list))
	for _, m := range list {
		types[m.Point] = m.Type
	}
	return New(types)
}

// New makes a table of types of filesystems by mount point.
func New(types map[string]string) *Table {
	t := &Table{types: types}
	for point, kind := range types {
		if isRemote(kind) {
			t.remote = append(t.remote, point)
		}
	}
	slices.Sort(t.remote)
	return t
}

// remoteTypes are filesystems whose calls may wait for another machine or
// process. All of FUSE is: modelfs's own mount is one.
var remoteTypes = map[string]bool{"nfs": true, "nfs4": true, "cifs": true, "smb3": true, "smbfs": true, "9p": true, "ceph": true, "lustre": true,
	"afs": true, "gfs2": true, "gpfs": true, "glusterfs": true, "beegfs": true, "orangefs": true, "coda": true, "ncpfs": true, "autofs": true,
	"wekafs": true, "virtiofs": true, "panfs": true}

func isRemote(kind string) bool {
	return remoteTypes[kind] || kind == "fuse" || kind == "fuseblk" || strings.HasPrefix(kind, "fuse.")
}

// Remote is the mount that a clean absolute path without links lies on, if that
// is a network filesystem, else "", "".
func (t *Table) Remote(path string) (point, kind string) {
	if len(t.remote) == 0 {
		return "", ""
	}
	for p := path; ; {
		if kind, ok := t.types[p]; ok {
			if isRemote(kind) {
				return p, kind
			}
			return "", ""
		}
		parent := filepath.Dir(p)
		if parent == p { // "/", or "." of a path that the kernel knows no way to
			return "", ""
		}
		p = parent
	}
}

// Foreign is Remote for who comes from the directory home, a path of the same
// kind or "": a mount on the way to home is not foreign, for nobody gets there
// without it.
func (t *Table) Foreign(path, home string) (point, kind string) {
	point, kind = t.Remote(path)
	if point == "/" && home != "" || point == home || strings.HasPrefix(home, point+"/") {
		return "", ""
	}
	return point, kind
}

// RemoteBelow are the points below a clean absolute path without links at which
// network filesystems are mounted, sorted. The caller must not change the slice.
func (t *Table) RemoteBelow(path string) []string {
	prefix := strings.TrimSuffix(path, "/") + "/"
	from, _ := slices.BinarySearch(t.remote, prefix)
	if from < len(t.remote) && t.remote[from] == "/" {
		from++
	}
	to := from
	for to < len(t.remote) && strings.HasPrefix(t.remote[to], prefix) {
		to++
	}
	return t.remote[from:to]
}
