package tree

import (
	"errors"
	"io"
	"os"
	"path"
	"strconv"

	"golang.org/x/sys/unix"

	"modelfs/internal/model"
)

// Open opens the regular file at rel for reading; the caller closes it.
// O_NONBLOCK keeps a named pipe from blocking the open; it is taken off again.
func (t *Tree) Open(rel string) (*os.File, model.Stat, error) {
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
	return os.NewFile(uintptr(fd), t.Abs(rel)), id, nil
}

// OpenBoth opens the regular file at rel for reading, and once more so that the
// descriptor only names it (O_PATH). Naming a file asks NFS for nothing, and is
// answered with what lay there some time ago: only an open finds out what does now.
func (t *Tree) OpenBoth(rel string) (file, named *os.File, id model.Stat, err error) {
	file, id, err = t.Open(rel)
	if err != nil {
		return nil, nil, id, err
	}
	fd, err := unix.Open("/proc/self/fd/"+strconv.Itoa(int(file.Fd())), unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		file.Close()
		return nil, nil, id, t.failed("opening", rel, err)
	}
	return file, os.NewFile(uintptr(fd), t.Abs(rel)), id, nil
}

// Resolve is where the path at rel leads: the directory that paths are
// relative to or a trusted one, and the path below it, both free of links.
// NotFound: elsewhere.
func (t *Tree) Resolve(rel string) (base, inside string, err error) {
	base, inside, err = t.resolve(rel)
	if err != nil {
		return "", "", t.failed("following", rel, err)
	}
	return base, inside, nil
}

func (t *Tree) resolve(rel string) (base, inside string, err error) {
	if !t.local {
		return t.eval(rel, nil)
	}
	fd, release, err := t.base()
	if err != nil {
		return "", "", err
	}
	defer release()
	around, err := t.fenceHeld(fd)
	if err != nil {
		return "", "", err
	}
	return t.eval(rel, around)
}

// Head is the first n bytes of the file at rel, or all of it.
func (t *Tree) Head(rel string, n int64) ([]byte, error) {
	f, _, err := t.Open(rel)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, n))
	if err != nil {
		return nil, t.failed("reading", rel, err)
	}
	return b, nil
}

// ReadFile is the whole file at rel, and its stamp from before it was read.
// Invalid: it has more than limit bytes.
func (t *Tree) ReadFile(rel string, limit int64) ([]byte, Stamp, error) {
	fd, err := t.openBeneath(rel, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY)
	if err != nil {
		return nil, Stamp{}, t.failed("opening", rel, err)
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, Stamp{}, t.failed("reading", rel, err)
	}
	if _, err := regular(rel, &st); err != nil {
		return nil, Stamp{}, err
	}
	tooLarge := model.Errorf(model.Invalid, "%s is larger than %d bytes", t.Abs(rel), limit)
	if st.Size > limit {
		return nil, Stamp{}, tooLarge
	}
	b, err := readAll(fd, int(st.Size), limit+1)
	if err != nil {
		return nil, Stamp{}, t.failed("reading", rel, err)
	}
	if int64(len(b)) > limit {
		return nil, Stamp{}, tooLarge
	}
	return b, stampOf(&st), nil
}

// readAll is what fd has, up to limit bytes. It stops at size, where that is
// what the file was said to have: a call less for each small file.
func readAll(fd int, size int, limit int64) ([]byte, error) {
	b := make([]byte, 0, size+1)
	for {
		n := 0
		err := ignoringEINTR(func() (err error) { n, err = unix.Read(fd, b[len(b):cap(b)]); return err })
		if err != nil || n <= 0 {
			return b, err
		}
		b = b[:len(b)+n]
		if int64(len(b)) >= limit || len(b) == size {
			return b, nil
		}
		if len(b) == cap(b) {
			b = append(b, 0)[:len(b)]
		}
	}
}

// Readlink is the target of the symbolic link at rel, as it is written there.
// NotFound: there is no link.
func (t *Tree) Readlink(rel string) (string, error) {
	buf := make([]byte, unix.PathMax)
	n := 0
	dir, err := t.openBeneath(path.Dir(rel), unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return "", t.failed("reading", rel, err)
	}
	defer unix.Close(dir)
	err = ignoringEINTR(func() (err error) { n, err = unix.Readlinkat(dir, path.Base(rel), buf); return err })
	if errors.Is(err, unix.EINVAL) {
		return "", model.Errorf(model.NotFound, "%s is not a symbolic link", t.Abs(rel))
	}
	if err != nil {
		return "", t.failed("reading", rel, err)
	}
	return string(buf[:n]), nil
}

// openDir opens the directory at rel and returns the stamp that it had before
// anything was read from it.
func (t *Tree) openDir(rel string) (*os.File, Stamp, error) {
	fd, err := t.openBeneath(rel, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return nil, Stamp{}, t.failed("reading", rel, err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		unix.Close(fd)
		return nil, Stamp{}, t.failed("reading", rel, err)
	}
	return os.NewFile(uintptr(fd), t.Abs(rel)), stampOf(&st), nil
}
