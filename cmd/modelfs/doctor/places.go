package doctor

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"golang.org/x/sys/unix"

	"modelfs/internal/model"
)

// fewBytes is less than most models have.
const fewBytes = 10 << 30

// BackingDir looks at the directory for downloads, which may not exist yet.
func BackingDir(dir string) []Line {
	const thing = "backing dir"
	there := dir
	for there != "/" {
		if _, err := os.Stat(there); err == nil {
			break
		}
		there = filepath.Dir(there)
	}
	var st unix.Statfs_t
	if err := unix.Statfs(there, &st); err != nil {
		return []Line{problem(thing, "choose another --cache", "%s: %v", dir, err)}
	}
	if err := writable(there); err != nil {
		return []Line{problem(thing, "run as its owner, or choose another --cache", "%s can't be written: %v", there, err)}
	}
	about := dir
	if there != dir {
		about += " (will be made)"
	}
	free := st.Bavail * uint64(st.Bsize) //nolint:gosec // not negative
	return []Line{filesystem(about, st.Type, free)}
}

// writable tries to make a file.
func writable(dir string) error {
	f, err := os.CreateTemp(dir, ".modelfs-doctor-*")
	if err != nil {
		return err
	}
	return errors.Join(os.Remove(f.Name()), f.Close())
}

// filesystem judges what a backing dir lies on.
func filesystem(about string, kind int64, free uint64) Line {
	const thing = "backing dir"
	name := fsName(kind)
	found := fmt.Sprintf("%s on %s, %s free", about, name, humanize.IBytes(free))
	switch name {
	case "nfs", "cifs", "smb2", "ceph", "9p", "fuse":
		return warning(thing, "a --cache on a disk of this machine (ext4, xfs, btrfs)", "%s: downloads are only as fast and as safe as that", found)
	case "tmpfs", "ramfs":
		return warning(thing, "a --cache on a disk", "%s: downloads take memory, and are gone after a restart", found)
	case "overlayfs":
		return warning(thing, "a --cache that is bound into the container", "%s: it is slow, gone with the container, and containers can't overlay the mount", found)
	}
	if free < fewBytes {
		return warning(thing, "make room, or choose another --cache", "%s: less than most models need; what does not fit is streamed each time", found)
	}
	return ok(thing, "%s", found)
}

func fsName(kind int64) string {
	names := map[int64]string{
		unix.EXT4_SUPER_MAGIC: "ext4", unix.XFS_SUPER_MAGIC: "xfs", unix.BTRFS_SUPER_MAGIC: "btrfs", unix.TMPFS_MAGIC: "tmpfs",
		unix.RAMFS_MAGIC: "ramfs", unix.OVERLAYFS_SUPER_MAGIC: "overlayfs", unix.NFS_SUPER_MAGIC: "nfs", unix.CIFS_SUPER_MAGIC: "cifs",
		unix.SMB2_SUPER_MAGIC: "smb2", unix.CEPH_SUPER_MAGIC: "ceph", unix.V9FS_MAGIC: "9p", unix.FUSE_SUPER_MAGIC: "fuse",
		0x2fc12fc1: "zfs",
	}
	if name := names[kind]; name != "" {
		return name
	}
	return fmt.Sprintf("a filesystem of type %#x", kind)
}

// Owner judges who has the backing dir: lockErr is what asking for its lock
// gave, answers whether a daemon answers on its socket.
func Owner(dir string, lockErr error, answers bool) Line {
	const thing = "owner"
	switch {
	case answers:
		return ok(thing, "a daemon has %s and answers commands", dir)
	case lockErr == nil:
		return ok(thing, "no process has %s", dir)
	case model.IsKind(lockErr, model.InUse):
		return warning(thing, "wait for it, or stop it", "%v; commands can't reach it", lockErr)
	}
	return problem(thing, "run as its owner, or choose another --cache", "%v", lockErr)
}

// A Source is what doctor asks of a source.
type Source interface {
	ID() string
	Kind() model.SourceKind
	Find(ctx context.Context, n model.Name) (model.Found, error)
	Names(ctx context.Context) ([]model.Found, error)
}

// Ask asks a source something that costs it little: a tree or a router for its
// names, the Hub for a name that nobody has. slow is how long an answer may
// take that readers wait for.
func Ask(ctx context.Context, s Source, slow time.Duration) Line {
	began := time.Now()
	found, err := question(ctx, s)
	took := time.Since(began)
	shown := took.Round(time.Millisecond)
	if took < 10*time.Millisecond {
		shown = took.Round(10 * time.Microsecond)
	}
	switch {
	case err != nil && s.Kind() == model.Local:
		return problem(s.ID(), "mount it, or leave it out", "%v", err)
	case model.IsKind(err, model.Denied):
		return warning(s.ID(), "check the token", "refused after %v: %v", shown, err)
	case err != nil:
		return warning(s.ID(), "see whether it is up and reachable; until then its names are EHOSTUNREACH", "no use after %v: %v", shown, err)
	case found == none:
		return warning(s.ID(), "see whether the right directory is mounted there", "answers in %v, but has no models", shown)
	case took > slow:
		return warning(s.ID(), "raise --lookup-timeout, or look at the way there", "answers in %v, %s; names may take %v", shown, found, slow)
	}
	if t, has := s.(interface{ Trouble() string }); has && t.Trouble() != "" {
		return warning(s.ID(), "gated and private models need one that it takes", "answers in %v, but %s", shown, t.Trouble())
	}
	return ok(s.ID(), "answers in %v, %s", shown, found)
}

// none is what a tree without models answers.
const none = "no models"

func question(ctx context.Context, s Source) (found string, err error) {
	if s.Kind() == model.Hub {
		_, err := s.Find(ctx, model.Name{Org: "modelfs-doctor", Repo: "no-such-model-" + strings.ToLower(rand.Text())})
		if model.IsKind(err, model.NotFound) {
			return "and knows what it has not", nil
		}
		if err == nil {
			return "", model.Errorf(model.Invalid, "it claims to have a name that nobody can have")
		}
		return "", err
	}
	names, err := s.Names(ctx)
	switch {
	case len(names) == 1:
		return "1 model", err
	case len(names) == 0 && s.Kind().InPlace():
		return none, err
	}
	return fmt.Sprintf("%d models", len(names)), err
}

// Tree looks at a configured directory of models, which may hang; isDir is
// false where something is wrong with it, which line then says.
func Tree(ctx context.Context, dir string) (line Line, isDir bool) {
	stat := make(chan error, 1)
	go func() { // it is left behind if the directory hangs
		info, err := os.Stat(dir)
		if err == nil && !info.IsDir() {
			err = errors.New("it is not a directory")
		}
		stat <- err
	}()
	select {
	case err := <-stat:
		if err != nil {
			return problem("tree", "mount it, or leave it out", "%s: %v", dir, err), false
		}
		return Line{}, true
	case <-ctx.Done():
		return problem("tree", "look at its server; until then its models are unavailable", "%s does not answer", dir), false
	}
}

// Token says whether there is a credential, never which. from says where it
// was looked for, and needless what goes without it.
func Token(thing, from, needless string, present bool, err error) Line {
	switch {
	case err != nil:
		return problem(thing, "mend or remove it", "%v", err)
	case present:
		return ok(thing, "present (%s)", from)
	}
	return ok(thing, "none: %s", needless)
}
