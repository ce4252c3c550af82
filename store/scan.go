package store

import (
	"encoding/json"
	iofs "io/fs"
	"slices"
	"strings"

	"modelfs/internal/model"
)

// scanBlobs indexes blobs/. Files with one inode are one content under several
// keys.
func (s *Store) scanBlobs() error {
	entries, err := s.readDir(blobsDir)
	if err != nil {
		return diskError(err, "read %s", s.path(blobsDir))
	}
	for _, e := range entries {
		key := model.Key(e.Name())
		fi, err := e.Info()
		switch {
		case err != nil || !fi.Mode().IsRegular() || !key.Valid():
			s.log.Warn("a file that is no blob is ignored", "file", s.path(blobName(key)))
		case key.Once(): // nothing will ever ask for it; its content has another key too
			s.removeLeftover(blobName(key))
		default:
			if fi.Mode().Perm() != blobPerm {
				_ = s.root.Chmod(blobName(key), blobPerm) // a precaution only
			}
			s.addLocked(key, inode(fi), fi.Size(), accessTime(fi).UnixNano())
		}
	}
	return nil
}

// scanNames finds the names of each blob. A name whose blob is gone is a
// leftover; files that completion did not make are left alone.
func (s *Store) scanNames() error {
	var dirs []string
	err := iofs.WalkDir(s.root.FS(), namesDir, func(name string, d iofs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			dirs = append(dirs, name)
			return nil
		}
		fi, err := d.Info()
		if err != nil || !fi.Mode().IsRegular() {
			return err
		}
		if c := s.inodes[inode(fi)]; c != nil {
			c.names = append(c.names, name)
			return nil
		}
		if fi.Mode().Perm() == blobPerm {
			s.removeLeftover(name)
		}
		return nil
	})
	if err != nil {
		return diskError(err, "read %s", s.path(namesDir))
	}
	for _, d := range slices.Backward(dirs) {
		if d != namesDir {
			_ = s.root.Remove(d) // fails unless it is empty
		}
	}
	return nil
}

// scanParts indexes the parts of earlier runs and removes what can't be
// resumed.
func (s *Store) scanParts() error {
	entries, err := s.readDir(fillsDir)
	if err != nil {
		return diskError(err, "read %s", s.path(fillsDir))
	}
	found := make(map[string]*idlePart)
	for _, e := range entries {
		if base, ok := cutSuffixes(e.Name(), ".part", ".map"); ok && found[base] == nil {
			found[base] = s.readIdle(base)
		}
	}
	for _, e := range entries {
		base, _ := cutSuffixes(e.Name(), ".part", ".map")
		if p := found[base]; p != nil {
			s.idle[base] = p
			s.clock = max(s.clock, p.used)
			continue
		}
		s.removeLeftover(fillsDir + "/" + e.Name())
	}
	return nil
}

// readIdle looks at a part without opening it for good; nil if it can't be
// resumed.
func (s *Store) readIdle(base string) *idlePart {
	data, err := s.root.Open(fillName(base))
	if err != nil {
		return nil
	}
	defer data.Close()
	mapFile, err := s.root.Open(mapName(base))
	if err != nil {
		return nil
	}
	defer mapFile.Close()
	rec, err := readPair(data, mapFile)
	if err != nil || rec.id.base() != base || rec.id.Key.Once() {
		return nil
	}
	fi, err := data.Stat()
	if err != nil || s.inodes[inode(fi)] != nil { // completed, but for the removal
		return nil
	}
	return &idlePart{base: base, id: rec.id, size: rec.size, bytes: diskBytes(fi), used: fi.ModTime().UnixNano()}
}

func cutSuffixes(s string, suffixes ...string) (string, bool) {
	for _, x := range suffixes {
		if base, ok := strings.CutSuffix(s, x); ok {
			return base, true
		}
	}
	return "", false
}

// scanMeta removes half-written facts and reads the pins.
func (s *Store) scanMeta() error {
	dirs := []string{"."}
	buckets, err := s.readDir(metaDir)
	if err != nil {
		return diskError(err, "read %s", s.path(metaDir))
	}
	for _, b := range buckets {
		if b.IsDir() {
			dirs = append(dirs, metaDir+"/"+b.Name())
		}
	}
	for _, d := range dirs {
		entries, err := s.readDir(d)
		if err != nil {
			return diskError(err, "read %s", s.path(d))
		}
		for _, e := range entries {
			if strings.Contains(e.Name(), tempMark) {
				s.removeLeftover(d + "/" + e.Name())
			}
		}
	}
	return s.pinFacts().Each(func(id string, _ json.RawMessage) { s.pins[model.Key(id)] = true })
}

// removeLeftover removes what nothing owns. A backing dir that can't be
// written must still open, for what it has.
func (s *Store) removeLeftover(name string) {
	if err := s.root.Remove(name); err != nil {
		s.log.Warn("can't remove a leftover", "file", s.path(name), "error", err)
		return
	}
	s.log.Info("removed a leftover", "file", s.path(name))
}
