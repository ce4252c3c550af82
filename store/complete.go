package store

import (
	"context"
	"errors"
	iofs "io/fs"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"modelfs/internal/model"
)

// blobPerm is the mode of a complete file. Names below models/ share it, so
// that nobody changes a blob through one by mistake.
const blobPerm = 0o444

// A Digest is what is known of a file's content, as lower-case hex digits; ""
// for nothing to compare.
type Digest struct {
	SHA256  string
	GitSHA1 string // of the git blob
}

// Complete turns a part that is wholly present into a blob: it compares the
// hash, makes the data durable, links it as blobs/<key>, under the key of its
// sha256 and under the names in links, and removes the part. The data goes on
// being readable through the part, which keeps the blob from eviction until
// Close. A name that can't be made is logged and does no harm.
//
// The error is of kind Corrupt if the hash is another one: the caller then
// discards the part. It is of kind Unavailable, and wraps ErrMissing, if a
// failed sync forgot data: it has to be fetched again. ctx ends the waiting
// for the hash and the sync, not the linking.
func (p *Part) Complete(ctx context.Context, want Digest, links []Link) error {
	if err := p.whole(); err != nil {
		return err
	}
	if err := p.filed(); err != nil {
		return err
	}
	p.Expect(want)
	got, err := p.digest(ctx)
	if err != nil {
		return err
	}
	if err := compare(p.id.Key, want, got); err != nil {
		return err
	}
	if err := p.do(ctx, p.seal); err != nil {
		return err
	}
	return p.publish(ctx, got, links)
}

func compare(key model.Key, want, got Digest) error {
	for _, d := range [][3]string{{"sha256", want.SHA256, got.SHA256}, {"git sha1", want.GitSHA1, got.GitSHA1}} {
		if d[1] != "" && !strings.EqualFold(d[1], d[2]) {
			return model.Errorf(model.Corrupt, "content of %s: its %s is %s, stated was %s", key, d[0], d[2], d[1])
		}
	}
	return nil
}

// whole is why the part can't be completed: bytes of it are missing. Where a
// sync has forgotten some, the caller can't know that.
func (p *Part) whole() error {
	size, present := p.Size(), p.Present()
	if size >= 0 && present == size {
		return nil
	}
	p.mu.Lock()
	forgot := size >= 0 && p.gen > 0 && !p.dropped
	p.mu.Unlock()
	if forgot {
		return p.lost(nil)
	}
	return model.Errorf(model.Invalid, "complete %s: %d of %d bytes are here", p.id.Key, present, size)
}

// lost is the error of a part that a failed sync made forget data.
func (p *Part) lost(cause error) error {
	if cause == nil {
		cause = errors.New("a sync failed before")
	}
	return model.Errorf(model.Unavailable, "complete %s: %w; %w", p.id.Key, ErrMissing, cause)
}

// seal makes the data durable; it runs in the keeper.
func (p *Part) seal() error {
	err := p.persist()
	if p.Present() != p.Size() {
		return p.lost(err)
	}
	if err != nil {
		return err
	}
	if err := p.data.Chmod(blobPerm); err != nil {
		return diskError(err, "make %s read-only", p.id.Key)
	}
	return nil
}

// publish makes the data a blob.
func (p *Part) publish(ctx context.Context, got Digest, links []Link) error {
	s, key, alias := p.s, p.id.Key, model.SHA256Key(got.SHA256)
	release, err := s.claim(ctx, blobName(key), blobName(alias))
	if err != nil {
		return err
	}
	defer release()
	c, err := p.linkBlob(key, alias)
	if err != nil {
		return err
	}
	for _, l := range links {
		if err := s.addName(key, c, l); err != nil {
			s.log.Warn("a blob lacks a name", "key", key, "error", err)
		}
	}
	if err := s.removePart(p.base); err != nil {
		s.log.Warn("a completed part could not be removed; the next start does it", "key", key, "error", err)
	}
	s.leaveOpen(p, nil)
	return nil
}

// linkBlob makes a blob of the part, under both keys, which are claimed. Where
// the content is here already, under either key, that file gets the other one
// too and the part's own copy is dropped.
func (p *Part) linkBlob(key, alias model.Key) (*content, error) {
	s := p.s
	fi, err := p.data.Stat()
	if err != nil {
		return nil, diskError(err, "complete %s", key)
	}
	own := inode(fi)
	from, ino := fillName(p.base), own
	missing := []model.Key{key, alias}
	for i, k := range missing {
		if c := s.verified(k, p.Size()); c != nil {
			from, ino = blobName(k), c.ino
			missing = slices.Delete(missing, i, i+1)
			break
		}
	}
	for _, k := range missing {
		if s.Has(k) {
			continue // the same content twice; it can only come from outside
		}
		err := s.linkKey(from, k, ino)
		if errors.Is(err, unix.EMLINK) { // thousands of repositories have the same small files
			from, ino = fillName(p.base), own
			err = s.linkKey(from, k, ino)
		}
		if err != nil {
			return nil, diskError(err, "link %s", s.path(blobName(k)))
		}
	}
	if err := s.syncDir(blobsDir); err != nil {
		return nil, err
	}
	p.end()
	return p.become(key, alias, ino), nil
}

// verified is the content that the index has under a claimed key, if its file
// is still the one that was indexed.
func (s *Store) verified(key model.Key, size int64) *content {
	s.mu.RLock()
	c := s.keys[key]
	s.mu.RUnlock()
	if c == nil {
		return nil
	}
	fi, err := s.root.Lstat(blobName(key))
	if err == nil && inode(fi) == c.ino && fi.Size() == size {
		return c
	}
	s.log.Warn("a blob was changed from outside; it is replaced", "key", key, "dir", s.dir)
	s.mu.Lock()
	s.dropLocked(c)
	s.mu.Unlock()
	return nil
}

// linkKey makes blobs/<key> a name of from, whose inode is ino. Whatever else
// has the name is not in the index, so nobody vouches for it.
func (s *Store) linkKey(from string, key model.Key, ino uint64) error {
	name := blobName(key)
	err := s.root.Link(from, name)
	if s.remade(err) {
		err = s.root.Link(from, name)
	}
	if !errors.Is(err, iofs.ErrExist) {
		return err
	}
	fi, err := s.root.Lstat(name)
	if err != nil || inode(fi) == ino {
		return err
	}
	if err := s.root.Remove(name); err != nil {
		return err
	}
	return s.root.Link(from, name)
}

// become puts the blob into the index in the part's place.
func (p *Part) become(key, alias model.Key, ino uint64) *content {
	s := p.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if old := s.inodes[ino]; old != nil && s.keys[key] != old && s.keys[alias] != old {
		s.dropLocked(old) // removed behind the store's back: its inode number has a new owner
	}
	used := s.tickLocked()
	c := s.addLocked(key, ino, p.Size(), used)
	s.addLocked(alias, ino, p.Size(), used)
	c.opens++
	c.used = used
	p.content = c
	return c
}
