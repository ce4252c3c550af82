package fs

import (
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// blockSize is st_blksize: a power of two that readers with O_DIRECT align to.
const blockSize = 4096

const (
	// settledTimeout is how long the kernel may keep an entry or a directory's
	// attributes. Changes of state are notified; this bounds how long a name
	// that now means something else is believed.
	settledTimeout = time.Second
	// fileAttrTimeout is long because a lookup brings fresh attributes, and
	// because a held descriptor then does not notice that this process died.
	fileAttrTimeout = time.Hour
)

// fillAttr writes the node's attributes. st_blocks follows the size: with 0
// blocks archivers would take the file for a hole.
func (n *node) fillAttr(out *fuse.Attr, o fuse.Owner) {
	n.mu.Lock()
	size, modTime := n.size, n.modTime
	n.mu.Unlock()
	if size < 0 {
		size = 0 // nobody has stated it yet
	}
	out.Ino = n.ino
	out.Size = uint64(size)
	out.Blocks = uint64(size+511) / 512
	out.Blksize = blockSize
	out.Nlink = 1
	out.Owner = o
	switch {
	case n.kind.isDir():
		out.Mode, out.Nlink = unix.S_IFDIR|0o555, 2
	case n.kind == kindAlias:
		out.Mode = unix.S_IFLNK | 0o777
	default:
		out.Mode = unix.S_IFREG | 0o444
	}
	if modTime.IsZero() {
		modTime = time.Unix(0, 0)
	}
	out.SetTimes(&modTime, &modTime, &modTime)
}

func (n *node) attrTimeout() time.Duration {
	if n.kind.isDir() {
		return settledTimeout
	}
	return fileAttrTimeout
}
