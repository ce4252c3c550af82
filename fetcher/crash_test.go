package fetcher

import (
	iofs "io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// A snapshot is a backing dir as a process leaves it that is killed now: the
// same inodes under the same names, and the records' content. What the process
// that goes on in its place still writes to the data is what a killed one may
// have written before it came to the record.
type snapshot struct {
	t       tb
	dir     string // the backing dir
	side    string // where the inodes are kept, under numbers
	names   []string
	dirs    []string
	content map[string][]byte
}

func takeSnapshot(t tb, dir string) *snapshot {
	side, err := os.MkdirTemp(filepath.Dir(dir), "fetcher-snapshot")
	must(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(side) })
	s := &snapshot{t: t, dir: dir, side: side, content: make(map[string][]byte)}
	must(t, filepath.WalkDir(dir, func(path string, e iofs.DirEntry, err error) error {
		rel, _ := filepath.Rel(dir, path)
		switch {
		case err != nil || rel == "." || rel == "lock":
			return err
		case e.IsDir():
			s.dirs = append(s.dirs, rel)
			return nil
		case strings.HasSuffix(rel, ".map") || strings.HasPrefix(rel, "meta"):
			if s.content[rel], err = os.ReadFile(path); err != nil {
				return err
			}
		}
		err = os.Link(path, filepath.Join(side, strconv.Itoa(len(s.names))))
		s.names = append(s.names, rel)
		return err
	}))
	return s
}

// restore undoes whatever happened to the backing dir since.
func (s *snapshot) restore() {
	entries, err := os.ReadDir(s.dir)
	must(s.t, err)
	for _, e := range entries {
		if e.Name() != "lock" {
			must(s.t, os.RemoveAll(filepath.Join(s.dir, e.Name())))
		}
	}
	for _, d := range s.dirs {
		must(s.t, os.MkdirAll(filepath.Join(s.dir, d), 0o755))
	}
	for i, name := range s.names {
		path := filepath.Join(s.dir, name)
		must(s.t, os.Link(filepath.Join(s.side, strconv.Itoa(i)), path))
		if b, ok := s.content[name]; ok {
			f, err := os.OpenFile(path, os.O_WRONLY, 0) // not anew: the mapping's inode
			must(s.t, err)
			_, err = f.WriteAt(b, 0)
			must(s.t, err)
			must(s.t, f.Close())
		}
	}
}
