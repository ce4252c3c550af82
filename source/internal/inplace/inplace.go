// Package inplace answers: what do all trees and stores of other tools that are
// read in place have in common?
//
// Invariants:
//
//  1. Nothing is touched until a source is asked something.
//  2. On a share every system call is made by a goroutine that can be left
//     behind; in a local store the caller makes it.
//  3. No place leads out of the store, or of the directories that the operator
//     trusts.
//
// It knows no layout.
package inplace

import (
	"context"
	"log/slog"
	"path/filepath"
	"time"

	"modelfs/internal/model"
	"modelfs/source/internal/guard"
	"modelfs/source/internal/tree"
)

// Config says which store to serve.
type Config struct {
	Root    string           // the store's directory; made absolute, need not exist
	Kind    model.SourceKind // model.Local, or model.Shared for a store on a network filesystem
	Trust   []string         // absolute directories outside the store that its links may lead into
	Timeout time.Duration    // longest wait for one operation of a shared store; 0: 10 s
	Log     *slog.Logger     // nil: nothing is logged
}

// defaultTimeout equals the default of --list-timeout: the longest that any
// caller waits.
const defaultTimeout = 10 * time.Second

// A Store is what a source of a store is made of. It is safe for concurrent use.
type Store struct {
	Tree  *tree.Tree
	Guard *guard.Guard // nil for a local store
	Log   *slog.Logger
	id    string
	kind  model.SourceKind
	trust []*tree.Tree // those of Config.Trust
}

// New makes the store at c.Root, whose ID begins with label. The error is of
// kind Invalid: no root, or a kind that is not a tree's.
func New(label string, c Config) (*Store, error) {
	if c.Root == "" || !c.Kind.InPlace() {
		return nil, model.Errorf(model.Invalid, "%s:%s of kind %v: what is read in place needs a directory and is local or shared", label, c.Root, c.Kind)
	}
	root, err := filepath.Abs(c.Root)
	if err != nil {
		return nil, model.Errorf(model.Invalid, "%s:%s: %w", label, c.Root, err)
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Timeout <= 0 {
		c.Timeout = defaultTimeout
	}
	s := &Store{Tree: tree.New(root, c.Kind == model.Local, c.Trust...), Log: c.Log, id: label + ":" + root, kind: c.Kind}
	for _, t := range c.Trust {
		s.trust = append(s.trust, s.Tree.At(t))
	}
	if c.Kind == model.Shared {
		s.Guard = guard.New(s.id, c.Timeout, s.Tree.Probe, c.Log)
	}
	return s, nil
}

// Close ends every wait; calls after it fail. It does not wait for operations
// that are stuck in the kernel.
func (s *Store) Close() {
	if s.Guard != nil {
		s.Guard.Close()
	}
}

// HungFor is since when a share has not answered; 0: it answers, as far as is
// known.
func (s *Store) HungFor() time.Duration {
	if s.Guard == nil {
		return 0
	}
	return s.Guard.HungFor()
}

// Suspect makes a share one that has just hung: nothing is asked of it until a
// probe has come back. It is called before the first operation.
func (s *Store) Suspect() {
	if s.Guard != nil {
		s.Guard.Suspect()
	}
}

// Do makes op, which what describes, and waits for it no longer than ctx.
func (s *Store) Do(ctx context.Context, what string, op func() error) error {
	_, err := guard.Run(ctx, s.Guard, what, func() (struct{}, error) { return struct{}{}, op() }, nil)
	return err
}

// ID is the kind of store and the absolute path of its directory.
func (s *Store) ID() string { return s.id }

// Kind is Local or Shared.
func (s *Store) Kind() model.SourceKind { return s.kind }

// Absent is the error for a name that the store does not have.
func (s *Store) Absent(n model.Name) error {
	return model.Errorf(model.NotFound, "%s has no %s", s.id, n)
}

// At is the place of a file of the store by the absolute path that Place.Path
// said, perhaps in another process; nil if that lies neither in the store nor
// in a trusted directory. It does no I/O. The size that a manifest or a name
// promised is not asked for again: the caller knows which file it had.
func (s *Store) At(abs string) model.Place {
	for _, t := range append([]*tree.Tree{s.Tree}, s.trust...) {
		if rel, ok := t.Rel(abs); ok {
			return t.Place(s.Guard, rel, -1)
		}
	}
	return nil
}

// Model is the model of the given files, less those that no model can have.
func (s *Store) Model(f model.Found, files []model.File) *model.Model {
	m := &model.Model{Name: f.Name, Source: s.id, Kind: s.kind, Revision: f.Revision, ModTime: f.ModTime}
	var refused []model.Refusal
	m.Files, refused = model.Listing(files)
	for _, r := range refused {
		s.Log.Debug("file left out of a listing", "source", s.id, "model", m.Name, "file", r.Path, "reason", r.Why)
	}
	return m
}

// Run makes op, which what describes, and waits for it no longer than ctx.
func Run[T any](ctx context.Context, s *Store, what string, op func() (T, error)) (T, error) {
	return guard.Run(ctx, s.Guard, what, op, nil)
}
