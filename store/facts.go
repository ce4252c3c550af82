package store

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"path"
	"strings"

	"modelfs/internal/model"
)

// maxFact bounds one fact, in bytes of JSON. The listing of 100,000 files, the
// most that a model may have, is about half of it.
const maxFact = 64 << 20

// Facts is a bucket of small things that outlive the process: listings,
// revisions, recorded sources. Its methods may be called from any goroutine.
type Facts struct {
	s   *Store
	dir string
	err error // the bucket's name can't be one
}

// fact is the content of a file in a bucket. The file's name is a hash of the
// id, so the id is kept inside.
type fact struct {
	ID    string          `json:"id"`
	Value json.RawMessage `json:"value"`
}

// Facts returns a bucket. Its name is a constant of the caller's, lower-case
// letters only; every method of one with another name fails.
func (s *Store) Facts(bucket string) *Facts {
	f := &Facts{s: s, dir: metaDir + "/" + bucket}
	if bucket == "" || strings.Trim(bucket, "abcdefghijklmnopqrstuvwxyz") != "" {
		f.err = model.Errorf(model.Internal, "bucket %q: its name may hold a-z only", bucket)
	}
	return f
}

func (f *Facts) name(id string) string {
	h := sha256.Sum256([]byte(id))
	return f.dir + "/" + hex.EncodeToString(h[:]) + ".json"
}

// Get reads a fact into v, as JSON, and reports whether there is one. A
// damaged fact is none. A value that v can't take is an error.
func (f *Facts) Get(id string, v any) (bool, error) {
	if f.err != nil {
		return false, f.err
	}
	got, err := f.read(f.name(id))
	if err != nil || got == nil || got.ID != id {
		return false, err
	}
	if err := json.Unmarshal(got.Value, v); err != nil {
		return false, model.Errorf(model.Invalid, "read fact %q of %s: %w", id, f.dir, err)
	}
	return true, nil
}

// read reads a fact's file; nil where there is none or it is damaged.
func (f *Facts) read(name string) (*fact, error) {
	file, err := f.s.root.Open(name)
	if errors.Is(err, iofs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, diskError(err, "read %s", f.s.path(name))
	}
	defer file.Close()
	b, err := io.ReadAll(io.LimitReader(file, maxFact+1))
	if err != nil {
		return nil, diskError(err, "read %s", f.s.path(name))
	}
	var got fact
	if len(b) > maxFact || json.Unmarshal(b, &got) != nil || path.Base(f.name(got.ID)) != path.Base(name) {
		f.s.log.Warn("a damaged fact is ignored", "file", f.s.path(name))
		return nil, nil
	}
	return &got, nil
}

// Put writes a fact, replacing an older one. After a crash there is the old
// one or the new one. More than 64 MiB of JSON is an error of kind Invalid.
func (f *Facts) Put(id string, v any) error {
	if f.err != nil {
		return f.err
	}
	value, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("fact %q of %s: %w", id, f.dir, err)
	}
	// An id grows at most sixfold when it is quoted.
	if n := len(value) + 6*len(id) + 100; n > maxFact {
		return model.Errorf(model.Invalid, "fact %.100q of %s: %d bytes are too many", id, f.dir, n)
	}
	b, err := json.Marshal(fact{ID: id, Value: value})
	if err != nil {
		return fmt.Errorf("fact %q of %s: %w", id, f.dir, err)
	}
	if err := f.s.root.MkdirAll(f.dir, 0o755); err != nil {
		return diskError(err, "create %s", f.s.path(f.dir))
	}
	return f.s.replaceFile(f.name(id), b, 0o600)
}

// Delete removes a fact; there may be none.
func (f *Facts) Delete(id string) error {
	if f.err != nil {
		return f.err
	}
	return f.s.remove(f.name(id))
}

// Each calls fn with every fact, in no particular order. fn may use the
// bucket.
func (f *Facts) Each(fn func(id string, raw json.RawMessage)) error {
	if f.err != nil {
		return f.err
	}
	entries, err := f.s.readDir(f.dir)
	if errors.Is(err, iofs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return diskError(err, "read %s", f.s.path(f.dir))
	}
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".json") {
			continue
		}
		got, err := f.read(f.dir + "/" + e.Name())
		if err != nil {
			return err
		}
		if got != nil {
			fn(got.ID, got.Value)
		}
	}
	return nil
}
