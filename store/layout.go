package store

import (
	"errors"
	"fmt"
	iofs "io/fs"
	"os"
	"strconv"
	"strings"

	"modelfs/internal/model"
)

// The entries of a backing dir.
const (
	tagFile     = "CACHEDIR.TAG"
	lockFile    = "lock"
	versionFile = "version"
	blobsDir    = "blobs"
	namesDir    = "models"
	fillsDir    = "fills"
	metaDir     = "meta"

	layoutVersion = 1
)

// tagText is what bford.info/cachedir asks for: backup programs leave
// directories alone that begin with it.
const tagText = "Signature: 8a477f597d28d172789f06886806bc55\n# This directory is a cache made by modelfs.\n"

var ourDirs = []string{blobsDir, namesDir, fillsDir, metaDir}

// checkLayout refuses what is not a backing dir, or is one of a newer layout.
// A directory without a version file must have nothing where the store keeps
// its files: it belongs to someone else, and the store cleans up in it.
func (s *Store) checkLayout() error {
	b, err := s.root.ReadFile(versionFile)
	if err == nil {
		return s.checkVersion(string(b))
	}
	if !errors.Is(err, iofs.ErrNotExist) {
		return diskError(err, "read %s", s.path(versionFile))
	}
	for _, d := range ourDirs {
		entries, err := s.readDir(d)
		if err != nil && !errors.Is(err, iofs.ErrNotExist) {
			return diskError(err, "read %s", s.path(d))
		}
		if len(entries) > 0 {
			return model.Errorf(model.Invalid, "%s is not empty and %s has no file %q: it is not a backing dir of modelfs; choose another --cache", s.path(d), s.dir, versionFile)
		}
	}
	return nil
}

func (s *Store) checkVersion(text string) error {
	v, err := strconv.Atoi(strings.TrimSpace(text))
	switch {
	case err != nil || v < 1:
		return model.Errorf(model.Invalid, "%s does not hold a layout version: %s is not a backing dir, or it is damaged; choose another --cache or remove it", s.path(versionFile), s.dir)
	case v > layoutVersion:
		return model.Errorf(model.Invalid, "backing dir %s has layout %d, which a newer modelfs wrote; this one knows up to %d: upgrade modelfs or choose another --cache", s.dir, v, layoutVersion)
	}
	return nil
}

// makeLayout adds what a backing dir lacks. The version comes first, so that
// no crash leaves directories without one.
func (s *Store) makeLayout() error {
	files := []struct{ name, text string }{{versionFile, fmt.Sprintf("%d\n", layoutVersion)}, {tagFile, tagText}}
	for _, f := range files {
		if _, err := s.root.Lstat(f.name); err == nil {
			continue
		}
		if err := s.replaceFile(f.name, []byte(f.text), 0o644); err != nil {
			return err
		}
	}
	for _, d := range ourDirs {
		if err := s.root.MkdirAll(d, 0o755); err != nil {
			return diskError(err, "create %s", s.path(d))
		}
	}
	if s.opt.Private {
		s.hide()
	}
	return nil
}

// remade reports whether err, of making a file, is that its directory is gone
// (somebody made room with rm -rf), and the directories were made again.
func (s *Store) remade(err error) bool {
	return errors.Is(err, iofs.ErrNotExist) && s.makeLayout() == nil
}

// hide keeps others out of the backing dir: complete files are 0444. One that
// can't be written must still open, for what it has.
func (s *Store) hide() {
	for _, d := range ourDirs {
		fi, err := s.root.Lstat(d)
		if err == nil && fi.Mode().Perm()&0o077 != 0 {
			err = s.root.Chmod(d, 0o700)
		}
		if err != nil {
			s.log.Warn("others may read what is kept here", "dir", s.path(d), "error", err)
		}
	}
}

// replaceFile writes a file so that a crash leaves the old or the new one.
func (s *Store) replaceFile(name string, b []byte, perm iofs.FileMode) error {
	tmp := name + tempMark + randomHex()
	if err := s.writeSynced(tmp, b, perm); err != nil {
		_ = s.root.Remove(tmp)
		return diskError(err, "write %s", s.path(name))
	}
	if err := s.root.Rename(tmp, name); err != nil {
		_ = s.root.Remove(tmp)
		return diskError(err, "write %s", s.path(name))
	}
	return nil
}

func (s *Store) writeSynced(name string, b []byte, perm iofs.FileMode) error {
	f, err := s.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, perm)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.Write(b); err != nil {
		return err
	}
	return f.Sync()
}

func (s *Store) readDir(name string) ([]iofs.DirEntry, error) {
	d, err := s.root.Open(name)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	return d.ReadDir(-1)
}
