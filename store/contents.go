package store

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	iofs "io/fs"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"modelfs/internal/model"
)

// tempMark is part of every temporary name; what carries it at start is
// removed. Keys and hashes can't contain it.
const tempMark = ".tmp-"

func randomHex() string {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// content is one file in blobs/: an inode, under all its keys and names. Its
// fields are guarded by Store.mu.
type content struct {
	ino   uint64
	size  int64
	keys  []model.Key
	names []string // below models/; one that was taken over by another content may still be listed
	opens int      // blobs and completed parts that hold it
	used  int64    // when it was last opened, Unix nanoseconds
}

// A Blob is an open, complete, verified file.
type Blob struct {
	s    *Store
	c    *content
	f    *os.File
	once sync.Once
	err  error
}

// OpenBlob opens a complete file; it is not evicted before Close, and counts
// as used now. The error is of kind NotFound if the file is not here.
func (s *Store) OpenBlob(key model.Key) (*Blob, error) {
	c, used := s.hold(key)
	if c == nil {
		return nil, model.Errorf(model.NotFound, "blob %s is not in %s", key, s.dir)
	}
	f, err := s.openContent(key, c, used)
	if err != nil {
		s.letGo(c)
		return nil, err
	}
	return &Blob{s: s, c: c, f: f}, nil
}

// openContent opens a blob and checks that it is the file that was indexed.
// One that was cut, replaced or removed behind the store's back is dropped, so
// that it is fetched again.
func (s *Store) openContent(key model.Key, c *content, used time.Time) (*os.File, error) {
	name := blobName(key)
	f, err := s.root.OpenFile(name, os.O_RDONLY|unix.O_NOATIME, 0)
	if errors.Is(err, unix.EPERM) { // O_NOATIME is the owner's privilege
		f, err = s.root.Open(name)
	}
	if err != nil && !errors.Is(err, iofs.ErrNotExist) {
		return nil, diskError(err, "open %s", s.path(name))
	}
	if err == nil {
		fi, serr := f.Stat()
		if serr == nil && inode(fi) == c.ino && fi.Size() == c.size {
			// The access time is the record of use that outlives the process;
			// where it can't be written the order is lost at the next start.
			_ = s.root.Chtimes(name, used, time.Time{})
			return f, nil
		}
		_ = f.Close()
	}
	s.log.Warn("a blob was changed from outside; it is dropped", "key", key, "dir", s.dir)
	s.drop(c)
	return nil, model.Errorf(model.NotFound, "blob %s in %s is gone or was changed", key, s.dir)
}

// File is the blob's descriptor, opened read-only. It stays the Blob's: don't
// close it.
func (b *Blob) File() *os.File { return b.f }

// Size is the length in bytes.
func (b *Blob) Size() int64 { return b.c.size }

// Close lets go of the file. Further calls do nothing.
func (b *Blob) Close() error {
	b.once.Do(func() {
		b.err = b.f.Close()
		b.s.letGo(b.c)
	})
	return b.err
}

func blobName(key model.Key) string { return blobsDir + "/" + string(key) }

// hold finds a content and counts it as opened at the time it returns; nil if
// there is none.
func (s *Store) hold(key model.Key) (*content, time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.keys[key]
	if c == nil {
		return nil, time.Time{}
	}
	c.opens++
	c.used = s.tickLocked()
	return c, time.Unix(0, c.used)
}

func (s *Store) letGo(c *content) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c.opens--
}

// tickLocked is the time now, later than every time it gave out before and
// than every use that is recorded on the disk: where the clock was set back,
// what is used now is still the last that goes.
func (s *Store) tickLocked() int64 {
	s.clock = max(s.clock+1, s.sys.now().UnixNano())
	return s.clock
}

// addLocked puts a file of blobs/ into the index, as another key of the
// content with that inode where there is one.
func (s *Store) addLocked(key model.Key, ino uint64, size, used int64) *content {
	c := s.inodes[ino]
	if c == nil {
		c = &content{ino: ino, size: size, used: used}
		s.clock = max(s.clock, used)
		s.inodes[ino] = c
		s.bytes += size
	}
	if s.keys[key] == nil {
		s.keys[key] = c
		c.keys = append(c.keys, key)
	}
	return c
}

// dropLocked takes a content out of the index.
func (s *Store) dropLocked(c *content) {
	if s.inodes[c.ino] != c {
		return
	}
	delete(s.inodes, c.ino)
	s.bytes -= c.size
	for _, k := range c.keys {
		delete(s.keys, k)
	}
}

// drop takes a content out of the index and its names off the disk.
func (s *Store) drop(c *content) {
	s.mu.Lock()
	if s.inodes[c.ino] != c || s.claimedLocked(claimNames(c.keys)) != nil {
		s.mu.Unlock()
		return
	}
	v := victim{c: c, bytes: c.size}
	s.takeLocked(&v)
	s.mu.Unlock()
	s.dispose([]victim{v})
}

func claimNames(keys []model.Key) []string {
	names := make([]string, len(keys))
	for i, k := range keys {
		names[i] = blobName(k)
	}
	return names
}

func (s *Store) pinnedLocked(c *content) bool {
	return slices.ContainsFunc(c.keys, func(k model.Key) bool { return s.pins[k] })
}
