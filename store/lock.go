package store

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"modelfs/internal/model"
)

// Lock takes a backing dir's lock without opening it, creating the directory
// if need be, for a process that passes the lock on to those that open it
// (Options.Lock). The error is of kind InUse, and names the holder, if another
// process has it. The caller closes the file, which gives the lock up once
// nobody else has it open.
func Lock(dir string) (*os.File, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("backing dir %s: %w", dir, err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, diskError(err, "create backing dir %s", dir)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, diskError(err, "open backing dir %s", dir)
	}
	f, err := lockIn(root, dir)
	return f, errors.Join(err, root.Close())
}

// takeLock locks the backing dir for this process, unless it was given the
// lock.
func (s *Store) takeLock() error {
	if s.lock != nil {
		return s.checkLock()
	}
	var err error
	s.lock, err = lockIn(s.root, s.dir)
	return err
}

// checkLock makes sure that the lock that was passed on is this backing dir's,
// and held: asking again for a lock that one's own open file has succeeds.
func (s *Store) checkLock() error {
	given, err := s.lock.Stat()
	if err != nil {
		return fmt.Errorf("backing dir %s: look at the lock that was passed on: %w", s.dir, err)
	}
	own, err := s.root.Lstat(lockFile)
	if err != nil || !os.SameFile(given, own) {
		return model.Errorf(model.Internal, "backing dir %s: the lock that was passed on is that of another one", s.dir)
	}
	if err := flock(s.lock); err != nil {
		return model.Errorf(model.InUse, "backing dir %s: the lock that was passed on is not held: %w", s.dir, err)
	}
	return nil
}

// lockIn locks a backing dir and writes down who has it.
func lockIn(root *os.Root, dir string) (*os.File, error) {
	name := filepath.Join(dir, lockFile)
	f, err := root.OpenFile(lockFile, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, diskError(err, "open %s", name)
	}
	if err := flock(f); err != nil {
		defer f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, model.Errorf(model.InUse, "backing dir %s is in use by %s; stop it or choose another --cache", dir, holder(f))
		}
		return nil, diskError(err, "lock %s", name)
	}
	who := fmt.Sprintf("%d\n%s\n%s\n", os.Getpid(), commandLine(), time.Now().UTC().Format(time.RFC3339))
	if err := f.Truncate(0); err != nil {
		return nil, errors.Join(diskError(err, "write %s", name), f.Close())
	}
	if _, err := f.WriteAt([]byte(who), 0); err != nil {
		return nil, errors.Join(diskError(err, "write %s", name), f.Close())
	}
	return f, nil
}

// lockPatience is how long a lock is asked for again: a server whose
// supervisor was killed gives it up a moment later.
const lockPatience = time.Second

func flock(f *os.File) error {
	for start := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if !errors.Is(err, unix.EWOULDBLOCK) || time.Since(start) > lockPatience {
			return err
		}
	}
}

// commandLine is this process's command in one line of at most 300 bytes.
func commandLine() string {
	args := append([]string{filepath.Base(os.Args[0])}, os.Args[1:]...)
	line := strings.Join(args, " ")
	if len(line) > 300 {
		line = line[:297] + "..."
	}
	return strings.Map(printable, line)
}

func printable(r rune) rune {
	if r < 0x20 || r == 0x7f {
		return '?'
	}
	return r
}

// holder says who wrote the lock file, as far as it can be read.
func holder(f *os.File) string {
	b, _ := io.ReadAll(io.LimitReader(f, 1024))
	lines := strings.SplitN(string(b), "\n", 4)
	if len(lines) < 4 {
		return "another process"
	}
	if _, err := strconv.Atoi(lines[0]); err != nil {
		return "another process"
	}
	return fmt.Sprintf("process %s (%s), running since %s", lines[0], strings.Map(printable, lines[1]), strings.Map(printable, lines[2]))
}
