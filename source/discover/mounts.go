package discover

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// maxLinks bounds the links that resolve follows, as the kernel does.
const maxLinks = 40

// A mounts is the mount table: type of filesystem by mount point. Later mounts
// on one point hide earlier ones.
type mounts map[string]string

// readMounts reads the table, which the kernel makes without asking any
// filesystem. Without one every path is of this machine.
func readMounts(file string) mounts {
	raw, err := os.ReadFile(file)
	if err != nil {
		return nil
	}
	return parseMounts(string(raw))
}

func parseMounts(table string) mounts {
	m := make(mounts)
	for _, line := range strings.Split(table, "\n") {
		// id parent major:minor root point options [tags] - type source options
		left, right, ok := strings.Cut(line, " - ")
		l, r := strings.Fields(left), strings.Fields(right)
		if ok && len(l) > 4 && len(r) > 0 {
			m[unescape(l[4])] = r[0]
		}
	}
	return m
}

// unescape undoes the octal escapes of the mount table.
func unescape(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}

// remoteTypes are filesystems whose calls may wait for another machine or
// process. All of FUSE is: modelfs's own mount is one.
var remoteTypes = map[string]bool{"nfs": true, "nfs4": true, "cifs": true, "smb3": true, "smbfs": true, "9p": true, "ceph": true, "lustre": true,
	"afs": true, "gfs2": true, "gpfs": true, "glusterfs": true, "beegfs": true, "orangefs": true, "coda": true, "ncpfs": true, "autofs": true,
	"wekafs": true, "virtiofs": true, "panfs": true}

// remote is the type of filesystem at a clean absolute path without links, if
// it is a network's, else "".
func (m mounts) remote(path string) string {
	for p := path; ; p = filepath.Dir(p) {
		if t, ok := m[p]; ok {
			if remoteTypes[t] || t == "fuse" || t == "fuseblk" || strings.HasPrefix(t, "fuse.") {
				return t
			}
			return ""
		}
		if p == "/" {
			return ""
		}
	}
}

// resolve follows the links of an absolute path, step by step. remote is the
// type of the network filesystem that it meets; real is where it got to. ok is
// false if there is no such directory.
func (m mounts) resolve(path string) (real, remote string, ok bool) {
	real, rest, links := "/", strings.Split(path, "/"), 0
	for len(rest) > 0 {
		step := rest[0]
		rest = rest[1:]
		if step == "" || step == "." {
			continue
		}
		next := filepath.Join(real, step)
		if t := m.remote(next); t != "" {
			return filepath.Join(append([]string{next}, rest...)...), t, true
		}
		st, err := os.Lstat(next)
		if err != nil {
			return "", "", false
		}
		if st.Mode()&os.ModeSymlink == 0 {
			real = next
			continue
		}
		target, err := os.Readlink(next)
		if links++; err != nil || links > maxLinks {
			return "", "", false
		}
		if filepath.IsAbs(target) {
			real = "/"
		}
		rest = append(strings.Split(target, "/"), rest...)
	}
	st, err := os.Lstat(real)
	return real, "", err == nil && st.IsDir()
}

// readSmall is a regular file of this machine of at most limit bytes, or nil.
func (m mounts) readSmall(path string, limit int64) []byte {
	dir, remote, ok := m.resolve(filepath.Dir(path))
	if !ok || remote != "" {
		return nil
	}
	f, err := os.OpenFile(filepath.Join(dir, filepath.Base(path)), os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil || !st.Mode().IsRegular() || st.Size() > limit {
		return nil
	}
	raw := make([]byte, st.Size())
	n, err := f.ReadAt(raw, 0)
	if err != nil && n != len(raw) {
		return nil
	}
	return raw
}
