package model

import (
	"context"
	"os"
	"time"
)

// EntryKind says what a name is at a source, or in the mounted tree.
type EntryKind int

// The kinds of entry. A directory is a model or a namespace, never both.
const (
	Namespace EntryKind = iota // a directory that is not a model and holds models
	ModelDir                   // a model's directory
	LooseFile                  // a weights file at the top of a tree
)

// Found is what a source says of a name that is present there.
type Found struct {
	Kind     EntryKind
	Name     string    // the true name, as the source spells it
	Revision string    // the commit that the name means now; "" where there is none
	ModTime  time.Time // recorded time of the model; may be zero until it is listed
	Broken   string    // not "": nothing complete to load, and why; counts only if no other source has the name
}

// Entry is a name in the root or in a namespace of the mounted tree.
type Entry struct {
	Name    string // the last segment, as it was asked or is listed
	Kind    EntryKind
	Source  string // the ID of the source that answered
	ModTime time.Time
	// Settled is false where a source that ranks higher could not be asked:
	// the kernel must not cache the entry and no background fill may start.
	Settled bool
	View    *View // for LooseFile, the model whose only file this is
}

// View is what the directory of a model shows: the model, which of its files
// this machine hides, and which file model.gguf is.
type View struct {
	*Model
	Settled bool            // as in Entry
	Default string          // the path that model.gguf points at; "" for none
	Hidden  map[string]bool // paths that are not listed; they still open by name
}

// FileState is what is known here of a file that has to be fetched.
type FileState struct {
	Complete bool   // the whole file is in the backing dir, verified
	Size     int64  // bytes; -1 while no one has stated it
	Attempt  uint32 // counts the downloads that turned out corrupt, or are begun anew with what may be another content
}

// A Reader is an open file that was fetched or is being fetched.
type Reader interface {
	// ReadAt fills p from off. It waits for the bytes of this range and for
	// nothing else, and returns fewer than len(p) only at the end of the file
	// (no error then) or with an error. ctx ends the wait, not the fill.
	ReadAt(ctx context.Context, p []byte, off int64) (int, error)
	// Size is the length of the file, known once Open has returned.
	Size() int64
	// File is the complete file, for passthrough, or nil while it is being
	// fetched. It stays open until Close; the caller must not close it.
	File() *os.File
	// Close lets go of the file. It never blocks on the network.
	Close() error
}
