// Package directory answers, for one tree of models on this machine's disk or
// on a share: which models are here, and where do their files lie?
//
// A tree is root/name or root/org/repo. Loose weights at its top are models
// too: x.gguf is the file x.gguf and the model x whose only file is
// model.gguf.
//
// Invariants:
//
//  1. Nothing is ever written, and nothing but the first bytes of small
//     weights files and the indexes of sets is read.
//  2. No file outside the root is listed or opened, whatever the symbolic
//     links say; links that end inside the root are followed.
//  3. Only ENOENT and its kin are absent. A root that is missing is absent
//     for a local tree and unknown for a share, which may not be mounted yet;
//     any other failure is unknown.
//  4. What is remembered of a directory is used only while its identity,
//     mtime and ctime are those that it was read under, and only if they were
//     old by then: two changes within one tick of a coarse clock look alike.
//     Sizes and times of files are never remembered.
//  5. On a share every system call is made by a goroutine that can be left
//     behind (see guard); on a local tree the caller makes it.
//
// It does not choose among the files of a model, record revisions, or read
// the stores of other tools.
package directory

import (
	"context"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"modelfs/internal/model"
)

// Config says which tree to serve.
type Config struct {
	Root    string           // the tree; made absolute, need not exist
	Kind    model.SourceKind // model.Local or model.Shared
	Timeout time.Duration    // longest wait for one operation on a share; 0: 10 s. Local trees have none
	Log     *slog.Logger     // nil: nothing is logged
}

// defaultTimeout equals the default of --list-timeout: the longest that any
// caller waits.
const defaultTimeout = 10 * time.Second

// A Source is one tree. It is safe for concurrent use.
type Source struct {
	id    string
	kind  model.SourceKind
	tree  *tree
	guard *guard // nil for a local tree
	cache cache
	log   *slog.Logger

	mu   sync.Mutex // guards walk
	walk *walk      // the reading of all names that is under way, or nil
}

// New makes a source of the tree at c.Root without touching it. The error is
// of kind Invalid: no root, or a kind that is not a tree's.
func New(c Config) (*Source, error) {
	if c.Root == "" || !c.Kind.InPlace() {
		return nil, model.Errorf(model.Invalid, "tree %q of kind %v: a tree needs a directory and is local or shared", c.Root, c.Kind)
	}
	root, err := filepath.Abs(c.Root)
	if err != nil {
		return nil, model.Errorf(model.Invalid, "tree %q: %w", c.Root, err)
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Timeout <= 0 {
		c.Timeout = defaultTimeout
	}
	s := &Source{
		id:   c.Kind.String() + ":" + root,
		kind: c.Kind,
		tree: &tree{root: root, local: c.Kind == model.Local},
		log:  c.Log,
	}
	s.cache.settle = settleLocal
	if c.Kind == model.Shared {
		s.cache.settle = settleShared
		s.guard = newGuard(s.id, c.Timeout, s.tree.probe, c.Log)
	}
	return s, nil
}

// Close ends every wait; calls after it fail. It does not wait for operations
// that are stuck in the kernel: their threads can't be got back, and each ends
// when the share answers.
func (s *Source) Close() {
	if s.guard != nil {
		s.guard.close()
	}
}

// ID is "local:" or "shared:" and the absolute path of the root.
func (s *Source) ID() string { return s.id }

// Kind is Local or Shared.
func (s *Source) Kind() model.SourceKind { return s.kind }

// Find says what n is in this tree. NotFound: the tree has nothing of that
// name, or nothing with that quantisation, or a revision was asked for, which
// a plain tree does not record. Denied: the directory may not be read.
// Unavailable: the tree could not be asked.
func (s *Source) Find(ctx context.Context, n model.Name) (model.Found, error) {
	return run(ctx, s.guard, "looking up "+n.String(), func() (model.Found, error) { return s.find(n) }, nil)
}

// List lists the files of what Find found, with their sizes of now. Files
// that vanish meanwhile are left out.
func (s *Source) List(ctx context.Context, n model.Name, f model.Found) (*model.Model, error) {
	return run(ctx, s.guard, "listing "+n.String(), func() (*model.Model, error) { return s.list(f) }, nil)
}
