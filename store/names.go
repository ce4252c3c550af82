package store

import (
	"context"
	"errors"
	"fmt"
	iofs "io/fs"
	"path"
	"slices"
	"strings"
	"unicode/utf8"

	"modelfs/internal/model"
)

// A Link is a name under which people look for a file: it becomes
// models/<source>/<repo>/<revision>/<path> in the backing dir.
type Link struct {
	Source   string // a source's ID
	Repo     string // "org/repo" or "repo"
	Revision string // a commit; may be empty
	Path     string // inside the model
}

// name is the link's name in the backing dir. Repo and path have to be clean
// relative paths; source and revision become one component each.
func (l Link) name() (string, error) {
	if !model.ValidPath(l.Repo) || !model.ValidPath(l.Path) || l.Source == "" || !utf8.ValidString(l.Source+l.Revision) {
		return "", model.Errorf(model.Invalid, "name %q of %q at %q: it can't be a path", l.Path, l.Repo, l.Source)
	}
	revision := l.Revision
	if revision == "" {
		revision = "-"
	}
	return path.Join(namesDir, component(l.Source), l.Repo, component(revision), l.Path), nil
}

// component makes one path component of any text, and different ones of
// different texts: '/', '%', control characters and a leading dot are escaped.
func component(s string) string {
	var b strings.Builder
	for i, r := range s {
		if r == '/' || r == '%' || r == '\\' || r < 0x20 || r == 0x7f || r == '.' && i == 0 {
			fmt.Fprintf(&b, "%%%02X", r)
			continue
		}
		b.WriteRune(r)
	}
	return b.String()
}

// Link gives a blob another name below models/. A name that another file had
// changes over. The error is of kind NotFound if the blob is not here, Invalid
// if the name can't be one.
func (s *Store) Link(key model.Key, l Link) error {
	release, err := s.claim(context.Background(), blobName(key))
	if err != nil {
		return err
	}
	defer release()
	s.mu.RLock()
	c := s.keys[key]
	s.mu.RUnlock()
	if c == nil {
		return model.Errorf(model.NotFound, "link blob %s: it is not in %s", key, s.dir)
	}
	return s.addName(key, c, l)
}

// addName links a name to the blob under key, which is claimed.
func (s *Store) addName(key model.Key, c *content, l Link) error {
	name, err := l.name()
	if err != nil {
		return err
	}
	if err := s.linkName(blobName(key), name, c.ino); err != nil {
		return diskError(err, "link %s", s.path(name))
	}
	s.mu.Lock()
	if !slices.Contains(c.names, name) {
		c.names = append(c.names, name)
	}
	s.mu.Unlock()
	return s.syncDir(path.Dir(name))
}

// linkName makes name a hard link to blob. Its directory may be removed as
// empty at the same time by an eviction, so it tries more than once.
func (s *Store) linkName(blob, name string, ino uint64) error {
	var err error
	for range 3 {
		if err = s.root.MkdirAll(path.Dir(name), 0o755); err != nil {
			return err
		}
		err = s.root.Link(blob, name)
		if errors.Is(err, iofs.ErrExist) {
			err = s.replaceName(blob, name, ino)
		}
		if !errors.Is(err, iofs.ErrNotExist) {
			return err
		}
	}
	return err
}

func (s *Store) replaceName(blob, name string, ino uint64) error {
	fi, err := s.root.Lstat(name)
	if err != nil || inode(fi) == ino {
		return err
	}
	tmp := fillsDir + "/" + tempMark + randomHex()
	if err := s.root.Link(blob, tmp); err != nil {
		return err
	}
	if err := s.root.Rename(tmp, name); err != nil {
		_ = s.root.Remove(tmp)
		return err
	}
	return nil
}
