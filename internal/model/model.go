// Package model is the vocabulary that every other package shares: what a
// name is, what a model and its files are, what makes two files the same
// content, and the kinds of error. It does no I/O and imports nothing of
// modelfs.
//
// Invariants:
//
//  1. A *Model is immutable once a source has returned it; whoever needs
//     another view makes a new one.
//  2. Model.Files is sorted by Path, holds no path twice, no file that is
//     also a directory, and only paths that ValidPath accepts ([Listing]
//     makes it so, or says what it refused).
//  3. Equal Keys mean equal bytes, for ever.
//  4. Absent ([NotFound]) and unknown ([Unavailable]) are different answers
//     and are never confused.
package model

import (
	"context"
	"os"
	"time"
)

// SourceKind says what kind of place a source is. The order of the constants
// is the order in which sources are believed (docs/semantics.md, P1).
type SourceKind int

// The kinds of source.
const (
	Local  SourceKind = iota // a tree on this machine's disk, read in place
	Shared                   // a tree on NFS or the like, read in place
	Hub                      // the Hugging Face Hub or a mirror of it
	Router                   // a model router
)

// String is the word used in logs, status and explain.
func (k SourceKind) String() string {
	switch k {
	case Local:
		return "local"
	case Shared:
		return "shared"
	case Hub:
		return "hub"
	case Router:
		return "router"
	}
	return "unknown"
}

// InPlace reports whether files of such a source are read where they lie.
func (k SourceKind) InPlace() bool { return k == Local || k == Shared }

// A Model is a named, immutable list of files at one revision, as one source
// states it.
type Model struct {
	Name     string     // the true name, "org/repo" or "repo", as the source spells it
	Source   string     // the ID of the source that states it, e.g. "local:/srv/models"
	Kind     SourceKind // what kind of source that is
	Revision string     // a commit where the source has revisions, else ""
	ModTime  time.Time  // recorded; never the time of asking
	Tags     []string   // free words of the source (library, format); may be nil
	Traits   Traits     // what the source says of the weights
	Files    []File     // see invariant 2
}

// A File is one file of a model.
type File struct {
	Path    string    // slash-separated, relative to the model's directory
	Size    int64     // bytes; -1 where no one states it before the download
	ModTime time.Time // recorded
	Key     Key       // identity of the content; "" for files in place
	SHA256  string    // 64 lower-case hex digits, or ""
	GitSHA1 string    // git blob hash, 40 lower-case hex digits, or ""
	// Validator is the strong one that the first of URLs gave the content, where
	// the Key was made of it: another one there is another content.
	Validator string
	URLs      []string // where the bytes can be fetched, in order of preference; nil for files in place
	Place     Place    // where the file lies; nil for files that have to be fetched
}

// A Place is a file of a tree that is read in place. The source that made it
// bounds every call in time, so that a hung share costs its caller no more
// than the context allows.
type Place interface {
	// Stat returns the file's identity now.
	Stat(ctx context.Context) (Stat, error)
	// Open opens the file so that it can be handed to the kernel, and returns
	// the identity of what was opened. A share's descriptor may be one that
	// only names the file and can't be read. The caller closes it.
	Open(ctx context.Context) (*os.File, Stat, error)
	// Reader opens the file for reading by this process. The caller closes it.
	Reader(ctx context.Context) (Reader, Stat, error)
	// Head reads the first n bytes of the file, or all of it.
	Head(ctx context.Context, n int64) ([]byte, error)
	// Path is the absolute path, for people to read.
	Path() string
}

// Stat is the identity and the attributes of a file in place.
type Stat struct {
	Dev, Ino uint64
	Size     int64
	ModTime  time.Time
}

// OpensAt is what lies at p now, and whether it opens and has the file's length.
// It waits until ctx ends at most.
func (f *File) OpensAt(ctx context.Context, p Place) (Stat, bool) {
	file, st, err := p.Open(ctx)
	if err != nil {
		return Stat{}, false
	}
	_ = file.Close() // nothing was written
	return st, f.Size < 0 || st.Size == f.Size
}

// File returns the file at path, or nil.
func (m *Model) File(path string) *File {
	lo, hi := 0, len(m.Files)
	for lo < hi {
		mid := (lo + hi) / 2
		if m.Files[mid].Path < path {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	if lo < len(m.Files) && m.Files[lo].Path == path {
		return &m.Files[lo]
	}
	return nil
}
