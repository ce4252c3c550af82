package tree

import (
	"errors"
	"path"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// A Reading is what something was made from: directories and small files, with
// the stamps that they had before they were read.
type Reading []Read

// A Read is one of them.
type Read struct {
	Path  string
	Stamp Stamp
}

// Current reports whether all of it is as it was: one stat each, if what lies in
// one directory stands together.
func (r Reading) Current(t *Tree) bool {
	s := stamper{t: t, fd: -1}
	defer s.close()
	for _, one := range r {
		if now, err := s.stamp(one.Path); err != nil || now != one.Stamp {
			return false
		}
	}
	return true
}

// A stamper is FileStamp for many paths of a tree. Of a local one it keeps the
// directory open that the last two were in: where the links on the way lead is
// found out once for all that is in it.
type stamper struct {
	t      *Tree
	last   string // directory of the last path
	fd     int    // it, or -1
	around *fence // of fd
}

func (s *stamper) stamp(rel string) (Stamp, error) {
	dir, name := path.Split(rel)
	if dir == "" || !s.t.local {
		return s.t.FileStamp(rel)
	}
	switch {
	case dir != s.last:
		s.close()
		s.last = dir
	case s.fd < 0:
		s.open()
	}
	if s.fd < 0 || name == ".." || !s.around.holds() {
		return s.t.FileStamp(rel)
	}
	var st unix.Stat_t
	err := ignoringEINTR(func() error { return unix.Fstatat(s.fd, name, &st, unix.AT_SYMLINK_NOFOLLOW) })
	if err != nil || st.Mode&unix.S_IFMT == unix.S_IFLNK {
		return s.t.FileStamp(rel)
	}
	return stampOf(&st), nil
}

// open opens the last directory. Where that fails FileStamp says why.
func (s *stamper) open() {
	fd, err := s.t.openBeneath(path.Clean(s.last), unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return
	}
	if s.around, err = s.t.fenceOf(fd); err != nil {
		unix.Close(fd)
		return
	}
	s.fd = fd
}

func (s *stamper) close() {
	if s.fd >= 0 {
		unix.Close(s.fd)
		s.fd = -1
	}
}

// SettledAll reports whether what was read at readAt may be remembered.
func (t *Tree) SettledAll(r Reading, readAt time.Time) bool {
	for _, one := range r {
		if !t.Settled(one.Stamp, readAt) {
			return false
		}
	}
	return true
}

// Each calls f for 0 to n-1, from that many workers at the same time: on a
// share that many system calls are under way, which bounds what the guard does
// not. A worker stops at its first error.
func Each(n, workers int, f func(i int) error) error {
	workers = max(1, min(workers, n))
	errs := make([]error, workers)
	var working sync.WaitGroup
	for w := range workers {
		working.Go(func() {
			for i := w; i < n && errs[w] == nil; i += workers {
				errs[w] = f(i)
			}
		})
	}
	working.Wait()
	return errors.Join(errs...)
}
