package discover

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"

	"modelfs/source/internal/mounts"
)

// resolve follows the links of a clean absolute path, step by step. remote is the
// type of the network filesystem that it meets; real is where it got to. ok is
// false if there is no such directory.
func resolve(m *mounts.Table, path string) (real, remote string, ok bool) {
	real, err := m.Follow("/", path, "")
	var far *mounts.RemoteError
	if errors.As(err, &far) {
		return far.Path, far.Type, true
	}
	if err != nil {
		return "", "", false
	}
	st, err := os.Lstat(real)
	return real, "", err == nil && st.IsDir()
}

// readSmall is a regular file of this machine of at most limit bytes, or nil.
func readSmall(m *mounts.Table, path string, limit int64) []byte {
	dir, remote, ok := resolve(m, filepath.Dir(path))
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
